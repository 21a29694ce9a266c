"""Compiled: sigma-delta encoding of whole recordings, neuron by neuron along time, for the calibration.

The same arithmetic as `snn_policy.neurons.sigma_delta_spike`, operation by operation in float32; a test
holds the two together to the bit. Neurons go in tiles that stay in the cache, so that a digit is one loop of vector
instructions; with β = 2 a spike's size is the exponent of |v|/(k·q).
"""

from typing import Any

import numpy as np

from snn_policy.engines.compilation import entry, kernel
from snn_policy.protocol import FloatArray, IntArray

TILE = 256
EXPONENT_BITS = np.int32(0x7F800000)
ZERO, ONE = np.float32(0), np.float32(1)


@entry
def encode_sequence(
    h: FloatArray,
    quantum: FloatArray,
    predictor: FloatArray,
    memory: FloatArray,
    digits: int,
    powers: FloatArray,
    told: FloatArray,
    spikes: IntArray,
) -> None:
    """Encode consecutive values of one stage.

    Args:
        h: (decisions, neurons) the stage's values less its offset.
        quantum, predictor, memory: (neurons,); memory is updated in place.
        told: (decisions, neurons), filled with the memory after each decision.
        spikes: (neurons,), raised by the number of spikes.
    """
    reach = (ONE + ONE / powers[1]) / np.float32(2)
    doubling = powers[1] == np.float32(2)
    unit = quantum * reach
    unit[unit == ZERO] = np.float32(np.inf)  # dead
    v, total = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    for start in range(0, h.shape[1], TILE):
        tile = slice(start, start + TILE)
        q, gamma, kept, least, fired = quantum[tile], predictor[tile], memory[tile], unit[tile], spikes[tile]
        for row in range(h.shape[0]):
            spiking = listen(h[row, tile], gamma, kept, least, v)
            if spiking:
                total[:] = ZERO
                for _ in range(digits):
                    if doubling:
                        spiking = fire_doubling(v, q, least, powers[-1], total, fired)
                    else:
                        spiking = fire(v, q, least, powers, total, fired)
                    if spiking == 0:
                        break
                keep_told(gamma, kept, total)
            else:
                keep_silent(gamma, kept)
            told[row, tile] = kept


@kernel
def listen(values: Any, gamma: Any, kept: Any, unit: Any, v: Any) -> Any:
    """v, what is left to tell; returns how many neurons will spike."""
    count = np.int32(0)
    for j in range(unit.shape[0]):
        v[j] = values[j] - gamma[j] * kept[j]
        count = np.int32(count + np.int32(abs(v[j]) >= unit[j]))
    return count


@kernel
def keep_told(gamma: Any, kept: Any, total: Any) -> None:
    for j in range(gamma.shape[0]):
        kept[j] = gamma[j] * kept[j] + total[j]


@kernel
def keep_silent(gamma: Any, kept: Any) -> None:
    for j in range(gamma.shape[0]):
        kept[j] = gamma[j] * kept[j]


@kernel
def fire_doubling(v: Any, q: Any, unit: Any, largest: Any, total: Any, fired: Any) -> Any:
    """One digit of a tile's neurons with β = 2; returns how many neurons spiked."""
    count = np.int32(0)
    for j in range(q.shape[0]):
        ratio = np.float32(min(np.float32(abs(v[j]) / unit[j]), largest))
        spiking = ratio >= ONE
        power = np.int32(ratio.view(np.int32) & EXPONENT_BITS).view(np.float32)
        size = np.float32(q[j] * power) if spiking else ZERO
        s = -size if v[j] < ZERO else size
        v[j] -= s
        total[j] += s
        one = np.int32(ratio >= ONE)
        fired[j] += one
        count = np.int32(count + one)
    return count


@kernel
def fire(v: Any, q: Any, unit: Any, powers: Any, total: Any, fired: Any) -> Any:
    """One digit of a tile's neurons with any β; returns how many neurons spiked."""
    count, last = np.int32(0), len(powers) - 1
    for j in range(q.shape[0]):
        if abs(v[j]) < unit[j]:
            continue
        ratio, i = abs(v[j]) / unit[j], 0
        while i < last and powers[i + 1] <= ratio:
            i += 1
        s = -q[j] * powers[i] if v[j] < ZERO else q[j] * powers[i]
        v[j] -= s
        total[j] += s
        fired[j] += 1
        count = np.int32(count + np.int32(1))
    return count
