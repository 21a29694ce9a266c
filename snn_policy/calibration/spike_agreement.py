"""How many spike counts of a rate-coded IF network are those of its shadow, the quantised ANN (docs/methods.md §4, §5).

Layer by layer, each on its own inputs, as Song et al. measure it: a layer's shadow sees the firing rates that the layer
itself receives, so that errors do not add up from layer to layer.
"""

import numpy as np

from snn_policy.ann.activations import quantised
from snn_policy.protocol import FloatArray
from snn_policy.spiking.membrane import initial_iterations, run_layer
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons


def equal_counts(network: SpikingNetwork, observations: FloatArray) -> float:
    """Return the share of living hidden neurons whose T-step count is the shadow's, reset and without CRPI's charge.

    Args:
        observations: (N, *observation_shape) float32.

    Raises:
        ValueError: a network of other neurons than IF under rate coding.
    """
    neurons, actor = network.neurons, network.actor
    if not isinstance(neurons, MembraneNeurons) or (neurons.model, neurons.coding) != ("if", "rate"):
        raise ValueError("equal_counts: of 'if' neurons under 'rate' coding only; others stand for no quantised ANN")
    x, run, equal = actor.inputs(observations), None, []
    iterations = initial_iterations(neurons, x)
    for layer, theta in zip(actor.layers, neurons.thresholds, strict=False):
        weighted = layer.product(x[:, None] if run is None else run.outputs)
        rate = x if run is None else run.net / neurons.timesteps
        start = np.broadcast_to(neurons.base(theta), (len(x), layer.outputs))
        run = run_layer(weighted, start, layer.unit_bias, theta, neurons, iterations)
        wanted = quantised(layer(rate), theta, neurons.timesteps) * neurons.timesteps
        equal.append((abs(run.net - wanted) < 0.5 * theta)[:, theta > 0].ravel())
    return float(np.mean(np.concatenate(equal)))
