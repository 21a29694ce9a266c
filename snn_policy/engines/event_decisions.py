"""Compiled whole decisions of a batch, row by row, out of the kernels in `event_kernels`.

A network arrives as flat arrays: `weights` (every layer's weight transposed, so that a neuron's outgoing
weights are one contiguous row), `vectors` (everything of length one layer) and `layout`, one row per layer
with the offsets into both; `engines/event.py` packs them. A row's result never depends on its batch.
"""

import math
from typing import Any

import numpy as np

from snn_policy.engines.event_kernels import (
    ONE,
    ZERO,
    activate,
    add_rows,
    compiled,
    fire_digit,
    fire_digit_base_two,
    gather,
    run_layer,
)

# the columns of `layout`
LAYOUT = ("inputs", "outputs", "weights", "bias", "neurons", "digits", "activation", "memory", "accumulator")
INPUTS, OUTPUTS, WEIGHTS, BIAS, NEURONS, DIGITS, ACTIVATION, MEMORY, ACCUMULATOR = range(len(LAYOUT))
HEAD_TANH, HEAD_CLIP, HEAD_ARGMAX = range(3)
WORK_ROWS = 8


@compiled
def matrix(values: Any, start: int, rows: int, columns: int) -> Any:
    return values[start : start + rows * columns].reshape(rows, columns)


@compiled
def normalise(obs: Any, normaliser: Any, clip: Any, x: Any) -> None:
    """`normaliser`: (2, inputs) mean and scale."""
    for j in range(x.shape[0]):
        x[j] = min(max((obs[j] - normaliser[0, j]) / normaliser[1, j], -clip), clip)


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
def encode(v: Any, stage: Any, digits: int, powers: Any, told: Any) -> int:
    """Up to `digits` spikes per neuron: v is spent, `told` filled with Σ s. Returns the number of spikes.

    `stage`: (4, n) quantum, quantum·k (infinite for a dead neuron), γ, offset.
    """
    for j in range(v.shape[0]):
        told[j] = ZERO
    spikes = 0
    for _ in range(digits):
        if powers[1] == np.float32(2):
            fired = fire_digit_base_two(v, stage[0], stage[1], told)
        else:
            fired = fire_digit(v, stage[0], stage[1], powers, told)
        if fired == 0:
            break
        spikes += fired
    return spikes


@compiled
def tell(told: Any, memory: Any, gamma: Any, weights: Any, rederive: bool, accumulator: Any, z: Any, work: Any,
         indices: Any) -> None:  # fmt: skip
    """Pass a stage's spikes on: γ=1 neurons to the accumulator that persists, γ=0 neurons to z alone.

    z (outputs,) comes with the bias, and is left with the next layer's whole input.
    """
    values, sizes = work[0, : told.shape[0]], work[1]
    if rederive:
        for k in range(accumulator.shape[0]):
            accumulator[k] = ZERO
        for j in range(told.shape[0]):
            values[j] = memory[j] * gamma[j]
    else:
        for j in range(told.shape[0]):
            values[j] = told[j] * gamma[j]
    add_rows(weights, indices, sizes, gather(values, indices, sizes), accumulator)
    for j in range(told.shape[0]):
        values[j] = told[j] * (ONE - gamma[j])
    add_rows(weights, indices, sizes, gather(values, indices, sizes), z)
    for k in range(z.shape[0]):
        z[k] += accumulator[k]


@compiled
def decide_sigma_delta(
    obs: Any, memory: Any, accumulator: Any, age: Any, rederive_after: int, layout: Any, weights: Any, vectors: Any,
    parameters: Any, normaliser: Any, clip: Any, powers: Any, head_kind: int, head: Any, pre_clip: Any, work: Any,
    indices: Any, actions: Any, spikes: Any,
) -> None:  # fmt: skip
    """One decision of every row; memory, accumulator, age (rows, …) are updated in place.

    Args:
        obs: (rows, inputs).
        rederive_after: decisions after which a row's accumulators are derived anew from its memory.
        parameters: (layers,) of the activations.
        work: (WORK_ROWS, widest + 1) scratch; indices: (widest + 1,).
        actions: (rows, action size) and spikes: (rows, stages), filled.
    """
    for row in range(obs.shape[0]):
        h = work[2, : obs.shape[1]]
        normalise(obs[row], normaliser, clip, h)
        rederive = age[row, 0] >= rederive_after
        age[row, 0] = ZERO if rederive else age[row, 0] + ONE
        for layer in range(layout.shape[0]):
            n, outputs, at = layout[layer, INPUTS], layout[layer, OUTPUTS], layout[layer, MEMORY]
            stage = matrix(vectors, layout[layer, NEURONS], 4, n)
            kept, v, told, gamma = memory[row, at : at + n], work[3, :n], work[4, :n], stage[2]
            for j in range(n):
                kept[j] *= gamma[j]
                v[j] = h[j] - stage[3, j] - kept[j]
            spikes[row, layer] = encode(v, stage, layout[layer, DIGITS], powers, told)
            for j in range(n):
                kept[j] += told[j]
            z = work[2, :outputs]
            for k in range(outputs):
                z[k] = vectors[layout[layer, BIAS] + k]
            start = layout[layer, ACCUMULATOR]
            tell(told, kept, gamma, matrix(weights, layout[layer, WEIGHTS], n, outputs), rederive,
                 accumulator[row, start : start + outputs], z, work, indices)  # fmt: skip
            activate(z, layout[layer, ACTIVATION], parameters[layer])
            h = z
        apply_head(h, head_kind, head, pre_clip, actions[row])


@compiled
def start_layer(threshold: Any, residual: Any, base: Any, alpha: Any, bound: Any, start: Any) -> None:
    """CRPI: start ← v[0] = base·θ + clip(α·r, ±bound·θ)."""
    for k in range(start.shape[0]):
        reach = bound * threshold[k]
        start[k] = base * threshold[k] + min(max(alpha * residual[k], -reach), reach)


@compiled
def decide_membrane(
    obs: Any, residual: Any, model: int, differential: bool, timesteps: int, levels: int, base: Any, alpha: Any,
    bound: Any, bounded: bool, layout: Any, weights: Any, vectors: Any, normaliser: Any, clip: Any, head_kind: int,
    head: Any, pre_clip: Any, work: Any, indices: Any, trains: Any, actions: Any, spikes: Any,
) -> None:  # fmt: skip
    """One decision of every row; residual (rows, neurons) is updated in place.

    Args:
        alpha: (hidden layers,); bound: c.
        trains: (2, T·widest) scratch for a layer's drive and its outputs.
        Others as in `decide_sigma_delta`.
    """
    last = layout.shape[0] - 1
    for row in range(obs.shape[0]):
        decoded = work[2, : obs.shape[1]]
        normalise(obs[row], normaliser, clip, decoded)
        for layer in range(last):
            n, outputs = layout[layer, INPUTS], layout[layer, OUTPUTS]
            kernel = matrix(weights, layout[layer, WEIGHTS], n, outputs)
            steps = 1 if layer == 0 else timesteps
            drive = matrix(trains[0], 0, steps, outputs)
            before = matrix(trains[1], 0, timesteps, n)
            for t in range(steps):
                for k in range(outputs):
                    drive[t, k] = ZERO
                source = decoded if layer == 0 else before[t]
                add_rows(kernel, indices, work[1], gather(source, indices, work[1]), drive[t])
            threshold = vectors[layout[layer, NEURONS] : layout[layer, NEURONS] + outputs]
            bias = vectors[layout[layer, BIAS] : layout[layer, BIAS] + outputs]
            r = residual[row, layout[layer, MEMORY] : layout[layer, MEMORY] + outputs]
            start = work[0, :outputs]
            start_layer(threshold, r, base, alpha[layer], bound, start)
            membrane = matrix(work[3:].reshape(-1), 0, 5, outputs)
            fired = matrix(trains[1], 0, timesteps, outputs)
            spikes[row, layer] = run_layer(
                drive, layer == 0, bias, start, threshold, model, differential, levels, fired, membrane
            )
            for k in range(outputs):
                difference = membrane[0, k] - start[k]
                r[k] = max(difference, -membrane[1, k]) if bounded else difference
            decoded = work[2, :outputs]
            for k in range(outputs):
                decoded[k] = membrane[2, k]
        n, outputs = layout[last, INPUTS], layout[last, OUTPUTS]
        y = work[0, :outputs]
        for k in range(outputs):
            y[k] = vectors[layout[last, BIAS] + k]
        kernel = matrix(weights, layout[last, WEIGHTS], n, outputs)
        add_rows(kernel, indices, work[1], gather(decoded, indices, work[1]), y)
        apply_head(y, head_kind, head, pre_clip, actions[row])
