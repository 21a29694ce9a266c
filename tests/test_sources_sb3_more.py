"""Further algorithms of Stable-Baselines3 and sb3-contrib: live ones and their zips act as `predict` does."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO

from snn_policy.sources import load_actor

BOX = spaces.Box(np.array([-1.0, -2.0, 0.0], np.float32), np.array([1.0, 2.0, 5.0], np.float32))
SEVERAL = spaces.MultiDiscrete([3, 2, 4])


class Toy(gym.Env):
    """Random observations, any actions."""

    def __init__(self, actions: spaces.Space = BOX) -> None:
        self.observation_space, self.action_space = spaces.Box(-np.inf, np.inf, (6,), np.float32), actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.0, False, False, {}

    def action_masks(self) -> Any:
        return np.ones(4, bool)


def disturbed(model: Any) -> Any:
    """Random weights and statistics: a fresh linear ARS policy is zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += torch.randn_like(parameter) * 0.3
        for name, buffer in model.policy.named_buffers():
            if "ra_" in name:
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model


NET: dict[str, Any] = {"net_arch": [16, 12]}
MODELS: dict[str, Callable[[], Any]] = {
    "ars linear": lambda: ARS("LinearPolicy", Toy()),
    "ars linear, squashed": lambda: ARS(
        "LinearPolicy", Toy(), policy_kwargs={"squash_output": True, "with_bias": True}
    ),
    "ars": lambda: ARS("MlpPolicy", Toy(), policy_kwargs=NET | {"activation_fn": torch.nn.Tanh}),
    "ars, clipped": lambda: ARS("MlpPolicy", Toy(), policy_kwargs=NET | {"squash_output": False, "with_bias": False}),
    "ars, discrete": lambda: ARS("MlpPolicy", Toy(spaces.Discrete(4)), policy_kwargs=dict(NET)),
    "qr-dqn": lambda: QRDQN("MlpPolicy", Toy(spaces.Discrete(4)), policy_kwargs=NET | {"n_quantiles": 7}),
    "crossq": lambda: CrossQ("MlpPolicy", Toy(), policy_kwargs=dict(NET)),
    "crossq, epsilon": lambda: CrossQ("MlpPolicy", Toy(), policy_kwargs=NET | {"batch_norm_eps": 0.1}),
    "crossq, plain": lambda: CrossQ("MlpPolicy", Toy(), policy_kwargs=NET | {"batch_norm": False}),
    "ppo, several": lambda: PPO("MlpPolicy", Toy(SEVERAL), policy_kwargs=dict(NET)),
    "a2c, several": lambda: A2C("MlpPolicy", Toy(SEVERAL), policy_kwargs=dict(NET)),
    "maskable": lambda: MaskablePPO("MlpPolicy", Toy(spaces.Discrete(4)), policy_kwargs=dict(NET)),
    "maskable, several": lambda: MaskablePPO("MlpPolicy", Toy(spaces.MultiDiscrete([2, 2])), policy_kwargs=dict(NET)),
}


@pytest.mark.parametrize("name", MODELS)
def test_live_algorithms_and_their_zips_act_as_predict_does(tmp_path: Path, name: str) -> None:
    model = disturbed(MODELS[name]())
    model.save(tmp_path / "model")
    obs = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32)
    own = np.asarray(model.predict(obs, deterministic=True)[0])
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        actors = [load_actor(model), load_actor(tmp_path / "model.zip")]
    for actor in actors:
        actions, _ = actor.step(obs, ())
        assert actions.shape == own.shape
        if actor.discrete:
            assert (actions == own).all(axis=None if actions.ndim == 1 else 1).mean() > 0.99
        else:
            assert np.abs(actions - own).max() <= 1e-5 * np.abs(own).max()
            assert np.ptp(own, axis=0).min() > 0.1


def test_masks_are_told_aloud_not_to_be_kept(tmp_path: Path) -> None:
    model = MaskablePPO("MlpPolicy", Toy(spaces.Discrete(4)), policy_kwargs=dict(NET))
    model.save(tmp_path / "model.zip")
    for source in (model, tmp_path / "model.zip"):
        with pytest.warns(UserWarning, match="masks are no part of the actor"):
            load_actor(source)


def test_a_recurrent_algorithm_is_read_live_and_saved(tmp_path: Path) -> None:
    model = RecurrentPPO("MlpLstmPolicy", Toy(), policy_kwargs=dict(NET))
    model.save(tmp_path / "model.zip")
    for source in (model, tmp_path / "model.zip"):
        assert load_actor(source).recurrent
