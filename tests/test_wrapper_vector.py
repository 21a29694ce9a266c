"""SpikingPolicyVectorEval: no row ever remembers another episode, in any autoreset mode."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marker_env import MarkerEnv, RecordingPolicy, dyadic_actor, fresh_state, marker, spiking_policies, where
from snn_policy.wrappers import SpikingPolicyVectorEval

ROWS = 3
MODES = list(AutoresetMode)
VECTORS = (SyncVectorEnv, AsyncVectorEnv)
SPIKING = spiking_policies()


def make(kind: Any = SyncVectorEnv, mode: AutoresetMode = AutoresetMode.NEXT_STEP, rows: int = ROWS, **env: Any) -> Any:
    return kind([lambda row=row: MarkerEnv(name=row, **env) for row in range(rows)], autoreset_mode=mode)


@pytest.fixture(scope="module")
def vectors() -> Iterator[Any]:
    """Vector environments by class and mode, made once: their observations tell which episode it is."""
    made = cache(make)
    kept: list[VectorEnv] = []

    def get(kind: Any, mode: AutoresetMode) -> VectorEnv:
        kept.append(made(kind, mode))
        return kept[-1]

    yield get
    for each in set(kept):
        each.close()


def assert_fresh(policy: Any, obs: Any) -> None:
    """Every row is exactly where a fresh policy is that saw this row's episode alone; its counters too."""
    state = policy.state
    for row, row_obs in enumerate(obs):
        for name, own, expected in zip(state._fields, state, fresh_state(policy, row_obs), strict=True):
            assert own[row].tobytes() == expected.tobytes(), f"row {row}, {name}, at {where(row_obs)}"
        assert policy.counters.decisions[row] == where(row_obs)[1]


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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("through", ["env.act", "policy.act"])
def test_every_episode_is_summed_up_once_with_its_own_decisions_only(mode, through):
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make(mode=mode), policy)
    obs, _ = envs.reset()
    rewards_so_far, episodes = np.zeros(ROWS), 0
    collected = np.zeros((ROWS, 2), np.int64)
    for _ in range(60):
        before = obs
        decided_for = np.array([each[1] < length_at(each) for each in map(where, before)])  # else: a replay
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


def length_at(place: tuple[int, int, int]) -> int:
    env = MarkerEnv(name=place[2])
    env.episode = place[0]
    return env.length


@pytest.mark.parametrize("mode", MODES)
def test_async_and_sync_environments_give_the_same_actions_and_reports(vectors, mode):
    def reports(kind: Any) -> list[Any]:
        policy = RecordingPolicy()
        envs = SpikingPolicyVectorEval(make(kind, mode), policy, shadow=False)
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


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
@pytest.mark.parametrize("name", ["recording", *SPIKING])
def test_acting_on_a_finished_episodes_last_observation_neither_advances_nor_counts(mode, name):
    policy: Any = RecordingPolicy() if name == "recording" else SPIKING[name]()
    envs = SpikingPolicyVectorEval(make(mode=mode, lengths=(1, 2, 9)), policy)
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


def test_a_masked_reset_leaves_the_callers_options_as_they_were():
    envs = SpikingPolicyVectorEval(make(mode=AutoresetMode.DISABLED), RecordingPolicy())
    envs.reset()
    options = {"reset_mask": np.array([True, False, False])}
    envs.reset(options=options)
    assert options["reset_mask"].tolist() == [True, False, False]


def test_a_wrong_reset_mask_is_refused_before_any_row_is_cleared():
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make(mode=AutoresetMode.DISABLED), policy)
    obs, _ = envs.reset()
    obs = envs.step(envs.act(obs))[0]
    with pytest.raises(ValueError, match="shape"):
        envs.reset(options={"reset_mask": np.array([True])})
    assert_fresh(policy, obs)


def test_stepping_on_without_the_reset_that_disabled_mode_asks_for_is_an_error():
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make(mode=AutoresetMode.DISABLED, lengths=(1, 2, 3)), policy)
    obs, _ = envs.reset()
    obs = envs.step(envs.act(obs))[0]
    with pytest.raises(gym.error.ResetNeeded, match=r"rows \[0\]"):
        envs.step(envs.act(obs))


def test_a_step_without_a_new_decision_reports_none():
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make(lengths=(9,)), policy)
    obs, _ = envs.reset()
    actions = envs.act(obs)
    assert "spikes" in envs.step(actions)[4]["snn"]
    assert envs.step(actions)[4]["snn"] == {}


def test_decisions_taken_before_a_masked_reset_count_for_the_other_rows_only():
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make(lengths=(9,), mode=AutoresetMode.DISABLED), policy)
    obs, _ = envs.reset()
    actions = policy.act(obs)
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    assert envs.step(actions)[4]["snn"]["_spikes"].tolist() == [True, False, True]


def test_a_masked_reset_of_other_rows_does_not_make_a_replay_a_decision():
    policy = RecordingPolicy()
    envs = SpikingPolicyVectorEval(make(lengths=(1, 9, 9)), policy)
    obs, _ = envs.reset()
    obs = envs.step(policy.act(obs))[0]  # row 0 is over
    actions = policy.act(obs)
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    assert envs.step(actions)[4]["snn"]["_spikes"].tolist() == [False, False, True]


@pytest.mark.parametrize("mode", MODES)
def test_record_episode_statistics_agrees_from_inside_and_outside(mode):
    policy = RecordingPolicy()
    inside = RecordEpisodeStatistics(make(mode=mode), stats_key="inner")
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


def test_reports_can_be_turned_into_one_dictionary_per_row():
    policy = RecordingPolicy()
    envs = DictInfoToList(SpikingPolicyVectorEval(make(lengths=(1, 2, 3)), policy))
    obs, _ = envs.reset()
    infos: Any = envs.step(policy.act(obs))[4]
    assert infos[0]["snn"]["episode"]["length"] == 1
    assert infos[0]["snn"]["episode"]["spikes"].tolist() == [0, 1]
    assert "episode" not in infos[1]["snn"]
    assert infos[1]["snn"]["synaptic_operations"] == 10


def test_the_shadow_ann_sees_the_observation_that_the_decision_was_taken_on():
    policy: Any = SPIKING["sigma-delta"]()
    envs = SpikingPolicyVectorEval(make(mode=AutoresetMode.SAME_STEP), policy, shadow=True)
    obs, _ = envs.reset()
    for _ in range(12):
        actions = policy.act(obs)
        wanted = policy.actor.step(obs, ())[0]
        obs, _, _, _, infos = envs.step(actions)
        expected = np.sqrt(np.mean((actions.astype(float) - wanted) ** 2, axis=1))  # the half-range is 1
        np.testing.assert_allclose(infos["snn"]["ann_error"], expected, rtol=1e-6)


def test_an_ann_is_accounted_for_like_a_spiking_policy():
    actor = dyadic_actor()
    envs = SpikingPolicyVectorEval(make(lengths=(2, 2, 2)), actor, shadow=True)
    obs, _ = envs.reset()
    obs = envs.step(envs.act(obs))[0]
    infos = envs.step(envs.act(obs))[4]
    assert infos["snn"]["episode"]["decisions"].tolist() == [2, 2, 2]
    assert infos["snn"]["episode"]["ann_error"].tolist() == [0, 0, 0]
    assert (infos["snn"]["episode"]["energy"] > 0).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("episodes", [2, 7])
def test_evaluate_gives_every_episode_its_own_seed_in_every_mode(mode, episodes):
    envs = SpikingPolicyVectorEval(make(mode=mode, seeded=True), RecordingPolicy())
    found = envs.evaluate(episodes=episodes, seed=4)
    seeds = range(4, 4 + episodes)
    assert found.lengths == tuple(length_at((seed, 0, i % ROWS)) for i, seed in enumerate(seeds))
    assert found.decisions == sum(found.lengths)
    decided = [marker(seed, step) for seed, length in zip(seeds, found.lengths, strict=True) for step in range(length)]
    assert found.spikes == (pytest.approx(np.mean(decided)), 1.0)


def test_environments_that_do_not_fit_are_refused():
    pendulums, poles = (gym.make_vec(each, num_envs=2) for each in ("Pendulum-v1", "CartPole-v1"))
    with pytest.raises(ValueError, match=r"gives observations of shape \(3,\) .* the policy takes shape \(4,\)"):
        SpikingPolicyVectorEval(pendulums, RecordingPolicy())
    with pytest.raises(ValueError, match=r"takes actions 2 choices from 0, the policy gives shape \(2,\)"):
        SpikingPolicyVectorEval(poles, RecordingPolicy())


def test_the_specification_survives():
    envs = gym.make_vec("Marker-v0", num_envs=2)
    assert SpikingPolicyVectorEval(envs, RecordingPolicy()).spec == envs.spec
