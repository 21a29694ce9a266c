"""What graphs count: spikes per layer and synaptic operations, as one product with a matrix of zeros and fan-outs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from snn_policy.ann.layers import Layer, Linear
from snn_policy.exporting import namespace as xp
from snn_policy.exporting.tracing import Traced
from snn_policy.protocol import FloatArray

EXACT = 2**24
"""Whole numbers below it are exact in float32."""


def fan_out(layer: Layer) -> Any:
    """(inputs,) synapses of every neuron that the layer receives from."""
    return np.full(layer.inputs, layer.outputs) if isinstance(layer, Linear) else layer.fan_out


def cost_matrix(receivers: Sequence[Layer], dtype: Any = np.float32) -> FloatArray:
    """(neurons of all spiking layers, spiking layers + 1): which layer a neuron is of, and its synapses."""
    sizes = [layer.inputs for layer in receivers]
    owners = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    synapses = np.concatenate([fan_out(layer) for layer in receivers])
    return np.concatenate([owners, synapses[:, None]], axis=1).astype(dtype)


def counted(fired: Traced, receivers: Sequence[Layer]) -> Traced:
    """(rows, spiking layers + 1) int64 of (rows, neurons) booleans: spikes per layer, synaptic operations."""
    most = sum(int(fan_out(layer).sum()) for layer in receivers)
    dtype = np.float32 if most < EXACT else np.float64
    return xp.astype(xp.matmul(xp.astype(fired, dtype), cost_matrix(receivers, dtype)), np.int64)
