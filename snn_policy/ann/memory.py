"""What policies remember of every environment row: tuples of arrays whose first axis is the row, zeros at a reset.

`GraphMemory` is that of a recurrent ANN; `snn_policy.session` holds that of spiking policies.
"""

from typing import Any, TypeVar

import numpy as np
from array_api_compat import array_namespace, device

from snn_policy.ann.graph import Graph, GraphState
from snn_policy.checks import whole
from snn_policy.protocol import LARGEST_OBSERVATION, Array, Mask

Rows = TypeVar("Rows", bound=tuple[Any, ...])


def cleared(state: Rows, mask: Mask) -> Rows:
    """Return the state with the given rows back at zero."""
    if not mask.any():
        return state
    keep = ~mask
    arrays = (np.where(keep.reshape(-1, *[1] * (a.ndim - 1)), a, np.zeros((), a.dtype)) for a in state)
    return type(state)(*arrays)


def chosen_rows(mask: Mask, new: Rows, old: Rows) -> Rows:
    """Return the rows of `new` where the mask, a NumPy array, is true, of `old` elsewhere; arrays of any library."""
    return type(new)(*(_chosen(mask, a, b) for a, b in zip(new, old, strict=True)))


def _chosen(mask: Mask, new: Array, old: Array) -> Array:
    xp = array_namespace(new)
    return xp.where(xp.asarray(mask.reshape(-1, *[1] * (new.ndim - 1)), device=device(new)), new, old)


def copied(state: Rows) -> Rows:
    """Return the same state in arrays of its own."""
    return type(state)(*(a.copy() for a in state))


def checked_state(value: Any, kind: Rows, rows: int) -> Rows:
    """Return a state that somebody hands over, as arrays like those of `kind` for that many rows.

    Raises:
        ValueError: another number of arrays, other shapes, or values that are not finite.
    """
    names = getattr(kind, "_fields", ())
    if not isinstance(value, tuple | list) or len(value) != len(kind):
        raise ValueError(f"state: expected a tuple of {len(kind)} array(s) ({', '.join(names)}), got {type(value)}")
    arrays = []
    for name, own, given in zip(names, kind, value, strict=True):
        try:
            array = np.asarray(given, dtype=own.dtype)
        except (TypeError, ValueError):
            raise ValueError(f"state.{name}: expected numbers, got {type(given).__name__}") from None
        if array.shape != (rows, *own.shape[1:]) or not rows:
            raise ValueError(f"state.{name}: expected shape {(rows, *own.shape[1:])}, got {array.shape}")
        if not (abs(array) <= LARGEST_OBSERVATION).all():
            raise ValueError(f"state.{name}: holds NaN, infinity or values beyond ±{LARGEST_OBSERVATION:.0e}")
        arrays.append(array)
    return type(kind)(*arrays)


def rows_after_reset(num_envs: int | None, held: int) -> int:
    """Return how many rows a policy goes on with: those that it is asked for, else as many as it holds.

    Raises:
        ValueError: a number of rows that is none.
    """
    if num_envs is not None and not whole(num_envs, 1, 2**31):
        raise ValueError(f"num_envs: expected a whole number of at least 1, got {num_envs!r}")
    return held if num_envs is None else num_envs


def refuse_both(num_envs: int | None) -> None:
    """Raise `ValueError` where a number of rows is given beside a mask, which says how many there are."""
    if num_envs is not None:
        raise ValueError("reset: give a mask or num_envs, not both")


def another_batch(rows: int, held: str) -> ValueError:
    """Return the error of a batch of `rows` for a policy whose memory is of another number; `held` names it."""
    return ValueError(
        f"observation: a batch of {rows}, but the policy holds the {held} environment(s); call reset() or "
        f"reset(num_envs={rows}) to start anew"
    )


class GraphMemory:
    """Hold the state of a graph for the rows of a batch, whose size the first one sets."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.state: GraphState = graph.initial_state(1)
        self._open = True

    def copy(self) -> "GraphMemory":
        """Return the same memory in arrays of its own."""
        twin = GraphMemory(self._graph)
        twin.state, twin._open = copied(self.state), self._open
        return twin

    @property
    def rows(self) -> int:
        return len(self.state.told)

    @property
    def size_is_open(self) -> bool:
        """Return whether the next batch may have another size."""
        return self._open

    def reset(self, num_envs: int | None = None) -> None:
        """Forget everything; without a number of rows, the next batch sets it.

        Raises:
            ValueError: a number of rows that is none.
        """
        self.state = self._graph.initial_state(rows_after_reset(num_envs, self.rows))
        self._open = num_envs is None

    def clear(self, rows: Mask) -> None:
        """Forget what those rows remember."""
        self.adopt(len(rows))
        self.state, self._open = cleared(self.state, rows), False

    def adopt(self, rows: int) -> None:
        """Make room for a batch of that many rows.

        Raises:
            ValueError: the memory is that of another number of rows.
        """
        if rows == self.rows:
            return
        if not self._open:
            raise another_batch(rows, f"memory of {self.rows}")
        self.state = self._graph.initial_state(rows)

    def store(self, state: GraphState, running: Mask | None = None) -> None:
        """Keep the new state, of all rows or of those in the mask."""
        self.state = state if running is None else chosen_rows(running, state, self.state)
        self._open = False

    def given(self, value: Any, rows: int) -> GraphState:
        """Return a state that somebody hands over, checked."""
        return checked_state(value, self._graph.initial_state(1), rows)
