"""What both wrappers must know about every environment row: when its episode begins, and what it has cost so far.

The single environment is the vector of one row. A row is *replaying* when its episode is over and the next step
returns the next episode's first observation: its action is ignored, so it must neither advance nor count.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.protocol import Decision, Mask, Policy

Costs = dict[str, npt.NDArray[Any]]
"""Named arrays, first axis = row."""


def shadow_actor(policy: Policy, shadow: bool) -> Actor | None:
    """The ANN to compare actions with, None without `shadow`."""
    if not shadow:
        return None
    actor = policy if isinstance(policy, Actor) else getattr(policy, "actor", None)
    if not isinstance(actor, Actor):
        raise ValueError(f"shadow=True: {type(policy).__name__} does not know its ANN; leave `shadow` out")
    return actor


def action_error(actor: Actor, obs: npt.NDArray[Any], actions: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """(rows,) root mean square over the action's components of its distance to the ANN's action.

    In shares of the action's half-range (1 where it is unbounded); the share of other choices for discrete actions.
    """
    wanted = np.asarray(actor.step(obs, ())[0])
    if actor.discrete:
        return np.mean((wanted != actions).reshape(len(wanted), -1), axis=1)
    distance = (np.asarray(actions, np.float64) - wanted) / actor.head.half_range()
    return np.sqrt(np.mean(distance**2, axis=-1))


@dataclass
class Ledger:
    """Sums per row since its episode began: what the decisions cost, what the environment gave."""

    sums: Costs
    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int) -> "Ledger":
        return cls({"decisions": np.zeros(rows, np.int64)}, np.zeros(rows), np.zeros(rows, np.int64))

    def add(self, costs: Costs, counted: Mask, rewards: npt.NDArray[Any]) -> None:
        """Count one step, and the costs of the rows that have decided for it."""
        self.sums["decisions"][counted] += 1
        for name, values in costs.items():
            self.sums.setdefault(name, np.zeros_like(values))[counted] += values[counted]
        self.returns += rewards
        self.lengths += 1

    def clear(self, rows: Mask) -> None:
        for values in (*self.sums.values(), self.returns, self.lengths):
            values[rows] = 0

    def summary(self) -> Costs:
        """Every row's episode: totals, and the mean of `ann_error`."""
        totals = {name: values.copy() for name, values in self.sums.items()}
        if "ann_error" in totals:
            totals["ann_error"] /= np.maximum(totals["decisions"], 1)
        return {**totals, "return": self.returns.copy(), "length": self.lengths.copy()}


class Bookkeeper:
    """Clears the policy's rows where episodes begin, and accounts for every decision once.

    A new decision is recognised by `policy.last_decision`, so it does not matter through which object the
    policy was asked, and a step without a decision counts none.
    """

    def __init__(self, policy: Policy, rows: int, actor: Actor | None) -> None:
        self.policy, self.rows, self.actor = policy, rows, actor
        self.replaying: Mask = np.zeros(rows, np.bool_)
        self._ledger = Ledger.empty(rows)
        self._obs: npt.NDArray[Any] = np.zeros(0)
        self._seen: Decision | None = None
        self._outdated: tuple[Decision | None, Mask] = (None, self.replaying)

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """(rows,) Steps of the running episodes; of a row that replays a reset, those of the one that is over."""
        return self._ledger.lengths

    def begin_all(self, obs: Any) -> None:
        """Episodes begin with `obs` in all rows."""
        self.policy.reset(num_envs=self.rows)
        self.replaying = np.zeros(self.rows, np.bool_)
        self._ledger, self._seen = Ledger.empty(self.rows), self.policy.last_decision
        self.observe(obs)

    def begin(self, obs: Any, rows: Mask) -> None:
        """Episodes begin with `obs` in these rows: a decision taken before does not belong to them."""
        self._outdated = (self.policy.last_decision, rows)
        self.policy.reset(rows)
        self._ledger.clear(rows)
        self.replaying = self.replaying & ~rows
        self.observe(obs)

    def observe(self, obs: Any) -> None:
        """What the next decision will be about; kept for the comparison with the ANN only."""
        if self.actor is not None:
            self._obs = np.array(obs)

    def record(self, actions: Any, rewards: npt.NDArray[Any]) -> tuple[Costs, Mask]:
        """Account for one step: the costs per row, and in which rows a decision was taken for it."""
        costs, counted = self._costs(np.asarray(actions))
        self._ledger.add(costs, counted, rewards)  # rows that replay a reset are cleared before they are read
        return costs, counted

    def summary(self) -> Costs:
        return self._ledger.summary()

    def _costs(self, actions: npt.NDArray[Any]) -> tuple[Costs, Mask]:
        decision, before, self._seen = self.policy.last_decision, self._seen, self.policy.last_decision
        if decision is None or decision is before or len(decision.spikes) != self.rows:
            return {}, np.zeros(self.rows, np.bool_)
        costs: Costs = {
            "spikes": decision.spikes,
            "synaptic_operations": decision.synaptic_operations,
            "energy": decision.energy,
            "iterations": decision.iterations,
            "error_spikes": decision.error_spikes,
        }
        if self.actor is not None:
            costs["ann_error"] = action_error(self.actor, self._obs, actions)
        old, old_rows = self._outdated
        return costs, ~(self.replaying | old_rows) if decision is old else ~self.replaying
