"""StatefulPolicy: the one shell around decisions: reset, masks, batch sizes, SB3's `predict`, counters, copies.

It serves every policy that carries state between decisions, whatever computes them (`snn_policy.session`).
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.ann.memory import another_batch, checked_state, cleared, copied, refuse_both, rows_after_reset
from snn_policy.protocol import Counters, Decision, Mask, as_batch, as_mask, unbatch
from snn_policy.session import Engine
from snn_policy.spiking.state import State


class StatefulPolicy(ABC):
    """Add memory to a policy: implement `Policy` on an engine's pure decisions and on the sessions that it makes.

    A fresh or just reset policy adopts the batch size of the next observation; after that another batch
    size is an error, because each row's memory belongs to one environment.
    """

    observation_shape: tuple[int, ...]

    def __init__(self, engine: Engine, rows: int = 1) -> None:
        self._engine = engine
        self._start(rows, size_is_open=True)

    @property
    def last_decision(self) -> Decision | None:
        """Return what the last decision cost; None before the first one and after a reset of all rows."""
        if self._last_decision is None:
            self._last_decision = self._session.decision()
        return self._last_decision

    @property
    def counters(self) -> Counters:
        """Return sums of all decisions since each row's reset."""
        return self._session.counters

    @property
    @abstractmethod
    def layer_names(self) -> tuple[str, ...]:
        """Return the names of the layers whose spikes are counted."""

    @abstractmethod
    def initial_state(self, n: int) -> State:
        """Return the state of n environment rows after a reset: zeros, first axis n."""

    @abstractmethod
    def _made_of(self) -> tuple[Any, ...]:
        """Return what a copy is made of, as `_remake` takes it: plain data that can be pickled."""

    @abstractmethod
    def _remake(self, made_of: tuple[Any, ...]) -> None:
        """Become a fresh policy made of this."""

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
            self._start(rows_after_reset(num_envs, self._session.rows), size_is_open=num_envs is None)
            return
        refuse_both(num_envs)
        chosen = as_mask(mask, None if self._size_is_open else self._session.rows)
        self._adopt(len(chosen))
        self._store(cleared(self._session.state, chosen))
        self.counters.clear(chosen)
        if self._unconfirmed is not None:
            self._unconfirmed = self._unconfirmed[0] & ~chosen, self._unconfirmed[1]

    def _start(self, rows: int, size_is_open: bool) -> None:
        """Begin with fresh memory and counters for that many rows."""
        self._session, self._size_is_open = self._engine.session(rows), size_is_open
        self._unconfirmed: tuple[Mask, Decision] | None = None
        self._handed_out: State | None = None
        self._last_decision: Decision | None = None

    def _store(self, state: State) -> None:
        """Keep the new state of all rows; from now on their number is fixed."""
        self._session.store(state)
        self._size_is_open = False

    def _adopt(self, rows: int) -> None:
        """Make room for a batch of that many rows, if the batch size is still open."""
        if rows == self._session.rows:
            return
        if not self._size_is_open:
            raise another_batch(rows, f"membranes of {self._session.rows}")
        self._start(rows, size_is_open=True)

    def act(self, obs: npt.ArrayLike, *, active: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        """Return the next action of every environment row; advances the membranes.

        Args:
            obs: one observation (*observation_shape) or a batch (N, *observation_shape), any real dtype.
            active: booleans (N,); the rows where it is false neither advance nor count (their action is
                still given): environments that are finished, or that only replay a reset.

        Returns:
            float32 (act_dim,) or (N, act_dim), within [low, high]; for discrete actions an integer or integers (N,).

        Raises:
            ValueError: wrong shape, NaN or infinity, another batch size than before; the state is untouched.
        """
        if active is None:
            action = self._session.act(obs)
            if action is not None:
                self._size_is_open, self._last_decision = False, None
                return action
        return self._act_on_checked(obs, active)

    def _act_on_checked(self, obs: npt.ArrayLike, active: npt.ArrayLike | None) -> npt.NDArray[Any]:
        """Do as `act` for whatever does not fit the buffers as it is: lists, other batch sizes, mistakes."""
        batch, batched = as_batch(obs, self.observation_shape)
        running = None if active is None else as_mask(active, len(batch), "active")
        self._adopt(len(batch))
        session = self._session
        if not (session.accept(batch) and session.run(None if running is None or running.all() else running)):
            raise ValueError("observation: so large that sums overflow inside the network")
        self._size_is_open, self._last_decision = False, None
        return unbatch(session.actions_like(batch), batched)

    def step(self, obs: npt.ArrayLike, state: Any) -> tuple[npt.NDArray[Any], State]:
        """Return the pure form of `act`: (observation, state) → (action, new state); nothing in the policy changes.

        Raises:
            ValueError: as `act`, or a state whose arrays do not fit the batch.
        """
        actions, new_state, _ = self.decide(obs, state)
        return actions, new_state

    def decide(self, obs: npt.ArrayLike, state: Any) -> tuple[npt.NDArray[Any], State, Decision]:
        """Do as `step`, and return what it cost, too.

        Raises:
            ValueError: as `step`.
        """
        batch, batched = as_batch(obs, self.observation_shape)
        actions, new_state, decision = self._engine.decide(batch, self._as_state(state, len(batch)))
        return unbatch(actions, batched), new_state, decision

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[npt.NDArray[Any], State]:
        """Act as Stable-Baselines3's `PolicyPredictor`: actions and the state to pass to the next call.

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
        if state is None:
            self._adopt(len(batch))
        before = self._session.state if state is None else self._as_state(state, len(batch))
        actions, after, decision = self._engine.decide(batch, cleared(before, starts))
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
        """Return a copy of the memory of all rows (first axis), to pause, store and resume a loop: to the bit, but for
        sums of convolutions, which are no part of it and are derived anew."""
        return copied(self._session.state)

    @state.setter
    def state(self, value: Any) -> None:
        shape = np.shape(value[0]) if isinstance(value, tuple | list) and value else ()
        rows = shape[0] if shape else 1
        given = self._as_state(value, rows)
        if rows != self._session.rows:
            self._start(rows, size_is_open=False)
        self._store(given)

    def _as_state(self, value: Any, rows: int) -> State:
        return checked_state(value, self.initial_state(1), rows)

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles need: they go on from the same memory, on buffers of their own."""
        return {
            "made_of": self._made_of(),
            "memory": tuple(array.copy() for array in self._session.memory),
            "counters": self.counters.copy(),
            "rest": (self._size_is_open, self.last_decision, self._unconfirmed),
        }

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self._remake(saved["made_of"])
        self._start(len(saved["memory"][0]), size_is_open=False)
        self._session.restore(saved["memory"])
        self.counters.restore(saved["counters"])
        self._size_is_open, self._last_decision, self._unconfirmed = saved["rest"]
