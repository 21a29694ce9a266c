"""Compiled sigma-delta decisions of a block of rows, stage by stage. Equations: docs/methods.md §1.

Receivers keep two sums: an accumulator that persists, of neurons with γ=1, and one of this decision alone, of those
with γ=0. A block of R rows uses trains 0…R−1 for the latter and R…2R−1 for the former.
"""

from typing import Any

import numpy as np

from snn_policy.engines.event_convolution import (
    CONVOLUTION,
    FAN_OUT,
    add_channels,
    convolve,
    size_of_sums,
)
from snn_policy.engines.event_kernels import ONE, ZERO, activate, compiled, fire_digit, fire_two_digits
from snn_policy.engines.event_plan import (
    ACCUMULATOR,
    ACTIVATION,
    AGE,
    BIAS,
    CLIP,
    DIGITS,
    DOUBLING,
    INPUTS,
    LAYERS,
    MEMORY,
    NEURONS,
    NORMALISER,
    OPERATIONS,
    OUTPUTS,
    POWER_COUNT,
    POWERS,
    REDERIVE_AFTER,
    SLOPE,
    SPIKING,
    STALE,
    WEIGHTS,
    act,
    matrix,
    normalise,
)
from snn_policy.engines.spike_lists import list_places, list_spikes, propagate

COARSE_SPIKE = np.float32(2**14).view(np.int32)
"""In quanta, as bits: after a spike of this size, the next decision derives the accumulators anew."""
VECTOR, INFINITE = 16, np.float32(np.inf)
REDERIVES = 5
"""The row of scratch that says, environment row by row, whether this decision derives the accumulators anew."""


@compiled
def encode(v: Any, quantum: Any, unit: Any, digits: int, powers: Any, doubling: bool, told: Any) -> Any:
    """Up to `digits` spikes per neuron: v is spent, `told` filled with Σ s; all (n,).

    Returns the number of spikes, and whether one was so large that the accumulators lose precision.
    """
    for j in range(v.shape[0]):
        told[j] = ZERO
    spikes, largest, digit = 0, np.int32(0), 0
    while digit < digits:
        if doubling:
            fired, more, peak = fire_two_digits(v, quantum, unit, told, digit + 1 < digits)
            digit += 2
        else:
            fired, peak = fire_digit(v, quantum, unit, powers, told)
            more, digit = fired, digit + 1
        spikes += fired
        largest = max(largest, peak)
        if more == 0:
            break
    return spikes, largest >= COARSE_SPIKE


@compiled
def encode_counted(
    v: Any, quantum: Any, unit: Any, digits: int, powers: Any, doubling: bool, told: Any, listed: Any, fan_out: Any
) -> Any:
    """As `encode`, for the neurons in a list whose fan-outs differ; returns their synaptic operations as well."""
    for j in range(v.shape[0]):
        told[j] = ZERO
    spikes, operations, largest = 0, 0, np.int32(0)
    for _ in range(digits):
        for i in range(listed.shape[0]):  # all that will fire; a huge v may be the same after it
            if abs(v[i]) >= unit[i]:
                operations += np.int64(fan_out[np.uint32(listed[i])])
        if doubling:
            fired, _, peak = fire_two_digits(v, quantum, unit, told, False)
        else:
            fired, peak = fire_digit(v, quantum, unit, powers, told)
        if fired == 0:
            break
        spikes += fired
        largest = max(largest, peak)
    return spikes, operations, largest >= COARSE_SPIKE


@compiled
def gather_reached(v: Any, quantum: Any, unit: Any, work: Any, indices: Any, n: int) -> int:
    """List in train n the neurons whose v reaches their unit; returns their number.

    Their v, quantum and unit are left in work[1:4], followed by dead neurons up to a multiple of `VECTOR`.
    """
    size = v.shape[0]
    reached = work[1, :size]
    for j in range(size):
        reached[j] = v[j] if abs(v[j]) >= unit[j] else ZERO
    count = list_places(reached, indices, n)
    reached_v, reached_quantum, reached_unit, listed = work[1], work[2], work[3], indices[n, 1:]
    for i in range(count):
        j = np.uint32(listed[i])
        reached_v[i], reached_quantum[i], reached_unit[i] = v[j], quantum[j], unit[j]
    for i in range(count, count + VECTOR):
        reached_v[i], reached_quantum[i], reached_unit[i] = ZERO, ZERO, INFINITE
    return count


@compiled
def remember(
    told: Any, memory: Any, gamma: Any, count: int, fresh: Any, fresh_sizes: Any, kept: Any, kept_sizes: Any
) -> Any:
    """Add what the neurons in the list `fresh` told to their memory, and move those with γ=1 to the list `kept`.

    Returns the lengths of the two lists. (Unsigned indices spare a test for negative ones.)
    """
    first, second = np.uint32(0), np.uint32(0)
    for i in range(count):
        j = np.uint32(fresh[i])
        memory[j] += told[i]
        keeps = gamma[j] != ZERO
        fresh[first], fresh_sizes[first] = j, told[i]
        kept[second], kept_sizes[second] = j, told[i]
        first = np.uint32(first + np.uint32(not keeps))
        second = np.uint32(second + np.uint32(keeps))
    return first, second


@compiled
def tell(
    h: Any, own: Any, age: Any, state: Any, parameters: Any, plan: Any, work: Any, rederives: bool, indices: Any,
    sizes: Any, fresh: int, kept: int,
) -> Any:  # fmt: skip
    """A stage of one row: from its values h to its new memory and the trains `fresh` (γ=0) and `kept` (γ=1).

    `age` (1,) is raised where the next decision must derive the accumulators anew. Returns the number of spikes, and
    of a convolution's synaptic operations.
    """
    n = own[INPUTS]
    stage, memory, v = matrix(parameters, own[NEURONS], 4, n), state[own[MEMORY] : own[MEMORY] + n], work[0, :n]
    quantum, unit, gamma, offset = stage[0], stage[1], stage[2], stage[3]
    for j in range(n):
        memory[j] *= gamma[j]
    for j in range(n):
        v[j] = h[j] - offset[j] - memory[j]
    count = gather_reached(v, quantum, unit, work, indices, fresh)
    padded, told = (count + VECTOR - 1) & -VECTOR, work[4]
    powers = parameters[plan[0, POWERS] : plan[0, POWERS] + plan[0, POWER_COUNT]]
    encoded, doubling, operations = told[:padded], plan[0, DOUBLING] == 1, 0
    if own[CONVOLUTION]:
        fan_out = parameters[own[FAN_OUT] : own[FAN_OUT] + n]
        spikes, operations, coarse = encode_counted(work[1, :padded], work[2, :padded], work[3, :padded], own[DIGITS],
                                                    powers, doubling, encoded, indices[fresh, 1 : 1 + count],
                                                    fan_out)  # fmt: skip
    else:
        spikes, coarse = encode(work[1, :padded], work[2, :padded], work[3, :padded], own[DIGITS], powers, doubling,
                                encoded)  # fmt: skip
    if coarse:
        age[0] = plan[0, REDERIVE_AFTER]
    indices[fresh, 0], indices[kept, 0] = remember(told, memory, gamma, count, indices[fresh, 1:], sizes[fresh],
                                                   indices[kept, 1:], sizes[kept])  # fmt: skip
    if rederives:
        for j in range(n):
            v[j] = memory[j] * gamma[j]
        list_spikes(v, indices, sizes, kept)
    return spikes, operations


@compiled
def begin(bias: Any, heard: Any, anew: bool, fresh: Any, kept: Any) -> None:
    for k in range(bias.shape[0]):
        fresh[k] = bias[k]
        kept[k] = ZERO if anew else heard[k]


@compiled
def hear(kept: Any, heard: Any, z: Any) -> None:
    for k in range(z.shape[0]):
        heard[k] = kept[k]
        z[k] += kept[k]


@compiled
def hear_convolution(
    own: Any, parameters: Any, bias: Any, anew: bool, heard: Any, indices: Any, sizes: Any, fresh: int, kept: int,
    image: Any, sums: Any, z: Any,
) -> None:  # fmt: skip
    """A convolution's z (outputs,) ← b + W ∗ what it has heard; `heard`, of neurons with γ=1, is updated in place."""
    if anew:
        heard[:] = ZERO
    convolve(own, parameters, indices[kept], sizes[kept], image, heard)
    for k in range(heard.shape[0]):
        sums[k] = heard[k]
    convolve(own, parameters, indices[fresh], sizes[fresh], image, sums)
    for k in range(bias.shape[0]):
        z[k] = bias[k]
    add_channels(own, sums, z)


@compiled
def decide_sigma_delta(
    obs: Any, state: Any, parameters: Any, plan: Any, work: Any, indices: Any, sizes: Any, totals: Any, actions: Any,
    counts: Any,
) -> None:  # fmt: skip
    """One decision of a block of rows; `state` is updated in place, `actions` and `counts` (rows, …) filled."""
    header, rows, age = plan[0], obs.shape[0], plan[0, AGE]
    inputs, rederives = obs.shape[1], work[REDERIVES]
    normaliser = matrix(parameters, header[NORMALISER], 2, inputs)
    for row in range(rows):
        normalise(obs[row], normaliser, parameters[CLIP], totals[row, :inputs])
        stale = header[STALE] > 0 and state[row, header[STALE]] != ZERO
        rederives[row] = ONE if stale or state[row, age] >= header[REDERIVE_AFTER] else ZERO
        state[row, age] = ZERO if rederives[row] else state[row, age] + ONE
        if header[STALE]:
            state[row, header[STALE]] = ZERO
    for layer in range(header[LAYERS]):
        own = plan[1 + layer]
        n, outputs, start = own[INPUTS], own[OUTPUTS], own[ACCUMULATOR]
        bias, convolves = parameters[own[BIAS] : own[BIAS] + outputs], own[CONVOLUTION] != 0
        for row in range(rows):
            anew = rederives[row] != ZERO
            counts[row, layer], operations = tell(totals[row, :n], own, state[row, age : age + 1], state[row],
                                                  parameters, plan, work, anew, indices, sizes, row,
                                                  rows + row)  # fmt: skip
            counts[row, header[SPIKING] + OPERATIONS] += operations
            if convolves:
                heard = state[row, start : start + size_of_sums(own)]
                hear_convolution(own, parameters, bias, anew, heard, indices, sizes, row, rows + row, work[7], work[8],
                                 totals[row, :outputs])  # fmt: skip
            else:
                begin(bias, state[row, start : start + outputs], anew, totals[row], totals[rows + row])
        if not convolves:
            propagate(parameters, own[WEIGHTS], n, outputs, indices, sizes, totals, 2 * rows, 1)
        for row in range(rows):
            z = totals[row, :outputs]
            if not convolves:
                hear(totals[rows + row], state[row, start : start + outputs], z)
            activate(z, own[ACTIVATION], parameters[own[SLOPE]], parameters[own[SLOPE] + 1])
    act(totals, parameters, plan, actions)
