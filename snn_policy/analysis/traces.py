"""Episodes of a policy with what the ANN answers at the same observations: what most analyses are functions of.

Actions are vectors in half-ranges of the action (1 where a bound is infinite); a discrete action is its choice,
one-hot. So e = spiking − ann is in half-ranges, too, and an error of the discrete action is zero or has two entries.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.analysis.leftover import leftover, memories_of
from snn_policy.analysis.replayed import make_restorable
from snn_policy.analysis.walks import differences
from snn_policy.environments import EnvironmentSource
from snn_policy.observations import EnvironmentRow
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import FloatArray, Policy

Actions = npt.NDArray[np.float64]
Advance = Callable[[], None]
MOST_STORED = 2**25
"""Numbers of residuals that all episodes together may hold (128 MiB); what comes after has none."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Hold one episode of K decisions.

    Attributes:
        observations: (K, *observation_shape).
        actions: (K, actions) what the acting policy did, in half-ranges.
        ann: (K, actions) what the ANN answers at these observations.
        rewards: (K,).
        residuals: per spiking layer (R, neurons) of the first R ≤ K decisions (`leftover`); none of an acting ANN.
    """

    observations: npt.NDArray[Any]
    actions: Actions
    ann: Actions
    rewards: npt.NDArray[np.float64]
    residuals: tuple[FloatArray, ...] = ()

    @property
    def errors(self) -> Actions:
        """Return e, (K, actions): what the acting policy did, less the ANN's answer; what is only rounding is zero."""
        return differences(self.actions, self.ann)


def record_traces(
    policy: Policy,
    actor: Actor,
    env: EnvironmentSource,
    *,
    episodes: int,
    seed: int,
    advance: Advance = lambda: None,
) -> list[Trace]:
    """Run whole episodes of a copy of the policy, one after the other; episode i starts with seed + i.

    Args:
        policy: what acts; the actor itself gives its own episodes.
        advance: called after every episode.

    Raises:
        ValueError: an environment that does not fit, or an observation that cannot be used.
    """
    made = make_restorable(env, policy)
    acting, row, room = copy.deepcopy(policy), EnvironmentRow(made, policy.observation_shape), MOST_STORED
    traces = []
    try:
        for episode in range(episodes):
            trace, stored = _episode(acting, actor, row, seed + episode, room)
            room -= stored
            traces.append(trace)
            advance()
    finally:
        made.close()
    return traces


def _episode(policy: Policy, actor: Actor, row: EnvironmentRow, seed: int, room: int) -> tuple[Trace, int]:
    """Run one episode; return it, and how many numbers were stored for its residuals."""
    remembers = isinstance(policy, SpikingPolicy)
    observations, actions, rewards, states, over, left = [], [], [], [], False, room
    policy.reset()
    obs = row.reset(seed)
    while not over:
        action = policy.act(obs)
        observations.append(obs)
        actions.append(action)
        if remembers and left > 0:
            states.append(memories_of(policy.state))
            left -= sum(memory.size for memory in states[-1].values())
        obs, reward, terminated, truncated = row.step(action)
        rewards.append(reward)
        over = terminated or truncated
    seen = np.stack(observations)
    ann = in_half_ranges(actor, answers(actor, [seen])[0])
    done = in_half_ranges(actor, np.stack(actions))
    residuals = leftover(policy.network, seen[: len(states)], states) if remembers and states else ()
    return Trace(seen, done, ann, np.array(rewards, np.float64), residuals), room - left


def answers(policy: Policy, recordings: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Return what a policy answers along recorded episodes, (K, *action_shape) each, its memory following them.

    Args:
        recordings: (K, *observation_shape) observations per episode.
    """
    if isinstance(policy, Actor) and not policy.recurrent:
        return [policy.step(observations, ())[0] for observations in recordings]
    asked = copy.deepcopy(policy)
    asked.reset(num_envs=len(recordings))
    longest = max(map(len, recordings))
    found = []
    for k in range(longest):  # an episode that is over repeats its last observation, and the answer is dropped
        found.append(asked.act(np.stack([seen[min(k, len(seen) - 1)] for seen in recordings])))
    return [np.stack([answer[row] for answer in found[: len(seen)]]) for row, seen in enumerate(recordings)]


def in_half_ranges(actor: Actor, actions: npt.NDArray[Any]) -> Actions:
    """Return actions (K, *action_shape) as vectors (K, actions): in half-ranges, discrete ones one-hot."""
    rows = np.asarray(actions, np.float64).reshape(len(actions), -1)
    if not actor.discrete:
        half_range = actor.head.half_range()
        return rows / np.where(half_range > 0, half_range, 1.0)
    chosen = [rows[:, [i]] == np.arange(count) for i, count in enumerate(actor.head.choices)]
    return np.concatenate(chosen, axis=1).astype(np.float64)
