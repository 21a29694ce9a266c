"""`predict`: Stable-Baselines3's `PolicyPredictor`, with and without a given state, and what its counters count."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from snn_policy import SpikingPolicy
from tests.actors import KINDS, dyadic_observations, policies, same_state

ROWS = 3
OBSERVATIONS = dyadic_observations(10 * ROWS, seed=2).reshape(10, ROWS, 4)
LENGTHS = (3, 7, 2)


@pytest.fixture(params=[f"{kind}/{engine}" for kind in KINDS for engine in ("numpy", "event")])
def policy(request: Any) -> SpikingPolicy:
    kind, engine = request.param.split("/")
    return policies(engine)[kind]


def fresh(policy: SpikingPolicy) -> SpikingPolicy:
    return SpikingPolicy(policy.network, engine=policy.engine)


def test_without_a_state_predict_is_act(policy: SpikingPolicy) -> None:
    twin = fresh(policy)
    for obs in OBSERVATIONS:
        actions, state = policy.predict(obs)
        assert np.array_equal(actions, twin.act(obs))
        assert same_state(state, twin.state)


def test_with_a_state_predict_neither_uses_nor_changes_the_own_one(policy: SpikingPolicy) -> None:
    policy.act(OBSERVATIONS[0])
    own, twin, state = policy.state, fresh(policy), policy.initial_state(ROWS)
    for obs in OBSERVATIONS:
        actions, state = policy.predict(obs, state)
        assert np.array_equal(actions, twin.act(obs))
    assert same_state(policy.state, own)
    assert same_state(state, twin.state)


def test_a_given_state_may_have_another_batch_size(policy: SpikingPolicy) -> None:
    policy.act(OBSERVATIONS[0])
    own = policy.state
    for rows in (1, 2):
        assert policy.predict(OBSERVATIONS[1, :rows], policy.initial_state(rows))[0].shape == (rows, 2)
    assert same_state(policy.state, own)
    assert policy.act(OBSERVATIONS[1]).shape == (ROWS, 2)
    assert same_state(policy.state, policy.step(OBSERVATIONS[1], own)[1])
    policy.reset(np.array([True, False, True]))
    assert len(policy.counters.decisions) == ROWS


def test_episode_starts_begin_at_zero(policy: SpikingPolicy) -> None:
    twin, state = fresh(policy), None
    for step, obs in enumerate(OBSERVATIONS):
        starts = np.array([step == 0, step % 3 == 0, step == 5])
        twin.reset(starts)
        actions, state = policy.predict(obs, state, episode_start=starts)
        assert np.array_equal(actions, twin.act(obs))
        assert same_state(state, twin.state)


def test_a_returned_state_is_not_the_policys_own(policy: SpikingPolicy) -> None:
    _, state = policy.predict(OBSERVATIONS[0])
    before = policy.state
    for memory in state:
        memory[:] = 5
    assert same_state(policy.state, before)


def test_a_start_of_all_rows_may_change_the_batch_size(policy: SpikingPolicy) -> None:
    policy.act(OBSERVATIONS[0])
    one = OBSERVATIONS[0, :1]
    with pytest.raises(ValueError, match="a batch of 1"):
        policy.predict(one, episode_start=np.array([False]))
    actions, _ = policy.predict(one, episode_start=np.array([True]))
    assert np.array_equal(actions, fresh(policy).act(one))


def test_a_first_decision_counts_when_the_second_follows(policy: SpikingPolicy) -> None:
    ones, state = np.ones(ROWS, bool), None
    counts = []
    for starts in (ones, ~ones, ~ones, ones, ones, ones, ~ones):
        _, state = policy.predict(OBSERVATIONS[0], state, episode_start=starts)
        counts.append(int(policy.counters.decisions[0]))
    assert counts == [0, 2, 3, 3, 3, 3, 5]


def test_a_reset_row_forgets_its_unconfirmed_decision(policy: SpikingPolicy) -> None:
    _, state = policy.predict(OBSERVATIONS[0], episode_start=np.ones(ROWS, bool))
    policy.reset(np.array([False, True, False]))
    policy.predict(OBSERVATIONS[1], state, episode_start=np.zeros(ROWS, bool))
    assert policy.counters.decisions.tolist() == [2, 1, 2]


class Uneven(gym.Env):
    """Episodes of LENGTHS[name] steps."""

    observation_space = gym.spaces.Box(-10, 10, (4,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, name: int) -> None:
        self.length, self.steps = LENGTHS[name], 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        return OBSERVATIONS[0, 0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return OBSERVATIONS[self.steps % 10, 0], float(action[0]), self.steps >= self.length, False, {}


@pytest.mark.filterwarnings("ignore:Evaluation environment is not wrapped")
@pytest.mark.parametrize("episodes", [3, 7, 8])
def test_sb3s_evaluate_policy_counts_only_the_decisions_of_its_episodes(policy: SpikingPolicy, episodes: int) -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    envs = DummyVecEnv([lambda name=name: Monitor(Uneven(name)) for name in range(3)])
    evaluator: Any = evaluate_policy
    returns, lengths = evaluator(policy, envs, n_eval_episodes=episodes, return_episode_rewards=True)
    assert policy.counters.decisions.sum() == sum(lengths)
    assert len(returns) == episodes
    for length, total in zip(lengths, returns, strict=True):
        twin, rewards = fresh(policy), 0.0
        for step in range(length):
            rewards += float(twin.act(OBSERVATIONS[step % 10, 0])[0])
        assert total == pytest.approx(rewards, abs=1e-5)


def test_a_given_state_leaves_counters_and_last_decision_alone(policy: SpikingPolicy) -> None:
    for obs in OBSERVATIONS[:10]:
        policy.act(obs[:1])
    last = policy.last_decision
    for rows in (1, ROWS):
        state = policy.initial_state(rows)
        for obs in OBSERVATIONS[:3]:  # a chain of states that began with a given one
            _, state = policy.predict(obs[:rows], state)
    assert policy.counters.decisions.tolist() == [10]
    assert policy.last_decision is last
