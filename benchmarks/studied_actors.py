"""The actors of `open_questions`, their short environments, their conversions, and how returns are compared there."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from benchmarks.neuron_study import read
from snn_policy import IF, Actor, SpikingPolicy, convert
from snn_policy.evaluation.statistics import bootstrap_interval, failed_share, mean, retention_interval
from snn_policy.protocol import FloatArray

CHOICE_SEED, REPORT_SEED, RECORDING_SEED, OBSERVATIONS = 600_000, 700_000, 0, 3_000
LIMITS = {"CartPole-v1": 200, "Pendulum-v1": 200, "MountainCarContinuous-v0": 999}
WALKERS_LIMIT, RECOVERY_LIMIT = 300, 150
"""The same of all other tasks, and of those where wide starts are to be recovered from."""
Make = Callable[[], gym.Env]
Returns = npt.NDArray[np.float64]


class Starts(gym.Wrapper):
    """Give `reset` the same options whenever an episode begins."""

    def __init__(self, env: gym.Env, options: dict[str, Any]) -> None:
        super().__init__(env)
        self._options = options

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=seed, options=self._options)


def environment_of(actor: Actor, spread: float | None = None) -> Make:
    """Return what makes an actor's environment with a short limit.

    Args:
        spread: of the states that episodes begin in, where it is not the environment's own.
    """
    env_id = str(actor.env_id)
    limit = LIMITS.get(env_id, WALKERS_LIMIT if spread is None else RECOVERY_LIMIT)

    def make() -> gym.Env:
        if spread is None:
            return gym.make(env_id, max_episode_steps=limit, disable_env_checker=True)
        if env_id == "CartPole-v1":
            env = gym.make(env_id, max_episode_steps=limit, disable_env_checker=True)
            return Starts(env, {"low": -spread, "high": spread})
        return gym.make(env_id, max_episode_steps=limit, disable_env_checker=True, reset_noise_scale=spread)

    return make


@cache
def recorded(name: str) -> tuple[Actor, FloatArray]:
    """Return an actor and consecutive observations of its own episodes."""
    actor = read(name)
    return actor, actor.collect(str(actor.env_id), steps=OBSERVATIONS, seed=RECORDING_SEED)


def integrate_and_fire(name: str, timesteps: int = 8, **options: Any) -> SpikingPolicy:
    """Return the conversion to IF neurons, thresholds from maxima."""
    actor, observations = recorded(name)
    others = {key: options.pop(key) for key in ("env", "pilot") if key in options}
    return convert(actor, observations, neuron=IF(timesteps=timesteps, threshold="max", **options), **others)


def relative(returns: Returns, best: Returns) -> dict[str, Any]:
    """Return 1 − (best − own)/|best| of mean returns on the same seeds, with its interval and failures."""
    share = 1 - (best.mean() - returns.mean()) / abs(best.mean())
    return {
        "mean": float(share),
        "interval": list(retention_interval(mean, best, returns)),
        "failed": failed_share(returns, best),
        "episodes": len(returns),
    }


def mean_of_actors(shares: Iterable[float]) -> dict[str, Any]:
    """Return the mean over actors, with an interval that resamples them."""
    values = list(shares)
    return {"mean": float(np.mean(values)), "interval": list(bootstrap_interval(mean, values))}


def rounded(value: Any) -> Any:
    """Return the same plain data with six significant digits; what is not finite becomes None."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
