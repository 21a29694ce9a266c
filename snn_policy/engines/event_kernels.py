"""Compiled decisions of one row, event-driven: only the weight rows of neurons that spiked are added.

The second implementation of the equations in docs/methods.md §1 and §2; parity tests hold it to `snn_policy.neurons`
and `snn_policy.network`. float32 throughout, loops over neurons without branches (so that they vectorise),
spikes gathered into lists of (index, size) before any weight is touched.
"""

import math
from typing import Any

import numpy as np

from snn_policy.engines.compilation import kernel
from snn_policy.neurons import LARGEST_SPIKE

compiled = kernel
"""Kernels are not cached by themselves: they become part of `event_program.decide`, which is."""

RELU, TANH, ELU, SILU, LEAKY_RELU, QCFS, LINEAR = range(7)
IF, SNM, MT = range(3)
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
EXPONENT_BITS = np.int32(0x7F800000)
LARGEST_RATIO = np.float32(LARGEST_SPIKE)


@compiled
def add_rows(weights: Any, indices: Any, sizes: Any, count: int, total: Any) -> None:
    """total += Σ sizes[i]·weights[indices[i]], four rows at a time."""
    i = 0
    while i + 4 <= count:
        a, b, c, d = sizes[i], sizes[i + 1], sizes[i + 2], sizes[i + 3]
        row_a, row_b = weights[indices[i]], weights[indices[i + 1]]
        row_c, row_d = weights[indices[i + 2]], weights[indices[i + 3]]
        for k in range(total.shape[0]):
            total[k] += (a * row_a[k] + b * row_b[k]) + (c * row_c[k] + d * row_d[k])
        i += 4
    while i < count:
        a = sizes[i]
        row_a = weights[indices[i]]
        for k in range(total.shape[0]):
            total[k] += a * row_a[k]
        i += 1


@compiled
def gather(values: Any, indices: Any, sizes: Any) -> int:
    """List the non-zero values: fills indices and sizes, returns their number."""
    count = 0
    for j in range(values.shape[0]):
        indices[count] = j
        sizes[count] = values[j]
        count += values[j] != ZERO
    return count


@compiled
def gather_by_predictor(values: Any, gamma: Any, indices: Any, sizes: Any) -> Any:
    """List the non-zero values, those with γ=1 from the front, those with γ=0 from the back (one place spare).

    Returns the number of the former, and the place where the latter begin.
    """
    front, back = 0, indices.shape[0] - 1
    for j in range(values.shape[0]):
        kept = (values[j] != ZERO) & (gamma[j] != ZERO)
        indices[front] = j
        sizes[front] = values[j]
        front += kept
        indices[back] = j
        sizes[back] = values[j]
        back -= (values[j] != ZERO) & (gamma[j] == ZERO)
    return front, back + 1


@compiled
def activate(z: Any, activation: int, parameter: Any, levels: Any) -> None:
    """z ← f(z), in place; see `snn_policy.activations` for the parameters."""
    if activation == RELU:
        for k in range(z.shape[0]):
            z[k] = max(z[k], ZERO)
    elif activation == TANH:
        for k in range(z.shape[0]):
            z[k] = math.tanh(z[k])
    elif activation == ELU:
        for k in range(z.shape[0]):
            z[k] = z[k] if z[k] > ZERO else parameter * np.float32(math.expm1(z[k]))
    elif activation == SILU:
        for k in range(z.shape[0]):
            z[k] = z[k] * (np.float32(math.tanh(z[k] * HALF)) * HALF + HALF)
    elif activation == LEAKY_RELU:
        for k in range(z.shape[0]):
            z[k] = z[k] if z[k] > ZERO else z[k] * parameter
    elif activation == QCFS:
        step = parameter / levels
        for k in range(z.shape[0]):
            z[k] = min(max(np.float32(math.floor(z[k] / step + HALF)), ZERO), levels) * step


@compiled
def fire_digit_base_two(v: Any, quantum: Any, unit: Any, told: Any) -> Any:
    """One sigma-delta digit of all neurons, β = 2: a spike's size is an exponent.

    Returns the number of spikes, and the largest |v|/(k·q) as the bits of a float32.
    """
    fired, peak = 0, np.int32(0)
    for j in range(v.shape[0]):
        ratio = min(np.float32(abs(v[j]) / unit[j]), LARGEST_RATIO)
        bits = np.float32(ratio).view(np.int32)
        power = np.int32(bits & EXPONENT_BITS).view(np.float32)
        size = quantum[j] * power if ratio >= ONE else ZERO
        s = size if v[j] > ZERO else -size
        v[j] -= s
        told[j] += s
        fired += ratio >= ONE
        peak = max(peak, bits)
    return fired, peak


@compiled
def fire_digit(v: Any, quantum: Any, unit: Any, powers: Any, told: Any) -> Any:
    """One sigma-delta digit of all neurons, any β; returns as `fire_digit_base_two`."""
    fired, peak, last = 0, np.int32(0), powers.shape[0] - 1
    for j in range(v.shape[0]):
        ratio = np.float32(abs(v[j]) / unit[j])
        if ratio < ONE:
            continue
        i = 0
        while i < last and powers[i + 1] <= ratio:
            i += 1
        s = quantum[j] * powers[i] if v[j] > ZERO else -quantum[j] * powers[i]
        v[j] -= s
        told[j] += s
        fired += 1
        peak = max(peak, np.float32(powers[i]).view(np.int32))
    return fired, peak


@compiled
def fire_if(v: Any, net: Any, threshold: Any, o: Any) -> None:
    for k in range(v.shape[0]):
        o[k] = threshold[k] if v[k] > threshold[k] else ZERO
        v[k] -= o[k]
        net[k] += o[k]


@compiled
def fire_snm(v: Any, net: Any, threshold: Any, o: Any) -> None:
    for k in range(v.shape[0]):
        down = -threshold[k] if (v[k] < ZERO) & (net[k] > ZERO) else ZERO
        o[k] = threshold[k] if v[k] > threshold[k] else down
        v[k] -= o[k]
        net[k] += o[k]


@compiled
def fire_mt(v: Any, net: Any, threshold: Any, levels: int, o: Any, passed: Any) -> None:
    """`passed` holds q of the level before."""
    for k in range(v.shape[0]):
        o[k] = ZERO
        passed[k] = ZERO
    share = ONE
    for _ in range(levels):
        for k in range(v.shape[0]):
            level = threshold[k] * share
            reached = (o[k] == ZERO) & (v[k] >= np.float32(0.75) * level)
            q = ONE if (v[k] <= np.float32(-0.75) * level) & (net[k] >= level) else ZERO
            negative = o[k] - level * (q - passed[k])
            passed[k] = q
            positive = level if reached else o[k]
            o[k] = negative if v[k] < ZERO else positive
        share *= HALF
    for k in range(v.shape[0]):
        v[k] -= o[k]
        net[k] += o[k]


@compiled
def fire(model: int, v: Any, net: Any, threshold: Any, levels: int, o: Any, passed: Any) -> None:
    """o ← fire(v, M); v ← v − o; M ← M + o."""
    if model == IF:
        fire_if(v, net, threshold, o)
    elif model == SNM:
        fire_snm(v, net, threshold, o)
    else:
        fire_mt(v, net, threshold, levels, o, passed)


@compiled
def run_layer(
    drive: Any, constant: bool, bias: Any, start: Any, threshold: Any, model: int, differential: bool, levels: int,
    outputs: Any, work: Any,
) -> int:  # fmt: skip
    """All timesteps of one layer; returns its number of spikes.

    Args:
        drive: (T, n) the weighted input W·o[t] of each timestep; (1, n) where `constant`.
        start: (n,) v[0].
        outputs: (T, n), filled with o[t].
        work: (5, n), left with v[T], M, the decoded activation, and two rows of scratch.
    """
    v, net, decoded, inflow, passed = work[0], work[1], work[2], work[3], work[4]
    timesteps, n = outputs.shape
    for k in range(n):
        v[k], net[k], decoded[k], inflow[k] = start[k], ZERO, ZERO, bias[k]
    spikes = 0
    for t in range(timesteps):
        x, share = drive[0 if constant else t], np.float32(t + 1)
        if differential:
            present = ONE if t == 0 or not constant else ZERO
            for k in range(n):
                d = x[k] * present
                v[k] = v[k] + d + inflow[k] - decoded[k]
                net[k] += decoded[k]
                inflow[k] += d / share
        else:
            for k in range(n):
                v[k] += x[k] + bias[k]
        o = outputs[t]
        fire(model, v, net, threshold, levels, o, passed)
        if differential:
            for k in range(n):
                decoded[k] += o[k] / share
        for k in range(n):
            spikes += o[k] != ZERO
    if not differential:
        for k in range(n):
            decoded[k] = net[k] / np.float32(timesteps)
    return spikes
