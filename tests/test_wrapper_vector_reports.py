"""SpikingPolicyVectorEval: every decision is reported once, with its own row and episode."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import DictInfoToList
from marker_env import (
    MODES,
    ROWS,
    RecordingPolicy,
    dyadic_actor,
    length_at,
    make_vector,
    marker,
    spiking_policies,
    where,
)

from snn_policy.wrappers import SpikingPolicyVectorEval

SPIKING = spiking_policies()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("through", ["env.act", "policy.act"])
def test_every_episode_is_summed_up_once_with_its_own_decisions_only(mode, through):
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make_vector(mode=mode), policy)
    obs, _ = envs.reset()
    rewards_so_far, episodes = np.zeros(ROWS), 0
    collected = np.zeros((ROWS, 2), np.int64)
    for _ in range(60):
        before = obs
        decided_for = np.array([element[1] < length_at(element) for element in map(where, before)])  # else: a replay
        actions = envs.act(obs) if through == "env.act" else policy.act(obs)
        obs, rewards, terminated, truncated, infos = envs.step(actions)
        snn, over = infos["snn"], terminated | truncated
        assert (snn["_spikes"] == decided_for).all()
        assert (snn["spikes"][:, 1] == decided_for).all()
        np.testing.assert_allclose(snn["energy"], 0.9e-3 * 10 * snn["spikes"].sum(1))
        collected += snn["spikes"]
        rewards_so_far += np.where(decided_for, rewards, 0)
        assert ("episode" in snn) == over.any()
        for row in np.flatnonzero(over):
            episode, length = where(before[row])[0], where(before[row])[1] + 1
            summary = {name: values[row] for name, values in snn["episode"].items()}
            assert summary["length"] == summary["decisions"] == length
            assert summary["spikes"].tolist() == [sum(marker(episode, s) for s in range(length)), length]
            assert summary["spikes"].tolist() == collected[row].tolist()
            assert summary["return"] == rewards_so_far[row]
            assert summary["_decisions"]
            collected[row] = rewards_so_far[row] = 0
            episodes += 1
        if mode == AutoresetMode.DISABLED and over.any():
            obs, _ = envs.reset(options={"reset_mask": over})
    assert episodes > 30


@pytest.mark.parametrize("mode", MODES)
def test_async_and_sync_environments_give_the_same_actions_and_reports(mode):
    def reports(kind: Any) -> list[Any]:
        policy = RecordingPolicy()
        envs = SpikingPolicyVectorEval(make_vector(kind, mode), policy, shadow=False)
        obs, _ = envs.reset(seed=0)
        found = []
        for _ in range(12):
            actions = envs.act(obs)
            obs, _, terminated, truncated, infos = envs.step(actions)
            found.append((actions.tolist(), {name: values.tolist() for name, values in infos["snn"].items()
                                             if isinstance(values, np.ndarray)}))  # fmt: skip
            if mode == AutoresetMode.DISABLED and (terminated | truncated).any():
                obs, _ = envs.reset(options={"reset_mask": terminated | truncated})
        envs.close()
        return found

    assert reports(SyncVectorEnv) == reports(AsyncVectorEnv)


def test_a_step_without_a_new_decision_reports_none():
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make_vector(lengths=(9,)), policy)
    obs, _ = envs.reset()
    actions = envs.act(obs)
    assert "spikes" in envs.step(actions)[4]["snn"]
    assert envs.step(actions)[4]["snn"] == {}


def test_decisions_taken_before_a_masked_reset_count_for_the_other_rows_only():
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make_vector(lengths=(9,), mode=AutoresetMode.DISABLED), policy)
    obs, _ = envs.reset()
    actions = policy.act(obs)
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    assert envs.step(actions)[4]["snn"]["_spikes"].tolist() == [True, False, True]


def test_a_masked_reset_of_other_rows_does_not_make_a_replay_a_decision():
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make_vector(lengths=(1, 9, 9)), policy)
    obs, _ = envs.reset()
    obs = envs.step(policy.act(obs))[0]  # row 0 is over
    actions = policy.act(obs)
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    assert envs.step(actions)[4]["snn"]["_spikes"].tolist() == [False, False, True]


def test_reports_can_be_turned_into_one_dictionary_per_row():
    policy = RecordingPolicy()
    envs = DictInfoToList(SpikingPolicyVectorEval(make_vector(lengths=(1, 2, 3)), policy))
    obs, _ = envs.reset()
    infos: Any = envs.step(policy.act(obs))[4]
    assert infos[0]["snn"]["episode"]["length"] == 1
    assert infos[0]["snn"]["episode"]["spikes"].tolist() == [0, 1]
    assert "episode" not in infos[1]["snn"]
    assert infos[1]["snn"]["synaptic_operations"] == 10


def test_the_shadow_ann_sees_the_observation_that_the_decision_was_taken_on():
    policy: Any = SPIKING["sigma-delta"]()
    envs = SpikingPolicyVectorEval(make_vector(mode=AutoresetMode.SAME_STEP), policy, shadow=True)
    obs, _ = envs.reset()
    for _ in range(12):
        actions = policy.act(obs)
        wanted = policy.actor.step(obs, ())[0]
        obs, _, _, _, infos = envs.step(actions)
        expected = np.sqrt(np.mean((actions.astype(float) - wanted) ** 2, axis=1))  # the half-range is 1
        np.testing.assert_allclose(infos["snn"]["ann_error"], expected, rtol=1e-6)


def test_an_ann_is_accounted_for_like_a_spiking_policy():
    actor = dyadic_actor()
    envs = SpikingPolicyVectorEval(make_vector(lengths=(2, 2, 2)), actor, shadow=True)
    obs, _ = envs.reset()
    obs = envs.step(envs.act(obs))[0]
    infos = envs.step(envs.act(obs))[4]
    assert infos["snn"]["episode"]["decisions"].tolist() == [2, 2, 2]
    assert infos["snn"]["episode"]["ann_error"].tolist() == [0, 0, 0]
    assert (infos["snn"]["episode"]["energy"] > 0).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("episodes", [2, 7])
def test_evaluate_gives_every_episode_its_own_seed_in_every_mode(mode, episodes):
    envs = SpikingPolicyVectorEval(make_vector(mode=mode, seeded=True), RecordingPolicy())
    found = envs.evaluate(episodes=episodes, seed=4)
    seeds = range(4, 4 + episodes)
    assert found.lengths == tuple(length_at((seed, 0, i % ROWS)) for i, seed in enumerate(seeds))
    assert found.decisions == sum(found.lengths)
    decided = [marker(seed, step) for seed, length in zip(seeds, found.lengths, strict=True) for step in range(length)]
    assert found.spikes == (pytest.approx(np.mean(decided)), 1.0)


def test_environments_that_do_not_fit_are_refused():
    pendulums, poles = (gym.make_vec(name, num_envs=2) for name in ("Pendulum-v1", "CartPole-v1"))
    with pytest.raises(ValueError, match=r"gives observations of shape \(3,\) .* the policy takes shape \(4,\)"):
        SpikingPolicyVectorEval(pendulums, RecordingPolicy())
    with pytest.raises(ValueError, match=r"takes actions 2 choices from 0, the policy gives shape \(2,\)"):
        SpikingPolicyVectorEval(poles, RecordingPolicy())


def test_the_specification_survives():
    envs = gym.make_vec("Marker-v0", num_envs=2)
    assert SpikingPolicyVectorEval(envs, RecordingPolicy()).spec == envs.spec
