"""SpikingPolicyVectorEval: no row ever remembers another episode, in any autoreset mode."""

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marker_env import MODES, ROWS, RecordingPolicy, assert_fresh, make_vector, spiking_policies

from snn_policy.wrappers import SpikingPolicyVectorEval

VECTORS = (SyncVectorEnv, AsyncVectorEnv)
SPIKING = spiking_policies()


@pytest.fixture(scope="module")
def vectors() -> Iterator[Any]:
    """Vector environments by class and mode, made once: their observations tell which episode it is."""
    made = cache(make_vector)
    kept: list[VectorEnv] = []

    def get(kind: Any, mode: AutoresetMode) -> VectorEnv:
        kept.append(made(kind, mode))
        return kept[-1]

    yield get
    for element in set(kept):
        element.close()


masks = st.lists(st.booleans(), min_size=ROWS, max_size=ROWS).filter(any)
steps = st.sampled_from(["env.act", "policy.act"])
plans = st.lists(st.one_of(steps, steps, steps, steps, st.just("reset"), masks), max_size=25)


def run(envs: Any, plan: list[Any], policy: Any) -> None:
    """Follow a plan of steps and resets, checking every row after each of them."""
    obs, _ = envs.reset()
    assert_fresh(policy, obs)
    waiting = np.zeros(ROWS, bool)
    for move in plan:
        if isinstance(move, list):
            obs, _ = envs.reset(options={"reset_mask": np.array(move)})
            waiting &= ~np.array(move)
        elif move == "reset":
            obs, _ = envs.reset()
            waiting[:] = False
        else:
            if waiting.any():
                obs, _ = envs.reset(options={"reset_mask": waiting})
            actions = envs.act(obs) if move == "env.act" else policy.act(obs)
            obs, _, terminated, truncated, _ = envs.step(actions)
            if envs.autoreset_mode == AutoresetMode.DISABLED:
                waiting = terminated | truncated
        assert_fresh(policy, obs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", VECTORS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans)
def test_no_sequence_of_steps_and_resets_leaks_between_episodes_or_rows(vectors, kind, mode, plan):
    policy = RecordingPolicy()
    run(SpikingPolicyVectorEval(vectors(kind, mode), policy), plan, policy)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", VECTORS)
@pytest.mark.parametrize("name", SPIKING)
def test_spiking_policies_hold_to_the_bit_what_single_runs_hold(vectors, kind, mode, name):
    policy: Any = SPIKING[name]()
    rng = np.random.default_rng(MODES.index(mode))
    moves: list[Any] = ["env.act", "policy.act", "env.act", "policy.act", "env.act", [True, False, False], "reset"]
    plan = [moves[i] for i in rng.choice(len(moves), 40, p=[0.24, 0.24, 0.16, 0.16, 0.06, 0.1, 0.04])]
    run(SpikingPolicyVectorEval(vectors(kind, mode), policy), plan, policy)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
@pytest.mark.parametrize("name", ["recording", *SPIKING])
def test_acting_on_a_finished_episodes_last_observation_neither_advances_nor_counts(mode, name):
    policy: Any = RecordingPolicy() if name == "recording" else SPIKING[name]()
    envs = SpikingPolicyVectorEval(make_vector(mode=mode, lengths=(1, 2, 9)), policy)
    obs, _ = envs.reset()
    for _ in range(2):
        obs, _, terminated, truncated, _ = envs.step(envs.act(obs))
        over = terminated | truncated
        assert over.any()
        before, counted = policy.state, policy.counters.decisions.copy()
        envs.act(obs)
        assert (policy.counters.decisions - counted).tolist() == (~over).tolist()
        for was, now in zip(before, policy.state, strict=True):
            assert was[over].tobytes() == now[over].tobytes()
        policy.state = before
        if mode == AutoresetMode.DISABLED:
            obs, _ = envs.reset(options={"reset_mask": over})


@pytest.mark.parametrize("options", [None, {"reset_mask": np.array([True, False, False])}])
def test_a_reset_that_environments_without_shared_memory_would_repeat_is_refused(options):
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make_vector(partial(AsyncVectorEnv, shared_memory=False), lengths=(1, 3, 2)), policy)
    obs, _ = envs.reset()
    obs = envs.step(envs.act(obs))[0]
    with pytest.raises(ValueError, match=r"rows \[0\] is due, .* use shared_memory=True"):
        envs.reset(options=options)
    obs = envs.step(envs.act(obs))[0]
    assert_fresh(policy, obs)
    envs.close()


def test_a_masked_reset_leaves_the_callers_options_as_they_were():
    envs = SpikingPolicyVectorEval(make_vector(mode=AutoresetMode.DISABLED), RecordingPolicy())
    envs.reset()
    options = {"reset_mask": np.array([True, False, False])}
    envs.reset(options=options)
    assert options["reset_mask"].tolist() == [True, False, False]


def test_a_wrong_reset_mask_is_refused_before_any_row_is_cleared():
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make_vector(mode=AutoresetMode.DISABLED), policy)
    obs, _ = envs.reset()
    obs = envs.step(envs.act(obs))[0]
    with pytest.raises(ValueError, match="shape"):
        envs.reset(options={"reset_mask": np.array([True])})
    assert_fresh(policy, obs)


def test_stepping_on_without_the_reset_that_disabled_mode_asks_for_is_an_error():
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make_vector(mode=AutoresetMode.DISABLED, lengths=(1, 2, 3)), policy)
    obs, _ = envs.reset()
    obs = envs.step(envs.act(obs))[0]
    with pytest.raises(gym.error.ResetNeeded, match=r"rows \[0\]"):
        envs.step(envs.act(obs))


@pytest.mark.parametrize("mode", MODES)
def test_record_episode_statistics_agrees_from_inside_and_outside(mode):
    policy = RecordingPolicy()
    inside = RecordEpisodeStatistics(make_vector(mode=mode), stats_key="inner")
    envs = RecordEpisodeStatistics(SpikingPolicyVectorEval(inside, policy))
    obs, _ = envs.reset()
    for _ in range(30):
        obs, _, terminated, truncated, infos = envs.step(policy.act(obs))
        over = terminated | truncated
        if over.any():
            assert (infos["_episode"] == infos["snn"]["_episode"]).all()
            assert (infos["episode"]["l"] == infos["snn"]["episode"]["length"]).all()
            np.testing.assert_allclose(infos["episode"]["r"], infos["snn"]["episode"]["return"])
            if mode == AutoresetMode.DISABLED:
                obs, _ = envs.reset(options={"reset_mask": over})
        assert_fresh(policy, obs)
