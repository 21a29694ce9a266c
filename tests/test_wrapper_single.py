"""SpikingPolicyEval: the policy's memory begins and ends with the episode, and every decision is accounted for."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import (
    Autoreset,
    FrameStackObservation,
    RecordEpisodeStatistics,
    RecordVideo,
    RescaleAction,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from marker_env import DEFAULT_LENGTHS, MarkerEnv, RecordingPolicy, assert_fresh, marker, spiking_policies, where

from snn_policy import Actor
from snn_policy.ann.layers import Head, Linear
from snn_policy.wrappers import SpikingPolicyEval

SPIKING = spiking_policies()
MAKERS: dict[str, Any] = {"recording": RecordingPolicy, **SPIKING}


def episode(env: Any, act: Any, **reset: Any) -> list[dict[str, Any]]:
    """The infos of one episode's steps."""
    obs, _ = env.reset(**reset)
    infos, over = [], False
    while not over:
        obs, _, terminated, truncated, info = env.step(act(obs))
        infos.append(info)
        over = terminated or truncated
    return infos


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=25, deadline=None)
@given(moves=st.lists(st.sampled_from(["env.act", "policy.act", "env.act", "policy.act", "reset"]), max_size=20))
def test_whatever_the_loop_does_the_memory_is_that_of_the_running_episode(name, moves):
    policy = MAKERS[name]()
    env = SpikingPolicyEval(MarkerEnv(), policy)
    obs, _ = env.reset()
    over = False
    for move in moves:
        if over or move == "reset":
            (obs, _), over = env.reset(), False
        else:
            action = env.act(obs) if move == "env.act" else policy.act(obs)
            obs, _, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
        assert_fresh(policy, [obs])


@pytest.mark.parametrize("through", ["env.act", "policy.act"])
def test_episodes_that_begin_inside_step_are_noticed(through):
    policy = RecordingPolicy()
    env = SpikingPolicyEval(Autoreset(MarkerEnv()), policy)
    obs, _ = env.reset()
    summaries = []
    for _ in range(40):
        obs, _, _, _, info = env.step(env.act(obs) if through == "env.act" else policy.act(obs))
        assert_fresh(policy, [obs])
        assert (where(obs)[1] == 0) == (info["snn"] == {})  # replaying a reset is not a decision
        summaries += [info["snn"]["episode"]] if "episode" in info["snn"] else []
    assert [summary["decisions"] for summary in summaries[:5]] == list(DEFAULT_LENGTHS)


def test_acting_on_a_finished_episodes_last_observation_neither_advances_nor_counts():
    policy = RecordingPolicy()
    env = SpikingPolicyEval(Autoreset(MarkerEnv(lengths=(2,))), policy)
    obs, _ = env.reset()
    for _ in range(2):
        obs = env.step(env.act(obs))[0]
    env.act(obs)
    assert_fresh(policy, [obs])


def test_a_used_policy_starts_from_zero_when_the_environment_does():
    policy = RecordingPolicy()
    for _ in range(3):
        policy.act(np.ones(4))
    env = SpikingPolicyEval(MarkerEnv(), policy)
    obs, _ = env.reset()
    assert_fresh(policy, [obs])


def test_every_step_reports_its_decision_and_the_last_one_sums_up_the_episode():
    policy = RecordingPolicy()
    infos = episode(SpikingPolicyEval(MarkerEnv(lengths=(4,)), policy), policy.act)
    assert [info["snn"]["spikes"].tolist() for info in infos] == [[marker(0, step), 1] for step in range(4)]
    assert [info["snn"]["synaptic_operations"] for info in infos] == [10, 20, 30, 40]
    assert [info["snn"]["energy"] for info in infos] == pytest.approx([0.009, 0.018, 0.027, 0.036])
    assert ["episode" in info["snn"] for info in infos] == [False, False, False, True]
    summary = infos[-1]["snn"]["episode"]
    assert summary["spikes"].tolist() == [0 + 1 + 2 + 3, 4]
    assert (summary["decisions"], summary["length"], summary["synaptic_operations"]) == (4, 4, 100)
    assert summary["energy"] == pytest.approx(0.09)
    assert summary["return"] == pytest.approx(1 + 2 + 3 + 4)  # the two actions cancel
    assert infos[0]["step"] == 1  # the environment's own info is still there


def test_both_ways_to_act_give_the_same_actions_and_reports():
    def reports(act_of: Any) -> list[Any]:
        policy: Any = SPIKING["sigma-delta"]()
        env = SpikingPolicyEval(MarkerEnv(lengths=(6,)), policy, shadow=True)
        infos = episode(env, act_of(env, policy))
        return [[*info["snn"]["spikes"].tolist(), info["snn"]["ann_error"]] for info in infos]

    assert reports(lambda env, policy: env.act) == reports(lambda env, policy: policy.act)


def test_a_step_without_a_new_decision_counts_none():
    policy = RecordingPolicy()
    env = SpikingPolicyEval(MarkerEnv(lengths=(3,)), policy)
    obs, _ = env.reset()
    action = env.act(obs)
    assert env.step(action)[4]["snn"]["spikes"].tolist() == [0, 1]
    assert env.step(action)[4]["snn"] == {}
    assert env.step(action)[4]["snn"]["episode"]["decisions"] == 1


def test_a_decision_from_before_the_reset_is_not_the_new_episodes():
    policy = RecordingPolicy()
    env = SpikingPolicyEval(MarkerEnv(lengths=(3,)), policy)
    obs, _ = env.reset()
    action = env.act(obs)
    env.reset()
    assert env.step(action)[4]["snn"] == {}


def test_predict_is_accounted_for_like_act():
    policy: Any = SPIKING["if, carried residual"]()
    memory: list[Any] = [None]

    def predict(obs: Any) -> Any:
        action, memory[0] = policy.predict(obs[None], memory[0], np.array([memory[0] is None]))
        return action[0]

    by_predict = episode(SpikingPolicyEval(MarkerEnv(lengths=(5,)), policy), predict)
    by_act = episode(SpikingPolicyEval(MarkerEnv(lengths=(5,)), policy), policy.act)
    for one, other in zip(by_predict, by_act, strict=True):
        assert one["snn"]["spikes"].tolist() == other["snn"]["spikes"].tolist()
    assert by_predict[-1]["snn"]["episode"]["energy"] == by_act[-1]["snn"]["episode"]["energy"]


def test_the_shadow_ann_sees_the_observation_that_the_decision_was_taken_on():
    policy: Any = SPIKING["mt, differential"]()
    env = SpikingPolicyEval(MarkerEnv(lengths=(6,)), policy, shadow=True)
    errors = []

    def act(obs: Any) -> Any:
        action = policy.act(obs)
        errors.append(np.sqrt(np.mean((action.astype(float) - policy.actor.step(obs, ())[0]) ** 2)))
        return action

    infos = episode(env, act)
    assert [info["snn"]["ann_error"] for info in infos] == pytest.approx(errors)
    assert infos[-1]["snn"]["episode"]["ann_error"] == pytest.approx(np.mean(errors))
    assert np.ptp(errors) > 0


def test_the_error_against_the_ann_is_a_share_of_the_half_range():
    actor = linear_actor([[0, 0, 1, 0], [0, 0, 0, 1]], (4,), [-0.5, -1], [0.5, 1])
    env = SpikingPolicyEval(MarkerEnv(lengths=(2,)), actor, shadow=True)
    obs, _ = env.reset()
    action = actor.act(obs)
    assert env.step(action + np.array([0.25, 0]))[4]["snn"]["ann_error"] == pytest.approx(0.5 / np.sqrt(2))
    policy = RecordingPolicy()
    with pytest.raises(ValueError, match="RecordingPolicy does not know its ANN"):
        SpikingPolicyEval(MarkerEnv(), policy, shadow=True)


@pytest.mark.parametrize("name", MAKERS)
def test_statistics_and_video_work_inside_and_around(name, tmp_path):
    pytest.importorskip("moviepy")
    policy = MAKERS[name]()

    def recorded(env: gym.Env, folder: str) -> gym.Env:
        return RecordVideo(env, str(tmp_path / folder), episode_trigger=lambda _: True, disable_logger=True)

    env: Any = recorded(MarkerEnv(lengths=(3, 5), render_mode="rgb_array"), "inside")
    env = SpikingPolicyEval(RecordEpisodeStatistics(env, stats_key="inside"), policy)
    env = RecordEpisodeStatistics(recorded(env, "around"))
    act = env.get_wrapper_attr("act")
    for length in (3, 5):
        last = episode(env, act)[-1]
        assert last["episode"]["l"] == last["inside"]["l"] == last["snn"]["episode"]["length"] == length
        assert last["episode"]["r"] == pytest.approx(last["snn"]["episode"]["return"])
        assert last["snn"]["episode"]["decisions"] == length
    env.close()
    assert len(list(tmp_path.glob("inside/*.mp4"))) == len(list(tmp_path.glob("around/*.mp4"))) == 2


def linear_actor(weight: list[list[float]], shape: tuple[int, ...], low: list[float], high: list[float]) -> Actor:
    layer = Linear(np.array(weight, np.float32), np.zeros(len(weight), np.float32))
    return Actor((layer,), Head.clip(low, high), shape)


def stacked_actor() -> Actor:
    return linear_actor([[0.0] * 11 + [1.0]] * 2, (3, 4), [-1, -1], [1, 1])


def test_a_policy_of_stacked_frames_acts_around_the_stack():
    env = SpikingPolicyEval(FrameStackObservation(MarkerEnv(lengths=(4,)), 3), stacked_actor())
    assert episode(env, env.act)[-1]["snn"]["episode"]["decisions"] == 4


def test_a_policy_of_single_frames_acts_inside_the_stack():
    policy = RecordingPolicy()
    env = FrameStackObservation(SpikingPolicyEval(MarkerEnv(lengths=(4,)), policy), 3)
    act = env.get_wrapper_attr("act")
    infos = episode(env, lambda frames: act(frames[-1]))
    assert [info["snn"]["spikes"][0] for info in infos] == [0, 1, 2, 3]


def test_an_environment_that_does_not_fit_is_refused_and_the_way_out_named():
    with pytest.raises(ValueError, match=r"MarkerEnv .* shape \(4,\) .* takes shape \(3, 4\)\. Wrappers .* inside"):
        SpikingPolicyEval(MarkerEnv(), stacked_actor())
    with pytest.raises(ValueError, match=r"takes actions of shape \(2,\) within \[-0.5, 0.5\], .* within \[-1, 1\]"):
        SpikingPolicyEval(RescaleAction(MarkerEnv(), np.float32(-0.5), np.float32(0.5)), RecordingPolicy())
    with pytest.raises(ValueError, match=r"shape \(3,\) .*, the policy gives shape \(2,\)"):
        SpikingPolicyEval(MarkerEnv(actions=spaces.Box(-1, 1, (3,), np.float32)), RecordingPolicy())


def test_the_specification_survives_and_rebuilds_the_environment_around_the_same_policy():
    policy = RecordingPolicy()
    env = SpikingPolicyEval(gym.make("Marker-v0"), policy, shadow=False)
    assert env.spec is not None
    assert env.spec.id == "Marker-v0"
    assert env.spec.additional_wrappers[-1].name == "SpikingPolicyEval"
    again: Any = gym.make(env.spec)
    assert isinstance(again, SpikingPolicyEval)
    assert again.policy is policy
    assert episode(again, again.act)[-1]["snn"]["episode"]["decisions"] == DEFAULT_LENGTHS[0]


@pytest.mark.parametrize("name", MAKERS)
def test_the_specification_survives_outer_wrappers(name):
    env = RecordEpisodeStatistics(SpikingPolicyEval(gym.make("Marker-v0"), MAKERS[name]()))
    assert env.spec is not None
    again = gym.make(env.spec)
    act = again.get_wrapper_attr("act")
    assert again.get_wrapper_attr("policy") is env.get_wrapper_attr("policy")
    assert episode(again, act)[-1]["snn"]["episode"]["decisions"] == DEFAULT_LENGTHS[0]


@pytest.mark.parametrize("name", MAKERS)
def test_a_copied_policy_acts_on_its_own(name):
    policy = MAKERS[name]()
    obs = MarkerEnv().reset()[0]
    policy.act(obs)
    before = policy.state
    copy.deepcopy(policy).act(obs)
    for own, kept in zip(policy.state, before, strict=True):
        assert own.tobytes() == kept.tobytes()


@pytest.mark.parametrize("name", MAKERS)
def test_env_evaluate_runs_whole_episodes_with_their_seeds(name):
    env = SpikingPolicyEval(MarkerEnv(seeded=True), MAKERS[name]())
    found = env.evaluate(episodes=7, seed=3)
    assert found.seeds == (3, 4, 5, 6, 7, 8, 9)
    assert found.lengths == tuple(DEFAULT_LENGTHS[seed % 5] for seed in found.seeds)
    assert found.decisions == sum(found.lengths)
    assert found.environment == "MarkerEnv"


@pytest.mark.parametrize("name", MAKERS)
def test_sb3s_evaluate_policy_sees_the_same_episodes_through_the_wrapper(name):
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation")
    plain = SpikingPolicyEval(MarkerEnv(), MAKERS[name]())
    returns = [episode(plain, plain.act)[-1]["snn"]["episode"]["return"] for _ in range(6)]
    policy = MAKERS[name]()
    env = SpikingPolicyEval(MarkerEnv(), policy)
    found, lengths = evaluation.evaluate_policy(policy, env, 6, return_episode_rewards=True, warn=False)
    assert lengths == [*DEFAULT_LENGTHS, DEFAULT_LENGTHS[0]]
    assert found == pytest.approx(returns, abs=1e-3)  # SB3 adds rewards in float32
