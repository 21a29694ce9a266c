"""A session: the memory of some environment rows, and the buffers in which their decisions are made in place.

`StatefulPolicy` owns one and asks nothing else; `engines` and exported graphs make them. `ReferenceSession` serves
every engine that only has a pure decision.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from snn_policy.ann.memory import chosen_rows, copied
from snn_policy.protocol import LARGEST_OBSERVATION, Array, Counters, Decision, FloatArray, Mask
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.state import State

SURELY_USABLE = 1e30
"""A sum of squares below it means that every observation is finite and within bounds."""


class Session(Protocol):
    """Hold some environment rows at work. All memory is zero at first.

    Attributes:
        rows: how many.
        state: the rows' memory, as arrays that `run` updates; read it, write it with `store`.
        memory: every array that a copy has to take over, by `restore`: the state's, and what is derived from it but
            kept.
        counters: sums since each row's reset.
    """

    @property
    def rows(self) -> int: ...
    @property
    def state(self) -> State: ...
    @property
    def memory(self) -> tuple[npt.NDArray[Any], ...]: ...
    @property
    def counters(self) -> Counters: ...

    def act(self, obs: Array) -> npt.NDArray[Any] | None:
        """Do `accept`, `run` of every row and `actions_like` in one; None where one of them refuses."""
        ...

    def accept(self, obs: Array) -> bool:
        """Copy one observation or a batch into the buffers; False where it is not an array that fits as it is."""
        ...

    def run(self, running: Mask | None = None) -> bool:
        """Decide for every row from the accepted observations; False, with nothing touched, where they are unusable.

        Rows outside of the mask (rows,) get an action, but keep their memory and their sums.
        """
        ...

    def actions_like(self, obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the last actions in an array of their own; without the first axis for a single observation."""
        ...

    def decision(self) -> Decision | None:
        """Return what the last decision cost; None before the first one."""
        ...

    def store(self, state: Any) -> None:
        """Set the memory of all rows to that of the given arrays."""
        ...

    def restore(self, memory: tuple[npt.NDArray[Any], ...]) -> None:
        """Take over the `memory` of another session like this one."""
        ...


class SessionInSteps:
    """Hold one float32 buffer of observations; `act` is nothing but its steps."""

    _obs: FloatArray

    def accept(self, obs: Array) -> bool:
        """See `Session.accept`."""
        place = buffer_for(obs, self._obs)
        if place is None:
            return False
        place[...] = obs
        return True

    def act(self: Session, obs: Array) -> npt.NDArray[Any] | None:
        """See `Session.act`."""
        return self.actions_like(obs) if self.accept(obs) and self.run() else None

    def restore(self: Session, memory: tuple[npt.NDArray[Any], ...]) -> None:
        """See `Session.restore`."""
        for own, given in zip(self.memory, memory, strict=True):
            own[...] = given


class PureEngine(Protocol):
    """Make a pure decision: `SpikingNetwork.decide`, and whatever computes the same."""

    def decide(self, obs: FloatArray, state: Any) -> tuple[npt.NDArray[Any], State, Decision]:
        """Decide for every row; may be called from several threads.

        Args:
            obs: (rows, *observation_shape) float32, finite.
            state: not changed.
        """
        ...


class Engine(PureEngine, Protocol):
    """Decide purely, and make sessions that decide in place."""

    def session(self, rows: int) -> Session:
        """Return a session of that many rows, all memory zero.

        Raises:
            ValueError: where it is made for another number of rows.
        """
        ...


class ReferenceSession(SessionInSteps):
    """Serve as the session of an engine that has only `decide`; see `Session`."""

    def __init__(self, engine: PureEngine, network: SpikingNetwork, rows: int) -> None:
        """Run the network by the engine's `decide`."""
        self.rows, self._engine, self._decision = rows, engine, None
        self.counters = Counters.zeros(rows, len(network.layer_names))
        self._obs = np.zeros((rows, *network.actor.observation_shape), np.float32)
        self._actions: Array = None
        self.store(network.initial_state(rows))

    @property
    def state(self) -> State:
        return self._state

    @property
    def memory(self) -> tuple[npt.NDArray[Any], ...]:
        return tuple(self.state)

    def run(self, running: Mask | None = None) -> bool:
        self._actions, state, self._decision = self._decide()
        self._state = state if running is None else chosen_rows(running, state, self._state)
        self.counters.add(self._decision, slice(None) if running is None else running)
        return True

    def _decide(self) -> tuple[npt.NDArray[Any], State, Decision]:
        return self._engine.decide(self._obs, self._state)

    def actions_like(self, obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._actions if obs.ndim == self._obs.ndim else self._actions[0]

    def decision(self) -> Decision | None:
        return self._decision

    def store(self, state: Any) -> None:
        self._state = copied(state)


def buffer_for(obs: Array, batch: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """Return the part of the float32 buffer `batch` that `obs` can be copied into as it is; None for everything else.

    One observation fits a batch of one row. Nothing that is not finite, or beyond `LARGEST_OBSERVATION`, fits.
    """
    if type(obs) is not np.ndarray or obs.dtype.kind not in "fiub":
        return None
    place = batch if obs.shape == batch.shape else batch[0]
    if obs.shape != place.shape or (place is not batch and len(batch) != 1):
        return None
    sums_safely = obs.dtype == np.float32 or obs.dtype == np.float64
    if sums_safely and np.vdot(obs, obs) < SURELY_USABLE:
        return place
    return place if (abs(obs.astype(np.float64)) <= LARGEST_OBSERVATION).all() else None
