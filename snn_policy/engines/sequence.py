"""Compiled: sigma-delta encoding of whole recordings, neuron by neuron along time, for the calibration.

The same arithmetic as `snn_policy.neurons.sigma_delta_spike`, operation by operation in float32; a test
holds the two together to the bit.
"""

import numpy as np

from snn_policy.engines.compilation import entry
from snn_policy.protocol import FloatArray, IntArray


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
    reach = (np.float32(1) + np.float32(1) / powers[1]) / np.float32(2)
    last = len(powers) - 1
    for row in range(h.shape[0]):
        for j in range(h.shape[1]):
            kept = predictor[j] * memory[j]
            v = h[row, j] - kept
            total = np.float32(0)
            unit = quantum[j] * reach
            for _ in range(digits):
                magnitude = abs(v)
                if unit == 0 or magnitude / unit < np.float32(1):
                    break
                ratio = magnitude / unit
                i = 0
                while i < last and powers[i + 1] <= ratio:
                    i += 1
                s = quantum[j] * powers[i]
                if v < 0:
                    s = -s
                v -= s
                total += s
                spikes[j] += 1
            memory[j] = kept + total
            told[row, j] = memory[j]
