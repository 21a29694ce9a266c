"""Action bounds are exact, and every action lies within the environment's own space."""

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, PPO, SAC, TD3
from torch import nn

from snn_policy.ann.layers import Head, inner_bounds
from snn_policy.errors import SourceError
from snn_policy.sources import load_actor
from tests.test_sources_sb3 import Arm, spread

LOW, HIGH = (-0.5236, -0.0873, 0.0), (0.5236, 0.0873, 0.004)
PRINTED: dict[str, dict[str, Any]] = {
    "three digits": {"precision": 3, "suppress": True},
    "two digits": {"precision": 2, "suppress": True},
    "none": {"precision": 0},
    "formatter": {"formatter": {"float_kind": "{:.1f}".format}},
    "exponents": {"formatter": {"float_kind": "{:+.1e}".format}},
    "units": {"formatter": {"float_kind": "{:.2f}rad".format}},
    "ellipsis": {"threshold": 1, "edgeitems": 1},
}


def small() -> dict[str, Any]:
    return {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"}


def observations() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((500, 5)).astype(np.float32)


@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("kind", [PPO, SAC])
def test_bounds_do_not_depend_on_how_numpy_printed_them(tmp_path: Path, name: str, kind: Any) -> None:
    model = spread(kind("MlpPolicy", Arm(LOW, HIGH), **small()))
    with np.printoptions(**PRINTED[name]):
        model.save(tmp_path / "model.zip")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actor = load_actor(tmp_path / "model.zip")
    assert np.array_equal(actor.low, np.array(LOW, np.float32))
    assert np.array_equal(actor.high, np.array(HIGH, np.float32))
    predicted, _ = model.predict(observations(), deterministic=True)
    assert np.abs(actor.act(observations()) - predicted).max() <= 1e-6


def printed_only(tmp_path: Path, low: Any, high: Any, options: dict[str, Any], **parts: Any) -> Path:
    """A zip whose action space has its printed form alone."""
    model = PPO("MlpPolicy", Arm(low, high), **small())
    with np.printoptions(**options):
        model.save(tmp_path / "whole.zip")
    with zipfile.ZipFile(tmp_path / "whole.zip") as archive:
        members = {name: archive.read(name) for name in ("data", "policy.pth")}
    data = json.loads(members["data"])
    del data["action_space"][":serialized:"]
    data["action_space"].update(parts)
    with zipfile.ZipFile(tmp_path / "printed.zip", "w") as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", members["policy.pth"])
    return tmp_path / "printed.zip"


@pytest.mark.parametrize("name", PRINTED)
def test_printed_bounds_that_were_shortened_are_refused_and_may_be_given(tmp_path: Path, name: str) -> None:
    path = printed_only(tmp_path, LOW, HIGH, PRINTED[name])
    with pytest.raises(SourceError, match=r"pass low= and high=|could not convert"):
        load_actor(path)
    if name != "units":
        assert np.array_equal(load_actor(path, low=LOW, high=HIGH).high, inner_bounds(LOW, HIGH)[1])


@pytest.mark.parametrize(
    ("low", "high"),
    [((-1, -1, -1), (1, 1, 1)), ((-0.5, 0, -2.25), (0.5, 3, 8)), ((-16, -8, -4), (1.5, 2.5, 3.5))],
)
def test_printed_bounds_that_are_surely_whole_are_taken_aloud(tmp_path: Path, low: Any, high: Any) -> None:
    path = printed_only(tmp_path, low, high, {})
    with pytest.warns(UserWarning, match="the action bounds come from its printed form"):
        actor = load_actor(path)
    assert np.array_equal(actor.low, np.array(low, np.float32))
    assert np.array_equal(actor.high, np.array(high, np.float32))


def test_a_single_printed_number_is_whole_whatever_its_digits(tmp_path: Path) -> None:
    path = printed_only(tmp_path, [-0.4] * 3, [0.4] * 3, PRINTED["none"], low_repr="-0.4", high_repr="0.4")
    with pytest.warns(UserWarning, match="printed form"):
        assert load_actor(path).high == pytest.approx([0.4] * 3, abs=1e-7)


@pytest.mark.parametrize("reach", [0.1, 0.3, 2.8973, 1.0, np.pi, 1 / 3, 1e-40, 1e30])
def test_bounds_round_inwards(reach: float) -> None:
    low, high = inner_bounds([-reach, reach / 7], [reach, reach])
    assert low.dtype == high.dtype == np.float32
    assert (low.astype(np.float64) >= [-reach, reach / 7]).all()
    assert (high.astype(np.float64) <= reach).all()
    assert (np.nextafter(high, np.float32(np.inf)).astype(np.float64) > reach).all()  # and no further than they must


def test_bounds_of_float32_and_infinite_ones_stay_as_they_are() -> None:
    exact = np.array([0.1, -0.3, 2.8973, 3.4028235e38], np.float32)
    assert np.array_equal(inner_bounds(exact, exact)[0], exact)
    assert np.array_equal(
        inner_bounds([-np.inf, -1e300], [np.inf, 1e300]), np.array([[-np.inf] * 2, [np.inf] * 2], np.float32)
    )
    assert np.array_equal(inner_bounds(0.1, 0.1), np.array([0.1, 0.1], np.float32))  # no float32 number lies between


HEADS: dict[str, Callable[[Any, Any], Head]] = {
    "clip": Head.clip,
    "bounded": Head.bounded,
    "tanh": lambda low, high: Head.tanh((np.subtract(high, low)) / 2, np.add(high, low) / 2),
}


@pytest.mark.parametrize("name", HEADS)
def test_every_head_keeps_its_actions_within_its_bounds(name: str) -> None:
    rng = np.random.default_rng(0)
    low, high = -rng.uniform(0.01, 3, 200), rng.uniform(0.01, 3, 200)
    head = HEADS[name](low, high)
    y = np.outer([-1e6, -30, 0, 30, 1e6], np.ones(200)).astype(np.float32)
    actions = head(y)
    assert (actions >= head.low).all()
    assert (actions <= head.high).all()
    if name != "tanh":  # whose bounds are its own, in float32
        assert all(spaces.Box(low, high, dtype=np.float64).contains(row) for row in actions)


class Strict(Arm):
    """An arm with bounds in float64."""

    def __init__(self, low: Any, high: Any) -> None:
        super().__init__()
        self.action_space = spaces.Box(np.array(low), np.array(high), dtype=np.float64)


@pytest.mark.parametrize("kind", [PPO, A2C, SAC, TD3, DDPG])
@pytest.mark.parametrize("bounds", [(-0.1, 0.1), (-2.8973, 2.8973), (-0.0698, 3.0718)])
def test_actions_lie_within_an_environment_with_bounds_in_float64(
    tmp_path: Path, kind: Any, bounds: tuple[float, float]
) -> None:
    env = Strict([bounds[0]] * 2, [bounds[1]] * 2)
    model = spread(kind("MlpPolicy", env, **small()))
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(20)
    model.save(tmp_path / "model.zip")
    for actor in (load_actor(model), load_actor(tmp_path / "model.zip")):
        actions = actor.act(observations() * 100)
        assert all(env.action_space.contains(action) for action in actions)
        assert (actions.min(), actions.max()) == (pytest.approx(bounds[0], abs=1e-6), pytest.approx(bounds[1]))


def test_bounds_that_are_given_round_inwards_too() -> None:
    module = nn.Linear(5, 2)
    actor = load_actor(module, low=-0.1, high=[0.3, 0.1])
    actions = actor.act(observations() * 1e6)
    assert all(spaces.Box(np.full(2, -0.1), np.array([0.3, 0.1]), dtype=np.float64).contains(row) for row in actions)


@pytest.mark.parametrize("kind", [PPO, SAC])
@pytest.mark.parametrize(("low", "high"), [(0.1, 0.1), (0.3, 0.3 + 1e-12), (-0.7, -0.7)])
def test_bounds_with_no_float32_number_between_them_are_told(kind: Any, low: float, high: float) -> None:
    env = Arm(LOW, HIGH)
    env.action_space = spaces.Box(np.array([low, -1.0]), np.array([high, 1.0]), dtype=np.float64)
    model = kind("MlpPolicy", env, **small())
    with pytest.warns(UserWarning, match=r"actions \[0\]: no float32 number lies between"):
        actor = load_actor(model)
    assert np.array_equal(actor.act(observations())[:, 0], np.full(500, low, np.float32))


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_squashed_actions_beyond_the_range_of_float32_are_refused(kind: Any) -> None:
    env = Arm(LOW, HIGH)
    env.action_space = spaces.Box(np.array([-1e300, -1.0]), np.array([1e300, 1.0]), dtype=np.float64)
    with np.errstate(all="ignore"), pytest.raises(SourceError, match="beyond the range of float32"):
        load_actor(kind("MlpPolicy", env, **small()))


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        ("a", "b", r"low, high: expected a number or 2 of them, got 'a'"),
        (np.nan, 1, r"low, high: NaN is no bound, got nan; an action without one has ±inf"),
        ([-1, np.nan], [1, 1], r"low, high: NaN is no bound, got \[-1.0, nan\]"),
        ([-1] * 3, [1] * 3, r"low, high: expected a number or 2 of them, got shape \(3,\)"),
    ],
)
def test_bounds_that_are_none_are_named(low: Any, high: Any, says: str) -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(ValueError, match=says):
        load_actor(net, low=low, high=high)
