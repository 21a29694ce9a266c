"""make_environment: what fits is made quietly, what does not is refused in one line."""

import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from marker_env import MarkerEnv, RecordingPolicy

from snn_policy import Actor
from snn_policy.ann.layers import Head, Linear
from snn_policy.environments import check_spaces, make_environment
from snn_policy.progress import track
from snn_policy.wrappers import SpikingPolicyEval, SpikingPolicyVectorEval


def actor(inputs: int, head: Head) -> Actor:
    layer = Linear(np.zeros((head.outputs, inputs), np.float32), np.zeros(head.outputs, np.float32))
    return Actor((layer,), head, (inputs,))


def cheetah() -> Actor:
    return actor(17, Head.bounded(-np.ones(6), np.ones(6)))


def run(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options)


@pytest.mark.parametrize("env", ["Marker-v0", MarkerEnv, lambda: gym.make("Marker-v0")])
def test_ids_and_functions_make_environments(env):
    made = make_environment(env, RecordingPolicy())
    assert isinstance(made.unwrapped, MarkerEnv)


@pytest.mark.parametrize(
    ("env", "complaint"),
    [
        ("Nope-v0", "'Nope-v0' cannot be made: Environment `Nope` doesn't exist"),
        ("Pendulum-v9", "version `v9` for environment `Pendulum` doesn't exist"),
        ("HalfCheetah-v3", "use HalfCheetah-v5"),
        ("nowhere/Env-v0", "Namespace nowhere not found"),
        ("not an id", "Malformed environment ID"),
        ("missing_module:Env-v0", "No module named 'missing_module'"),
        (7, "expected an id or a function that makes one, got int"),
        (lambda: 7, "the function must return a gymnasium.Env, got int"),
    ],
)
def test_what_cannot_be_made_is_named_in_one_line(env, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        make_environment(env, RecordingPolicy())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("env", "policy", "complaint"),
    [
        ("Pendulum-v1", cheetah(), r"Pendulum-v1 .* shape \(3,\) .* the policy takes shape \(17,\)"),
        ("Pendulum-v1", actor(3, Head.bounded([-3], [3])), r"within \[-2, 2\], the policy gives .* within \[-3, 3\]"),
        ("Pendulum-v1", actor(3, Head.argmax(2)), r"within \[-2, 2\], the policy gives 2 choices"),
        ("CartPole-v1", actor(4, Head.clip([-1], [1])), r"2 choices from 0, the policy gives shape \(1,\)"),
        ("CartPole-v1", actor(4, Head.argmax(3)), "2 choices from 0, the policy gives 3 choices"),
        ("Blackjack-v1", cheetah(), "observations Tuple, not one array, .* Flatten it first"),
    ],
)
def test_spaces_that_do_not_fit_are_refused_naming_both_sides(env, policy, complaint):
    with pytest.raises(ValueError, match=complaint):
        make_environment(env, policy)


class Camera(gym.Env):
    """Pictures with their channels last, as Gymnasium's own environments give them."""

    def __init__(self, shape: tuple[int, ...] = (36, 40, 3)) -> None:
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8), {}

    def step(self, action: Any) -> Any:
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8), 1.0, False, True, {}


def seer(shape: tuple[int, ...]) -> Actor:
    layer = Linear(np.zeros((1, int(np.prod(shape))), np.float32), np.zeros(1, np.float32))
    return Actor((layer,), Head.clip([-1], [1]), shape)


@pytest.mark.parametrize("shape", [(36, 40, 3), (36, 40, 1), (84, 84, 4)])
@pytest.mark.parametrize("vector", [False, True])
def test_channels_last_are_refused_with_a_wrapper_that_can_be_pasted(shape, vector):
    height, width, channels = shape
    policy, wrapper = seer((channels, height, width)), SpikingPolicyVectorEval if vector else SpikingPolicyEval
    env: Any = gym.vector.SyncVectorEnv([lambda: Camera(shape)] * 2) if vector else Camera(shape)
    with pytest.raises(
        ValueError, match="channels first, as Stable-Baselines3 transposes them; do so inside"
    ) as caught:
        wrapper(env, policy)
    assert "\n" not in str(caught.value)
    names = {"gymnasium": gym, "spaces": spaces, "np": np, "env": env}
    transposed = wrapper(eval(str(caught.value).partition("do so inside: ")[2], names), policy)
    obs, _ = transposed.reset(seed=0)
    assert obs.shape[vector:] == policy.observation_shape
    transposed.step(transposed.act(obs))


def test_pictures_of_another_size_are_not_told_to_be_transposed():
    with pytest.raises(ValueError, match=r"takes shape \(3, 64, 64\)\. Pictures are \(3·stack, size, size\)"):
        check_spaces(Camera(), seer((3, 64, 64)))


@pytest.mark.parametrize("head", [Head.bounded([-2], [2]), Head.bounded([-1], [1]), Head.clip([-np.inf], [np.inf])])
def test_narrower_or_unbounded_policies_fit(head):
    check_spaces(gym.make("Pendulum-v1"), actor(3, head))


def test_discrete_choices_must_count_from_zero():
    env = MarkerEnv(actions=spaces.Discrete(3, start=1))
    with pytest.raises(ValueError, match="3 choices from 1, the policy gives 3 choices from 0"):
        check_spaces(env, actor(4, Head.argmax(3)))


def test_an_environment_that_does_not_fit_is_closed():
    class Closing(MarkerEnv):
        closed = False

        def close(self) -> None:
            Closing.closed = True

    with pytest.raises(ValueError, match="does not fit"):
        make_environment(Closing, cheetah())
    assert Closing.closed


def test_old_models_and_ids_are_made_without_a_word_and_without_a_log_file(tmp_path):
    pytest.importorskip("mujoco")
    code = "from snn_policy.environments import make_environment as m; m('HalfCheetah-v5'); m('HalfCheetah-v4').reset()"
    done = run(code, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_other_warnings_still_come_through(tmp_path):
    mujoco = pytest.importorskip("mujoco")
    heard: list[str] = []

    def make() -> gym.Env:
        warnings.warn("mind the gap", UserWarning, stacklevel=1)
        mujoco.get_mju_user_warning()("nconmax is too small")
        mujoco.get_mju_user_warning()("attribute 'settotalmass' is deprecated")
        return MarkerEnv()

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(heard.append)
    try:
        with pytest.warns(UserWarning, match="mind the gap"):
            make_environment(make)
        assert mujoco.get_mju_user_warning() == heard.append
    finally:
        mujoco.set_mju_user_warning(before)
    assert heard == ["nconmax is too small"]


@pytest.mark.parametrize(
    ("missing", "env", "extra"),
    [
        ("mujoco", "HalfCheetah-v5", "snn-policy[mujoco]"),
        ("dm_control", "dm_control/cheetah-run-v0", "snn-policy[dmc]"),
        ("Box2D", "LunarLanderContinuous-v3", "snn-policy[box2d]"),
        ("Box2D", "BipedalWalker-v3", "snn-policy[box2d]"),
        ("Box2D", "CarRacing-v3", "snn-policy[box2d]"),
    ],
)
def test_a_missing_simulator_is_named_with_the_extra_that_brings_it(missing, env, extra):
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom snn_policy.environments import make_environment\n"
    done = run(code + f"try: make_environment({env!r})\nexcept ValueError as error: print(error)")
    assert "not installed" in done.stdout
    assert f"pip install '{extra}'" in done.stdout
    assert done.stdout.count("pip install") == 1


def test_dm_control_environments_are_found_and_flattened():
    pytest.importorskip("dm_control")
    pytest.importorskip("shimmy")
    make_environment("dm_control/cartpole-swingup-v0", actor(5, Head.bounded([-1], [1])))
    with pytest.raises(ValueError, match=r"dm_control/cartpole-swingup-v0 .* shape \(5,\) .* takes shape \(17,\)"):
        make_environment("dm_control/cartpole-swingup-v0", cheetah())


def test_progress_passes_everything_on_and_is_silent_when_disabled(capsys):
    assert list(track(range(5), "counting", enabled=False)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")
    assert list(track(iter("abc"), "counting", total=3)) == ["a", "b", "c"]
    out, err = capsys.readouterr()
    assert out == ""
    assert "counting" in err
    assert "3/3" in err
