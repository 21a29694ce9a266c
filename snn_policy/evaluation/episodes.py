"""Run an evaluation\'s loop: episodes in environments side by side, and what their decisions cost."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from snn_policy.observations import EnvironmentRow
from snn_policy.protocol import Costs, Mask, Policy

Result = TypeVar("Result")
NextEpisode = Callable[[], int | None]
"""Gives the index of the next episode to run; None where there is none left."""


class Episode(NamedTuple):
    """Hold a finished episode: the `number`-th from 0; `rewards` is their sum, its return."""

    number: int
    rewards: float
    length: int


@dataclass(frozen=True)
class Totals:
    """Hold what decisions cost altogether; names as in `Evaluation`, there as averages.

    Attributes:
        timed: rows computed within `policy_seconds`, those that were not active included.
        costs: over all decisions and rows.
    """

    decisions: int
    timed: int
    costs: Costs
    policy_seconds: float
    environment_seconds: float
    render_seconds: float | None

    def averages(self) -> dict[str, Any]:
        """Return the fields of an `Evaluation` that tell of costs."""
        costs = {name: values.tolist() for name, values in self.costs.mean(self.decisions).named().items()}
        return {
            **costs,
            "spikes": tuple(costs["spikes"]),
            "decisions": self.decisions,
            "microseconds": 1e6 * self.policy_seconds / self.timed,
            "policy_seconds": self.policy_seconds,
            "environment_seconds": self.environment_seconds,
            "render_seconds": self.render_seconds,
        }


def summed(parts: Iterable[Totals]) -> Totals:
    """Return the totals of several processes' decisions."""
    first, *others = parts
    for other in others:
        drawn = (first.render_seconds, other.render_seconds)
        first = Totals(
            decisions=first.decisions + other.decisions,
            timed=first.timed + other.timed,
            costs=first.costs + other.costs,
            policy_seconds=first.policy_seconds + other.policy_seconds,
            environment_seconds=first.environment_seconds + other.environment_seconds,
            render_seconds=None if None in drawn else sum(seconds for seconds in drawn if seconds is not None),
        )
    return first


class CostRecorder:
    """Act, and sum what the decisions of the active rows cost and where the time goes.

    Args:
        envs: those whose own account of the time spent on drawing is to be read.
    """

    def __init__(self, policy: Policy, envs: Sequence[gym.Env] = ()) -> None:
        self.policy = policy
        self.decisions, self.timed, self.policy_seconds, self.environment_seconds = 0, 0, 0.0, 0.0
        self._drawing = [env for env in envs if env.has_wrapper_attr("render_seconds")]
        self._drawn_before = self._drawn()
        self._costs: Costs | None = None

    def warm_up(self, obs: npt.NDArray[Any]) -> None:
        """Take one decision that does not count, so that nothing that is done once is timed, and reset."""
        self.policy.reset(num_envs=len(obs))
        self.policy.act(obs)
        self.policy.reset(num_envs=len(obs))

    def act(self, obs: npt.NDArray[Any], active: Mask) -> npt.NDArray[Any]:
        """Return the actions of all rows; those that are not active neither advance nor count."""
        everywhere = all(active.tolist())  # of a few rows three times as fast as `active.all()`
        begin = time.perf_counter()
        actions = self.policy.act(obs) if everywhere else self.policy.act(obs, active=active)
        self.policy_seconds += time.perf_counter() - begin
        self.timed += len(active)
        self.decisions += len(active) if everywhere else int(active.sum())
        cost = self.policy.last_decision
        if cost is not None:
            counted = cost if everywhere else cost.masked(active)
            self._costs = counted if self._costs is None else self._costs + counted
        return actions

    def simulate(self, call: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """Return what a call of the environment\'s returns; its time is the environment's."""
        begin = time.perf_counter()
        result = call(*args, **options)
        self.environment_seconds += time.perf_counter() - begin
        return result

    def _drawn(self) -> float:
        return sum(env.get_wrapper_attr("render_seconds") for env in self._drawing)

    def totals(self) -> Totals:
        """Return the totals of everything since the recorder was made."""
        return Totals(
            decisions=self.decisions,
            timed=self.timed,
            costs=(self._costs or Costs.zeros()).total(),
            policy_seconds=self.policy_seconds,
            environment_seconds=self.environment_seconds,
            render_seconds=self._drawn() - self._drawn_before if self._drawing else None,
        )


def run_episodes(
    recorder: CostRecorder, envs: Sequence[gym.Env], seed: int, take: NextEpisode, advance: Callable[[], None]
) -> list[Episode]:
    """Run the episodes that `take` gives, side by side, until it gives none; `advance` is called after each.

    Every environment has a row of the policy of its own. Episode i starts with seed + i. A row whose episode is
    over takes the next one; once there is none left, it neither acts nor counts.

    Raises:
        ValueError: an observation or a reward that cannot be used; it names seed, row and step.
    """
    begun = [index for _ in envs if (index := take()) is not None]
    if not begun:
        return []
    rows, finished, shape = len(begun), [], recorder.policy.observation_shape
    taken = [EnvironmentRow(env, shape, row) for row, env in enumerate(envs[:rows])]
    obs = np.empty((rows, *shape), np.float32)  # also where a reset gives integers, and the steps floats
    for row, index in enumerate(begun):
        obs[row] = recorder.simulate(taken[row].reset, seed + index)
    recorder.warm_up(obs)
    rewards, lengths = [0.0] * rows, [0] * rows
    active, running = np.ones(rows, np.bool_), range(rows)
    while running:
        actions, over = recorder.act(obs, active), []
        begin = time.perf_counter()  # once for all rows: a fast environment's step takes few microseconds
        for row in running:
            obs[row], reward, terminated, truncated = taken[row].step(actions[row])
            rewards[row] += reward
            lengths[row] += 1
            if terminated or truncated:
                over.append(row)
        recorder.environment_seconds += time.perf_counter() - begin
        for row in over:
            finished.append(Episode(begun[row], rewards[row], lengths[row]))
            advance()
            following = take()
            active[row] = following is not None
            if following is not None:
                begun[row], rewards[row], lengths[row] = following, 0.0, 0
                obs[row] = recorder.simulate(taken[row].reset, seed + following)
        if over:
            ended = np.zeros(rows, np.bool_)
            ended[over] = True
            recorder.policy.reset(ended)
            running = np.flatnonzero(active).tolist()
    return finished
