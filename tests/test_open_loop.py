"""The open loop against straightforward code: neuron by neuron, decision by decision, all images at once."""

from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from snn_policy import Actor, convert
from snn_policy.ann.convolution import Conv2d
from snn_policy.calibration import open_loop, recordings
from snn_policy.spiking.neurons import SigmaDeltaNeurons, sigma_delta_spike
from snn_policy.spiking.settings import SigmaDelta
from tests.actors import dyadic_image_actor, image_walk, random_actor, walk

IMAGES = image_walk(60, seed=2)
POWERS = (2.0 ** np.arange(25)).astype(np.float32)


def told_and_spikes(values: Any, quantum: Any, gamma: Any, digits: int) -> tuple[Any, Any]:
    """(decisions, neurons) what sigma-delta neurons have told after each decision, and their spikes, (neurons,)."""
    memory, spikes, told = np.zeros_like(quantum), np.zeros(len(quantum), int), np.empty_like(values)
    for row, value in enumerate(values):
        kept = gamma * memory
        v, total = value - kept, np.zeros_like(quantum)
        for _ in range(digits):
            s = sigma_delta_spike(v[None], quantum, POWERS)[0]
            v, total, spikes = v - s, total + s, spikes + (s != 0)
        memory = kept + total
        told[row] = memory
    return told, spikes


def convolved(layer: Conv2d, rows: Any) -> Any:
    """weight ∗ x + bias, image by image, as a sum over windows."""
    (vertical, horizontal), (down, right) = layer.padding, layer.stride
    images = np.pad(rows.reshape(-1, *layer.input_shape), ((0, 0), (0, 0), (vertical,) * 2, (horizontal,) * 2))
    windows = sliding_window_view(images, layer.weight.shape[2:], axis=(2, 3))[:, :, ::down, ::right]  # pyright: ignore
    y = np.einsum("nchwij,ocij->nohw", windows, layer.weight)
    return (y + layer.bias[:, None, None]).reshape(len(rows), -1)


def straightforward(actor: Actor, observations: Any, quanta: Any) -> tuple[list[Any], list[float], Any]:
    """Predictors and spikes per stage, and the network's outputs."""
    h = np.asarray(actor.inputs(observations.astype(np.float32)))
    predictors, spikes, digits = [], [], SigmaDelta().digits_of(len(actor.layers))
    offset = h.mean(axis=0, dtype=np.float64).astype(np.float32)
    for stage, (layer, quantum) in enumerate(zip(actor.layers, quanta, strict=True)):
        c = offset if stage == 0 else 0 * quantum
        trials = [told_and_spikes(h - c, quantum, np.full_like(quantum, g), digits[stage])[1] for g in (0, 1)]
        afresh, changes = (trial.reshape(actor.groups[stage]).sum(axis=1) for trial in trials)
        gamma = np.repeat(changes < (0.9 if len(h) >= 100 else 1) * afresh, actor.groups[stage][1]).astype(np.float32)
        told, count = told_and_spikes(h - c, quantum, gamma, digits[stage])
        known = told + c
        z = convolved(layer, known) if isinstance(layer, Conv2d) else known @ layer.weight.T + layer.bias
        h = z if layer.activation is None else layer.activation(z)
        predictors.append(gamma)
        spikes.append(count.sum() / len(h))
    return predictors, spikes, h


def neurons_of(policy: Any) -> SigmaDeltaNeurons:
    assert isinstance(policy.network.neurons, SigmaDeltaNeurons)
    return policy.network.neurons


@pytest.mark.parametrize(("seed", "rows"), [(0, 60), (1, 60), (1, 130)])
def test_a_convolutional_conversion_is_what_straightforward_code_finds(seed: int, rows: int) -> None:
    images = image_walk(rows, seed=2)
    actor = dyadic_image_actor(seed)
    policy = convert(actor, images, tolerance=0.05, alpha=0.0)
    predictors, spikes, y = straightforward(actor, images, neurons_of(policy).quanta)
    assert all(np.array_equal(a, b) for a, b in zip(neurons_of(policy).predictor, predictors, strict=True))
    assert set(np.concatenate(predictors).tolist()) == {0.0, 1.0}
    assert policy.conversion["open_loop_spikes"] == pytest.approx(spikes, rel=1e-3)
    half = (actor.high - actor.low) / 2
    error = np.sqrt(np.mean(((actor.head(y) - actor.act(images)) / half) ** 2))
    assert policy.conversion["open_loop_error"] == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("images", [True, False])
def test_neurons_do_not_depend_on_how_much_is_encoded_at_a_time(images: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    actor, observations = (dyadic_image_actor(), IMAGES) if images else (random_actor(), walk(300))
    expected = convert(actor, observations)
    monkeypatch.setattr(open_loop, "BLOCK_VALUES", 500)
    monkeypatch.setattr(recordings, "MOST_SCRATCH_BYTES", 0)  # files, whose pages are given back
    found = convert(actor, observations)
    assert found.conversion == expected.conversion
    for a, b in zip(neurons_of(found).quanta, neurons_of(expected).quanta, strict=True):
        assert np.array_equal(a, b)
    for a, b in zip(neurons_of(found).predictor, neurons_of(expected).predictor, strict=True):
        assert np.array_equal(a, b)


def test_a_released_scratch_file_keeps_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "MOST_SCRATCH_BYTES", 0)
    values = recordings.scratch(3000, 7)
    expected = np.arange(21_000, dtype=np.float32).reshape(3000, 7)
    for rows in recordings.pieces(values, 1000):
        values[rows] = expected[rows]
    recordings.release(values)
    assert np.array_equal(values, expected)
