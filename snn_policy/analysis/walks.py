"""Walk episodes of the spiking policy and of its ANN once, and try the other's action in every state on the way.

In state s_k both policies decide; the environment takes one action, is restored, and takes the other. The walk goes on
from the action of the policy that it follows. Everything that asks for restored states (consistency, correction, drift,
return decomposition) is computed from these arrays. The policies are only asked through `step`, so that their own
memories stay as they are.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.analysis.environment_state import (
    EnvironmentState,
    check_restorable,
    restore_state,
    save_state,
)
from snn_policy.analysis.last_values import Decided, Decider
from snn_policy.analysis.process_copy import in_a_copy
from snn_policy.analysis.replayed import Replayed, make_restorable
from snn_policy.calibration.action_units import error_unit
from snn_policy.checks import at_least
from snn_policy.environments import EnvironmentSource
from snn_policy.observations import EnvironmentRow, environment_name
from snn_policy.progress import counting
from snn_policy.protocol import FloatArray, Policy

Floats = npt.NDArray[np.float64]
MOST_ENTRIES = 4_096
"""Of an observation that are kept."""
ROUNDING = 1e-6
"""What differs by less than this share of its largest size in the episode is the same but for float32's rounding."""


@dataclass(frozen=True, eq=False)
class Walk:
    """Hold one episode; first axis: the decision k. m is the size of what errors are measured in.

    That is the action itself (flat, in the environment's units) or, where actions are discrete, the last layer's
    values (Q or logits) less their mean over the choices of one action, which no choice depends on.

    Attributes:
        observations: (decisions, entries) of s_k, flat; of pictures every n-th pixel (`MOST_ENTRIES`).
        snn: (decisions, m) a_SNN(s_k); its memory has seen this episode's observations.
        ann: (decisions, m) a_ANN(s_k).
        snn_rewards: (decisions,) reward of the SNN's action in s_k.
        ann_rewards: (decisions,) reward of the ANN's action in s_k.
        ann_after_ann: (decisions, m) a_ANN(s), s reached from s_k by the ANN's action; NaN where the episode ends.
        ann_after_snn: (decisions, m) a_ANN(s'), s' reached by the SNN's action.
        snn_after_snn: (decisions, m) a_SNN(s'), with the memory after decision k. NaN in a walk of the ANN's.
        changed: (decisions,) whether the two actions differ at all.
        terminated: whether it ended by itself, not by a limit.
    """

    observations: FloatArray
    snn: Floats
    ann: Floats
    snn_rewards: Floats
    ann_rewards: Floats
    ann_after_ann: Floats
    ann_after_snn: Floats
    snn_after_snn: Floats
    changed: npt.NDArray[np.bool_]
    terminated: bool

    @property
    def errors(self) -> Floats:
        """Return e_k = a_SNN(s_k) − a_ANN(s_k), (decisions, m); what is only rounding is zero."""
        return differences(self.snn, self.ann)


@dataclass(frozen=True, eq=False)
class Walks:
    """Hold episodes of both policies; the i-th of each begins with seed + i.

    Attributes:
        environment: its name.
        discrete: whether errors are of the last layer's values instead of actions.
        unit: (m,) the half-range of every entry of an error; where there is none, the spread along the ANN's episodes.
        snn: the episodes in which the spiking policy acted.
        ann: those in which the ANN did.
    """

    environment: str
    seed: int
    discrete: bool
    unit: Floats
    snn: tuple[Walk, ...]
    ann: tuple[Walk, ...]

    def first(self, episodes: int) -> "Walks":
        """Return the first episodes of each policy."""
        return replace(self, snn=self.snn[:episodes], ann=self.ann[:episodes])

    @property
    def rms_error(self) -> float:
        """Return the RMS of all errors along the SNN's episodes, in `unit`."""
        return float(np.sqrt(np.mean(np.concatenate([episode.errors / self.unit for episode in self.snn]) ** 2)))


def walk(
    actor: Actor,
    policy: Policy,
    env: EnvironmentSource,
    episodes: int = 10,
    seed: int = 0,
    *,
    decisions: int | None = None,
    progress: bool = False,
) -> Walks:
    """Return that many episodes of each policy. Those of Box2D are restored as `replayed` does, which takes its time.

    Args:
        decisions: after which an episode is left at the latest; by default it runs to its end.

    Raises:
        CannotRestoreError: the environment's state cannot be restored exactly.
        ValueError: an environment that does not fit the policies, or episodes that are none.
        TypeError: a policy of discrete actions that does not show its last layer's values.
    """
    check_episodes(episodes, seed, decisions)
    snn, ann = Decider(policy, actor), Decider(actor, actor)
    environment = make_restorable(env, actor)
    try:
        check_restorable(environment, seed)
        environment.reset(seed=seed)
        start = save_state(environment)
        walks: dict[bool, list[Walk]] = {}
        with counting("walking", 2 * episodes, progress) as advance:
            for follow_ann in (True, False):
                restore_state(environment, start)  # wrappers may go on from one episode to the next
                walker = _Walker(environment, snn, ann, follow_ann, decisions)
                walks[follow_ann] = []
                for episode in range(episodes):
                    walks[follow_ann].append(walker.episode(seed + episode))
                    advance()
        unit = error_unit(actor, np.concatenate([episode.ann for episode in walks[True]]).astype(np.float32))
        name = environment_name(environment)
    finally:
        environment.close()
    return Walks(name, seed, actor.discrete, unit, tuple(walks[False]), tuple(walks[True]))


def check_episodes(episodes: int, seed: int, decisions: int | None) -> None:
    """Refuse numbers of episodes and of their decisions that are none."""
    at_least(1, episodes=episodes)
    at_least(0, seed=seed)
    at_least(2, decisions=2 if decisions is None else decisions)


def differences(one: Floats, other: Floats) -> Floats:
    """Return one − other, (decisions, m), with zeros where they differ by float32's rounding alone."""
    difference = one - other
    size = np.nanmax(np.abs([one[:-1], other[:-1]]), axis=(0, 1)) if len(one) > 1 else np.abs(other[0])
    return np.where(abs(difference) <= ROUNDING * size, 0.0, difference)


def cosines(one: Floats, other: Floats) -> Floats:
    """Return the cosine between rows, (decisions, m) each → (decisions,); NaN where a row is zero or NaN."""
    sizes = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.divide((one * other).sum(axis=1), sizes, out=np.full(len(one), np.nan), where=sizes > 0)


class _Walker:
    """Run episodes of one environment; memory of the simulator is used again from decision to decision."""

    def __init__(self, env: gym.Env, snn: Decider, ann: Decider, follow_ann: bool, decisions: int | None) -> None:
        self.env, self.snn, self.ann, self.follow_ann, self.decisions = env, snn, ann, follow_ann, decisions
        self.row = EnvironmentRow(env, ann.policy.observation_shape)
        self._saved: EnvironmentState | None = None

    def episode(self, seed: int) -> Walk:
        """Return the episode of this seed."""
        obs, states = self.row.reset(seed), (self.snn.initial_state(), self.ann.initial_state())
        seen: list[FloatArray] = []
        steps: list[tuple[Decided, Decided, float, float, Floats | None]] = []
        terminated = over = False
        while not over and len(steps) != self.decisions:
            snn, ann = self.snn(obs, states[0]), self.ann(obs, states[1])
            seen.append(thinned(obs))
            states = snn.state, ann.state
            followed, tried = (ann, snn) if self.follow_ann else (snn, ann)
            trial = None if np.array_equal(followed.action, tried.action) else self._try(tried, ann.state)
            obs, reward, terminated, truncated = self.row.step(followed.action)
            over = terminated or truncated
            other, after = (reward, None) if trial is None else trial
            snn_reward, ann_reward = (other, reward) if self.follow_ann else (reward, other)
            steps.append((snn, ann, snn_reward, ann_reward, after))
        return self._joined(seen, steps, terminated)

    def _try(self, tried: Decided, ann_state: object) -> tuple[float, Floats]:
        """Return the action's reward and what the ANN would do after it; the environment is as before."""
        if isinstance(self.env, Replayed) and self.env.copies:
            obs, reward, terminated, truncated = in_a_copy(partial(self.row.step, tried.action))
        else:
            self._saved = save_state(self.env, self._saved)
            obs, reward, terminated, truncated = copy.copy(self.row).step(tried.action)
            restore_state(self.env, self._saved)
        ended = terminated or truncated
        return reward, np.full(tried.values.shape, np.nan) if ended else self.ann(obs, ann_state).values

    def _joined(
        self,
        seen: list[FloatArray],
        steps: list[tuple[Decided, Decided, float, float, Floats | None]],
        terminated: bool,
    ) -> Walk:
        snn, ann = np.stack([step[0].values for step in steps]), np.stack([step[1].values for step in steps])
        snn_rewards, ann_rewards = (np.array([step[who] for step in steps], np.float64) for who in (2, 3))
        along = following(ann)
        aside = np.stack([then if step[4] is None else step[4] for step, then in zip(steps, along, strict=True)])
        changed = np.array([not np.array_equal(step[0].action, step[1].action) for step in steps])
        return Walk(
            observations=np.stack(seen),
            snn=snn,
            ann=ann,
            snn_rewards=snn_rewards,
            ann_rewards=ann_rewards,
            ann_after_ann=along if self.follow_ann else aside,
            ann_after_snn=aside if self.follow_ann else along,
            snn_after_snn=np.full(snn.shape, np.nan) if self.follow_ann else following(snn),
            changed=changed,
            terminated=terminated,
        )


def thinned(obs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an observation, flat; of one with more than `MOST_ENTRIES` entries every n-th."""
    return obs.reshape(-1)[:: -(-obs.size // MOST_ENTRIES)].copy()


def following(values: Floats) -> Floats:
    """Return each decision's next values, (decisions, m); NaN after the last one."""
    return np.concatenate([values[1:], np.full((1, values.shape[1]), np.nan)])


Alter = Callable[[int, npt.NDArray[np.float64], npt.NDArray[np.float64]], object]
"""(decision, action, values) → the action that is carried out."""


def ann_episode(
    row: EnvironmentRow, ann: Decider, seed: int, alter: Alter, decisions: int | None
) -> tuple[FloatArray, Floats, Floats]:
    """Run one episode of the ANN whose actions are altered.

    Returns:
        observations as in `Walk`, its own values (decisions, m) and rewards (decisions,).
    """
    obs, state, over = row.reset(seed), ann.initial_state(), False
    seen: list[FloatArray] = []
    values: list[Floats] = []
    rewards: list[float] = []
    while not over and len(seen) != decisions:
        decided = ann(obs, state)
        seen.append(thinned(obs))
        values.append(decided.values)
        state = decided.state
        obs, reward, terminated, truncated = row.step(alter(len(rewards), decided.action, decided.values))
        rewards.append(reward)
        over = terminated or truncated
    return np.stack(seen), np.stack(values), np.array(rewards, np.float64)
