"""Observation statistics are found where libraries put them, or their absence is told; any source of them is read."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, TransformObservation
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecExtractDictObs, VecFrameStack, VecNormalize
from torch import nn

from snn_policy.actor import Actor
from snn_policy.cli import main
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor
from snn_policy.sources.sb3_statistics import was_normalised
from tests.test_sources_sb3 import Arm, spread

OFF_POLICY: dict[str, Any] = {"buffer_size": 100, "learning_starts": 1000}
pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


def small(**options: Any) -> dict[str, Any]:
    """Fresh, since the library writes into it."""
    return {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"} | options


def rows(count: int = 200, size: int = 5) -> np.ndarray:
    return (np.random.default_rng(2).standard_normal((count, size)) * 4 + 2).astype(np.float32)


@pytest.fixture
def normalised() -> tuple[Any, VecNormalize]:
    """A model on an environment whose observations are normalised, with statistics of their own."""
    venv = VecNormalize(DummyVecEnv([Arm]), clip_obs=1.5)
    model = spread(PPO("MlpPolicy", venv, **small()))
    venv.obs_rms.update(np.random.default_rng(1).normal([1, 2, 3, 4, 5], [1, 0.1, 3, 2, 9], (500, 5)))  # pyright: ignore
    return model, venv


def agrees(actor: Actor, model: Any, venv: VecNormalize) -> bool:
    predicted, _ = model.predict(venv.normalize_obs(rows()), deterministic=True)
    return bool(np.abs(actor.act(rows()) - predicted).max() <= 1e-5)


@pytest.mark.parametrize(
    ("archive", "statistics"),
    [
        ("rl_model_500_steps.zip", "rl_model_vecnormalize_500_steps.pkl"),
        ("a_b_7_steps.zip", "a_b_vecnormalize_7_steps.pkl"),
        ("ppo-Arm-v0.zip", "vec_normalize.pkl"),
        ("best_1.5M", "vecnormalize.pkl"),
        ("best_1.5M", "best_1.5M.vecnormalize.pkl"),
        ("Arm-v0_1/best_model.zip", "Arm-v0_1/Arm-v0/vecnormalize.pkl"),
        ("Arm-v0_12/rl_model_9_steps.zip", "Arm-v0_12/Arm-v0/vecnormalize.pkl"),
        ("Arm-v0_1/Arm-v0.zip", "Arm-v0_1/Arm-v0/vecnormalize.pkl"),
        ("run.zip", "run/Arm-v0/vecnormalize.pkl"),
    ],
)
def test_statistics_are_found_under_the_names_that_libraries_give(
    normalised: tuple[Any, VecNormalize], tmp_path: Path, archive: str, statistics: str
) -> None:
    model, venv = normalised
    for name in (archive, statistics):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    with (tmp_path / archive).open("wb") as file:
        model.save(file)
    venv.save(str(tmp_path / statistics))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert agrees(load_actor(tmp_path / archive), model, venv)
    assert load_actor(tmp_path / archive, normaliser=False).normaliser is None


def test_a_checkpoint_takes_its_own_statistics_before_those_of_the_folder(
    normalised: tuple[Any, VecNormalize], tmp_path: Path
) -> None:
    model, venv = normalised
    model.save(tmp_path / "m_20_steps.zip")
    venv.save(str(tmp_path / "m_vecnormalize_20_steps.pkl"))
    VecNormalize(DummyVecEnv([Arm])).save(str(tmp_path / "vecnormalize.pkl"))
    VecNormalize(DummyVecEnv([Arm])).save(str(tmp_path / "m_vecnormalize_10_steps.pkl"))
    assert agrees(load_actor(tmp_path / "m_20_steps.zip"), model, venv)


def test_statistics_in_the_folder_of_an_environment_beside_are_taken_aloud_and_only_if_they_fit(
    normalised: tuple[Any, VecNormalize], tmp_path: Path
) -> None:
    model, venv = normalised
    model.save(tmp_path / "best_model.zip")
    for folder in ("Arm-v0", "hub"):
        (tmp_path / folder).mkdir()
    venv.save(str(tmp_path / "hub/vec_normalize.pkl"))
    assert load_actor(tmp_path / "best_model.zip").normaliser is None  # another policy's folder
    venv.save(str(tmp_path / "Arm-v0/vecnormalize.pkl"))
    with pytest.warns(UserWarning, match=r"Arm-v0/vecnormalize\.pkl.*vecnormalize=False"):
        assert agrees(load_actor(tmp_path / "best_model.zip"), model, venv)
    VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")])).save(str(tmp_path / "Arm-v0/vecnormalize.pkl"))
    assert load_actor(tmp_path / "best_model.zip").normaliser is None


def trained(kind: Any, environment: str, normalise: bool, seed: int = 0, **options: Any) -> Any:
    venv: VecEnv = DummyVecEnv([lambda: gym.make(environment)])
    venv.seed(seed)
    model = kind("MlpPolicy", VecNormalize(venv) if normalise else venv, seed=seed, **small(**options))
    return model.learn(40)


@pytest.mark.parametrize(
    ("kind", "environment", "options"),
    [
        (SAC, "Pendulum-v1", OFF_POLICY),
        (TD3, "Pendulum-v1", OFF_POLICY),
        (DDPG, "MountainCarContinuous-v0", OFF_POLICY),
        (DQN, "CartPole-v1", OFF_POLICY),
        (PPO, "Pendulum-v1", {"n_steps": 20}),
        (A2C, "CartPole-v1", {}),
    ],
)
def test_a_zip_trained_on_normalised_observations_says_that_its_statistics_are_missing(
    tmp_path: Path, kind: Any, environment: str, options: dict[str, Any]
) -> None:
    for seed in range(3):
        trained(kind, environment, True, seed, **options).save(tmp_path / "model.zip")
        with pytest.warns(UserWarning, match=r"trained in VecNormalize.*no observation statistics.*vecnormalize=PATH"):
            load_actor(tmp_path / "model.zip")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load_actor(tmp_path / "model.zip", vecnormalize=False)
        with pytest.warns(UserWarning, match="trained in VecNormalize"):
            load_actor(kind.load(tmp_path / "model.zip", device="cpu"))  # a live one without its environment


@pytest.mark.parametrize(
    ("kind", "environment", "options"),
    [
        (SAC, "Pendulum-v1", OFF_POLICY),
        (TD3, "Pendulum-v1", OFF_POLICY),
        (DDPG, "MountainCarContinuous-v0", OFF_POLICY),
        (PPO, "Pendulum-v1", {"n_steps": 20}),
        (A2C, "CartPole-v1", {}),
    ],
)
def test_a_zip_trained_on_raw_observations_is_read_without_a_warning(
    tmp_path: Path, kind: Any, environment: str, options: dict[str, Any]
) -> None:
    for seed in range(3):
        trained(kind, environment, False, seed, **options).save(tmp_path / "model.zip")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_actor(tmp_path / "model.zip").normaliser is None


def test_what_two_stored_observations_tell() -> None:
    raw = np.array([[0.6, 0.8, 3.0]], np.float32)
    later = np.array([[0.0, 1.0, 2.9]], np.float32)
    scaled = np.array([[-1.3, 0.4, 1.1]], np.float32)
    low, high = np.array([-1, -1, -8]), np.array([1, 1, 8])
    assert was_normalised(None, None, None, None, off_policy=True) is None
    assert was_normalised(raw, None, None, None, off_policy=False) == "no"
    assert was_normalised(scaled, raw, None, None, off_policy=False) == "yes"
    assert was_normalised(scaled, raw, low, high, off_policy=True) == "yes"  # out of bounds
    assert was_normalised(scaled, raw, None, None, off_policy=True) == "maybe"
    assert was_normalised(scaled, raw.astype(np.float64), None, None, off_policy=True) == "yes"
    assert was_normalised(raw.astype(np.float64), raw.astype(np.float64) + 1, None, None, off_policy=True) == "no"
    assert was_normalised(raw, raw, None, None, off_policy=True) == "no"  # norm_obs=False
    assert was_normalised(raw * [[1, 1, 2]], raw, None, None, off_policy=True) == "yes"  # float64 beside float32
    assert was_normalised(later + np.float32(0.001), later, None, None, off_policy=True) == "no"  # one step later
    assert (
        was_normalised(np.array([[0.28, 0.96, 5]], np.float32), raw, None, None, off_policy=True) == "no"
    )  # still sine and cosine
    many = np.full((1, 3000), 2, np.float32)
    assert was_normalised(many * np.float32(1.01), many, None, None, off_policy=True) == "no"
    assert was_normalised(raw, "unreadable", None, None, off_policy=True) == "maybe"


def wrapped() -> NormalizeObservation:
    env = NormalizeObservation(Arm())
    env.obs_rms.update(np.random.default_rng(1).normal([1, 2, 3, 4, 5], [1, 0.1, 3, 2, 9], (500, 5)))
    env.update_running_mean = False
    return env


def by_hand(obs: np.ndarray, running: Any, epsilon: float = 1e-8, clip: float = np.inf) -> np.ndarray:
    return np.clip((obs - running.mean) / np.sqrt(running.var + epsilon), -clip, clip).astype(np.float32)


@pytest.mark.parametrize("kind", [PPO, A2C])
def test_gymnasiums_normaliser_around_a_live_model_is_read(kind: Any) -> None:
    env = wrapped()
    model = spread(kind("MlpPolicy", env, **small()))
    predicted, _ = model.predict(by_hand(rows(), env.obs_rms), deterministic=True)
    assert np.abs(load_actor(model).act(rows()) - predicted).max() <= 1e-5
    assert np.abs(load_actor(model, vecnormalize=env).act(rows()) - predicted).max() <= 1e-5
    assert np.abs(load_actor(model, normaliser=env.obs_rms).act(rows()) - predicted).max() <= 1e-5
    assert load_actor(model, normaliser=False).normaliser is None


def test_gymnasiums_normaliser_within_vecnormalize_acts_first() -> None:
    env = wrapped()
    venv = VecNormalize(DummyVecEnv([lambda: env]), clip_obs=0.8)
    venv.obs_rms.update(np.random.default_rng(3).normal(0.3, 2, (500, 5)))  # pyright: ignore
    model = spread(PPO("MlpPolicy", venv, **small()))
    seen = venv.normalize_obs(by_hand(rows(), env.obs_rms))
    predicted, _ = model.predict(seen, deterministic=True)
    assert np.abs(load_actor(model).act(rows()) - predicted).max() <= 2e-5


def test_rows_with_statistics_of_their_own_and_wrappers_between_are_told() -> None:
    model = PPO("MlpPolicy", DummyVecEnv([wrapped, wrapped, wrapped]), **small())
    with pytest.warns(UserWarning, match="each of the 3 environments"):
        load_actor(model)
    clipped = TransformObservation(wrapped(), lambda obs: np.clip(obs, -1, 1), None)
    with pytest.warns(UserWarning, match="TransformObservation stands between"):
        load_actor(PPO("MlpPolicy", clipped, **small()))


@pytest.mark.parametrize("frames", [2, 4])
def test_frames_stacked_over_normalised_observations_tile_the_statistics(tmp_path: Path, frames: int) -> None:
    venv = VecNormalize(DummyVecEnv([Arm]), clip_obs=1.5)
    venv.obs_rms.update(np.random.default_rng(1).normal([1, 2, 3, 4, 5], [1, 0.1, 3, 2, 9], (500, 5)))  # pyright: ignore
    model = spread(PPO("MlpPolicy", VecFrameStack(venv, frames), **small()))
    raw = rows(size=5 * frames)
    seen = np.concatenate([venv.normalize_obs(raw[:, 5 * i : 5 * i + 5]) for i in range(frames)], axis=1)  # pyright: ignore
    predicted, _ = model.predict(seen, deterministic=True)
    with pytest.warns(UserWarning, match=f"repeated {frames} times.*hold the mean"):
        live = load_actor(model)
    model.save(tmp_path / "model.zip")
    venv.save(str(tmp_path / "vecnormalize.pkl"))
    with pytest.warns(UserWarning, match=f"repeated {frames} times"):
        saved = load_actor(tmp_path / "model.zip")
    for actor in (live, saved):
        assert np.abs(actor.act(raw) - predicted).max() <= 1e-5


def test_statistics_around_stacked_frames_are_taken_as_they_are() -> None:
    venv = VecNormalize(VecFrameStack(DummyVecEnv([Arm]), 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actor = load_actor(PPO("MlpPolicy", venv, **small()))
    assert actor.normaliser is not None
    assert actor.normaliser.mean.shape == (15,)


class Goals(Arm):
    def __init__(self) -> None:
        parts: dict[str, spaces.Space] = {"goal": spaces.Box(-1, 1, (2,)), "observation": spaces.Box(-1, 1, (5,))}
        super().__init__(observations=spaces.Dict(parts))


def test_statistics_of_a_dictionary_are_admitted(tmp_path: Path) -> None:
    venv = VecNormalize(DummyVecEnv([Goals]))
    venv.obs_rms["observation"].update(rows())  # pyright: ignore
    model = spread(PPO("MlpPolicy", VecExtractDictObs(venv, "observation"), **small()))
    predicted, _ = model.predict(by_hand(rows(), venv.obs_rms["observation"], clip=10), deterministic=True)  # pyright: ignore
    assert np.abs(load_actor(model).act(rows()) - predicted).max() <= 1e-5
    venv.save(str(tmp_path / "goals.pkl"))
    with pytest.raises(UnsupportedLayerError, match=r"dictionary \(goal, observation\).*normaliser=\(mean, variance\)"):
        load_actor(nn.Linear(5, 1), normaliser=tmp_path / "goals.pkl")
    VecNormalize(DummyVecEnv([Goals]), norm_obs=False).save(str(tmp_path / "rewards.pkl"))
    assert load_actor(nn.Linear(5, 1), normaliser=tmp_path / "rewards.pkl").normaliser is None


def test_published_statistics_of_a_dictionary_are_admitted(reference_dir: Path) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"dictionary \(achieved_goal, desired_goal, observation\)"):
        load_actor(nn.Linear(3, 1), normaliser=reference_dir / "sb3-zips/tqc-PandaReach-v1.vecnormalize.pkl")


class Doubled(VecNormalize):
    """A user's subclass that normalises in a way of its own."""

    def normalize_obs(self, obs: Any) -> Any:
        return 2 * super().normalize_obs(obs)  # pyright: ignore


def test_a_live_object_that_normalises_otherwise_is_refused() -> None:
    with pytest.raises(SourceError, match=r"Doubled normalises observations otherwise.*normaliser=\(mean"):
        load_actor(PPO("MlpPolicy", Doubled(DummyVecEnv([Arm])), **small()))


def statistics(tmp_path: Path) -> dict[str, Callable[[], Any]]:
    env = wrapped()
    venv = VecNormalize(DummyVecEnv([Arm]), clip_obs=1e6)
    venv.obs_rms.mean, venv.obs_rms.var = env.obs_rms.mean, env.obs_rms.var  # pyright: ignore
    venv.save(str(tmp_path / "saved.pkl"))
    running = env.obs_rms
    return {
        "wrapper": lambda: env,
        "running": lambda: running,
        "vecnormalize": lambda: venv,
        "pickle": lambda: tmp_path / "saved.pkl",
        "pair": lambda: (running.mean, running.var),
        "tensors": lambda: (torch.as_tensor(running.mean), torch.as_tensor(running.var)),
        "lists": lambda: [running.mean.tolist(), running.var.tolist()],
    }


@pytest.mark.parametrize("name", ["wrapper", "running", "vecnormalize", "pickle", "pair", "tensors", "lists"])
def test_torch_and_onnx_policies_take_statistics_of_any_form(tmp_path: Path, name: str) -> None:
    module = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    given = statistics(tmp_path)[name]()
    with torch.no_grad():
        expected = module(torch.as_tensor(by_hand(rows(), wrapped().obs_rms))).numpy()
    assert np.abs(load_actor(module, normaliser=given).act(rows()) - expected).max() <= 1e-5
    assert np.abs(load_actor(module, vecnormalize=given).act(rows()) - expected).max() <= 1e-5
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(module, (torch.zeros(1, 5),), str(tmp_path / "m.onnx"), dynamo=False)
    assert np.abs(load_actor(tmp_path / "m.onnx", normaliser=given).act(rows()) - expected).max() <= 1e-5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.ones(5), [1, 1, 0, 1, 1]), "standard deviation is zero.* entry 2"),
        ((np.ones(5), [0, 1, 0, 1, -1]), "entries 0, 2, 4"),
        ((np.ones(5), np.full(5, np.nan)), "not a usable number"),
        ((np.ones(4), np.ones(5)), "one shape"),
        ((np.ones(4), np.ones(4)), r"5 inputs, which do not fit observations \(4,\)"),
        ((["a"], ["b"]), "does not hold numbers"),
    ],
)
def test_unusable_pairs_are_refused_by_name(given: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        load_actor(nn.Linear(5, 1), normaliser=given)


@pytest.mark.parametrize("given", [3, np.ones(5), object(), {"mean": 1}, gym.make("Pendulum-v1")])
def test_what_holds_no_statistics_is_a_type_error_that_says_what_does(given: Any) -> None:
    with pytest.raises(TypeError, match="expected a VecNormalize"):
        load_actor(nn.Linear(5, 1), normaliser=given)


def test_two_names_of_one_argument_are_refused() -> None:
    with pytest.raises(TypeError, match="pass one of them"):
        load_actor(nn.Linear(5, 1), normaliser=False, vecnormalize=False)


@pytest.mark.parametrize("zero", [(1,), (0, 2)])
def test_a_module_that_divides_by_a_zero_deviation_names_the_entry(zero: tuple[int, ...]) -> None:
    class Divides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.std = nn.Linear(3, 1), torch.ones(3)
            self.std[list(zero)] = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x / self.std)

    with pytest.raises(UnsupportedLayerError, match=f"zero at entr.* {', '.join(map(str, zero))} .*constant sensor"):
        load_actor(Divides())


def test_statistics_whose_deviation_is_zero_are_named(tmp_path: Path) -> None:
    venv = VecNormalize(DummyVecEnv([Arm]), epsilon=0.0)
    venv.obs_rms.var[3] = 0  # pyright: ignore
    venv.save(str(tmp_path / "vecnormalize.pkl"))
    PPO("MlpPolicy", Arm(), **small()).save(tmp_path / "model.zip")
    with pytest.raises(SourceError, match=r"standard deviation is zero.* entry 3; .*variance 1"):
        load_actor(tmp_path / "model.zip")


CARTPOLE = spaces.Box(
    np.array([-4.8, np.finfo(np.float32).min, -0.41887903, np.finfo(np.float32).min], np.float32),
    np.array([4.8, np.finfo(np.float32).max, 0.41887903, np.finfo(np.float32).max], np.float32),
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([3.1545956e-04, 0.76208282, 0.1567547, -0.06427787], [0.01555712, 0.9546506, 0.15546913, -0.30369052]),
        ([0.0273956, -0.0061121, 0.0358597, 0.0197368], [0.0272734, 0.1884784, 0.0362545, -0.2614331]),
        ([-1.21, -0.87, -0.05, 0.31], [-1.2274, -1.0646, -0.0438, 0.5867]),
    ],
)
def test_consecutive_states_of_a_cart_are_no_statistics_and_give_no_warning(before: list, after: list) -> None:
    """The first is a published DQN's, trained without; its bounds are the largest numbers of float32."""
    last, original = np.array([after], np.float32), np.array([before], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert was_normalised(last, original, CARTPOLE.low, CARTPOLE.high, off_policy=True) == "no"


@pytest.mark.parametrize("environment", ["CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0"])
def test_a_step_between_two_observations_is_told_from_a_normalisation(environment: str) -> None:
    env, pairs = gym.make(environment), []
    obs, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(600):
        following, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if not (terminated or truncated):
            pairs.append((obs, following))
        obs = env.reset()[0] if terminated or truncated else following
    space: Any = env.observation_space
    seen = np.array([before for before, _ in pairs])
    scaled = ((seen - seen.mean(0)) / seen.std(0)).astype(np.float32)

    def tellings(last: Any, original: Any) -> list[Any]:
        both = zip(last, original, strict=True)
        return [was_normalised(a[None], b[None], space.low, space.high, off_policy=True) for a, b in both]

    plain = tellings([after for _, after in pairs], seen)
    assert plain.count("no") >= 0.98 * len(plain)
    assert tellings(scaled, seen).count("no") <= 0.1 * len(plain)


@pytest.mark.parametrize(
    ("kind", "environment"), [(PPO, "MountainCarContinuous-v0"), (A2C, "CartPole-v1"), (PPO, "CartPole-v1")]
)
def test_a_zip_whose_rewards_alone_were_normalised_names_what_silences_the_warning(
    tmp_path: Path, kind: Any, environment: str
) -> None:
    venv = VecNormalize(DummyVecEnv([lambda: gym.make(environment)]), norm_obs=False)
    kind("MlpPolicy", venv, seed=1, **small(n_steps=20)).learn(40).save(tmp_path / "model.zip")
    with pytest.warns(
        UserWarning, match=r"if it normalised observations.*vecnormalize=False.*norm_obs=False.*silences"
    ):
        actor = load_actor(tmp_path / "model.zip")
    assert actor.normaliser is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_actor(tmp_path / "model.zip", vecnormalize=False).normaliser is None
        assert load_actor(tmp_path / "model.zip", normaliser=False).normaliser is None
        venv.save(str(tmp_path / "vecnormalize.pkl"))
        assert load_actor(tmp_path / "model.zip").normaliser is None


def test_the_command_line_can_say_that_there_are_no_statistics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(PPO, "Pendulum-v1", True, n_steps=20).save(tmp_path / "model.zip")
    assert main(["inspect", str(tmp_path / "model.zip")]) == 0
    assert "note:" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "model.zip"), "--vecnormalize", "none"]) == 0
    out = capsys.readouterr().out
    assert "note:" not in out
    assert "--vecnormalize none" in out  # of the command that it proposes


@pytest.mark.parametrize("name", ["vec_norm.pkl", "stats.pkl", "model_vecnormalize_last.pkl"])
def test_pickles_of_other_names_beside_a_zip_are_named_where_statistics_are_missing(tmp_path: Path, name: str) -> None:
    model = trained(PPO, "Pendulum-v1", True, n_steps=20)
    model.save(tmp_path / "model.zip")
    model.get_env().save(str(tmp_path / name))
    with pytest.warns(UserWarning, match=rf"beside it lies {name}"):
        load_actor(tmp_path / "model.zip")
    assert load_actor(tmp_path / "model.zip", vecnormalize=tmp_path / name).normaliser is not None


def empty(form: str, folder: Path) -> Any:
    """Statistics that nothing has been observed for."""
    single = NormalizeObservation(gym.make("Pendulum-v1"))
    venv = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]))
    if form == "pickle":
        venv.save(str(folder / "vecnormalize.pkl"))
        return folder / "vecnormalize.pkl"
    return {"gymnasium": single, "its statistics": single.obs_rms, "VecNormalize": venv}[form]


@pytest.mark.parametrize("form", ["gymnasium", "its statistics", "VecNormalize", "pickle"])
def test_statistics_that_have_seen_nothing_are_told(form: str, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    with pytest.warns(UserWarning, match="have seen no observation.*pass those of the training"):
        load_actor(net, normaliser=empty(form, tmp_path))


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_number_for_all_entries_is_no_statistic(shape: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    says = "one for every entry" if shape == () else r"3 inputs, .* \(1,\), of the shape that .*normaliser gives"
    with pytest.raises(SourceError, match=says):
        load_actor(net, normaliser=(np.zeros(shape), np.ones(shape)))


def test_an_uncertain_warning_says_that_it_is_uncertain(tmp_path: Path) -> None:
    model = trained(DQN, "CartPole-v1", False, **OFF_POLICY)
    model._last_obs = np.array([[1.3, -0.4, 0.2, 1.9]], np.float32)
    model._last_original_obs = np.array([[0.02, 0.01, 0.03, -0.02]], np.float32)
    model.save(tmp_path / "model.zip")
    with pytest.warns(UserWarning, match="may have been trained in VecNormalize.*if so, no observation statistics"):
        load_actor(tmp_path / "model.zip")


@pytest.mark.parametrize("form", ["pair", "lists", "tensors"])
def test_statistics_with_a_batch_axis_of_one_are_those_of_one_observation(form: str) -> None:
    mean, variance = np.array([[1.0, 2, 3, 4, 5]]), np.array([[1.0, 4, 9, 0.25, 2]])
    given: Any = {"pair": (mean, variance), "lists": (mean.tolist(), variance.tolist())}.get(form)
    given = given or (torch.tensor(mean), torch.tensor(variance))
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        wanted = net(torch.tensor((rows() - mean) / np.sqrt(variance + 1e-8), dtype=torch.float32)).numpy()
    for shape in (None, (5,)):
        actor = load_actor(net, normaliser=given, observation_shape=shape)
        assert actor.observation_shape == (5,)
        assert np.abs(actor.act(rows()) - wanted).max() <= 1e-5
