"""Programs that write into tensors of their own: what they read at the next decision is a memory."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from snn_policy.errors import SourceError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_nodes import Memory, Observation
from snn_policy.sources.stage_plan import Program
from snn_policy.sources.symbolic import Symbolic, changed

MOST_READINGS = 8
RESETS = ("reset_memory", "reset_hidden_states", "reset_hidden_state", "reset_hidden", "reset_states", "reset_state",
          "reset")  # fmt: skip
"""Methods by which policies forget."""
Place = TypeVar("Place")
Memories = Mapping[Place, tuple[Memory, tuple[int, ...]]]
"""By the place of a tensor, the memory that stands for it, and its shape."""
Reading = tuple[Observation, Value, dict[Place, tuple[Symbolic | None, Symbolic]]]
"""The observation, the action, and of every place the tensor before and after."""


def remembering(follow: Callable[[Memories[Place]], Reading[Place]], path_of: Callable[[Place], str]) -> Program:
    """Return a program with its memories: it is followed anew until it writes into no place that is not known for one.

    Args:
        path_of: a place's name in messages.

    Raises:
        SourceError: that comes to no end.
    """
    memories: dict[Place, tuple[Memory, tuple[int, ...]]] = {}
    for _ in range(MOST_READINGS):
        observation, action, places = follow(memories)
        written = {place: pair for place, pair in places.items() if changed(*pair)}
        if set(written) <= set(memories):
            after = {memories[place][0]: places[place][1].value for place in memories if place in places}
            return Program(observation, action, after)
        for place, (first, last) in written.items():
            if place not in memories:
                original = None if first is None else first.original
                start = np.zeros(last.shape) if original is None else np.asarray(original, np.float64)
                memories[place] = Memory(start.reshape(-1), path=path_of(place), kind="memory"), start.shape
    raise SourceError("what it writes changes from reading to reading; refused")
