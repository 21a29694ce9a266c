"""Sigma-delta encoding of whole recordings for the calibration: by the compiled core, or by NumPy where there is none.

Both carry out the arithmetic of `snn_policy.spiking.neurons.sigma_delta_spike`, and give the same bits.
"""

import numpy as np

from snn_policy.engines.core import library
from snn_policy.protocol import FloatArray, IntArray
from snn_policy.spiking.neurons import sigma_delta_spike


def encode_sequence(
    h: FloatArray, quantum: FloatArray, predictor: FloatArray, memory: FloatArray, digits: int, powers: FloatArray,
    sent: FloatArray, spikes: IntArray,
) -> None:  # fmt: skip
    """Encode consecutive values of one stage.

    Args:
        h: (decisions, neurons) the stage's values less its offset.
        quantum, predictor, memory: (neurons,); memory is updated in place.
        sent: (decisions, neurons), filled with the memory after each decision.
        spikes: (neurons,), raised by the number of spikes.
    """
    if library.available():
        library.encode_sequence(h, quantum, predictor, memory, digits, powers, sent, spikes)
    else:
        encode_with_numpy(h, quantum, predictor, memory, digits, powers, sent, spikes)


def encode_with_numpy(
    h: FloatArray, quantum: FloatArray, predictor: FloatArray, memory: FloatArray, digits: int, powers: FloatArray,
    sent: FloatArray, spikes: IntArray,
) -> None:  # fmt: skip
    """As `encode_sequence`, decision by decision."""
    for row, values in enumerate(h):
        kept = predictor * memory
        v, total = (values - kept)[None], np.zeros((1, len(memory)), np.float32)
        for _ in range(digits):
            s = sigma_delta_spike(v, quantum, powers)
            v, total = v - s, total + s
            spikes += s[0] != 0
        memory[...] = kept + total[0]
        sent[row] = memory
