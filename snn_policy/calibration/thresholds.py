"""Firing thresholds from recorded observations (docs/methods.md §3), one per hidden neuron; in a convolution, one per
channel, whose positions count as observations of one neuron.

`max`: the largest recorded activation · `percentile:p`: exceeded by 1 − p % of them · `mse`: the θ with the
smallest mean squared error of rounding the activations to T levels of θ/T, among 33 candidates from 0.2 to
1.0 times the maximum. A neuron that was never active gets 0 and never spikes. Activations are never stored:
each rule takes one or two streamed passes, the second over histograms or candidate errors.

Where a whole layer was never active, or the recording hardly changes, it cannot tell which neurons are dead, nor how
active the others get. Then, with a warning, θ is at least what the same rule gives for Gaussian inputs around the
recorded mean, sent through the actor's layers (`_spread`), and at least its layer's mean of that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.activations import quantised
from snn_policy.ann.layers import Layer
from snn_policy.calibration.recording_doubts import dead_layer, few_rows, warn_of, warn_of_few_for_thresholds
from snn_policy.calibration.recordings import CHUNK_ROWS, HANDFUL, chunks, distinct_rows
from snn_policy.progress import Passes
from snn_policy.protocol import FloatArray
from snn_policy.spiking.settings import threshold_rule

CANDIDATES = np.linspace(0.2, 1.0, 33, dtype=np.float32)
HISTOGRAM_BINS = 4096
STILL = 1e-2
"""Recordings that move what the first layer gets by a smaller share of its size hardly move it at all."""
EPISODES_OF_ROWS = 500
"""Different observations of vectors below which thresholds are doubted; in pictures, every position is one. On six
reference actors, 50 of an episode's first kept −1.3 to 1.0 of the return (T = 16); 200 0.7 and more, but on Pendulum
−1.3; 500 0.97 and more."""
SPREAD_ROWS, SPREAD_VALUES = 2048, 2**24
REACH = 2.0
"""Half-ranges (before a tanh: ones) that y spreads over; on recordings of trained actors 0.9 to 2.9."""
UNITLESS_SIGMA, LEAST_SIGMA = 0.5, 2.0**-12
"""σ where nothing bounds y, as in Q-networks; and the least that is tried."""
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
    recorded = _Recorded(actor, observations, passes or Passes())
    found = _by_rule(recorded, rule, timesteps)
    enough = EPISODES_OF_ROWS if len(actor.observation_shape) == 1 else HANDFUL
    rows, moves = distinct_rows(observations, enough), _moves(recorded)
    dead = [index for index, theta in enumerate(found) if not theta.any()]
    short = rows < HANDFUL or not moves
    if not short and not dead:
        if rows < enough:
            warn_of_few_for_thresholds(rows)
        return _per_neuron(actor, found)
    spread = _by_rule(_spread(recorded, dead), rule, timesteps)
    completed = [
        np.maximum(theta, np.maximum(other, other.mean())) if short or index >= dead[0] else theta
        for index, (theta, other) in enumerate(zip(found, spread, strict=True))
    ]
    doubts = [few_rows(rows)] if rows < HANDFUL else [] if moves else ["its observations hardly differ"]
    doubts += [dead_layer(index) for index in dead]
    warn_of(doubts, "The thresholds come from the actor's weights as much as from it")
    return _per_neuron(actor, tuple(completed))


def _by_rule(recorded: "_Recorded", rule: str, timesteps: int) -> Layers:
    """Return θ per hidden layer, (groups,)."""
    name, percentile = threshold_rule(rule)
    if name == "percentile":
        return _percentiles(recorded, percentile)
    return _maxima(recorded) if name == "max" else _least_rounding_error(recorded, timesteps)


def _moves(recorded: "_Recorded") -> bool:
    """Return whether the first layer's z differs by more than `STILL` of its size between recorded observations."""
    actor, observations = recorded.actor, recorded.observations
    few = observations[:: max(1, len(observations) // CHUNK_ROWS)]
    z = np.concatenate([actor.layers[0](actor.inputs(chunk)).astype(np.float64) for chunk in chunks(few)])
    return float(np.sqrt(z.var(axis=0).mean())) > STILL * float(np.sqrt((z**2).mean()))


def _spread(recorded: "_Recorded", dead: list[int]) -> "_Recorded":
    """Return what stands in for a recording: Gaussian inputs around the mean of the recorded ones.

    x = x̄ + σ·ε, ε ~ N(0, 1), goes through the actor's layers. σ is the largest of 1, 2^-½, 2^-1, … at which the
    outputs y have a standard deviation of at most `REACH` units: a trained actor neither holds its actions still nor at
    a bound. (σ = 1 is several times too much where observations are correlated or not normalised.)
    """
    actor, parts = recorded.actor, chunks(recorded.observations)
    mean = np.sum([actor.inputs(chunk).sum(axis=0, dtype=np.float64) for chunk in parts], axis=0)
    mean /= len(recorded.observations)
    rows = min(SPREAD_ROWS, max(HANDFUL, SPREAD_VALUES // mean.size))
    noise, unit, sigma = np.random.default_rng(0).normal(size=(rows, mean.size)), _output_unit(actor), 1.0
    few = noise[: max(HANDFUL, rows // 8)]
    while unit is not None and sigma > LEAST_SIGMA:
        x = (mean + sigma * few).astype(np.float32)
        moved = _awake(actor, x, dead).activations(x)[1].std(axis=0) / unit
        if np.sqrt(np.mean(np.square(moved[unit < np.inf]))) <= REACH:
            break
        sigma *= 2**-0.5
    x = (mean + (UNITLESS_SIGMA if unit is None else sigma) * noise).astype(np.float32)
    return _Recorded(_awake(actor, x, dead), x, Passes())


def _output_unit(actor: Actor) -> FloatArray | None:
    """Return half the range of y that the head does not hold at a bound, infinity without bounds; None without any."""
    if actor.discrete:
        return None
    unit = np.ones(actor.head.outputs) if actor.head.kind == "tanh" else actor.head.half_range(infinite=np.inf)
    unit = np.where(unit > 0, unit, np.inf)
    return unit if (unit < np.inf).any() else None


def _awake(actor: Actor, x: FloatArray, dead: list[int]) -> Actor:
    """Return the actor as it takes x, (N, inputs), with the mean of z moved to 0 in layers of `dead`.

    Layers that the recording keeps silent, and those behind them, show so what their weights spread.
    """
    layers: list[Layer] = []
    for index, layer in enumerate(actor.layers):
        if index in dead:
            mean_z = layer(x).mean(axis=0).reshape(layer.groups).mean(axis=1)
            layer = replace(layer, bias=layer.bias - mean_z)
        layers.append(layer)
        x = layer(x) if layer.activation is None else layer.activation(layer(x))
    return Actor(tuple(layers), actor.head, (actor.layers[0].inputs,))


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
