"""Firing thresholds from recorded observations (docs/methods.md §3), one per hidden neuron.

`max`: the largest recorded activation · `percentile:p`: exceeded by 1 − p % of them · `mse`: the θ with the
smallest mean squared error of rounding the activations to T levels of θ/T, among 33 candidates from 0.2 to
1.0 times the maximum. A neuron that was never active gets 0 and never spikes. Activations are never stored:
each rule takes one or two streamed passes, the second over histograms or candidate errors.
"""

import numpy as np

from snn_policy.activations import quantised
from snn_policy.actor import Actor
from snn_policy.protocol import FloatArray
from snn_policy.recordings import chunks

CANDIDATES = np.linspace(0.2, 1.0, 33, dtype=np.float32)
HISTOGRAM_BINS = 4096
Layers = tuple[FloatArray, ...]


def recorded_thresholds(actor: Actor, observations: FloatArray, rule: str, timesteps: int) -> Layers:
    """θ per hidden layer, each (neurons,) float32.

    Args:
        observations: (N, *observation_shape).
        rule: "max", "percentile:99.9" (any p in (0, 100]) or "mse".
        timesteps: T, the number of levels that "mse" rounds to.

    Raises:
        ValueError: an unknown rule.
    """
    name, _, argument = rule.partition(":")
    if name == "percentile":
        try:
            percentile = float(argument)
        except ValueError:
            percentile = float("nan")
        if not 0 < percentile <= 100:
            raise ValueError(f"threshold {rule!r}: expected a percentile in (0, 100], such as 'percentile:99.9'")
        return _percentiles(actor, observations, percentile)
    if rule == "max":
        return _maxima(actor, observations)
    if rule == "mse":
        return _least_rounding_error(actor, observations, timesteps)
    raise ValueError(f"threshold {rule!r}: expected 'max', 'percentile:99.9', 'mse' or one array per layer")


def _hidden(actor: Actor, chunk: FloatArray) -> list[FloatArray]:
    return actor.activations(chunk)[0][1:]


def _maxima(actor: Actor, observations: FloatArray) -> Layers:
    maxima = [np.zeros(layer.outputs, np.float32) for layer in actor.hidden]
    for chunk in chunks(observations):
        for largest, h in zip(maxima, _hidden(actor, chunk), strict=True):
            np.maximum(largest, h.max(axis=0), out=largest)
    return tuple(maxima)


def _percentiles(actor: Actor, observations: FloatArray, percentile: float) -> Layers:
    """From a histogram per neuron: exact to 1/4096 of the neuron's maximum."""
    maxima = _maxima(actor, observations)
    counts = [np.zeros((len(largest), HISTOGRAM_BINS), np.int64) for largest in maxima]
    for chunk in chunks(observations):
        for count, largest, h in zip(counts, maxima, _hidden(actor, chunk), strict=True):
            scale = HISTOGRAM_BINS / np.where(largest > 0, largest, 1)
            bins = np.clip((h * scale).astype(np.int64), 0, HISTOGRAM_BINS - 1)
            flat = bins + np.arange(h.shape[1]) * HISTOGRAM_BINS
            count += np.bincount(flat.ravel(), minlength=count.size).reshape(count.shape)
    thresholds = []
    for count, largest in zip(counts, maxima, strict=True):
        reached = count.cumsum(axis=1) >= len(observations) * percentile / 100
        upper_edge = (reached.argmax(axis=1) + 1) / HISTOGRAM_BINS
        thresholds.append((largest * upper_edge).astype(np.float32))
    return tuple(thresholds)


def _least_rounding_error(actor: Actor, observations: FloatArray, timesteps: int) -> Layers:
    maxima = _maxima(actor, observations)
    errors = [np.zeros((len(CANDIDATES), len(largest))) for largest in maxima]
    for chunk in chunks(observations, rows=512):
        for error, largest, h in zip(errors, maxima, _hidden(actor, chunk), strict=True):
            for index, share in enumerate(CANDIDATES):
                difference = quantised(h, largest * share, timesteps) - h
                error[index] += np.einsum("ij,ij->j", difference, difference)
    return tuple(
        largest * CANDIDATES[error.argmin(axis=0)] for error, largest in zip(errors, maxima, strict=True)
    )
