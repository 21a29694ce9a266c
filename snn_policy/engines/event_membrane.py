"""Compiled decisions of IF, SNM and MT networks for a block of rows, layer by layer.

Equations: docs/methods.md §1, §2, §5 and §6. Timestep t of a block's row r is train r·T + t.
"""

import math
from typing import Any

import numpy as np

from snn_policy.engines.event_calibration import calibrate, shadow_errors
from snn_policy.engines.event_convolution import CONVOLUTION, propagate_layer, synapses
from snn_policy.engines.event_kernels import HALF, ONE, ZERO, compiled, run_layer
from snn_policy.engines.event_plan import (
    ADAPTIVE,
    AGE,
    ALPHA,
    BIAS,
    BOUND,
    BOUNDED,
    CALIBRATES,
    CLIP,
    DIFFERENTIAL,
    EPSILON,
    ERROR_TOLERANCE,
    ERRORS,
    INPUTS,
    ITERATIONS,
    LAYERS,
    LEAST_ITERATIONS,
    LEVELS,
    LITERAL,
    MEMORY,
    MODEL,
    MOST_ITERATIONS,
    NEURONS,
    NORMALISER,
    OPERATIONS,
    OUTPUTS,
    QUANTISED_LEVELS,
    SIMULATION_STEPS,
    START_SHARE,
    TIMESTEPS,
    act,
    matrix,
    normalise,
)
from snn_policy.engines.spike_lists import list_spikes


@compiled
def start_layer(threshold: Any, residual: Any, share: Any, alpha: Any, bound: Any, start: Any) -> None:
    """CRPI: start ← v[0] = share·θ + clip(α·r, ±bound·θ)."""
    for k in range(start.shape[0]):
        reach = bound * threshold[k]
        start[k] = share * threshold[k] + min(max(alpha * residual[k], -reach), reach)


@compiled
def fill(totals: Any, values: Any, stop: int, step: int) -> None:
    """totals[n] ← values, for n = 0, step, … below `stop`."""
    for n in range(0, stop, step):
        total = totals[n]
        for k in range(values.shape[0]):
            total[k] = values[k]


@compiled
def run_row(
    drive: Any, layer: int, state: Any, parameters: Any, plan: Any, work: Any, iterations: int, indices: Any,
    sizes: Any, first: int, decoded: Any,
) -> int:  # fmt: skip
    """All timesteps of a layer of one row; returns its number of spikes, and leaves M in work[1].

    Args:
        drive: (T, ≥ outputs) the input as in `run_layer`; the first layer's is (1, ≥ outputs).
        first: the train of t = 1; a last hidden layer fills none, its `decoded` activation is what counts.
    """
    header, own = plan[0], plan[1 + layer]
    n = own[OUTPUTS]
    threshold, bias = parameters[own[NEURONS] : own[NEURONS] + n], parameters[own[BIAS] : own[BIAS] + n]
    residual, start = state[own[MEMORY] : own[MEMORY] + n], work[6, :n]
    start_layer(threshold, residual, parameters[START_SHARE], parameters[own[ALPHA]], parameters[BOUND], start)
    if header[CALIBRATES]:
        calibrate(drive, start, threshold, header[SIMULATION_STEPS], iterations, header[LITERAL] == 1,
                  parameters[EPSILON], work)  # fmt: skip
    first = -1 if layer + 2 == header[LAYERS] else first
    spikes = run_layer(drive, layer == 0, bias, start, threshold, header[MODEL], header[DIFFERENTIAL] == 1,
                       header[LEVELS], header[TIMESTEPS], decoded, first, indices, sizes,
                       work)  # fmt: skip
    v, net = work[0, :n], work[1, :n]
    for k in range(n):
        difference = v[k] - start[k]
        residual[k] = max(difference, -net[k]) if header[BOUNDED] else difference
    return spikes


@compiled
def decide_membrane(
    obs: Any, state: Any, parameters: Any, plan: Any, work: Any, indices: Any, sizes: Any, totals: Any, decoded: Any,
    shadow: Any, actions: Any, counts: Any,
) -> None:  # fmt: skip
    """One decision of a block of rows; `state`, the residual, is updated in place.

    `decoded` and `shadow` are (rows, row size) scratch; `actions` and `counts` (rows, …) are filled.
    """
    header, rows = plan[0], obs.shape[0]
    timesteps, last, adaptive = header[TIMESTEPS], header[LAYERS] - 1, header[CALIBRATES] and header[ADAPTIVE]
    inputs, trains, nothing = obs.shape[1], rows * timesteps, work[7]
    nothing[:] = ZERO
    normaliser = matrix(parameters, header[NORMALISER], 2, inputs)
    for row in range(rows):
        normalise(obs[row], normaliser, parameters[CLIP], decoded[row, :inputs])
        list_spikes(decoded[row, :inputs], indices, sizes, row * timesteps)
        shadow[row] = decoded[row]
        counts[row, last + ITERATIONS] = header[LEAST_ITERATIONS]
        if adaptive:
            counts[row, last + ITERATIONS] += np.int64(state[row, header[AGE]])
        work[8, row] = ZERO
    for layer in range(last):
        own = plan[1 + layer]
        n, outputs = own[INPUTS], own[OUTPUTS]
        steps, step = (1, timesteps) if layer == 0 else (timesteps, 1)
        bias = parameters[own[BIAS] : own[BIAS] + outputs]
        fill(totals, nothing[:outputs] if header[DIFFERENTIAL] else bias, trains, step)
        propagate_layer(own, parameters, indices, sizes, totals, trains, step, work)
        if layer and own[CONVOLUTION]:
            for n_train in range(trains):
                counts[n_train // timesteps, last + OPERATIONS] += synapses(own, parameters, indices[n_train])
        if adaptive:
            for row in range(rows):
                list_spikes(shadow[row, :n], indices, sizes, row)
            fill(shadow, bias, rows, 1)
            propagate_layer(own, parameters, indices, sizes, shadow, rows, 1, work)
        for row in range(rows):
            drive = totals[row * timesteps : row * timesteps + steps]
            counts[row, layer] = run_row(drive, layer, state[row], parameters, plan, work,
                                         counts[row, last + ITERATIONS], indices, sizes, row * timesteps,
                                         decoded[row, :outputs])  # fmt: skip
            if adaptive:
                threshold = parameters[own[NEURONS] : own[NEURONS] + outputs]
                work[8, row] += shadow_errors(shadow[row, :outputs], threshold, np.float32(own[QUANTISED_LEVELS]),
                                              work[1], timesteps)  # fmt: skip
    own = plan[1 + last]
    n, outputs = own[INPUTS], own[OUTPUTS]
    for row in range(rows):
        list_spikes(decoded[row, :n], indices, sizes, row)
    fill(totals, parameters[own[BIAS] : own[BIAS] + outputs], rows, 1)
    propagate_layer(own, parameters, indices, sizes, totals, rows, 1, work)
    act(totals, parameters, plan, actions)
    if adaptive:
        for row in range(rows):
            errors, iterations = np.int64(math.floor(work[8, row] + HALF)), counts[row, last + ITERATIONS]
            counts[row, last + ERRORS] = errors
            more = errors > header[ERROR_TOLERANCE] and iterations < header[MOST_ITERATIONS]
            state[row, header[AGE]] = ONE + state[row, header[AGE]] if more else ZERO
