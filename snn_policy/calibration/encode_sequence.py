"""Sigma-delta encoding of whole recordings for the calibration: by the compiled core, or by NumPy where there is none.

Both carry out the arithmetic of `snn_policy.spiking.neurons.sigma_delta_spike`, and give the same bits.
"""

import numpy as np

from snn_policy.engines.core import library
from snn_policy.protocol import FloatArray, IntArray
from snn_policy.spiking.neurons import sigma_delta_residual, sigma_delta_spike


def encode_sequence(
    h: FloatArray, quantum: FloatArray, predictor: FloatArray, memory: FloatArray, digits: int, powers: FloatArray,
    sent: FloatArray, spikes: IntArray, alpha: float = 0.0, residual: FloatArray | None = None,
) -> None:  # fmt: skip
    """Encode consecutive values of one stage.

    Args:
        h: (decisions, neurons) the stage's values less its offset.
        quantum, predictor, memory: (neurons,); memory is updated in place.
        sent: (decisions, neurons), filled with the memory after each decision.
        spikes: (neurons,), raised by the number of spikes.
        residual: (neurons,), where a share alpha of it is carried; it is updated in place.
    """
    encode = library.encode_sequence if library.available() else encode_with_numpy
    encode(h, quantum, predictor, memory, digits, powers, sent, spikes, alpha, residual)


def encode_with_numpy(
    h: FloatArray, quantum: FloatArray, predictor: FloatArray, memory: FloatArray, digits: int, powers: FloatArray,
    sent: FloatArray, spikes: IntArray, alpha: float = 0.0, residual: FloatArray | None = None,
) -> None:  # fmt: skip
    """Encode as `encode_sequence`, decision by decision."""
    for row, values in enumerate(h):
        kept = predictor * memory
        v, total = (values - kept)[None], np.zeros((1, len(memory)), np.float32)
        if residual is not None:
            v = v + alpha * residual
        fired = np.zeros(len(memory), np.int64)
        for _ in range(digits):
            s = sigma_delta_spike(v, quantum, powers)
            v, total, fired = v - s, total + s, fired + (s[0] != 0)
            if not s.any():
                break  # nor does any digit after it say anything
        if residual is not None:
            residual[...] = sigma_delta_residual(v, fired[None] > 0, quantum)[0]
        memory[...] = kept + total[0]
        spikes += fired
        sent[row] = memory
