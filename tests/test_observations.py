"""The one checked way of taking what an environment gives: what NumPy would broadcast or average is an error."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv
from marker_env import MarkerEnv, RecordingPolicy, dyadic_actor, observation

from snn_policy.evaluation.evaluate import compare, evaluate
from snn_policy.observations import finite_number, finite_observation, host_array, unusable
from snn_policy.offline.collect import rollout
from snn_policy.wrappers import SpikingPolicyEval, SpikingPolicyVectorEval
from snn_policy.wrappers.dm_control import DmEnvPolicy

SHAPES: dict[str, Callable[[Any], Any]] = {
    "()": lambda obs: obs[0],
    "(1,)": lambda obs: obs[:1],
    "(1, 4)": lambda obs: obs[None],
    "(4, 1)": lambda obs: obs[:, None],
    "(3,)": lambda obs: obs[:3],
}
"""What an environment might give instead of (4,), by its shape; all but the last would be broadcast into a row."""


class Changing(MarkerEnv):
    """Gives another observation or reward at step 2 of the episode with seed 6, or at its reset."""

    def __init__(
        self, obs: Callable[[Any], Any] = lambda obs: obs, reward: Any = None, at: int = 2, seed: int = 6
    ) -> None:
        super().__init__(lengths=(4,), seeded=True)
        self.change, self.reward, self.at, self.seed = obs, reward, at, seed

    def _changed(self, obs: Any) -> Any:
        return self.change(obs) if (self.episode, self.steps) == (self.seed, self.at) else obs

    def reset(self, **options: Any) -> Any:
        obs, info = super().reset(**options)
        return self._changed(obs), info

    def step(self, action: Any) -> Any:
        obs, reward, *rest = super().step(action)
        here = self.reward is not None and (self.episode, self.steps) == (self.seed, self.at)
        return self._changed(obs), self.reward if here else reward, *rest


gym.register("Changing-v0", entry_point=lambda **settings: Changing(**settings))


def run_wrapper(make: Callable[[], gym.Env]) -> None:
    env = SpikingPolicyEval(make(), RecordingPolicy())
    for seed in (5, 6):
        (obs, _), over = env.reset(seed=seed), False
        while not over:
            obs, _, terminated, truncated, _ = env.step(env.act(obs))
            over = terminated or truncated


def run_rollout(make: Callable[[], gym.Env]) -> None:
    gym.register("OnlyHere-v0", entry_point=lambda **_: make())
    try:
        rollout(dyadic_actor(), "OnlyHere-v0", steps=40, seed=5)
    finally:
        del gym.registry["OnlyHere-v0"]


LOOPS: dict[str, Callable[[Callable[[], gym.Env]], Any]] = {
    "evaluate": lambda make: evaluate(RecordingPolicy(), make, episodes=4, seed=5),
    "one after the other": lambda make: evaluate(RecordingPolicy(), make, episodes=4, seed=5, num_envs=1),
    "compare": lambda make: compare(dyadic_actor(), RecordingPolicy(), make, episodes=4, seed=5),
    "collect": lambda make: dyadic_actor().collect(make, steps=40, seed=5),
    "train collect": run_rollout,
    "wrapper": run_wrapper,
    "wrapper's evaluate": lambda make: SpikingPolicyEval(make(), RecordingPolicy()).evaluate(4, seed=5),
}


@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("loop", LOOPS)
def test_an_observation_of_another_shape_is_refused_at_reset_amid_and_at_the_end(loop, shape, at):
    with pytest.raises(ValueError, match=r"seed 6, row \d, step ") as caught:
        LOOPS[loop](lambda: Changing(SHAPES[shape], at=at))
    assert f"step {at}: observation: expected shape (4,), got {shape}" in str(caught.value)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e31])
@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize("loop", LOOPS)
def test_an_observation_that_is_not_finite_is_named_with_seed_row_step_and_index(loop, at, number):
    def spoiled(obs: Any) -> Any:
        return np.where(np.arange(4) == 3, number, obs.astype(np.float64))

    with pytest.raises(ValueError, match=rf"seed 6, row \d, step {at}: observation: .* at index \(3,\)") as caught:
        LOOPS[loop](lambda: Changing(spoiled, at=at))
    assert ("NaN" in str(caught.value)) == np.isnan(number)


@pytest.mark.parametrize("reward", [np.nan, float("inf"), np.float32(np.nan), np.array([np.nan])])
@pytest.mark.parametrize("loop", [case for case in LOOPS if case != "collect"])
def test_a_reward_that_is_not_finite_is_named_with_seed_row_and_step(loop, reward):
    with pytest.raises(ValueError, match=r"seed 6, row \d, step 2: reward: (NaN|inf)"):
        LOOPS[loop](lambda: Changing(reward=reward))


def test_the_row_that_is_named_is_the_environments_own():
    with pytest.raises(
        ValueError, match=r"environment Changing, seed 7, row 2, step 2: observation: NaN at index \(0,\)"
    ):
        evaluate(RecordingPolicy(), lambda: Changing(lambda obs: obs * np.nan, seed=7), episodes=5, seed=5)


@pytest.mark.parametrize("reward", [1.0, 1, np.float32(1), np.array([1.0]), np.array(1), True])
def test_a_reward_may_be_any_single_number(reward):
    env = SpikingPolicyEval(Changing(reward=reward, at=1), RecordingPolicy())
    obs, _ = env.reset(seed=6)
    while "episode" not in (info := env.step(env.act(obs))[4])["snn"]:
        pass
    assert info["snn"]["episode"]["return"] == 1 + 602 + 603 + 604
    found = evaluate(RecordingPolicy(), lambda: Changing(reward=reward, at=1), episodes=1, seed=6)
    assert found.returns == (1 + 602 + 603 + 604,)


@pytest.mark.parametrize("reward", ["much", np.ones(2), [], object()])
def test_several_rewards_or_none_are_refused(reward):
    with pytest.raises(ValueError, match=r"step 2: reward: expected one number"):
        evaluate(RecordingPolicy(), lambda: Changing(reward=reward), episodes=2, seed=5)


@pytest.mark.parametrize("kind", [list, np.float64, np.float16, np.int64])
def test_what_is_taken_does_not_depend_on_how_the_numbers_are_given(kind):
    def given(obs: Any) -> Any:
        return obs.tolist() if kind is list else obs.astype(kind)

    whole = kind is np.int64
    expected = Changing(lambda obs: np.trunc(obs)) if whole else Changing()
    found = evaluate(RecordingPolicy(), lambda: Changing(given), episodes=3, seed=5)
    assert found.returns == evaluate(RecordingPolicy(), lambda: expected, episodes=3, seed=5, num_envs=1).returns


class Recycling(MarkerEnv):
    """Hands out one buffer, which it changes in every step."""

    buffer = np.zeros(4, np.float32)

    def reset(self, **options: Any) -> Any:
        self.buffer[:] = super().reset(**options)[0]
        return self.buffer, {}

    def step(self, action: Any) -> Any:
        obs, *rest = super().step(action)
        self.buffer[:] = obs
        return self.buffer, *rest


def test_one_buffer_of_all_environments_gives_what_copies_give():
    found, expected = (
        evaluate(dyadic_actor(), lambda env=env: env(seeded=True), episodes=7, num_envs=3).returns
        for env in (Recycling, MarkerEnv)
    )
    assert found == expected


def test_recorded_observations_stay_as_they_were_taken():
    recorded = dyadic_actor().collect(lambda: Recycling(lengths=(3,), seeded=True), steps=5, seed=2)
    expected = [observation(2, 0), observation(2, 1), observation(2, 2), observation(3, 0), observation(3, 1)]
    np.testing.assert_array_equal(recorded, expected)


def test_the_shadow_ann_sees_the_observation_of_a_recycled_buffer_before_the_step():
    errors = []
    for make in (Recycling, MarkerEnv):
        env = SpikingPolicyEval(make(lengths=(4,)), dyadic_actor(), shadow=True)
        obs, _ = env.reset()
        errors.append([env.step(env.act(obs))[4]["snn"]["ann_error"] for _ in range(2)])
    assert errors[0][0] == errors[1][0] == 0


# ------------------------------------------------------------------------------------------------ vector environments


class Rows(SyncVectorEnv):
    """Three marker environments whose step gives something else once."""

    def __init__(self, **changed: Callable[[Any], Any]) -> None:
        super().__init__([lambda: MarkerEnv(lengths=(9,)) for _ in range(3)], copy=False)
        self.changed, self.steps = changed, 0

    def step(self, actions: Any) -> Any:
        names, self.steps = ("obs", "rewards", "terminations", "truncations", "infos"), self.steps + 1
        given = zip(names, super().step(actions), strict=True)
        return tuple(self.changed[name](v) if name in self.changed and self.steps == 2 else v for name, v in given)


def spoil(values: Any) -> Any:
    values = values.copy()
    values[1] = np.nan
    return values


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"obs": spoil}, r"seed 41, row 1, step 2: observation: NaN at index \(0,\)"),
        ({"rewards": spoil}, r"seed 41, row 1, step 2: reward: NaN"),
        ({"obs": lambda obs: obs[0]}, r"all rows: observation: expected shape \(3, 4\), got \(4,\)"),
        ({"obs": lambda obs: obs[:1]}, r"observation: expected shape \(3, 4\), got \(1, 4\)"),
        ({"rewards": lambda rewards: rewards[:, None]}, r"reward: expected shape \(3,\), got \(3, 1\)"),
        ({"rewards": lambda rewards: rewards[0]}, r"reward: expected shape \(3,\), got \(\)"),
        ({"terminations": lambda over: over[:1]}, r"terminations: expected shape \(3,\), got \(1,\)"),
        ({"truncations": lambda over: False}, r"truncations: expected shape \(3,\), got \(\)"),
    ],
)
def test_what_does_not_fit_a_vector_environments_rows_is_refused(changed, complaint):
    envs = SpikingPolicyVectorEval(Rows(**changed), RecordingPolicy())
    obs, _ = envs.reset(seed=40)
    obs = envs.step(envs.act(obs))[0]
    with pytest.raises(ValueError, match=complaint):
        envs.step(envs.act(obs))


def test_seeds_are_named_only_of_episodes_that_have_one():
    envs = SpikingPolicyVectorEval(Rows(obs=spoil), RecordingPolicy())
    obs, _ = envs.reset(seed=[None, None, 7])
    envs.step(envs.act(obs))
    with pytest.raises(ValueError, match="seed not given, row 1, step 2"):
        envs.step(envs.act(obs))


# ------------------------------------------------------------------------------------------------ dm_env and the parts


@pytest.mark.parametrize("shape", [case for case in SHAPES if case != "(3,)"])
def test_dm_env_loops_refuse_other_shapes_and_name_the_step(shape):
    dm_env = pytest.importorskip("dm_env")
    agent, obs = DmEnvPolicy(RecordingPolicy()), np.ones(4, np.float32)
    agent.act(dm_env.restart(obs))
    with pytest.raises(ValueError, match=r"time step 1 of the episode: observation: expected shape \(4,\)"):
        agent.act(dm_env.transition(1.0, SHAPES[shape](obs)))


def test_dm_env_loops_name_the_step_of_a_nan():
    dm_env = pytest.importorskip("dm_env")
    agent = DmEnvPolicy(RecordingPolicy())
    agent.act(dm_env.restart(np.ones(4)))
    agent.act(dm_env.transition(1.0, np.ones(4)))
    with pytest.raises(ValueError, match=r"time step 2 of the episode: observation: NaN at index \(0,\)"):
        agent.act(dm_env.transition(1.0, np.full(4, np.nan)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 17, 2000])
def test_the_first_number_that_cannot_be_used_is_found(dtype, size):
    values = np.full(size, 6e4, dtype)
    assert unusable(values) is None
    values[size // 2] = np.nan
    assert unusable(values) == (size // 2,)
    values[0] = -np.inf
    assert unusable(values) == (0,)


def test_large_observations_are_admitted_up_to_the_limit():
    assert finite_observation(np.full(3, 1e29), (3,)).tolist() == [np.float32(1e29)] * 3
    with pytest.raises(ValueError, match=r"observation: 2e\+30, not finite or beyond ±1e\+30 at index \(0,\)"):
        finite_observation(np.full(3, 2e30), (3,))


def test_images_stay_bytes_and_are_copied():
    image = np.zeros((3, 8, 8), np.uint8)
    taken = finite_observation(image, (3, 8, 8))
    image[:] = 9
    assert taken.dtype == np.uint8
    assert not taken.any()


def test_what_holds_no_numbers_is_named():
    for value in ({"a": 1}, "text", None, [1, [2, 3]], np.array([1j])):
        with pytest.raises(ValueError, match="observation"):
            finite_observation(value, (1,))
    with pytest.raises(ValueError, match="reward: expected one number"):
        finite_number(None, "reward")
    assert host_array([1, 2], "x").tolist() == [1, 2]
