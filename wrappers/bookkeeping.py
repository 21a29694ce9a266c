"""What both wrappers must know about every environment row: when its episode begins, and what it has cost so far.

The single environment is the vector of one row. A row is *replaying* when its episode is over and the next step
returns the next episode's first observation: its action is ignored, so it must neither advance nor count.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.memory import chosen_rows, cleared
from snn_policy.protocol import Costs, Decision, Mask, Policy

Report = dict[str, npt.NDArray[Any]]
"""Named arrays, first axis = row."""
REPORTED = ("spikes", "events", "synaptic_operations", "multiply_accumulates", "energy", "iterations", "error_spikes")


def reported(costs: Costs) -> Report:
    """Return the costs as `info["snn"]` names them; events are left out where they are not known."""
    return {name: values for name in REPORTED if (values := getattr(costs, name)) is not None}


def first_row(costs: Report) -> dict[str, Any]:
    """Return the only row's entries of a report, plain numbers where they are single."""
    return {name: values[0].copy() if values.ndim > 1 else values[0].item() for name, values in costs.items()}


def shadow_actor(policy: Policy, shadow: bool) -> Actor | None:
    """Return the ANN to compare actions with, None without `shadow`."""
    if not shadow:
        return None
    actor = policy if isinstance(policy, Actor) else getattr(policy, "actor", None)
    if not isinstance(actor, Actor):
        raise ValueError(f"shadow=True: {type(policy).__name__} does not know its ANN; leave `shadow` out")
    return actor


class ShadowAnn:
    """Ask the ANN for its action, with a memory of every row's own episode where it is recurrent."""

    def __init__(self, actor: Actor, rows: int) -> None:
        self._actor, self._state = actor, actor.initial_state(rows)

    def begin(self, rows: Mask) -> None:
        """Begin episodes in these rows."""
        self._state = cleared(self._state, rows)

    def errors(self, obs: npt.NDArray[Any], actions: npt.NDArray[Any], counted: Mask) -> npt.NDArray[np.float64]:
        """Return (rows,) `action_error`s of the observations (rows, *shape); only the counted rows remember them."""
        wanted, after = self._actor.step(obs, self._state)
        self._state = chosen_rows(counted, after, self._state)
        return _distance(self._actor, np.asarray(wanted), actions)


def action_error(actor: Actor, obs: npt.NDArray[Any], actions: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return (rows,) root mean square over the action's components of its distance to the ANN's action.

    In shares of the action's half-range (1 where it is unbounded); the share of other choices for discrete actions. A
    recurrent ANN is asked at the start of its memory.
    """
    return _distance(actor, np.asarray(actor.step(obs, actor.initial_state(len(obs)))[0]), actions)


def _distance(actor: Actor, wanted: npt.NDArray[Any], actions: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if actor.discrete:
        return np.mean((wanted != actions).reshape(len(wanted), -1), axis=1)
    distance = (np.asarray(actions, np.float64) - wanted) / actor.head.half_range()
    return np.sqrt(np.mean(distance**2, axis=-1))


@dataclass
class EpisodeTotals:
    """Sum per row since its episode began what the decisions cost, what the environment gave.

    Attributes:
        costs, errors: of the decisions, and their `action_error`s; None before the first one that has any.
    """

    decisions: npt.NDArray[np.int64]
    costs: Costs | None
    errors: npt.NDArray[np.float64] | None
    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int) -> "EpisodeTotals":
        return cls(np.zeros(rows, np.int64), None, None, np.zeros(rows), np.zeros(rows, np.int64))

    def add_step(self, rewards: npt.NDArray[Any]) -> None:
        """Count one step."""
        self.returns += rewards
        self.lengths += 1

    def add_decision(self, costs: Costs, errors: npt.NDArray[np.float64] | None, counted: Mask) -> None:
        """Count the costs, and the errors if any, of the rows that have decided."""
        self.decisions += counted
        spent = costs.masked(counted)
        self.costs = spent if self.costs is None else self.costs + spent
        if errors is not None:
            self.errors = np.where(counted, errors, 0) + (0 if self.errors is None else self.errors)

    def clear(self, rows: Mask) -> None:
        for values in (self.decisions, self.returns, self.lengths, *([] if self.errors is None else [self.errors])):
            values[rows] = 0
        self.costs = None if self.costs is None else self.costs.masked(~rows)

    def summary(self) -> Report:
        """Return every row\'s episode: totals, and the mean of `ann_error`."""
        found: Report = {"decisions": self.decisions.copy(), **({} if self.costs is None else reported(self.costs))}
        if self.errors is not None:
            found["ann_error"] = self.errors / np.maximum(self.decisions, 1)
        return {**found, "return": self.returns.copy(), "length": self.lengths.copy()}


class Bookkeeper:
    """Clear the policy\'s rows where episodes begin, and account for every decision once.

    A new decision is recognised by `policy.last_decision`, so it does not matter through which object the
    policy was asked, and a step without a decision counts none.
    """

    def __init__(self, policy: Policy, rows: int, actor: Actor | None) -> None:
        self.policy, self.rows = policy, rows
        self._shadow = None if actor is None else ShadowAnn(actor, rows)
        self.replaying: Mask = np.zeros(rows, np.bool_)
        self._totals = EpisodeTotals.empty(rows)
        self._obs: npt.NDArray[Any] = np.zeros(0)
        self._seen: Decision | None = None
        self._outdated: tuple[Decision | None, Mask] = (None, self.replaying)

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """Return the running episodes' steps (rows,); of a row that replays a reset, those of the one that is over."""
        return self._totals.lengths

    def begin_all(self, obs: Any) -> None:
        """Begin episodes with `obs` in all rows."""
        self.policy.reset(num_envs=self.rows)
        self.replaying = np.zeros(self.rows, np.bool_)
        self._totals, self._seen = EpisodeTotals.empty(self.rows), self.policy.last_decision
        self._begin_shadow(np.ones(self.rows, np.bool_))
        self.observe(obs)

    def begin(self, obs: Any, rows: Mask) -> None:
        """Begin episodes with `obs` in these rows: a decision taken before does not belong to them."""
        self._outdated = (self.policy.last_decision, rows)
        self.policy.reset(rows)
        self._totals.clear(rows)
        self.replaying = self.replaying & ~rows
        self._begin_shadow(rows)
        self.observe(obs)

    def _begin_shadow(self, rows: Mask) -> None:
        if self._shadow is not None:
            self._shadow.begin(rows)

    def observe(self, obs: Any) -> None:
        """Remember what the next decision will be about, for the comparison with the ANN only."""
        if self._shadow is not None:
            self._obs = np.array(obs)

    def record(self, actions: Any, rewards: npt.NDArray[Any]) -> tuple[Report, Mask]:
        """Account for one step: the costs per row, and in which rows a decision was taken for it."""
        self._totals.add_step(rewards)  # rows that replay a reset are cleared before they are read
        decision, before, self._seen = self.policy.last_decision, self._seen, self.policy.last_decision
        if decision is None or decision is before or len(decision.spikes) != self.rows:
            return {}, np.zeros(self.rows, np.bool_)
        old, old_rows = self._outdated
        counted = ~(self.replaying | old_rows) if decision is old else ~self.replaying
        shadow = self._shadow
        errors = None if shadow is None else shadow.errors(self._obs, np.asarray(actions), counted)
        self._totals.add_decision(decision, errors, counted)
        return {**reported(decision), **({} if errors is None else {"ann_error": errors})}, counted

    def summary(self) -> Report:
        return self._totals.summary()
