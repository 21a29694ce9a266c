"""sb3-contrib's RecurrentPPO: features → LSTM → hidden layers → action, its state the LSTM's alone.

The actor's LSTM (`lstm_actor`) is its own or shared with the critic; either way it is what the action depends on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_inputs import joined_inputs
from snn_policy.sources.graph_nodes import Memory
from snn_policy.sources.operations import Operation
from snn_policy.sources.stage_builder import build
from snn_policy.sources.stage_plan import Program
from snn_policy.sources.value_chain import chained
from snn_policy.sources.value_recurrence import DEEPEST, sequence

PREFIX = "lstm_actor"
CHECKED, TOLERANCE = 32, 1e-4
_PARTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def is_recurrent(weights: Mapping[str, Any]) -> bool:
    """Return whether the action goes through an LSTM."""
    return f"{PREFIX}.weight_ih_l0" in weights


def recurrent_actor(
    weights: Mapping[str, Any], before: Sequence[Operation], after: Sequence[Operation], shape: tuple[int, ...],
    name: str, env_id: str | None,
) -> Actor:  # fmt: skip
    """Return the actor of what stands before and after the LSTM.

    Raises:
        SourceError: its arrays do not fit.
    """
    own = sorted(key for key in weights if key.startswith(f"{PREFIX}."))
    layers = sum(key.startswith(f"{PREFIX}.weight_ih") for key in own)
    wanted = [f"{PREFIX}.{part}_l{layer}" for layer in range(layers) for part in _PARTS]
    if sorted(wanted) != own or not layers <= DEEPEST:
        raise SourceError(f"{PREFIX}: expected the arrays of a plain LSTM, found {', '.join(own[:8])}")
    width = np.shape(weights[f"{PREFIX}.weight_hh_l0"])[-1]
    observation, values = joined_inputs({"obs": tuple(shape)})
    features = chained(values[0], before)
    memories = [Memory(np.zeros(layers * width), path=f"{PREFIX}.{key}", kind="memory") for key in "hc"]
    states = [Value.of(memory, (layers, 1, width)) for memory in memories]
    row = features.reshaped((1, 1, features.size))
    told, ends = sequence("lstm", row, states, [weights[key] for key in wanted], PREFIX, layers=layers)
    action = chained(told.reshaped((1, width)), after)
    known = {memory: end.flat for memory, end in zip(memories, ends, strict=True)}
    return build(Program(observation, action, known), name=name, shape=shape, env_id=env_id)


def check_recurrent(actor: Actor, policy: Any, observations: npt.NDArray[Any]) -> None:
    """Compare with the policy's own `predict` on consecutive observations, (rows, *shape).

    Raises:
        UnsupportedLayerError: they differ.
    """
    state, own_state, start = actor.initial_state(1), None, np.ones(1, bool)
    worst, largest = 0.0, 0.0
    for row in observations[:CHECKED]:
        keyed = getattr(actor.observation_shape, "parts", None)
        given = row[None] if keyed is None else _parted(row, keyed)
        own, own_state = policy.predict(given, state=own_state, episode_start=start, deterministic=True)
        action, state = actor.step(row[None], state)
        start = np.zeros(1, bool)
        worst = max(worst, float(np.abs(np.asarray(own, np.float64) - action).max()))
        largest = max(largest, float(np.abs(own).max()))
    if not worst <= TOLERANCE * (1 + largest):
        reason = "its predict differs from what its weights and options tell"
        raise UnsupportedLayerError("policy", type(policy).__name__, reason, "Undo the change to its modules")


def _parted(row: npt.NDArray[Any], parts: Mapping[str, tuple[int, ...]]) -> dict[str, npt.NDArray[Any]]:
    found, start = {}, 0
    for key, shape in parts.items():
        size = int(np.prod(shape))
        found[key] = row.reshape(-1)[start : start + size].reshape(1, *shape)
        start += size
    return found
