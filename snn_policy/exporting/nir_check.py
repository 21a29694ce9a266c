"""A NIR graph, read back and run: its nodes one after the other, and its metadata, as a host would do it.

Nothing of the policy is used but the function of an IF neuron; so what is compared is what the file says.
"""

from io import BytesIO
from typing import Any

import numpy as np

from snn_policy.ann.convolution import Conv2d
from snn_policy.exporting.export import describe
from snn_policy.exporting.graph_session import Outcome
from snn_policy.exporting.verification import Verification, compare
from snn_policy.protocol import Array, FloatArray
from snn_policy.spiking.crpi import residual_potential, start_potential
from snn_policy.spiking.firing import fire_if
from snn_policy.spiking.network import SpikingNetwork


def verify_nir(network: SpikingNetwork, graph: Any, stream: BytesIO, observations: FloatArray) -> Verification:
    """Read the graph back from `stream`, and compare its nodes with the given one's, its decisions with the policy's.

    Raises:
        ValueError: a node that is not what was written.
    """
    import nir

    read = nir.read(stream)  # pyright: ignore[reportArgumentType]
    if set(read.nodes) != set(graph.nodes) or sorted(read.edges) != sorted(graph.edges):
        raise ValueError(f"nodes read back: {sorted(read.nodes)}, written: {sorted(graph.nodes)}")
    for name, node in graph.nodes.items():
        mine, theirs = node.to_dict(), read.nodes[name].to_dict()
        if mine.keys() != theirs.keys() or not all(np.array_equal(mine[key], theirs[key]) for key in mine):
            raise ValueError(f"node {name}: read back otherwise than it was written")
    return compare(network, NirPolicy(read, network), observations)


class NirPolicy:
    """Make the decisions of a NIR graph as `verification.compare` takes them; the network only says what to compare."""

    def __init__(self, graph: Any, network: SpikingNetwork) -> None:
        widths = {"residual": sum(network.spiking_widths)}
        self.description = describe(network, "decision", widths, 1, False, None)
        self._said = graph.metadata
        following = dict(graph.edges)
        self._chain, name = [], "input"
        while name in following:
            name = following[name]
            self._chain.append(graph.nodes[name])

    def run(self, obs: FloatArray, memory: tuple[FloatArray, ...]) -> Outcome:
        """Make one decision from the residual of the one before; thresholds are per neuron, spikes 1."""
        said, (before,) = self._said, memory
        x, residuals, start, layer = self._normalised(obs)[None], [], 0, 0
        arriving = np.repeat(x, int(said["timesteps"]), axis=0)  # (T, rows, …)
        for node in self._chain:
            if type(node).__name__ != "IF":
                arriving = _passed(node, arriving)
                continue
            width = node.v_threshold.size
            carried = before[:, start : start + width].reshape(len(obs), *node.v_threshold.shape)
            arriving, residual = self._fired(node, arriving, carried, float(said["alpha"][layer]))
            residuals.append(residual.reshape(len(obs), -1))
            start, layer = start + width, layer + 1
        y = arriving.mean(axis=0, dtype=np.float32).reshape(len(obs), -1)
        residual = np.concatenate([before[:, :0], *residuals], axis=1)
        return Outcome(self._head(y), (residual,), np.zeros((len(obs), 0), np.int64))

    def _fired(self, node: Any, current: Array, carried: Array, alpha: float) -> tuple[Array, Array]:
        """Return the spikes (T, rows, …) and the residual."""
        threshold, said = node.v_threshold, self._said
        bound = threshold * np.float32(said["alpha_clip"])
        v_start = start_potential(threshold * np.float32(0.5), carried, alpha, bound)  # pyright: ignore
        v, spikes = v_start, []
        for x in current:
            v = v + node.r * x
            o = fire_if(v, threshold)
            v = v - o
            spikes.append((o != 0).astype(np.float32))
        net = threshold * np.sum(spikes, axis=0)
        return np.stack(spikes), residual_potential(v, v_start, net, said["residual"])

    def _normalised(self, obs: FloatArray) -> Array:
        said = self._said
        shape = tuple(int(size) for size in self._chain[0].input_type["input"])
        if "normaliser_mean" in said:
            scaled = (obs - said["normaliser_mean"]) / said["normaliser_scale"]
            obs = np.clip(scaled, -said["normaliser_clip"], said["normaliser_clip"])
        return np.asarray(obs, np.float32).reshape(len(obs), *shape)

    def _head(self, y: Array) -> Array:
        said = self._said
        if said["head"] == "argmax":
            parts = np.split(y, np.cumsum(said["head_choices"])[:-1], axis=1)
            chosen = np.stack([part.argmax(axis=1) for part in parts], axis=1)
            return chosen if "action_shape" in said else chosen[:, 0]
        if said["head"] == "tanh":
            reach = np.float32(said["head_pre_clip"])
            y = np.tanh(np.clip(y, -reach, reach)) * said["head_scale"] + said["head_offset"]
        return np.clip(y, said["head_low"], said["head_high"])


def _passed(node: Any, arriving: Array) -> Array:
    """Pass (T, rows, …) through a node that is no neuron."""
    match type(node).__name__:
        case "Affine":
            return arriving @ node.weight.T + node.bias
        case "Linear":
            return arriving @ node.weight.T
        case "Scale":
            return arriving * node.scale
        case "Flatten":
            return arriving.reshape(*arriving.shape[:2], -1)
        case "Output":
            return arriving
        case "Conv2d":
            shape = (int(node.weight.shape[1]), *(int(size) for size in node.input_shape))
            stride, padding = tuple(map(int, node.stride)), tuple(map(int, node.padding))
            layer = Conv2d(node.weight, node.bias, shape, stride, padding)  # pyright: ignore[reportArgumentType]
            flat = layer(arriving.reshape(-1, layer.inputs))
            return flat.reshape(*arriving.shape[:2], *layer.output_shape)
        case other:
            raise ValueError(f"node {other}: not one that is exported")
