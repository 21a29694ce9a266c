"""What graphs count: spikes per layer, synaptic operations and events, as products with matrices of zeros and
fan-outs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from snn_policy.ann.layers import Layer
from snn_policy.exporting import namespace as xp
from snn_policy.exporting.tracing import Traced
from snn_policy.protocol import FloatArray

EXACT = 2**24
"""Whole numbers below it are exact in float32."""


def cost_matrices(receivers: Sequence[Layer], dtype: Any = np.float32, events: bool = False) -> list[FloatArray]:
    """Return (neurons of all spiking layers, spiking layers + 1): which layer a neuron is of, and its synapses.

    With events, two of (…, spiking layers + 2): the same with a further column of zeros, and the synapses in that
    column alone, for those that spiked at all.
    """
    sizes = [layer.inputs for layer in receivers]
    owners = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    synapses = np.concatenate([layer.fan_out for layer in receivers])[:, None]
    matrices = [np.concatenate([owners, synapses], axis=1)]
    if events:
        matrices = [np.pad(matrices[0], ((0, 0), (0, 1))), np.concatenate([0 * owners, 0 * synapses, synapses], axis=1)]
    return [matrix.astype(dtype) for matrix in matrices]


def totals(spikes: Traced, receivers: Sequence[Layer], first: Traced | None = None) -> Traced:
    """Return (rows, spiking layers + 1 or 2) whole numbers, in the precision of `spikes`, (rows, neurons).

    Args:
        first: (rows, neurons) 1 for those that spiked for the first time in the decision, else 0; None if not known.
    """
    matrices = cost_matrices(receivers, spikes.dtype, events=first is not None)
    product = xp.matmul(spikes, matrices[0])
    return product if first is None else xp.gemm(first, matrices[1], product)


def counted(fired: Traced, receivers: Sequence[Layer], first: Traced | None = None) -> Traced:
    """Return (rows, spiking layers + 1 or 2) int64 of (rows, neurons) booleans: spikes per layer, synaptic operations,
    and events, where it is known which of the spikes are their neuron's `first` one in the decision."""
    most = sum(int(layer.fan_out.sum()) for layer in receivers)
    dtype = np.float32 if most < EXACT else np.float64
    known = None if first is None else xp.astype(first, dtype)
    return xp.astype(totals(xp.astype(fired, dtype), receivers, known), np.int64)
