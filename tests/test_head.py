"""Half-ranges and action noise have one home, the head; who collects, measures and calibrates asks it."""

import re
from pathlib import Path

import numpy as np
import pytest

from snn_policy import Actor
from snn_policy.ann.layers import Head, Linear
from snn_policy.calibration.action_units import error_unit, unit_name
from snn_policy.offline.collect import rollout
from snn_policy.wrappers.bookkeeping import action_error

ROOT = Path(__file__).resolve().parents[1]
PLACES = [*(ROOT / "snn_policy").rglob("*.py"), *(ROOT / "wrappers").glob("*.py"), *(ROOT / "examples").glob("*.py")]
BOUNDS = {
    "finite": ([-2.0, 0.1], [2.0, 0.7], [2.0, 0.3]),
    "half infinite": ([-np.inf, 0.0], [1.0, 4.0], [1.0, 2.0]),
    "infinite": ([-np.inf, -np.inf], [np.inf, np.inf], [1.0, 1.0]),
}


def linear_actor(head: Head) -> Actor:
    """y = obs."""
    return Actor((Linear(np.eye(head.outputs, dtype=np.float32), np.zeros(head.outputs, np.float32)),), head,
                 (head.outputs,))  # fmt: skip


@pytest.mark.parametrize("name", BOUNDS)
def test_a_half_range_is_half_the_distance_and_one_where_that_is_infinite(name: str):
    low, high, expected = BOUNDS[name]
    found = Head.clip(low, high).half_range()
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_stands_for_infinity_can_be_chosen():
    assert Head.clip([-np.inf, 0.0], [1.0, 4.0]).half_range(infinite=np.inf).tolist() == [np.inf, 2.0]


def test_float32_bounds_farther_apart_than_float32_reaches_count_as_infinite_for_the_noise_only():
    head = Head.clip([-3e38], [3e38])
    assert head.half_range(dtype=np.float32).tolist() == [1.0]
    assert head.half_range()[0] == pytest.approx(3e38, rel=1e-6)


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("shape", [(2,), (5, 2)])
def test_noise_is_gaussian_in_half_ranges_and_clipped_to_the_bit(name: str, shape: tuple[int, ...]):
    low, high, half_range = BOUNDS[name]
    head, action = Head.clip(low, high), np.full(shape, 0.5, np.float32)
    drawn = np.random.default_rng(4).normal(size=shape)
    found = head.disturbed(action, 0.3, np.random.default_rng(4))
    spread = np.float32(0.3) * head.half_range(dtype=np.float32)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.clip(action + drawn * spread, head.low, head.high).astype(np.float32))
    np.testing.assert_allclose(found, np.clip(action + 0.3 * drawn * half_range, low, high), rtol=1e-5)


@pytest.mark.parametrize(("noise", "changed"), [(0.0, 0.0), (0.3, 0.3 * 3 / 4), (1.0, 3 / 4)])
def test_a_discrete_action_is_replaced_by_any_choice_with_that_probability(noise: float, changed: float):
    head, rng = Head.argmax(4), np.random.default_rng(0)
    found = [head.disturbed(np.int64(2), noise, rng) for _ in range(4000)]  # pyright: ignore[reportArgumentType]
    assert set(map(int, found)) <= {0, 1, 2, 3}
    assert np.mean(np.array(found) != 2) == pytest.approx(changed, abs=0.03)


def test_several_discrete_actions_are_replaced_together():
    head, rng = Head.argmax([2, 5]), np.random.default_rng(0)
    found = np.array([head.disturbed(np.array([0, 0]), 1.0, rng) for _ in range(400)])
    assert found.min(axis=0).tolist() == [0, 0]
    assert found.max(axis=0).tolist() == [1, 4]


def test_collected_episodes_and_datasets_take_their_noise_from_the_head(monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(Head, "disturbed", lambda self, action, noise, rng: asked.append(noise) or action)
    head = Head.bounded([-2.0], [2.0])
    actor = Actor((Linear(np.ones((1, 3), np.float32), np.zeros(1, np.float32)),), head, (3,), env_id="Pendulum-v1")
    actor.collect("Pendulum-v1", steps=250, noise=0.25)
    assert asked == [0.25] * 49  # of the second episode; the last observation is not acted upon
    asked.clear()
    rollout(actor, "Pendulum-v1", steps=30, noise=0.5)
    assert asked == [0.5] * 3


def test_errors_of_wrappers_and_of_calibration_are_measured_in_the_heads_half_ranges():
    actor = linear_actor(Head.clip([-2.0, -np.inf], [2.0, np.inf]))
    y = np.array([[0.0, 3.0], [0.0, -3.0]], np.float32)
    assert action_error(actor, y, np.add(y, [2.0, 1.0])).tolist() == [1.0, 1.0]
    assert error_unit(actor, y).tolist() == [2.0, 3.0]
    assert unit_name(actor) == "half-ranges or, where unbounded, recorded spreads"


def test_nobody_else_takes_half_the_distance_of_an_actors_bounds():
    spelled = re.compile(r"\.high\b.{0,30} - (self|actor|head|policy)\b.{0,12}\.low\b")
    found = [str(place.relative_to(ROOT)) for place in PLACES if spelled.search(place.read_text())]
    assert found == ["snn_policy/ann/layers.py"]
