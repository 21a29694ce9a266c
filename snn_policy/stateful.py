"""StatefulPolicy: the shell around a pure decision: reset, masks, batch sizes, SB3's `predict`, counters.

It serves every policy that carries state between decisions, whatever computes them.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.numbers import whole
from snn_policy.protocol import LARGEST_OBSERVATION, Counters, Decision, FloatArray, Mask, as_batch, as_mask, unbatch
from snn_policy.state import State


class StatefulPolicy(ABC):
    """A policy with memory; implements `Policy` on top of `_decide`, `initial_state` and `layer_names`.

    A fresh or just reset policy adopts the batch size of the next observation; after that another batch
    size is an error, because each row's memory belongs to one environment.
    """

    observation_shape: tuple[int, ...]

    def __init__(self) -> None:
        self._state: State | None = None
        self._size_is_open = True
        self._unconfirmed: tuple[Mask, Decision] | None = None
        self._handed_out: State | None = None
        self._last_decision: Decision | None = None
        self.counters = Counters()

    @property
    def last_decision(self) -> Decision | None:
        """What the last decision cost; None before the first one and after a reset of all rows."""
        return self._last_decision

    @property
    @abstractmethod
    def layer_names(self) -> tuple[str, ...]:
        """Names of the layers whose spikes are counted."""

    @abstractmethod
    def initial_state(self, n: int) -> State:
        """The state of n environment rows after a reset: zeros, first axis n."""

    @abstractmethod
    def _decide(self, batch: FloatArray, state: State) -> tuple[npt.NDArray[Any], State, Decision]:
        """One pure decision of a checked batch."""

    def reset(self, mask: npt.ArrayLike | None = None, *, num_envs: int | None = None, seed: int | None = None) -> None:
        """Forget everything, as at the start of an episode; the counters of the same rows start again.

        Args:
            mask: booleans (N,): reset only these rows. Without it all rows are reset, and the next `act`
                may come with another batch size.
            num_envs: fix the batch size.
            seed: accepted for the sake of evaluation loops; a spiking policy has no randomness.

        Raises:
            ValueError: a mask that is not boolean or does not fit the batch, or both arguments at once.
        """
        if mask is None:
            if num_envs is not None and not whole(num_envs, 1, 2**31):
                raise ValueError(f"num_envs: expected a whole number of at least 1, got {num_envs!r}")
            rows = num_envs if num_envs is not None else 1 if self._state is None else len(self._state[0])
            self._start(rows, size_is_open=num_envs is None)
            return
        if num_envs is not None:
            raise ValueError("reset: give a mask or num_envs, not both")
        chosen = as_mask(mask, None if self._size_is_open else self._rows)
        self._store(cleared(self._adopt(len(chosen)), chosen))
        self.counters.clear(chosen)
        if self._unconfirmed is not None:
            self._unconfirmed = self._unconfirmed[0] & ~chosen, self._unconfirmed[1]

    def _start(self, rows: int, size_is_open: bool) -> None:
        """Fresh memory and counters for that many rows."""
        self._state, self._size_is_open = self.initial_state(rows), size_is_open
        self._unconfirmed, self._last_decision, self._handed_out = None, None, None
        self.counters = Counters.zeros(rows, len(self.layer_names))

    def _store(self, state: State) -> None:
        """Keep the new state of all rows; from now on their number is fixed."""
        self._state, self._size_is_open = state, False

    @property
    def _rows(self) -> int:
        if self._state is None:
            self._start(1, size_is_open=True)
        assert self._state is not None
        return len(self._state[0])

    def _adopt(self, rows: int) -> State:
        """The own state, for a batch of that many rows."""
        if rows != self._rows:
            if not self._size_is_open:
                raise ValueError(
                    f"observation: a batch of {rows}, but the policy holds the membranes of {self._rows} "
                    f"environment(s); call reset() or reset(num_envs={rows}) to start anew"
                )
            self._start(rows, size_is_open=True)
        assert self._state is not None
        return self._state

    def act(self, obs: npt.ArrayLike, *, active: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        """The next action of every environment row; advances the membranes.

        Args:
            obs: one observation (*observation_shape) or a batch (N, *observation_shape), any real dtype.
            active: booleans (N,); the rows where it is false neither advance nor count (their action is
                still given): environments that are finished, or that only replay a reset.

        Returns:
            float32 (act_dim,) or (N, act_dim), within [low, high]; for discrete actions an integer or integers (N,).

        Raises:
            ValueError: wrong shape, NaN or infinity, another batch size than before; the state is untouched.
        """
        batch, batched = as_batch(obs, self.observation_shape)
        running = None if active is None else as_mask(active, len(batch), "active")
        self._adopt(len(batch))
        return unbatch(self._act_on(batch, running), batched)

    def _act_on(self, batch: FloatArray, running: Mask | None) -> npt.NDArray[Any]:
        """The actions of a checked batch of as many rows as there are; those that are running go on and count."""
        state = self._adopt(len(batch))
        actions, new_state, decision = self._decide(batch, state)
        self._store(new_state if running is None else chosen_rows(running, new_state, state))
        self.counters.add(decision, slice(None) if running is None else running)
        self._last_decision = decision
        return actions

    def step(self, obs: npt.ArrayLike, state: Any) -> tuple[npt.NDArray[Any], State]:
        """The pure form of `act`: (observation, state) → (action, new state); nothing in the policy changes.

        Raises:
            ValueError: as `act`, or a state whose arrays do not fit the batch.
        """
        actions, new_state, _ = self.decide(obs, state)
        return actions, new_state

    def decide(self, obs: npt.ArrayLike, state: Any) -> tuple[npt.NDArray[Any], State, Decision]:
        """`step`, and what it cost.

        Raises:
            ValueError: as `step`.
        """
        batch, batched = as_batch(obs, self.observation_shape)
        actions, new_state, decision = self._decide(batch, self._as_state(state, len(batch)))
        return unbatch(actions, batched), new_state, decision

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[npt.NDArray[Any], State]:
        """Stable-Baselines3's `PolicyPredictor`: actions and the state to pass to the next call.

        Args:
            state: what an earlier call returned; then the policy's own state is neither used nor changed.
                None: the own state is used and advanced.
            episode_start: booleans (N,): these rows start from zero.

        `counters` and `last_decision` follow a loop that begins without a state and hands every state straight
        back, as SB3's `evaluate_policy` does; a call with any other state leaves them alone. A row's first
        decision of an episode counts when its second one follows, because `evaluate_policy` goes on asking for
        rows that it has finished with, always as episode starts.
        """
        batch, batched = as_batch(observation, self.observation_shape)
        starts = np.zeros(len(batch), np.bool_)
        if episode_start is not None:
            starts = as_mask(episode_start, len(batch), "episode_start")
        if state is None and starts.all():
            self._size_is_open = True
        before = self._adopt(len(batch)) if state is None else self._as_state(state, len(batch))
        actions, after, decision = self._decide(batch, cleared(before, starts))
        if state is None:
            self._store(after)
        handed_out = copied(after)
        if state is None or state is self._handed_out:
            self._count_prediction(decision, starts)
            self._handed_out = handed_out
        return unbatch(actions, batched), handed_out

    def _count_prediction(self, decision: Decision, starts: Mask) -> None:
        if self._unconfirmed is not None:
            started, first = self._unconfirmed
            self.counters.add(first, started & ~starts)
        self.counters.add(decision, ~starts)
        self._unconfirmed, self._last_decision = (starts.copy(), decision), decision  # SB3 reuses its array

    @property
    def state(self) -> State:
        """A copy of the memory of all rows (first axis), to pause, store and resume a loop: to the bit, but for sums of
        convolutions, which are no part of it and are derived anew."""
        return copied(self._adopt(self._rows))

    @state.setter
    def state(self, value: Any) -> None:
        shape = np.shape(value[0]) if isinstance(value, tuple | list) and value else ()
        rows = shape[0] if shape else 1
        given = self._as_state(value, rows)
        if rows != self._rows:
            self._start(rows, size_is_open=False)
        self._store(copied(given))

    def _as_state(self, value: Any, rows: int) -> State:
        kind = self.initial_state(1)
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


def cleared(state: State, mask: Mask) -> State:
    """The state with the given rows back at zero."""
    if not mask.any():
        return state
    keep = ~mask
    return type(state)(*(np.where(keep.reshape(-1, *[1] * (a.ndim - 1)), a, np.zeros((), a.dtype)) for a in state))


def chosen_rows(mask: Mask, new: State, old: State) -> State:
    """Rows of `new` where the mask is true, of `old` elsewhere."""
    return type(new)(*(np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(new, old, strict=True)))


def copied(state: State) -> State:
    """The same state in arrays of its own."""
    return type(state)(*(a.copy() for a in state))
