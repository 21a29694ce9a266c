"""A live Stable-Baselines3 object is asked: what is read agrees with its own `predict`, or is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TQC, TRPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor
from snn_policy.sources.sb3_agreement import random_observations
from tests.test_sources_sb3 import Arm


def made(kind: Any, bounds: Any = (-3.0, -0.5), activation: Any = None, **options: Any) -> Any:
    net: dict[str, Any] = {"net_arch": [16, 12]} | ({} if activation is None else {"activation_fn": activation})
    env = options.pop("env", None) or (Arm(None) if bounds is None else Arm())
    model = kind("MlpPolicy", env, policy_kwargs=net, device="cpu", **options)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    return model


def replaced(model: Any, path: str, module: nn.Module) -> Any:
    parent, _, index = path.rpartition(".")
    model.policy.get_submodule(parent)[int(index)] = module
    return model


def slope(model: Any, path: str, **values: float) -> Any:
    for name, value in values.items():
        setattr(model.policy.get_submodule(path), name, value)
    return model


def hooked(model: Any, path: str, before: bool = False) -> Any:
    layer = model.policy.get_submodule(path)
    if before:
        layer.register_forward_pre_hook(lambda _, given: (given[0] * 1.02,))
    else:
        layer.register_forward_hook(lambda _, given, output: output * 1.02)
    return model


def patched(model: Any, owner: Callable[[Any], Any], name: str, change: Callable[[Any], Any]) -> Any:
    own = getattr(owner(model), name)
    setattr(owner(model), name, lambda *args, **options: change(own(*args, **options)))
    return model


L, ELU = nn.LeakyReLU, nn.ELU
CHANGED: dict[str, tuple[Callable[[], Any], str]] = {
    "ppo-relu": (lambda: replaced(made(PPO), "mlp_extractor.policy_net.1", nn.ReLU()), r"policy_net\.1 is ReLU"),
    "a2c-softsign": (
        lambda: replaced(made(A2C), "mlp_extractor.policy_net.3", nn.Softsign()),
        r"policy_net\.3 is Softsign\(\), not Tanh\(\)",
    ),
    "ppo-discrete": (
        lambda: replaced(made(PPO, None), "mlp_extractor.policy_net.1", nn.Hardtanh()),
        r"policy_net\.1 is Hardtanh",
    ),
    "sac-leaky": (lambda: replaced(made(SAC), "actor.latent_pi.1", L(0.01)), r"latent_pi\.1 is LeakyReLU"),
    "tqc-gelu": (lambda: replaced(made(TQC), "actor.latent_pi.3", nn.GELU()), r"latent_pi\.3 is GELU"),
    "td3-tanh": (lambda: replaced(made(TD3), "actor.mu.1", nn.Tanh()), r"mu\.1 is Tanh\(\), not ReLU"),
    "td3-last": (lambda: replaced(made(TD3), "actor.mu.5", nn.Hardtanh()), r"mu\.5 is Hardtanh"),
    "dqn-tanh": (lambda: replaced(made(DQN, None), "q_net.q_net.1", nn.Tanh()), r"q_net\.1 is Tanh"),
    "ppo-slope": (
        lambda: slope(made(PPO, activation=L), "mlp_extractor.policy_net.1", negative_slope=0.02),
        r"negative_slope=0\.02\), not LeakyReLU\(negative_slope=0\.01\)",
    ),
    "ddpg-alpha": (lambda: slope(made(DDPG, activation=ELU), "actor.mu.1", alpha=0.95), r"ELU\(alpha=0\.95\)"),
    "sac-slope": (lambda: slope(made(SAC, activation=L), "actor.latent_pi.1", negative_slope=0.012), "0.012"),
    "trpo-hook": (lambda: hooked(made(TRPO), "action_net"), "hooks on action_net"),
    "sac-hook": (lambda: hooked(made(SAC), "actor.latent_pi.0"), r"hooks on actor\.latent_pi\.0"),
    "a2c-pre-hook": (lambda: hooked(made(A2C), "features_extractor", before=True), "hooks on features_extractor"),
    "dqn-pre-hook": (lambda: hooked(made(DQN, None), "q_net.q_net.2", before=True), r"hooks on q_net\.q_net\.2"),
    "ppo-forward": (
        lambda: patched(made(PPO), lambda model: model.policy.action_net, "forward", lambda y: y + 0.1),
        "a forward of its own in action_net",
    ),
    "ppo-predict": (
        lambda: patched(made(PPO), lambda model: model.policy, "predict", lambda y: (y[0] * 0.9, y[1])),
        "a predict of its own",
    ),
    "td3-algorithm-predict": (
        lambda: patched(made(TD3), lambda model: model, "predict", lambda y: (-y[0], y[1])),
        "predict of its own",
    ),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_change_that_the_weights_do_not_show_is_refused_and_named(name: str) -> None:
    make, message = CHANGED[name]
    with pytest.raises(UnsupportedLayerError, match=f"its predict differs.*{message}") as caught:
        load_actor(make())
    assert "\n" not in str(caught.value)


def test_a_change_is_seen_where_actions_are_clipped_and_where_one_choice_always_wins() -> None:
    tight = made(PPO, env=Arm([-1e-4] * 2, [1e-4] * 2), activation=L)
    with pytest.raises(UnsupportedLayerError, match="differs"):
        load_actor(slope(tight, "mlp_extractor.policy_net.1", negative_slope=0.02))
    biased = made(DQN, None)
    with torch.no_grad():
        biased.q_net.q_net[4].bias[1] = 1e3
    load_actor(biased)
    with pytest.raises(UnsupportedLayerError, match="differs"):
        load_actor(replaced(biased, "q_net.q_net.1", nn.Tanh()))


@pytest.mark.parametrize("kind", [PPO, SAC, TD3])
def test_a_change_is_seen_in_a_model_that_sees_normalised_observations(kind: Any) -> None:
    venv = VecNormalize(DummyVecEnv([lambda: Arm(observations=spaces.Box(-1e-3, 1e-3, (5,)))]))
    venv.obs_rms.var[:] = 1e-8  # pyright: ignore
    model = made(kind, env=venv)
    assert load_actor(model).normaliser is not None
    path = {PPO: "mlp_extractor.policy_net.1", SAC: "actor.latent_pi.1", TD3: "actor.mu.1"}[kind]
    with pytest.raises(UnsupportedLayerError, match="differs"):
        load_actor(replaced(model, path, nn.Softsign()))


@pytest.mark.parametrize("training", [True, False])
def test_a_model_stays_in_its_mode_and_its_weights_as_they_were(training: bool) -> None:
    model = made(SAC)
    model.policy.train(training)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    load_actor(model)
    assert {module.training for module in model.policy.modules()} == {training}
    assert all(torch.equal(before[key], value) for key, value in model.policy.state_dict().items())


def test_a_predict_that_fails_is_one_clear_error() -> None:
    model = patched(made(PPO), lambda model: model.policy, "predict", lambda y: 1 / 0)
    with pytest.raises(SourceError, match=r"its predict fails .* shape \(1024, 5\) \(division by zero\)"):
        load_actor(model)


@pytest.mark.parametrize(
    ("space", "low", "high"),
    [
        (spaces.Box(-np.inf, np.inf, (7,)), -60, 60),
        (spaces.Box(np.array([-1e-3, 5], np.float32), np.array([1e-3, 900], np.float32)), 0, 900),
        (spaces.Box(np.array([-3.4e38, 0], np.float32), np.array([3.4e38, np.inf], np.float32)), -60, 60),
        (spaces.Box(0, 255, (3, 8, 8), np.uint8), 0, 255),
        (spaces.Box(-5, 5, (2,), np.int64), -5, 5),
    ],
)
def test_random_observations_lie_in_their_space_and_reach_far(space: spaces.Box, low: float, high: float) -> None:
    drawn = random_observations(space, 400)
    assert drawn.dtype == space.dtype
    assert all(space.contains(row) for row in drawn)
    spread = np.ptp(drawn.astype(np.float64), axis=0)
    bounded = (space.high - space.low.astype(np.float64))[np.abs(space.high) < 1e6]
    assert (spread[np.abs(space.high) < 1e6] >= 0.9 * bounded).all()
    assert (spread[np.abs(space.high) >= 1e6] >= 10).all()
    assert low <= drawn.min() < drawn.max() <= high or space.shape == (2,)
