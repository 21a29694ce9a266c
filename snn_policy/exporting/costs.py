"""What graphs count: spikes per layer, synaptic operations and events, as one product with a matrix of zeros and
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


def cost_matrix(receivers: Sequence[Layer], dtype: Any = np.float32, events: bool = False) -> FloatArray:
    """Return (neurons of all spiking layers, spiking layers + 1): which layer a neuron is of, and its synapses.

    With events (twice as many neurons, spiking layers + 2): below them, the synapses once more in a column of their
    own, for those that spiked at all.
    """
    sizes = [layer.inputs for layer in receivers]
    owners = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    synapses = np.concatenate([layer.fan_out for layer in receivers])[:, None]
    matrix = np.concatenate([owners, synapses], axis=1)
    if events:
        matrix = np.block([[matrix, 0 * synapses], [0 * matrix, synapses]])
    return matrix.astype(dtype)


def counted(fired: Traced, receivers: Sequence[Layer], first: Traced | None = None) -> Traced:
    """Return (rows, spiking layers + 1 or 2) int64 of (rows, neurons) booleans: spikes per layer, synaptic operations,
    and events, where it is known which of the spikes are their neuron's `first` one in the decision."""
    most = sum(int(layer.fan_out.sum()) for layer in receivers)
    dtype = np.float32 if most < EXACT else np.float64
    counting = fired if first is None else xp.concat([fired, first], axis=1)
    matrix = cost_matrix(receivers, dtype, events=first is not None)
    return xp.astype(xp.matmul(xp.astype(counting, dtype), matrix), np.int64)
