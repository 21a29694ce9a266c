"""Thresholds from recorded observations against brute force: all activations in memory, plain NumPy (methods.md §3)."""

import warnings
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikingPolicy, convert
from snn_policy.actor import Actor
from snn_policy.ann.activations import quantised
from snn_policy.ann.layers import Linear
from snn_policy.calibration.thresholds import CANDIDATES, recorded_thresholds
from snn_policy.exported import path
from tests.actors import make_head, random_actor, walk

ROWS = 5000  # more than one chunk
OBSERVATIONS = walk(ROWS)
ACTOR = random_actor()
HIDDEN = ACTOR.activations(OBSERVATIONS)[0][1:]


def test_max_is_the_largest_activation() -> None:
    for theta, h in zip(recorded_thresholds(ACTOR, OBSERVATIONS, "max", 8), HIDDEN, strict=True):
        assert theta.dtype == np.float32
        assert np.array_equal(theta, h.max(axis=0))


@pytest.mark.parametrize("percentile", [50, 90, 99, 99.9, 100])
def test_a_percentile_is_exact_to_a_histogram_bin(percentile: float) -> None:
    found = recorded_thresholds(ACTOR, OBSERVATIONS, f"percentile:{percentile}", 8)
    for theta, h in zip(found, HIDDEN, strict=True):
        exact = np.sort(h, axis=0)[round(ROWS * percentile / 100) - 1]
        assert (theta >= exact * (1 - 1e-6)).all()
        assert (theta <= exact + 1.001 * h.max(axis=0) / 4096).all()


@pytest.mark.parametrize("timesteps", [1, 4, 8, 16])
def test_mse_is_the_candidate_of_least_rounding_error(timesteps: int) -> None:
    for theta, h in zip(recorded_thresholds(ACTOR, OBSERVATIONS, "mse", timesteps), HIDDEN, strict=True):
        largest = h.max(axis=0).astype(np.float64)
        assert ((theta >= largest * (0.2 - 1e-6)) & (theta <= largest * (1 + 1e-6))).all()

        def error(candidate: Any, h: Any = h) -> Any:
            step = np.where(candidate > 0, candidate, 1) / timesteps
            levels = np.clip(np.floor(h / step + 0.5), 0, timesteps)
            return ((levels * step - h.astype(np.float64)) ** 2).mean(axis=0)

        best = np.min([error(largest * share) for share in np.linspace(0.2, 1, 33)], axis=0)
        active = largest > 0
        assert np.allclose(error(theta)[active], best[active], rtol=1e-3)


def test_there_are_33_candidates_from_a_fifth_to_the_maximum() -> None:
    assert CANDIDATES.shape == (33,)
    assert CANDIDATES[[0, -1]].tolist() == [np.float32(0.2), 1.0]


def test_rounding_goes_to_the_nearest_level_and_saturates() -> None:
    h, theta = np.array([[0.0, 0.12, 0.13, 0.6, 1.0, 9.0, -1.0]], np.float32), np.ones(7, np.float32)
    assert quantised(h, theta, 4)[0].tolist() == [0, 0, 0.25, 0.5, 1, 1, 0]


@pytest.mark.parametrize("rule", ["max", "percentile:99", "mse"])
def test_a_neuron_that_was_never_active_is_dead(rule: str) -> None:
    first = Linear(np.array([[1.0], [-1.0], [0.0]]), np.array([0.0, -1.0, 0.0]), ACTOR.layers[0].activation)  # pyright: ignore
    actor = Actor((first, Linear(np.ones((1, 3)), np.zeros(1))), make_head("clip", 1), (1,))  # pyright: ignore
    (theta,) = recorded_thresholds(actor, np.linspace(0.1, 1, 50, dtype=np.float32)[:, None], rule, 4)
    assert theta[0] > 0.5
    assert theta[1:].tolist() == [0, 0]


@pytest.mark.parametrize("rule", ["max", "percentile:99", "mse"])
def test_one_observation_is_enough(rule: str) -> None:
    for theta in recorded_thresholds(ACTOR, OBSERVATIONS[:1], rule, 4):
        assert np.isfinite(theta).all()
        assert (theta >= 0).all()


@pytest.mark.parametrize("neuron", [{"neuron": "if"}, {"neuron": "snm"}, {"neuron": "mt", "coding": "differential"}])
@pytest.mark.parametrize(("rows", "warns"), [(50, True), (200, True), (499, True), (500, False), (2000, False)])
def test_thresholds_from_less_than_some_episodes_are_doubted(neuron: dict[str, Any], rows: int, warns: bool) -> None:
    actor = SpikingPolicy.load(path("td3-Pendulum-v1")).network.actor
    observations = np.random.default_rng(0).uniform(-1, 1, (rows, 3)).astype(np.float32)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        convert(actor, observations, **neuron)
    found = [str(warning.message) for warning in told if "cut off there" in str(warning.message)]
    assert len(found) == warns
    assert all(f"only {rows} different observations" in text and "actor.collect(env" in text for text in found)


def test_sigma_delta_neurons_and_trained_thresholds_do_not_depend_on_a_few_rows() -> None:
    for name, neuron in (("td3-Pendulum-v1", "sigma-delta"), ("qcfs-Hopper-v5", "if")):
        actor = SpikingPolicy.load(path(name)).network.actor
        observations = np.random.default_rng(0).normal(0, 1, (100, *actor.observation_shape)).astype(np.float32)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            convert(actor, observations, neuron=neuron)
        assert not [warning for warning in told if "cut off there" in str(warning.message)]
