"""Stable-Baselines3: the actor decides as `model.predict(deterministic=True)`, from the live algorithm and its zip."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TQC, TRPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor


class Arm(gym.Env):
    """Does nothing, with spaces as given."""

    def __init__(
        self, low: Any = (-3.0, -0.5), high: Any = (1.0, 2.0), observations: spaces.Space | None = None
    ) -> None:
        self.observation_space = observations or spaces.Box(-np.inf, np.inf, (5,))
        self.action_space: Any = spaces.Discrete(3)
        if low is not None:
            self.action_space = spaces.Box(np.array(low, np.float32), np.array(high, np.float32))

    def reset(self, **_: Any) -> tuple[Any, dict]:  # pyright: ignore
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        return self.observation_space.sample(), 0.0, False, False, {}


ALGORITHMS: dict[str, Callable[[], Any]] = {
    "td3": lambda: TD3("MlpPolicy", Arm(), policy_kwargs=_net(), buffer_size=1),
    "ddpg": lambda: DDPG("MlpPolicy", Arm(), policy_kwargs=_net(activation_fn=torch.nn.ELU), buffer_size=1),
    "sac": lambda: SAC("MlpPolicy", Arm(), policy_kwargs=_net(), buffer_size=1),
    "sac-sde": lambda: SAC("MlpPolicy", Arm(), policy_kwargs=_net(), use_sde=True, buffer_size=1),
    "sac-sde-clip": lambda: SAC("MlpPolicy", Arm(), policy_kwargs=_net(clip_mean=0.3), use_sde=True, buffer_size=1),
    "sac-sde-unclipped": lambda: SAC(
        "MlpPolicy", Arm(), policy_kwargs=_net(clip_mean=0.0), use_sde=True, buffer_size=1
    ),
    "tqc": lambda: TQC("MlpPolicy", Arm(), policy_kwargs=_net(activation_fn=torch.nn.SiLU), buffer_size=1),
    "tqc-sde": lambda: TQC("MlpPolicy", Arm(), policy_kwargs=_net(), use_sde=True, buffer_size=1),
    "ppo": lambda: PPO("MlpPolicy", Arm(), policy_kwargs=_net()),
    "ppo-squash": lambda: PPO("MlpPolicy", Arm(), policy_kwargs=_net(squash_output=True), use_sde=True),
    "ppo-sde": lambda: PPO("MlpPolicy", Arm(), policy_kwargs=_net(activation_fn=torch.nn.LeakyReLU), use_sde=True),
    "ppo-discrete": lambda: PPO("MlpPolicy", Arm(None), policy_kwargs=_net()),
    "ppo-linear": lambda: PPO("MlpPolicy", Arm(), policy_kwargs={"net_arch": []}),
    "ppo-image-like": lambda: PPO("MlpPolicy", Arm(observations=spaces.Box(-1, 1, (2, 4))), policy_kwargs=_net()),
    "a2c": lambda: A2C("MlpPolicy", Arm(), policy_kwargs=_net(activation_fn=torch.nn.Sigmoid)),
    "trpo": lambda: TRPO("MlpPolicy", Arm(), policy_kwargs=_net()),
    "dqn": lambda: DQN("MlpPolicy", Arm(None), policy_kwargs=_net(), buffer_size=1),
    "pendulum": lambda: SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=_net(), use_sde=True, buffer_size=1),
    "cartpole": lambda: DQN("MlpPolicy", "CartPole-v1", policy_kwargs=_net(), buffer_size=1),
    "mountain-car": lambda: TD3("MlpPolicy", "MountainCarContinuous-v0", policy_kwargs=_net(), buffer_size=1),
}


def _net(**options: Any) -> dict[str, Any]:
    return {"net_arch": [16, 12], **options}


def spread(model: Any) -> Any:
    """Untrained output layers are almost zero: make the weights large enough to reach clips and bounds."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.6)
    return model


def observations(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1000, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_live_algorithm_and_its_zip_act_as_the_model_predicts(name: str, tmp_path: Path) -> None:
    model = spread(ALGORITHMS[name]())
    model.save(tmp_path / "saved.zip")
    live, saved = load_actor(model), load_actor(tmp_path / "saved.zip")
    obs = observations(live.observation_shape)
    predicted, _ = model.predict(obs, deterministic=True)
    assert np.abs(live.act(obs) - predicted).max() <= 1e-5
    assert np.array_equal(live.act(obs), saved.act(obs))
    assert np.unique(predicted, axis=0).size >= 2
    assert np.array_equal(load_actor(model.policy).act(obs), live.act(obs))
    assert saved.name == "saved"
    assert saved.env_id is None


def test_the_environment_of_a_live_algorithm_is_known() -> None:
    assert load_actor(ALGORITHMS["pendulum"]()).env_id == "Pendulum-v1"
    assert load_actor(ALGORITHMS["td3"]()).env_id is None
    assert load_actor(ALGORITHMS["td3"](), env_id="Arm-v0").env_id == "Arm-v0"


@pytest.mark.parametrize(
    ("name", "algorithm", "environment"),
    [
        ("dqn-CartPole-v1", DQN, "CartPole-v1"),
        ("sac-MountainCarContinuous-v0", SAC, "MountainCarContinuous-v0"),
        ("sac-Pendulum-v1", SAC, "Pendulum-v1"),
        ("ppo-Hopper-v3", PPO, None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_reference_zip_acts_as_its_own_library_predicts(
    reference_dir: Path, name: str, algorithm: Any, environment: str | None
) -> None:
    path = reference_dir / "sb3-zips" / f"{name}.zip"
    env = gym.make(environment) if environment else Arm([-1] * 3, [1] * 3, spaces.Box(-np.inf, np.inf, (11,)))
    schedules = dict.fromkeys(("lr_schedule", "clip_range", "exploration_schedule"), lambda _: 0.0)
    replaced = {"observation_space": env.observation_space, "action_space": env.action_space, "learning_rate": 0.0}
    model = algorithm.load(path, custom_objects=replaced | schedules, device="cpu")
    actor, obs = load_actor(path), observations(env.observation_space.shape or ())
    seen = obs
    if actor.normaliser is not None:
        obs = (obs * 2 * actor.normaliser.scale + actor.normaliser.mean).astype(np.float32)
        seen = np.clip((obs.astype(np.float64) - actor.normaliser.mean) / actor.normaliser.scale, -10, 10)
    predicted, _ = model.predict(seen.astype(np.float32), deterministic=True)
    assert np.abs(actor.act(obs) - predicted).max() <= 1e-5
    assert np.abs(actor.act(obs) - load_actor(reference_dir / name).act(obs)).max() <= 1e-5
    assert (actor.normaliser is not None) == (name == "ppo-Hopper-v3")


@pytest.fixture
def normalised() -> tuple[Any, VecNormalize]:
    """A model on an environment whose observations are normalised, with statistics of their own."""
    venv = VecNormalize(DummyVecEnv([Arm]), clip_obs=1.5)
    model = spread(PPO("MlpPolicy", venv, policy_kwargs=_net()))
    venv.obs_rms.update(np.random.default_rng(1).normal([1, 2, 3, 4, 5], [1, 0.1, 3, 2, 9], (500, 5)))  # pyright: ignore
    return model, venv


def test_observation_statistics_are_found_in_the_algorithm_and_beside_the_zip(
    normalised: tuple[Any, VecNormalize], tmp_path: Path
) -> None:
    model, venv = normalised
    obs = observations((5,)) * 4 + 2
    predicted, _ = model.predict(venv.normalize_obs(obs), deterministic=True)
    assert np.abs(load_actor(model).act(obs) - predicted).max() <= 1e-5
    model.save(tmp_path / "saved.zip")
    assert load_actor(tmp_path / "saved.zip").normaliser is None
    venv.save(str(tmp_path / "other.pkl"))
    for place in ("saved.vecnormalize.pkl", "vecnormalize.pkl", "saved/vecnormalize.pkl"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "other.pkl", tmp_path / place)
        assert np.abs(load_actor(tmp_path / "saved.zip").act(obs) - predicted).max() <= 1e-5
        assert load_actor(tmp_path / "saved.zip", vecnormalize=False).normaliser is None
        (tmp_path / place).unlink()
    for given in (tmp_path / "other.pkl", str(tmp_path / "other.pkl"), venv):
        actor = load_actor(tmp_path / "saved.zip", vecnormalize=given)
        assert np.abs(actor.act(obs) - predicted).max() <= 1e-5
    assert load_actor(model, vecnormalize=False).normaliser is None


def test_statistics_that_leave_observations_alone_give_no_normaliser() -> None:
    venv = VecNormalize(DummyVecEnv([Arm]), norm_obs=False)
    assert load_actor(PPO("MlpPolicy", venv, policy_kwargs=_net())).normaliser is None


def test_statistics_of_other_observations_are_refused(tmp_path: Path) -> None:
    VecNormalize(DummyVecEnv([Arm])).save(str(tmp_path / "statistics.pkl"))
    model = ALGORITHMS["pendulum"]()
    with pytest.raises(SourceError, match=r"\(5,\).* do not fit observations \(3,\)"):
        load_actor(model, vecnormalize=tmp_path / "statistics.pkl")


class OwnPolicy(ActorCriticPolicy):
    """A user's subclass, whose forward could be anything."""


_HARD = {"activation_fn": torch.nn.Hardshrink}
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "discrete": (lambda: PPO("MlpPolicy", Arm(observations=spaces.Discrete(4)), policy_kwargs=_net()), "only Box"),
    "hardshrink": (lambda: PPO("MlpPolicy", Arm(), policy_kwargs=_net(**_HARD)), "Hardshrink"),
    "two-dimensional": (lambda: PPO("MlpPolicy", Arm([[-1, -1]], [[1, 1]]), policy_kwargs=_net()), "one-dimensional"),
    "own": (lambda: PPO(OwnPolicy, Arm(), policy_kwargs=_net()), "torch module"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_has_no_rule_is_refused_live_and_saved(name: str, tmp_path: Path) -> None:
    make, reason = REFUSED[name]
    model = make()
    model.save(tmp_path / "saved.zip")
    for source in (model, tmp_path / "saved.zip"):
        with pytest.raises(UnsupportedLayerError, match=reason) as caught:
            load_actor(source)
        assert caught.value.remedy
        assert "\n" not in str(caught.value)


def test_infinite_bounds_of_a_squashed_policy_must_be_given() -> None:
    model = ALGORITHMS["sac"]()
    model.policy.action_space = spaces.Box(-np.inf, np.inf, (2,))
    with pytest.raises(SourceError, match="pass low= and high="):
        load_actor(model)
    assert load_actor(model, low=[-1, -2], high=1).low == pytest.approx([-1, -2])
