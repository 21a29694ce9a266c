"""One decision of IF, SNM and MT networks, pure and array-API: all timesteps of a layer, then the next layer.

A feed-forward network without synaptic delay gives the same spikes in either order, and a layer's T inputs are then
one matrix product. Equations: docs/methods.md §1 (neurons, codings), §2 (CRPI), §5 and §6 (spike calibration).
"""

from typing import NamedTuple

from array_api_compat import array_namespace

from snn_policy.ann.activations import quantised
from snn_policy.ann.layers import Layer
from snn_policy.protocol import Array, Decision
from snn_policy.spiking.crpi import residual_potential, start_potential
from snn_policy.spiking.neurons import DifferentialMembrane, Membrane, MembraneNeurons, step_differential, step_rate
from snn_policy.spiking.spike_calibration import SpikeCalibration, calibrated_start, error_spikes
from snn_policy.spiking.state import AdaptiveState, MembraneState


class LayerRun(NamedTuple):
    """Hold a layer's T steps: o (rows, T, n); v[0], v[T], M and the decoded activation, each (rows, n)."""

    outputs: Array
    v_start: Array
    v_end: Array
    net: Array
    decoded: Array


def decide_membrane(
    x: Array, state: MembraneState | AdaptiveState, layers: tuple[Layer, ...], neurons: MembraneNeurons
) -> tuple[Array, MembraneState | AdaptiveState, Decision]:
    """Return, from the normalised x (rows, inputs), the last layer's y, the new state, the decision's costs."""
    xp = array_namespace(x)
    none = xp.astype(x[:, 0] * 0, xp.int64)
    runs, start, iterations = [], 0, _iterations(state, neurons, x)
    for layer, threshold, alpha in zip(layers, neurons.thresholds, neurons.alpha, strict=False):
        carried = state.residual[:, start : start + layer.outputs]
        start += layer.outputs
        v_start = start_potential(neurons.base(threshold), carried, alpha, threshold * neurons.alpha_clip)
        weighted = layer.product(runs[-1].outputs if runs else x[:, None, :])
        runs.append(run_layer(weighted, v_start, layer.unit_bias, threshold, neurons, iterations))
    y = layers[-1](runs[-1].decoded if runs else x)
    residuals = [residual_potential(run.v_end, run.v_start, run.net, neurons.residual) for run in runs]
    residual = xp.concat(residuals, axis=1) if runs else state.residual
    counts = [xp.sum(xp.astype(run.outputs != 0, xp.int64), axis=1) for run in runs]
    operations = events = none
    for count, after in zip(counts, layers[1:], strict=True):
        operations = operations + after.operations(count)
        events = events + after.operations(xp.astype(count != 0, xp.int64))
    spikes = xp.stack([xp.sum(count, axis=1) for count in counts], axis=1) if runs else none[:, None][:, :0]
    errors = none
    new_state: MembraneState | AdaptiveState = MembraneState(residual)
    if isinstance(state, AdaptiveState) and neurons.calibration is not None:
        errors = _error_spikes(x, layers, neurons, runs)
        new_state = AdaptiveState(residual, _adapted(state.extra_iterations, errors, neurons.calibration))
    macs = none + layers[0].synapses
    used = none if iterations is None else xp.astype(iterations[:, 0], xp.int64)
    return y, new_state, Decision(spikes, operations, macs, used, errors, events)


def initial_iterations(neurons: MembraneNeurons, like: Array) -> Array:
    """Return I of a first decision for as many rows as `like` has, (rows, 1); None without calibration."""
    return None if neurons.calibration is None else like[:, :1] * 0 + neurons.calibration.least_iterations


def _iterations(state: MembraneState | AdaptiveState, neurons: MembraneNeurons, like: Array) -> Array:
    """Return I of every row, (rows, 1); None without calibration."""
    least = initial_iterations(neurons, like)
    return least + state.extra_iterations if isinstance(state, AdaptiveState) else least


def run_layer(
    weighted: Array, v_start: Array, bias: Array, threshold: Array, neurons: MembraneNeurons, iterations: Array
) -> LayerRun:
    """Run a layer's T steps; `weighted` is W·o[t], (rows, T, n), or the constant W·x, (rows, 1, n)."""
    if neurons.coding == "differential":
        return _run_differential(weighted, v_start, bias, threshold, neurons)
    drive = weighted + bias
    if neurons.calibration is not None:
        v_start = calibrated_start(drive, v_start, threshold, neurons.timesteps, neurons.calibration, iterations)
    return _run_rate(drive, v_start, threshold, neurons)


def _run_rate(drive: Array, v_start: Array, threshold: Array, neurons: MembraneNeurons) -> LayerRun:
    xp = array_namespace(v_start)
    state, outputs = Membrane(v_start, v_start * 0), []
    for t in range(neurons.timesteps):
        o, state = step_rate(drive[:, t % drive.shape[1]], state, threshold, neurons)
        outputs.append(o)
    return LayerRun(xp.stack(outputs, axis=1), v_start, state.v, state.net, state.net / neurons.timesteps)


def _run_differential(
    weighted: Array, v_start: Array, bias: Array, threshold: Array, neurons: MembraneNeurons
) -> LayerRun:
    """Run T steps under differential coding: a constant input is one change at t = 1 and none after it."""
    xp = array_namespace(v_start)
    zero = v_start * 0
    state, outputs = DifferentialMembrane(v_start, zero, zero + bias, zero), []
    for t in range(neurons.timesteps):
        d = weighted[:, t] if t < weighted.shape[1] else zero
        o, state = step_differential(d, t + 1, state, threshold, neurons)
        outputs.append(o)
    return LayerRun(xp.stack(outputs, axis=1), v_start, state.v, state.net, state.outflow)


def _error_spikes(x: Array, layers: tuple[Layer, ...], neurons: MembraneNeurons, runs: list[LayerRun]) -> Array:
    """Return the spikes by which the counts differ from the shadow ANN's (Algorithm 2), (rows,) int64."""
    xp = array_namespace(x)
    total, shadow = x[:, 0] * 0, x
    for layer, threshold, run in zip(layers, neurons.thresholds, runs, strict=False):
        f = layer.activation
        levels = f.levels if f is not None and f.name == "qcfs" else neurons.timesteps
        shadow = quantised(layer(shadow), threshold, levels)
        total = total + error_spikes(shadow, run.net, threshold, neurons.timesteps)
    return xp.astype(xp.floor(total + 0.5), xp.int64)


def _adapted(extra: Array, errors: Array, settings: SpikeCalibration) -> Array:
    """Return I − I_min of the next decision."""
    xp = array_namespace(extra)
    raise_it = (errors > settings.error_tolerance)[:, None] & (
        extra < settings.most_iterations - settings.least_iterations
    )
    return xp.where(raise_it, extra + 1, extra * 0)
