"""Firing thresholds from recorded observations (docs/methods.md §3), one per hidden neuron; in a convolution, one per
channel, whose positions count as observations of one neuron.

`max`: the largest recorded activation · `percentile:p`: exceeded by 1 − p % of them · `mse`: the θ with the
smallest mean squared error of rounding the activations to T levels of θ/T, among 33 candidates from 0.2 to
1.0 times the maximum. A neuron that was never active gets 0 and never spikes. Activations are never stored:
each rule takes one or two streamed passes, the second over histograms or candidate errors.

Where a whole layer was never active, or the recording has few different rows, it cannot tell which neurons are dead,
nor how active the others get: thresholds then come from the size of what the neurons are given, with a warning.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.activations import quantised
from snn_policy.calibration.recording_doubts import dead_layer, few_rows, warn_of
from snn_policy.calibration.recordings import CHUNK_ROWS, HANDFUL, chunks, distinct_rows
from snn_policy.progress import Passes
from snn_policy.protocol import FloatArray
from snn_policy.spiking.settings import threshold_rule

CANDIDATES = np.linspace(0.2, 1.0, 33, dtype=np.float32)
HISTOGRAM_BINS = 4096
Layers = tuple[FloatArray, ...]
Counts = npt.NDArray[np.int64]


def recorded_thresholds(
    actor: Actor, observations: FloatArray, rule: str, timesteps: int, passes: Passes | None = None
) -> Layers:
    """Return θ per hidden layer, each (neurons,) float32; equal within a channel.

    Args:
        observations: (N, *observation_shape).
        rule: "max", "percentile:99.9" (any p in (0, 100]) or "mse".
        timesteps: T, the number of levels that "mse" rounds to.

    Raises:
        ValueError: an unknown rule.
    """
    name, percentile = threshold_rule(rule)
    recorded = _Recorded(actor, observations, passes or Passes())
    if name == "percentile":
        return _completed(recorded, _percentiles(recorded, percentile))
    return _completed(recorded, _maxima(recorded) if name == "max" else _least_rounding_error(recorded, timesteps))


def _completed(recorded: "_Recorded", thresholds: Layers) -> Layers:
    """Return θ per neuron from θ per group; what the recording does not show is added, with a warning."""
    rows = distinct_rows(recorded.observations, HANDFUL)
    dead = [index for index, theta in enumerate(thresholds) if not theta.any()]
    if dead or rows < HANDFUL:
        sizes, completed = _input_sizes(recorded, dead), list(thresholds)
        for index, size in enumerate(sizes):
            if rows < HANDFUL:  # neither is it known which neuron is dead, nor which one gets how active
                completed[index] = np.maximum(thresholds[index], np.maximum(size, size.mean()))
            elif index in dead:
                completed[index] = np.where(size > 0, size, size.max())
        thresholds = tuple(completed)
        doubts = [few_rows(rows)] if rows < HANDFUL else []
        doubts += [dead_layer(index) for index in dead]
        warn_of(doubts, "Thresholds come from the size of what the neurons are given", stacklevel=5)
    return _per_neuron(recorded.actor, thresholds)


def _input_sizes(recorded: "_Recorded", dead: list[int]) -> list[FloatArray]:
    """Return the largest |z| per hidden layer, (groups,), of layers in `dead` also what they pass on."""
    layers = recorded.actor.hidden
    sizes = [np.zeros(layer.groups[0], np.float32) for layer in layers]
    for chunk in chunks(recorded.observations):
        h = recorded.actor.inputs(chunk)
        for index, layer in enumerate(layers):
            z = abs(layer(h)) if index in dead else layer(h)
            largest = abs(z).max(axis=0).reshape(layer.groups).max(axis=1)
            np.maximum(sizes[index], largest, out=sizes[index])
            h = z if index in dead or layer.activation is None else layer.activation(z)
    return sizes


def _per_neuron(actor: Actor, thresholds: Layers) -> Layers:
    """Return one θ per neuron from one per group."""
    return tuple(np.repeat(theta, layer.groups[1]) for layer, theta in zip(actor.hidden, thresholds, strict=True))


@dataclass(frozen=True)
class _Recorded:
    """Hold the activations of recorded observations."""

    actor: Actor
    observations: FloatArray
    passes: Passes

    def hidden(self, rows: int = CHUNK_ROWS) -> Iterator[list[FloatArray]]:
        """Yield, piece by piece, per hidden layer (values, groups), in a convolution one value per position."""
        self.passes.begin(len(self.observations))
        for chunk in chunks(self.observations, rows):
            yield [
                h if layer.groups[1] == 1 else h.reshape(-1, *layer.groups).swapaxes(1, 2).reshape(-1, layer.groups[0])
                for layer, h in zip(self.actor.hidden, self.actor.activations(chunk)[0][1:], strict=True)
            ]
            self.passes.advance(len(chunk))


def _maxima(recorded: _Recorded) -> Layers:
    maxima = [np.zeros(layer.groups[0], np.float32) for layer in recorded.actor.hidden]
    for hidden in recorded.hidden():
        for largest, h in zip(maxima, hidden, strict=True):
            np.maximum(largest, h.max(axis=0), out=largest)
    return tuple(maxima)


def _percentiles(recorded: _Recorded, percentile: float) -> Layers:
    """Return percentiles from a histogram per group, exact to 1/4096 of the group's maximum."""
    maxima, thresholds = _maxima(recorded), []
    counts = [_no_counts(largest) for largest in maxima]
    for hidden in recorded.hidden():
        for count, largest, h in zip(counts, maxima, hidden, strict=True):
            _count(count, largest, h)
    for count, largest in zip(counts, maxima, strict=True):
        reached = count.cumsum(axis=1) >= count.sum(axis=1, keepdims=True) * percentile / 100
        upper_edge = (reached.argmax(axis=1) + 1) / HISTOGRAM_BINS
        thresholds.append((largest * upper_edge).astype(np.float32))
    return tuple(thresholds)


def _no_counts(largest: FloatArray) -> Counts:
    return np.zeros((len(largest), HISTOGRAM_BINS), np.int64)


def _count(count: Counts, largest: FloatArray, h: FloatArray) -> None:
    """Raise (groups, bins) by how many activations fall into each bin, of 0 to the group's maximum."""
    scale = HISTOGRAM_BINS / np.where(largest > 0, largest, 1)
    bins = np.clip((h * scale).astype(np.int64), 0, HISTOGRAM_BINS - 1)
    flat = bins + np.arange(h.shape[1]) * HISTOGRAM_BINS
    count += np.bincount(flat.ravel(), minlength=count.size).reshape(count.shape)


def _least_rounding_error(recorded: _Recorded, timesteps: int) -> Layers:
    """Return θ of linear layers from every activation; of convolutions, with thousands per channel, from histograms."""
    maxima = _maxima(recorded)
    convolutional = [layer.groups[1] > 1 for layer in recorded.actor.hidden]
    errors = [np.zeros((len(CANDIDATES), len(largest))) for largest in maxima]
    counts = [_no_counts(largest) if many else None for largest, many in zip(maxima, convolutional, strict=True)]
    for hidden in recorded.hidden(rows=512):
        for error, count, largest, h in zip(errors, counts, maxima, hidden, strict=True):
            if count is not None:
                _count(count, largest, h)
            else:
                _add_rounding_errors(error, largest, h, timesteps)
    for index, count in enumerate(counts):
        if count is not None:
            errors[index] = _histogram_errors(count, maxima[index], timesteps)
    return tuple(largest * CANDIDATES[error.argmin(axis=0)] for error, largest in zip(errors, maxima, strict=True))


def _add_rounding_errors(errors: npt.NDArray[np.float64], largest: FloatArray, h: FloatArray, timesteps: int) -> None:
    """Raise (candidates, groups) by the squared rounding errors."""
    for error, share in zip(errors, CANDIDATES, strict=True):
        difference = quantised(h, largest * share, timesteps) - h
        error += np.einsum("ij,ij->j", difference, difference)


def _histogram_errors(count: Counts, largest: FloatArray, timesteps: int) -> npt.NDArray[np.float64]:
    """Return squared rounding errors, (candidates, groups), each activation taken for its bin's centre; 0 for 0."""
    centres = (np.arange(HISTOGRAM_BINS, dtype=np.float32) + 0.5) / HISTOGRAM_BINS
    centres[0] = 0  # silent neurons fill the first bin
    values = centres[:, None] * largest
    rounded = [quantised(values, largest * share, timesteps) - values for share in CANDIDATES]
    return np.stack([(count.T * difference.astype(np.float64) ** 2).sum(axis=0) for difference in rounded])
