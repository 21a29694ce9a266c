"""Whole episodes of a policy in an environment: what they return and what the decisions cost.

Episode i always starts with `env.reset(seed=seed + i)`, whatever the number of environments side by side, so
that two policies, or two machines, are compared on the same episodes. Energy as in `snn_policy.energy`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv

from snn_policy.actor import Actor
from snn_policy.environments import EnvironmentSource, environment_name, make_environment
from snn_policy.evaluation import Comparison, Evaluation
from snn_policy.numbers import whole
from snn_policy.progress import counting
from snn_policy.protocol import Mask, Policy
from snn_policy.versions import installed_versions

__all__ = ["Comparison", "Evaluation", "compare", "evaluate", "evaluate_in"]
Result = TypeVar("Result")


def evaluate(
    policy: Policy,
    env: EnvironmentSource,
    *,
    episodes: int = 20,
    seed: int = 5000,
    num_envs: int | None = None,
    progress: bool | str = False,
) -> Evaluation:
    """Run whole episodes, `num_envs` of them side by side (by default at most 10), and close the environments.

    The policy is left as it is after its last decision: `reset` it before using it elsewhere.

    Args:
        env: a Gymnasium id, or a function that makes an environment.
        seed: of the first episode; episode i has seed + i.
        progress: show a bar on stderr; a text names it.

    Raises:
        ValueError: an environment that cannot be made or does not fit the policy; numbers below 1.
    """
    check_counts(episodes, num_envs, seed)
    envs: list[gym.Env] = []
    try:
        for _ in range(min(episodes, num_envs or 10)):
            envs.append(make_environment(env, policy))
        with counting(progress if isinstance(progress, str) else "episodes", episodes, bool(progress)) as advance:
            return evaluate_in(policy, envs, episodes=episodes, seed=seed, advance=advance)
    finally:
        for each in envs:
            each.close()


def compare(
    actor: Actor,
    policy: Policy,
    env: EnvironmentSource,
    *,
    episodes: int = 20,
    seed: int = 5000,
    num_envs: int | None = None,
    progress: bool = False,
) -> Comparison:
    """Evaluate the ANN and its spiking conversion on the same seeds; arguments as for `evaluate`."""
    ann, snn = (
        evaluate(each, env, episodes=episodes, seed=seed, num_envs=num_envs, progress=progress and name)
        for each, name in ((actor, "ANN episodes"), (policy, "SNN episodes"))
    )
    return Comparison(ann, snn, actor.dense_macs)


def evaluate_in(
    policy: Policy,
    envs: Sequence[gym.Env],
    *,
    episodes: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Run episodes in the given environments, one row of the policy each; `advance` is called after every episode.

    A row whose episode is over goes on with the next seed; once there is none left, it neither acts nor counts.
    """
    check_counts(episodes, len(envs), seed)
    envs, seeds = envs[:episodes], range(seed, seed + episodes)
    meter = Meter(policy, envs)
    returns, lengths = _run(meter, envs, seeds, advance)
    return evaluation(envs[0], seeds, returns, lengths, len(envs), meter)


def _run(
    meter: "Meter", envs: Sequence[gym.Env], seeds: Sequence[int], advance: Callable[[], None]
) -> tuple[list[float], list[int]]:
    """Returns and lengths of one episode per seed."""
    rows = len(envs)
    returns, lengths = [0.0] * len(seeds), [0] * len(seeds)
    obs = np.stack([np.asarray(meter.simulate(each.reset, seed=seeds[row])[0]) for row, each in enumerate(envs)])
    meter.warm_up(obs)
    episode, started, active = list(range(rows)), rows, np.ones(rows, np.bool_)
    while active.any():
        actions = meter.act(obs, active)
        over = np.zeros(rows, np.bool_)
        for row in np.flatnonzero(active).tolist():
            obs[row], reward, terminated, truncated, _ = meter.simulate(envs[row].step, actions[row])
            returns[episode[row]] += float(reward)
            lengths[episode[row]] += 1
            over[row] = terminated or truncated
        for row in np.flatnonzero(over).tolist():
            advance()
            active[row] = started < len(seeds)
            if active[row]:
                episode[row], started = started, started + 1
                obs[row], _ = meter.simulate(envs[row].reset, seed=seeds[episode[row]])
        if over.any():
            meter.policy.reset(over)
    return returns, lengths


class Meter:
    """Acts, and sums what the decisions of the active rows cost and where the time goes.

    Args:
        envs: those whose own account of the time spent on drawing is to be read.
    """

    def __init__(self, policy: Policy, envs: Sequence[gym.Env] = ()) -> None:
        self.policy = policy
        self.decisions, self.timed, self.seconds, self.environment_seconds = 0, 0, 0.0, 0.0
        self._drawing = [each for each in envs if each.has_wrapper_attr("render_seconds")]
        self._drawn_before = self._drawn()
        self.spikes: Any = np.zeros(0, np.int64)
        self.synaptic_operations, self.multiply_accumulates, self.iterations = 0, 0, 0

    def warm_up(self, obs: npt.NDArray[Any]) -> None:
        """Take one decision that does not count, so that no compilation is timed, and reset."""
        self.policy.reset(num_envs=len(obs))
        self.policy.act(obs)
        self.policy.reset(num_envs=len(obs))

    def act(self, obs: npt.NDArray[Any], active: Mask) -> npt.NDArray[Any]:
        begin = time.perf_counter()
        actions = self.policy.act(obs, active=active)
        self.seconds += time.perf_counter() - begin
        self.timed += len(active)  # inactive rows are computed, too
        self.decisions += int(active.sum())
        cost = self.policy.last_decision
        if cost is not None:
            self.spikes = cost.spikes[active].sum(axis=0) + (self.spikes if self.spikes.size else 0)
            self.synaptic_operations += int(cost.synaptic_operations[active].sum())
            self.multiply_accumulates += int(cost.multiply_accumulates[active].sum())
            self.iterations += int(cost.iterations[active].sum())
        return actions

    def simulate(self, call: Callable[..., Result], *args: Any, **options: Any) -> Result:
        """What a call of the environment's returns; its time is the environment's."""
        begin = time.perf_counter()
        result = call(*args, **options)
        self.environment_seconds += time.perf_counter() - begin
        return result

    def _drawn(self) -> float:
        return sum(each.get_wrapper_attr("render_seconds") for each in self._drawing)

    def averages(self) -> dict[str, Any]:
        return {
            "decisions": self.decisions,
            "spikes": tuple(float(each) for each in self.spikes / self.decisions),
            "synaptic_operations": self.synaptic_operations / self.decisions,
            "multiply_accumulates": self.multiply_accumulates / self.decisions,
            "microseconds": 1e6 * self.seconds / self.timed,
            "iterations": self.iterations / self.decisions,
            "policy_seconds": self.seconds,
            "environment_seconds": self.environment_seconds,
            "render_seconds": self._drawn() - self._drawn_before if self._drawing else None,
        }


def check_counts(episodes: int, num_envs: int | None = None, seed: int = 0) -> None:
    for name, value, least in (("episodes", episodes, 1), ("num_envs", num_envs, 1), ("seed", seed, 0)):
        if not (whole(value, least, 2**31 - 1) or (name == "num_envs" and value is None)):
            raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def evaluation(
    env: gym.Env | VectorEnv,
    seeds: Sequence[int],
    returns: Sequence[float],
    lengths: Sequence[int],
    num_envs: int,
    meter: Meter,
) -> Evaluation:
    """The record of these episodes."""
    return Evaluation(
        environment=environment_name(env),
        seeds=tuple(seeds),
        returns=tuple(returns),
        lengths=tuple(lengths),
        num_envs=num_envs,
        **meter.averages(),
        versions={name.replace("-", "_"): each for name, each in installed_versions().items()},
    )
