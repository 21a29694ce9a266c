"""Compiled whole decisions of a batch, row by row, out of the kernels in `event_kernels`.

Handing over an array costs a call about as much as ten rows of weights do, so everything comes in few
blocks: `parameters` (every float of the network; weights transposed, so that a neuron's outgoing weights are
one contiguous row), `plan` (int64: a header row, then a row per layer with sizes and offsets into the other
blocks), `state` (rows, everything a row carries), `counts` (rows, what the decision cost and the sums since
the row's reset). `engines/event.py` lays them out. A row's result never depends on its batch.
"""

import math
from typing import Any

import numpy as np

from snn_policy.engines.event_calibration import calibrate, shadow_layer
from snn_policy.engines.event_kernels import (
    HALF,
    ONE,
    ZERO,
    activate,
    add_rows,
    compiled,
    fire_digit,
    fire_digit_base_two,
    gather,
    gather_by_predictor,
    run_layer,
)

# plan[0]: the network
HEADER = ("layers", "sigma_delta", "model", "differential", "timesteps", "levels", "bounded", "head_kind",
          "rederive_after", "normaliser", "head", "powers", "power_count", "age", "spiking", "macs",
          "widest", "calibrates", "simulation_steps", "literal", "least_iterations", "most_iterations", "adaptive",
          "error_tolerance")  # fmt: skip
(LAYERS, SIGMA_DELTA, MODEL, DIFFERENTIAL, TIMESTEPS, LEVELS, BOUNDED, HEAD_KIND, REDERIVE_AFTER, NORMALISER, HEAD,
 POWERS, POWER_COUNT, AGE, SPIKING, MACS, WIDEST, CALIBRATES, SIMULATION_STEPS, LITERAL, LEAST_ITERATIONS,
 MOST_ITERATIONS, ADAPTIVE, ERROR_TOLERANCE) = range(len(HEADER))  # fmt: skip
# plan[1 + layer]: a layer; offsets into `parameters`, MEMORY and ACCUMULATOR into a row of `state`
LAYER = ("inputs", "outputs", "weights", "bias", "neurons", "digits", "activation", "slope", "memory", "accumulator",
         "alpha", "levels")  # fmt: skip
(INPUTS, OUTPUTS, WEIGHTS, BIAS, NEURONS, DIGITS, ACTIVATION, SLOPE, MEMORY, ACCUMULATOR,
 ALPHA, QUANTISED_LEVELS) = range(len(LAYER))  # fmt: skip
# parameters[:5]
CLIP, PRE_CLIP, START_SHARE, BOUND, EPSILON = range(5)
# a row of counts: spikes per spiking layer, then these, then the number of decisions and the sums of spikes,
# synaptic operations and MACs since the row's reset
OPERATIONS, MACS_COUNT, ITERATIONS, ERRORS, DECISIONS, SUMS = range(6)
HEAD_TANH, HEAD_CLIP, HEAD_ARGMAX = range(3)
COARSE_SPIKE = np.float32(2**14).view(np.int32)
"""In quanta, as bits: after a spike of this size, the next decision derives the accumulators anew."""
WORK_ROWS = 14
MEMBRANE_ROWS, NOTED_ROWS = 5, 6


@compiled
def matrix(block: Any, start: int, rows: int, columns: int) -> Any:
    return block[start : start + rows * columns].reshape(rows, columns)


@compiled
def normalise(obs: Any, normaliser: Any, clip: Any, x: Any) -> None:
    """`normaliser`: (2, inputs) mean and scale."""
    for j in range(x.shape[0]):
        x[j] = min(max((np.float32(obs[j]) - normaliser[0, j]) / normaliser[1, j], -clip), clip)


@compiled
def apply_head(y: Any, kind: int, head: Any, pre_clip: Any, action: Any) -> None:
    """`head`: (4, outputs) low, high, scale, offset."""
    if kind == HEAD_ARGMAX:
        best = 0
        for k in range(1, y.shape[0]):
            if y[k] > y[best]:
                best = k
        action[0] = np.float32(best)
        return
    for k in range(y.shape[0]):
        value = y[k]
        if kind == HEAD_TANH:
            value = np.float32(math.tanh(min(max(value, -pre_clip), pre_clip))) * head[2, k] + head[3, k]
        action[k] = min(max(value, head[0, k]), head[1, k])


@compiled
def encode(v: Any, stage: Any, digits: int, powers: Any, told: Any) -> Any:
    """Up to `digits` spikes per neuron: v is spent, `told` filled with Σ s.

    `stage`: (4, n) quantum, quantum·k (infinite for a dead neuron), γ, offset. Returns the number of spikes,
    and whether one was so large that the accumulators lose precision.
    """
    for j in range(v.shape[0]):
        told[j] = ZERO
    spikes, largest = 0, np.int32(0)
    for _ in range(digits):
        if powers[1] == np.float32(2):
            fired, peak = fire_digit_base_two(v, stage[0], stage[1], told)
        else:
            fired, peak = fire_digit(v, stage[0], stage[1], powers, told)
        if fired == 0:
            break
        spikes += fired
        largest = max(largest, peak)
    return spikes, largest >= COARSE_SPIKE


@compiled
def tell(
    told: Any, memory: Any, gamma: Any, weights: Any, rederive: bool, accumulator: Any, z: Any, work: Any, indices: Any
) -> None:
    """Pass a stage's spikes on: γ=1 neurons to the accumulator that persists, γ=0 neurons to z alone.

    z (outputs,) comes with the bias, and is left with the next layer's whole input.
    """
    sizes = work[1]
    front, back = gather_by_predictor(told, gamma, indices, sizes)
    add_rows(weights, indices[back:], sizes[back:], indices.shape[0] - back, z)
    if rederive:
        values = work[0, : told.shape[0]]
        for k in range(accumulator.shape[0]):
            accumulator[k] = ZERO
        for j in range(told.shape[0]):
            values[j] = memory[j] * gamma[j]
        front = gather(values, indices, sizes)
    add_rows(weights, indices, sizes, front, accumulator)
    for k in range(z.shape[0]):
        z[k] += accumulator[k]


@compiled
def decide_sigma_delta(
    obs: Any, state: Any, parameters: Any, plan: Any, work: Any, indices: Any, action: Any, spikes: Any
) -> None:
    """One decision of one row; `state` is updated in place, `action` and `spikes` (stages,) are filled."""
    header = plan[0]
    h = work[2, : obs.shape[0]]
    normalise(obs, matrix(parameters, header[NORMALISER], 2, obs.shape[0]), parameters[CLIP], h)
    powers = parameters[header[POWERS] : header[POWERS] + header[POWER_COUNT]]
    age = header[AGE]
    rederive = state[age] >= header[REDERIVE_AFTER]
    state[age] = ZERO if rederive else state[age] + ONE
    for layer in range(header[LAYERS]):
        own = plan[1 + layer]
        n, outputs = own[INPUTS], own[OUTPUTS]
        stage = matrix(parameters, own[NEURONS], 4, n)
        memory, v, told, gamma = state[own[MEMORY] : own[MEMORY] + n], work[3, :n], work[4, :n], stage[2]
        for j in range(n):
            memory[j] *= gamma[j]
            v[j] = h[j] - stage[3, j] - memory[j]
        spikes[layer], coarse = encode(v, stage, own[DIGITS], powers, told)
        if coarse:
            state[age] = header[REDERIVE_AFTER]
        for j in range(n):
            memory[j] += told[j]
        z = work[2, :outputs]
        for k in range(outputs):
            z[k] = parameters[own[BIAS] + k]
        accumulator = state[own[ACCUMULATOR] : own[ACCUMULATOR] + outputs]
        weights = matrix(parameters, own[WEIGHTS], n, outputs)
        tell(told, memory, gamma, weights, rederive, accumulator, z, work, indices)
        activate(z, own[ACTIVATION], parameters[own[SLOPE]], parameters[own[SLOPE] + 1])
        h = z
    outputs = h.shape[0]
    apply_head(h, header[HEAD_KIND], matrix(parameters, header[HEAD], 4, outputs), parameters[PRE_CLIP], action)


@compiled
def start_layer(threshold: Any, residual: Any, share: Any, alpha: Any, bound: Any, start: Any) -> None:
    """CRPI: start ← v[0] = share·θ + clip(α·r, ±bound·θ)."""
    for k in range(start.shape[0]):
        reach = bound * threshold[k]
        start[k] = share * threshold[k] + min(max(alpha * residual[k], -reach), reach)


@compiled
def drive_layer(source: Any, before: Any, weights: Any, indices: Any, sizes: Any, drive: Any) -> None:
    """drive[t] ← W·o[t]; a single row is the constant input W·source."""
    for t in range(drive.shape[0]):
        for k in range(drive.shape[1]):
            drive[t, k] = ZERO
        values = source if drive.shape[0] == 1 and before.shape[0] == 0 else before[t]
        add_rows(weights, indices, sizes, gather(values, indices, sizes), drive[t])


@compiled
def decide_membrane(
    obs: Any, state: Any, parameters: Any, plan: Any, work: Any, trains: Any, indices: Any, action: Any, counts: Any
) -> None:
    """One decision of one row; `state`, the residual, is updated in place; `trains` is (2, T·widest) scratch."""
    header = plan[0]
    timesteps, last, adaptive = header[TIMESTEPS], header[LAYERS] - 1, header[CALIBRATES] and header[ADAPTIVE]
    decoded, shadow = work[2, : obs.shape[0]], work[13, : obs.shape[0]]
    normalise(obs, matrix(parameters, header[NORMALISER], 2, obs.shape[0]), parameters[CLIP], decoded)
    iterations, errors = header[LEAST_ITERATIONS], ZERO
    if adaptive:
        iterations += np.int64(state[header[AGE]])
        shadow[:] = decoded
    for layer in range(last):
        own = plan[1 + layer]
        n, outputs = own[INPUTS], own[OUTPUTS]
        drive = matrix(trains[0], 0, 1 if layer == 0 else timesteps, outputs)
        before = matrix(trains[1], 0, 0 if layer == 0 else timesteps, n)
        weights = matrix(parameters, own[WEIGHTS], n, outputs)
        drive_layer(decoded, before, weights, indices, work[1], drive)
        threshold = parameters[own[NEURONS] : own[NEURONS] + outputs]
        bias = parameters[own[BIAS] : own[BIAS] + outputs]
        residual, start = state[own[MEMORY] : own[MEMORY] + outputs], work[0, :outputs]
        start_layer(threshold, residual, parameters[START_SHARE], parameters[own[ALPHA]], parameters[BOUND], start)
        scratch = work[3:13].reshape(-1)
        membrane = matrix(scratch, 0, MEMBRANE_ROWS, outputs)
        if header[CALIBRATES]:
            calibrate(drive, bias, start, threshold, header[SIMULATION_STEPS], iterations, header[LITERAL] == 1,
                      parameters[EPSILON], matrix(scratch, 0, NOTED_ROWS, outputs))  # fmt: skip
        fired = matrix(trains[1], 0, timesteps, outputs)
        counts[layer] = run_layer(drive, layer == 0, bias, start, threshold, header[MODEL], header[DIFFERENTIAL] == 1,
                                  header[LEVELS], fired, membrane)  # fmt: skip
        if adaptive:
            z = membrane[MEMBRANE_ROWS - 1]
            errors += shadow_layer(shadow, weights, bias, threshold, np.float32(own[QUANTISED_LEVELS]), membrane[1],
                                   timesteps, z, indices, work[1])  # fmt: skip
            shadow = work[13, :outputs]
            shadow[:] = z
        decoded = work[2, :outputs]
        for k in range(outputs):
            difference = membrane[0, k] - start[k]
            residual[k] = max(difference, -membrane[1, k]) if header[BOUNDED] else difference
            decoded[k] = membrane[2, k]
    own = plan[1 + last]
    n, outputs = own[INPUTS], own[OUTPUTS]
    y = work[0, :outputs]
    for k in range(outputs):
        y[k] = parameters[own[BIAS] + k]
    add_rows(matrix(parameters, own[WEIGHTS], n, outputs), indices, work[1], gather(decoded, indices, work[1]), y)
    apply_head(y, header[HEAD_KIND], matrix(parameters, header[HEAD], 4, outputs), parameters[PRE_CLIP], action)
    counts[last + ITERATIONS] = iterations
    if adaptive:
        counts[last + ERRORS] = np.int64(math.floor(errors + HALF))
        wrong = counts[last + ERRORS] > header[ERROR_TOLERANCE]
        state[header[AGE]] = ONE + state[header[AGE]] if wrong and iterations < header[MOST_ITERATIONS] else ZERO
