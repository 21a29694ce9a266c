"""Stable-Baselines3's CnnPolicy: the actor decides as `model.predict`, from the live algorithm and its zip."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor
from tests.pixels import images
from tests.test_sources_sb3 import Arm, spread

BYTES = spaces.Box(0, 255, (36, 40, 3), np.uint8)
FLOATS = spaces.Box(-1, 1, (3, 36, 40))


def small(**options: Any) -> dict[str, Any]:
    """Fresh, since the library writes into it."""
    return {"net_arch": [12], "features_extractor_kwargs": {"features_dim": 16}} | options


ALGORITHMS: dict[str, Any] = {
    "ppo": lambda: PPO("CnnPolicy", Arm(observations=BYTES), policy_kwargs=small()),
    "ppo-linear": lambda: PPO("CnnPolicy", Arm(observations=BYTES), policy_kwargs=small(net_arch=[])),
    "ppo-separate": lambda: PPO("CnnPolicy", Arm(observations=BYTES),
                                policy_kwargs=small(share_features_extractor=False)),
    "ppo-named": lambda: PPO("MlpPolicy", Arm(observations=BYTES),
                             policy_kwargs=small(features_extractor_class=NatureCNN)),
    "ppo-mlp": lambda: PPO("MlpPolicy", Arm(observations=BYTES), policy_kwargs={"net_arch": [8]}),
    "a2c": lambda: A2C("CnnPolicy", Arm(observations=BYTES), policy_kwargs=small()),
    "td3": lambda: TD3("CnnPolicy", Arm(observations=BYTES), policy_kwargs=small(), buffer_size=1),
    "ddpg": lambda: DDPG("CnnPolicy", Arm(observations=BYTES), policy_kwargs=small(), buffer_size=1),
    "sac": lambda: SAC("CnnPolicy", Arm(observations=BYTES), policy_kwargs=small(), buffer_size=1),
    "sac-sde": lambda: SAC("CnnPolicy", Arm(observations=BYTES), policy_kwargs=small(), buffer_size=1, use_sde=True),
    "sac-floats": lambda: SAC("CnnPolicy", Arm(observations=FLOATS), buffer_size=1,
                              policy_kwargs=small(normalize_images=False)),
    "sac-bytes-as-they-are": lambda: SAC("CnnPolicy", Arm(observations=BYTES), buffer_size=1,
                                         policy_kwargs=small(normalize_images=False)),
    "dqn": lambda: DQN("CnnPolicy", Arm(None, observations=BYTES), policy_kwargs=small(), buffer_size=1),
}  # fmt: skip


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_cnn_policy_and_its_zip_act_as_the_model_predicts(name: str, tmp_path: Path) -> None:
    model = ALGORITHMS[name]()
    with torch.no_grad():
        for parameter in spread(model).policy.parameters():
            parameter.mul_(0.2)
    model.save(tmp_path / "saved.zip")
    live, saved = load_actor(model), load_actor(tmp_path / "saved.zip")
    assert live.observation_shape == (3, 36, 40)
    obs: np.ndarray = images(50, (3, 36, 40))
    if name == "sac-floats":
        obs = (obs / 128 - 1).astype(np.float32)
    predicted, _ = model.predict(obs, deterministic=True)
    exactness = 1e-4 if name == "sac-bytes-as-they-are" else 1e-5  # bytes up to 255 go in, and sums grow as large
    assert np.abs(live.act(obs) - predicted).max() <= exactness * (1 + np.abs(predicted).max())
    assert np.array_equal(live.act(obs), saved.act(obs))
    assert len(np.unique(predicted, axis=0)) > 1
    assert (live.normaliser is None) == ("floats" in name or "as-they-are" in name)
    with pytest.raises(ValueError, match="channel-first"):
        saved.act(np.zeros((36, 40, 3), np.uint8))


class OwnCNN(NatureCNN):
    """A user's subclass, whose forward could be anything."""


def test_an_extractor_of_the_users_own_is_refused_live_and_saved(tmp_path: Path) -> None:
    model = PPO("CnnPolicy", Arm(observations=BYTES), policy_kwargs={"features_extractor_class": OwnCNN})
    model.save(tmp_path / "saved.zip")
    for source in (model, tmp_path / "saved.zip"):
        with pytest.raises(UnsupportedLayerError, match=r"OwnCNN.*only NatureCNN.*torch module"):
            load_actor(source)


def test_an_observation_space_of_another_order_than_the_weights_is_one_clear_error() -> None:
    model = PPO("CnnPolicy", VecTransposeImage(DummyVecEnv([lambda: Arm(observations=BYTES)])), policy_kwargs=small())
    model.policy.observation_space = BYTES
    with pytest.raises(SourceError, match=r"takes images of 3 channels, but gets \(36, 40, 3\); .*channel-first"):
        load_actor(model)
