"""dm_control ids: the decision process they stand for, what a camera makes of it, and loops of dm_env's."""

import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from marker_env import RecordingPolicy

from snn_policy import Actor, evaluate
from snn_policy.ann.layers import Head, Linear
from snn_policy.environments import make_environment
from snn_policy.wrappers import rendering
from snn_policy.wrappers.dm_control import DmEnvPolicy, HeldAction, make_pixels, make_states
from snn_policy.wrappers.rendering import NoRendererError, choose_backend

suite = pytest.importorskip("dm_control.suite")
pytest.importorskip("shimmy")

STATES = "dm_control/cartpole-swingup-v0"
HELD = "dm_control/cartpole-swingup-repeat2-v0"
PIXELS = "dm_control/cartpole-swingup-pixels-v0"
SMALL = "dm_control/cartpole-swingup-pixels-repeat100-stack2-size16-v0"


def actor(*shape: int, actions: int = 1) -> Actor:
    """One layer with small fixed weights, and actions in [-1, 1]."""
    inputs = int(np.prod(shape))
    weight = np.random.default_rng(0).normal(size=(actions, inputs)) / inputs
    head = Head.bounded([-1] * actions, [1] * actions)
    return Actor((Linear(weight.astype(np.float32), np.zeros(actions, np.float32)),), head, shape)


def rollout(env: gym.Env, seed: int, steps: int) -> tuple[np.ndarray, list[float]]:
    """Observations, the first included, and rewards of fixed actions."""
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=seed)
    observations, rewards = [obs], []
    for _ in range(steps):
        obs, reward, *_ = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
        observations.append(obs)
        rewards.append(float(reward))
    return np.stack(observations), rewards


class Bounded(gym.Env):
    """Takes actions of its own bounds, keeps the last, rewards 1, 2, 3, … and terminates after the third step."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(np.array([-2, 0.0]), np.array([1, 10.0]), dtype=np.float64)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken, self.steps = action, self.steps + 1
        return np.zeros(1, np.float32), self.steps, self.steps == 3, False, {}


def test_states_are_flat_float32_in_gymnasiums_order():
    env = make_environment("dm_control/finger-spin-v0")
    assert env.observation_space == spaces.Box(-np.inf, np.inf, (9,), np.float32)
    obs, _ = env.reset(seed=4)
    assert obs in env.observation_space
    inner = gym.wrappers.FlattenObservation(gym.make("dm_control/finger-spin-v0"))
    np.testing.assert_array_equal(obs, inner.reset(seed=4)[0].astype(np.float32))


@pytest.mark.parametrize(
    "env", [STATES, HELD, "dm_control/quadruped-walk-v0", "dm_control/humanoid_CMU-run-repeat5-v0"]
)
def test_ids_are_made_without_a_word_and_keep_their_name(env, capfd):
    made = make_environment(env)
    made.reset(seed=0)
    assert made.unwrapped.spec is not None
    assert made.unwrapped.spec.id == env
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("env", [STATES, HELD])
def test_the_same_seed_gives_the_same_episode(env):
    first, second, other = (rollout(make_environment(env), seed, 5) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]
    assert not np.array_equal(first[0][0], other[0][0])


def test_a_held_action_is_the_same_as_taking_it_twice():
    every, held = make_environment(STATES), make_environment(HELD)
    slow, rewards = rollout(held, 3, 6)
    rng = np.random.default_rng(0)
    fast, _ = every.reset(seed=3)
    for expected, reward in zip(slow[1:], rewards, strict=True):
        action, total = rng.uniform(-1, 1, 1).astype(np.float32), 0.0
        for _ in range(2):
            fast, gained, *_ = every.step(action)
            total += float(gained)
        np.testing.assert_array_equal(fast, expected)
        assert total == pytest.approx(reward)


@pytest.mark.parametrize(("env", "decisions"), [(STATES, 1000), (HELD, 500), (HELD.replace("2", "3"), 334)])
def test_episodes_last_a_thousand_control_steps_and_are_truncated_not_terminated(env, decisions):
    made = make_environment(env)
    made.reset(seed=0)
    for step in range(decisions):
        _, reward, terminated, truncated, _ = made.step(np.zeros(1, np.float32))
        assert (terminated, truncated) == (False, step == decisions - 1)
        assert isinstance(float(reward), float)


@pytest.mark.parametrize(
    ("action", "taken"), [([-1, -1], [-2, 0]), ([1, 1], [1, 10]), ([0, 0.5], [-0.5, 7.5]), ([9, -9], [1, 0])]
)
def test_actions_are_rescaled_to_bounds_that_need_not_be_symmetric(action, taken):
    inner = Bounded()
    env = HeldAction(inner, 1)
    assert env.action_space == spaces.Box(-1, 1, (2,), np.float32)
    env.reset()
    env.step(np.array(action, np.float32))
    np.testing.assert_allclose(inner.taken, taken)


def test_rewards_are_summed_and_an_action_is_not_held_beyond_the_end():
    env = HeldAction(Bounded(), 2)
    env.reset()
    assert env.step(np.zeros(2))[1:4] == (3.0, False, False)
    assert env.step(np.zeros(2))[1:4] == (3.0, True, False)


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        (
            "dm_control/cartpole-swngup-repeat2-v0",
            "no task cartpole-swngup; dm_control has cartpole-balance, .*-swingup",
        ),
        ("dm_control/cartpol-swingup-pixels-v0", "no task cartpol-swingup; dm_control has acrobot-swingup"),
        ("dm_control/cartpole-swngup-v0", "'dm_control/cartpole-swngup-v0' cannot be made"),
        ("dm_control/cartpole-swingup-pixel-v0", "'pixel' is not understood here; the forms are"),
        ("dm_control/cartpole-swingup-size64-v0", "'size64' is not understood"),
        ("dm_control/cartpole-swingup-pixels-zoom2-v0", "'zoom2' is not understood"),
        ("dm_control/cartpole-swingup-pixels-size64-size32-v0", "'size32' is not understood"),
        ("dm_control/cartpole-swingup-pixels-size-v0", "'size' is not understood"),
        ("dm_control/cartpole-swingup-pixels-v1", "-v1' cannot be made"),
        ("dm_control/cartpole-swingup-repeat0-v0", "action repeat: expected a whole number from 1 to 1000, got 0"),
        ("dm_control/cartpole-swingup-pixels-size4-v0", "picture size: expected a whole number from 8 to 1024, got 4"),
        ("dm_control/cartpole-swingup-pixels-stack0-v0", "frame stack: expected a whole number from 1 to 100, got 0"),
        ("dm_control/lqr-lqr_2_1-repeat2-v0", r"cannot be rescaled to \[-1, 1\]"),
    ],
)
def test_ids_that_mean_nothing_are_refused_in_one_line(env, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        make_environment(env)
    assert "\n" not in str(caught.value)


def test_policies_are_recorded_and_evaluated_by_id():
    policy = actor(5)
    assert policy.collect(HELD, steps=3).shape == (3, 5)
    found = evaluate(policy, "dm_control/cartpole-swingup-repeat100-v0", episodes=2, num_envs=2)
    assert found.lengths == (10, 10)
    assert found.environment == "dm_control/cartpole-swingup-repeat100-v0"
    assert "dm_control" in found.versions
    assert found.policy_seconds > 0
    assert found.environment_seconds > 0
    assert found.render_seconds is None


def test_dm_env_loops_give_what_gymnasium_loops_give():
    policy = actor(9, actions=2)
    env = make_environment("dm_control/finger-spin-v0", policy)
    obs, _ = env.reset(seed=5)
    expected = []
    for _ in range(4):
        expected.append(policy.act(obs))
        obs, *_ = env.step(expected[-1])

    agent = DmEnvPolicy(policy)
    dm_loop = suite.load("finger", "spin", task_kwargs={"random": 5})
    timestep, taken = dm_loop.reset(), []
    for _ in range(4):
        taken.append(agent.act(timestep))
        timestep = dm_loop.step(taken[-1])
    np.testing.assert_array_equal(taken, expected)


def test_dm_env_loops_reset_the_policy_where_an_episode_begins():
    dm_env = pytest.importorskip("dm_env")
    policy = RecordingPolicy()
    agent, obs = DmEnvPolicy(policy), np.ones(4, np.float32)
    for timestep, remembered in [
        (dm_env.restart(obs), 1),
        (dm_env.transition(1.0, obs), 2),
        (dm_env.restart({"b": obs[:3], "a": np.float64(2)}), 1),
    ]:
        agent.act(timestep)
        assert policy.state.seen.tolist() == [remembered]
    assert policy.state.digest.tolist() == [2 + 7 * 1 + 1]


def test_without_opengl_pixels_are_refused_naming_the_remedy_and_states_still_work():
    code = (
        "from snn_policy.environments import make_environment\n"
        f"print(make_environment({HELD!r}).reset(seed=0)[0].shape)\n"
        f"try: make_environment({PIXELS!r})\n"
        "except ValueError as error: print(error)"
    )
    environment = {**os.environ, "MUJOCO_GL": "off"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    shape, complaint = done.stdout.splitlines()
    assert shape == "(5,)"
    assert complaint.startswith("no off-screen rendering with MUJOCO_GL=off (No OpenGL rendering backend is available)")
    assert "apt-get install libegl1 libgl1-mesa-dri" in complaint
    assert "MUJOCO_GL=egl" in complaint
    assert done.stderr == ""


@pytest.mark.parametrize(("working", "chosen"), [({"egl", "osmesa"}, "egl"), ({"osmesa"}, "osmesa"), (set(), None)])
def test_egl_is_tried_first_then_osmesa(monkeypatch, working, chosen):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rendering.sys, "platform", "linux")
    monkeypatch.delitem(sys.modules, "dm_control")

    def probe(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(
            command, 0 if any(f"mujoco.{name} " in command[2] for name in working) else 1
        )

    monkeypatch.setattr(rendering.subprocess, "run", probe)
    choose_backend.cache_clear()
    try:
        assert choose_backend() == (chosen is not None)
        assert os.environ.pop("MUJOCO_GL", None) == chosen
        if chosen is None:
            with pytest.raises(NoRendererError, match="neither EGL nor OSMesa works here"):
                make_pixels("cartpole", "swingup")
    finally:
        choose_backend.cache_clear()


def test_states_may_be_taken_at_every_control_step():
    assert rollout(make_states("cartpole", "swingup"), 1, 3)[1] == rollout(make_environment(STATES), 1, 3)[1]
