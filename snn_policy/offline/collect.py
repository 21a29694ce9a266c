"""Making datasets in D4RL's four qualities (Fu et al. 2020, §4) from trained actors.

expert: episodes of the expert. medium: episodes of an actor whose training was stopped at about a third of the
expert's return. medium-replay: everything in that actor's replay buffer when it was stopped. medium-expert: half
and half. D4RL's actors sampled their actions; the actors here are deterministic, so rollouts add Gaussian noise of
`DEFAULT_NOISE` half-ranges to every action (clipped, and recorded as executed): without it an action would be a
function of the observation alone and the critics would never see another.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.environments import make_environments
from snn_policy.observations import EnvironmentRow
from snn_policy.offline.scores import normalised_score, reference_returns
from snn_policy.offline.transitions import FLAG_ARRAYS, Transitions, concatenate
from snn_policy.progress import counting

QUALITIES = ("expert", "medium", "medium-replay", "medium-expert")
DEFAULT_STEPS, DEFAULT_NOISE = 100_000, 0.1
SIDE_BY_SIDE = 10
"""Environments per rollout; fixed, because the episodes depend on it."""


def rollout(
    actor: Actor,
    env_id: str,
    *,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    noise: float = DEFAULT_NOISE,
    quality: str | None = None,
    progress: bool = False,
) -> Transitions:
    """Record exactly `steps` transitions of an actor in `SIDE_BY_SIDE` environments, the rows of each together.

    Every environment takes the same number of steps, whatever the length of its episodes, and its last episode is
    cut there: stopping after whole episodes instead would favour the short ones.

    Args:
        env_id: a Gymnasium id.
        seed: of the first episode; the following count on in the order in which they start. Seeds the noise, too.
        noise: standard deviation of the action noise in half-ranges of the action's bounds.
        progress: show a bar on stderr.

    Raises:
        ValueError: an environment that does not fit, discrete actions, numbers out of range; an observation or a
            reward that cannot be used (it names seed, row and step).
    """
    if actor.discrete:
        raise ValueError(f"{actor.name}: chooses among discrete actions; datasets hold continuous actions only")
    if steps < 1 or not 0 <= noise <= 1:
        raise ValueError(f"steps {steps}, noise {noise}: expected at least 1 step, and noise within [0, 1]")
    envs: list[gym.Env] = []
    try:
        envs += make_environments(env_id, actor, min(SIDE_BY_SIDE, steps))
        quota = [len(part) for part in np.array_split(np.arange(steps), len(envs))]
        with counting(f"{len(envs)} environments, steps", quota[0], progress) as advance:
            recorded = _record(actor, envs, quota, np.random.default_rng(seed), seed, noise, advance)
    finally:
        for env in envs:
            env.close()
    return concatenate([_row(recorded, row, end, env_id) for row, end in enumerate(quota)], actor.name, quality)


def _record(
    actor: Actor,
    envs: list[gym.Env],
    quota: list[int],
    rng: np.random.Generator,
    seed: int,
    noise: float,
    advance: Callable[[], None],
) -> dict[str, npt.NDArray[Any]]:
    """Record arrays (rows, quota[0], …), of which row i fills the first quota[i]."""
    size, shape = (len(envs), quota[0]), actor.observation_shape
    shapes = {"observations": shape, "actions": actor.action_shape, "rewards": (), "next_observations": shape}
    recorded: dict[str, npt.NDArray[Any]] = {name: np.zeros((*size, *shapes[name]), np.float32) for name in shapes}
    recorded |= {name: np.zeros(size, np.bool_) for name in FLAG_ARRAYS}
    taken = [EnvironmentRow(env, shape, row) for row, env in enumerate(envs)]
    obs = np.stack([environment.reset(seed + row) for row, environment in enumerate(taken)]).astype(np.float32)
    started = len(envs)
    for step in range(quota[0]):
        actions = actor.head.disturbed(actor.step(obs, ())[0], noise, rng)
        recorded["observations"][:, step], recorded["actions"][:, step] = obs, actions
        for row, environment in enumerate(taken):
            if step >= quota[row]:
                continue
            following, reward, terminated, truncated = environment.step(actions[row])
            outcome = {"next_observations": following, "rewards": reward}
            outcome |= {"terminations": terminated, "truncations": truncated and not terminated}
            for name, value in outcome.items():
                recorded[name][row, step] = value
            if terminated or truncated:
                following = environment.reset(seed + started)
                started += 1
            obs[row] = following
        advance()
    return recorded


def _row(recorded: dict[str, Any], row: int, end: int, env_id: str) -> Transitions:
    return Transitions(**{name: array[row, :end] for name, array in recorded.items()}, env_id=env_id)


def medium_expert(
    medium: Actor,
    expert: Actor,
    env_id: str,
    *,
    steps: int = DEFAULT_STEPS,
    seed: int = 0,
    noise: float = DEFAULT_NOISE,
    progress: bool = False,
) -> Transitions:
    """Record half the steps of each, the medium actor's first; arguments as for `rollout`, the same seeds for both."""
    if steps < 2:
        raise ValueError(f"steps {steps}: half and half needs at least 2")
    shares = ((medium, steps // 2), (expert, steps - steps // 2))
    parts = [rollout(actor, env_id, steps=share, seed=seed, noise=noise, progress=progress) for actor, share in shares]
    return concatenate(parts, f"{medium.name} + {expert.name}", "medium-expert")


def medium_replay(buffer: Transitions, env_id: str) -> Transitions:
    """Return a replay buffer, whole, as the medium-replay dataset of an environment.

    Raises:
        ValueError: transitions of another environment.
    """
    if buffer.env_id not in (None, env_id):
        raise ValueError(f"{buffer.name}: a replay buffer of {buffer.env_id}, not of {env_id}")
    buffer.check_fits(env_id)
    return replace(buffer, env_id=env_id, quality="medium-replay")


@dataclass(frozen=True)
class DatasetSummary:
    """Describe a dataset. Returns and scores are of whole episodes only: terminated, or as long as the time limit.

    `mean`, `std` and `score` (D4RL, see `scores`) are None where there is no whole episode or no reference return.
    """

    steps: int
    episodes: int
    whole_episodes: int
    terminated: int
    shortest: int
    longest: int
    mean: float | None
    std: float | None
    score: float | None


def summarise(data: Transitions) -> DatasetSummary:
    """Summarise episodes, lengths, returns and D4RL score of a dataset."""
    lengths, returns = data.episode_lengths(), data.episode_returns()
    last = np.array([rows.stop - 1 for rows in data.episodes()])
    whole = data.terminations[last] | (lengths == _time_limit(data.env_id))
    mean = float(returns[whole].mean()) if whole.any() else None
    known = mean is not None and reference_returns(data.env_id) is not None
    return DatasetSummary(
        steps=len(data),
        episodes=len(lengths),
        whole_episodes=int(whole.sum()),
        terminated=int(data.terminations.sum()),
        shortest=int(lengths.min()),
        longest=int(lengths.max()),
        mean=mean,
        std=float(returns[whole].std()) if whole.any() else None,
        score=float(normalised_score(data.env_id, mean)) if known else None,  # pyright: ignore[reportArgumentType]
    )


def _time_limit(env_id: str | None) -> int | None:
    spec = gym.registry.get(env_id or "")
    return spec.max_episode_steps if spec is not None else None
