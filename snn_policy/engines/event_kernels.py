"""Compiled neurons: the kernels of the event-driven decisions, one row's neurons at a time.

The second implementation of the equations in docs/methods.md §1 and §2; parity tests hold it to `snn_policy.neurons`
and `snn_policy.network`. float32 throughout, loops over neurons without branches and over few arrays each, so that they
vectorise (more arrays would need too many tests of what overlaps in memory).
"""

import math
from typing import Any

import numpy as np

from snn_policy.engines.compilation import kernel
from snn_policy.engines.spike_lists import list_spikes
from snn_policy.neurons import LARGEST_SPIKE

compiled = kernel
"""Kernels are not cached by themselves: they become part of `event_program.decide`, which is."""

RELU, TANH, ELU, SILU, LEAKY_RELU, QCFS, LINEAR = range(7)
IF, SNM, MT = range(3)
ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)
SIGN_BIT, MAGNITUDE_BITS, EXPONENT_BITS = np.int32(-(2**31)), np.int32(0x7FFFFFFF), np.int32(0x7F800000)
ONE_BITS, LARGEST_FINITE = ONE.view(np.int32), np.finfo(np.float32).max.view(np.int32)
LARGEST_EXPONENT = np.int32(int(np.log2(LARGEST_SPIKE)) << 23)


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
            z[k] = np.float32(math.floor(min(max(z[k] / step + HALF, ZERO), levels))) * step


@compiled
def doubling_spike(v: Any, quantum_bits: Any, unit_bits: Any) -> Any:
    """A sigma-delta spike with β = 2, and ⌊log₂(|v|/(k·q))⌋·2²³ and less than 2²³ more; negative: none.

    The bits of two positive floats, as integers, differ by just that: no division, and no rounding.
    """
    bits = np.float32(v).view(np.int32)
    magnitude = min(np.int32(bits & MAGNITUDE_BITS), LARGEST_FINITE)
    above = min(np.int32(magnitude - unit_bits), LARGEST_EXPONENT)
    size = np.int32(np.int32(above & EXPONENT_BITS) + quantum_bits)
    spike = np.int32(size | np.int32(bits & SIGN_BIT)) if above >= 0 else np.int32(0)
    return np.int32(spike).view(np.float32), above


@compiled
def fire_two_digits(v: Any, quantum: Any, unit: Any, told: Any, both: bool) -> Any:
    """Two sigma-delta digits of all neurons, or one, with β = 2.

    Returns the number of spikes, of those of the second digit, and the largest in quanta as a float32's bits.
    """
    quantum_bits, unit_bits = quantum.view(np.int32), unit.view(np.int32)
    fired, again, peak = np.int32(0), np.int32(0), np.int32(-1)
    for j in range(v.shape[0]):
        first, above = doubling_spike(v[j], quantum_bits[j], unit_bits[j])
        left = np.float32(v[j] - first)
        second, more = doubling_spike(left, quantum_bits[j], unit_bits[j])
        second = second if both else ZERO
        v[j] = left - second
        told[j] = told[j] + first + second
        fired = np.int32(fired + np.int32(above >= 0))
        again = np.int32(again + np.int32((more >= 0) & both))
        peak = max(peak, above)
    return np.int32(fired + again), again, np.int32(np.int32(peak & EXPONENT_BITS) + ONE_BITS)


@compiled
def fire_digit(v: Any, quantum: Any, unit: Any, powers: Any, told: Any) -> Any:
    """One sigma-delta digit of all neurons, any β.

    Returns the number of spikes, and the largest in quanta as a float32's bits.
    """
    fired, peak, last = np.int32(0), np.int32(0), powers.shape[0] - 1
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
        fired = np.int32(fired + 1)
        peak = max(peak, np.float32(powers[i]).view(np.int32))
    return fired, peak


@compiled
def fire_if(v: Any, net: Any, threshold: Any, o: Any) -> None:
    for k in range(v.shape[0]):
        spike = threshold[k] if v[k] > threshold[k] else ZERO
        o[k] = spike
        v[k] -= spike
    for k in range(v.shape[0]):
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
def integrate_rate(v: Any, x: Any) -> None:
    for k in range(v.shape[0]):
        v[k] += x[k]


@compiled
def integrate_differential(v: Any, x: Any, present: Any, t: Any, net: Any, inflow: Any, decoded: Any) -> None:
    """`present` is 0 where the input changes no more; t counts from 1."""
    for k in range(v.shape[0]):
        net[k] += decoded[k]
    for k in range(v.shape[0]):
        d = x[k] * present
        v[k] = v[k] + d + inflow[k] - decoded[k]
        inflow[k] += d / t


@compiled
def run_layer(
    drive: Any, constant: bool, bias: Any, start: Any, threshold: Any, model: int, differential: bool, levels: int,
    timesteps: int, decoded: Any, first: int, indices: Any, sizes: Any, work: Any,
) -> int:  # fmt: skip
    """All timesteps of one layer; returns its number of spikes.

    Args:
        drive: (T, ≥ n) the input of each timestep, W·o[t] + b, without b where `differential`; (1, ≥ n) where
            `constant`.
        start: (n,) v[0].
        decoded: (n,), filled with the decoded activation.
        first: o[t] becomes train first + t − 1; below 0: spikes are counted only.
        work: (≥ 5, ≥ n), left with v[T], M, and three rows of scratch.
    """
    n = start.shape[0]
    v, net, inflow, passed, o = work[0, :n], work[1, :n], work[2, :n], work[3, :n], work[4, :n]
    for k in range(n):
        v[k], net[k], decoded[k], inflow[k] = start[k], ZERO, ZERO, bias[k]
    spikes = 0
    for t in range(timesteps):
        x = drive[0 if constant else t]
        if differential:
            present = ONE if t == 0 or not constant else ZERO
            integrate_differential(v, x, present, np.float32(t + 1), net, inflow, decoded)
        else:
            integrate_rate(v, x)
        fire(model, v, net, threshold, levels, o, passed)
        if differential:
            for k in range(n):
                decoded[k] += o[k] / np.float32(t + 1)
        if first >= 0:
            spikes += list_spikes(o, indices, sizes, first + t)
        else:
            spikes += count_spikes(o)
    if not differential:
        for k in range(n):
            decoded[k] = net[k] / np.float32(timesteps)
    return spikes


@compiled
def count_spikes(o: Any) -> Any:
    count = np.int32(0)
    for k in range(o.shape[0]):
        count = np.int32(count + np.int32(o[k] != ZERO))
    return count
