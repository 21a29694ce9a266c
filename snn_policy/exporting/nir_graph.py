"""IF networks under rate coding as a NIR graph (Neuromorphic Intermediate Representation; package `nir`).

export_nir(bundle, "run/policy.nir")       # see docs/nir.md

NIR's IF neuron is dv/dt = R·I with a spike of size 1 where v > v_threshold. With R = 1 and a time step of 1 it is this
package's (docs/methods.md §1), but for three things that NIR has no place for; the graph's metadata says them: the
soft reset, the start v[0] with the residual that it carries, and T. Spikes here have the size θ, so every neuron's θ is
multiplied into the weights that it sends through. Where it cannot be (thresholds that differ within a channel of a
convolution), a Scale node follows the neurons. A dead neuron has R = 0 and v_threshold = 1: it never spikes.
"""

from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Layer
from snn_policy.atomic_files import write_atomically
from snn_policy.bundle import Bundle
from snn_policy.bundle.other_exports import NETWORK_KEY, network_digest
from snn_policy.checks import require
from snn_policy.errors import UnsupportedLayerError, needs_extra
from snn_policy.exporting.nir_check import verify_nir
from snn_policy.exporting.verification import Verification, observations_to_verify
from snn_policy.protocol import FloatArray
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons

FORMAT, FORMAT_VERSION = "snn-policy-nir", 1
REMEDY = "convert with neuron='if', coding='rate', or export to ONNX, C or TorchScript"
RULES = {
    "input": "the observation, normalised and then reshaped in C order, as a constant current in all timesteps",
    "reset": "soft: v <- v - v_threshold after a spike; v_reset is not used",
    "spike": "1 where v > v_threshold, strictly, after v <- v + r * I; one timestep is dt = 1",
    "order": "no delay between layers: a spike arrives within its own timestep",
    "v_start": "v_threshold / 2 + clip(alpha * residual, -alpha_clip * v_threshold, alpha_clip * v_threshold)",
    "residual_plain": "v_end - v_start of the decision before; 0 after a reset",
    "residual_bounded": "max(v_end - v_start, -v_threshold * spikes) of the decision before; 0 after a reset",
    "output": "the mean of the Output node over the timesteps, then the head",
    "head_tanh": "clip(tanh(clip(y, -head_pre_clip, head_pre_clip)) * head_scale + head_offset, head_low, head_high)",
    "head_clip": "clip(y, head_low, head_high)",
    "head_argmax": "index of the largest entry among each action's own; head_choices says how many each has",
    "normaliser": "clip((obs - normaliser_mean) / normaliser_scale, -normaliser_clip, normaliser_clip)",
}
"""How the graph is to be run, in words; the metadata holds those that apply."""


@dataclass(frozen=True)
class ExportedNir:
    """Say what was written.

    Attributes:
        file: the path.
        nodes: names of the graph's nodes, in order.
        verification: what the comparison with the policy found; None if not asked for.
    """

    file: Path
    nodes: tuple[str, ...]
    verification: Verification | None


def export_nir(
    bundle: Bundle, file: str | Path, *, observations: Any = None, verify: bool = True
) -> ExportedNir:  # fmt: skip
    """Write the policy as a NIR graph (its folder is made if missing); an older one is replaced as a whole.

    Args:
        observations: (N, *shape) consecutive, to verify on; by default a random walk.
        verify: read the graph back, and compare 1,000 decisions made from it and its metadata alone with the policy's;
            nothing is written where they differ by more than rounding.

    Raises:
        ModuleNotFoundError: `nir` is not installed.
        ValueError: neurons that NIR has no node for (all but IF under rate coding without spike calibration), a
            directory in the file's place, or a graph that does not act as the policy.
    """
    path, network = Path(file), bundle.network
    require(not path.is_dir(), f"{path}: a directory; expected a file, such as policy.nir")
    check_exportable(network)
    nir = _nir()
    nodes = _nodes(nir, network)
    names = tuple(nodes)
    graph = nir.NIRGraph(nodes, list(pairwise(names)), metadata=_metadata(bundle))
    stream = BytesIO()
    nir.write(stream, graph)
    found = None
    if verify:
        found = verify_nir(network, graph, stream, observations_to_verify(network, observations))
        require(found.passed, f"{path}: the NIR graph does not act as the policy, nothing is written: {found}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, stream.getvalue())
    return ExportedNir(path, names, found)


def check_exportable(network: SpikingNetwork) -> None:
    """Refuse what NIR has no node for.

    Raises:
        UnsupportedLayerError: the first stage of a graph that is no plain layer.
        ValueError: naming the neuron or the coding, and why.
    """
    neurons, graph = network.neurons, network.actor.graph
    if not graph.is_chain:
        reason = "NIR graphs are written of IF neurons, which stand for chains of layers"
        raise UnsupportedLayerError(*graph.no_layer, reason, "Export to ONNX, C or TorchScript")
    if isinstance(neurons, SigmaDeltaNeurons):
        raise ValueError(
            "sigma-delta neurons: NIR has no node that sends signed spikes of several sizes and keeps what it has sent "
            f"between decisions; {REMEDY}"
        )
    if neurons.model == "snm":
        raise ValueError(f"SNM neurons: NIR has no node that takes spikes back with negative ones; {REMEDY}")
    if neurons.model == "mt":
        raise ValueError(f"MT neurons: NIR has no node with several thresholds and sizes of spikes; {REMEDY}")
    if neurons.coding != "rate":
        raise ValueError(f"{neurons.coding} coding: NIR's IF node has no running means of input and output; {REMEDY}")
    if neurons.calibration is not None:
        reason = "NIR has no node that simulates a decision before it is run and moves v[0]"
        raise ValueError(f"spike calibration: {reason}; convert without it, or export to ONNX, C or TorchScript")


def _nir() -> Any:
    try:
        import nir
    except ModuleNotFoundError as missing:
        raise needs_extra(missing.name or "nir", "nir", "exporting to NIR") from None
    return nir


def _nodes(nir: Any, network: SpikingNetwork) -> dict[str, Any]:
    """Return the graph's nodes in the order in which they follow each other."""
    neurons = network.neurons
    assert isinstance(neurons, MembraneNeurons)
    layers = network.actor.layers
    shape = _input_shape(layers[0])
    nodes = {"input": nir.Input({"input": np.array(shape)})}
    sizes = np.ones(layers[0].inputs, np.float32)
    for place, (layer, threshold) in enumerate(zip(layers, (*neurons.thresholds, None), strict=True), 1):
        if isinstance(layer, Conv2d):
            require(shape == layer.input_shape, f"layer {place}: a convolution of {layer.input_shape} after {shape}")
        elif len(shape) > 1:
            nodes[f"flatten{place}"] = nir.Flatten({"input": np.array(shape)}, 0, -1)
        folded = _folded(layer, sizes)
        if folded is None:
            nodes[f"scale{place - 1}"] = nir.Scale(sizes.reshape(shape))
            folded = layer.weight
        node = nodes[f"layer{place}"] = _linear_node(nir, layer, folded)
        shape = layer.output_shape if isinstance(layer, Conv2d) else (layer.outputs,)
        found = tuple(int(size) for size in node.output_type["output"])
        reason = f"nir takes its output for {found}, not {shape}: it infers shapes for square kernels only"
        require(found == shape, f"layer {place}, a convolution with a kernel of {layer.weight.shape[2:]}: {reason}")
        if threshold is not None:
            sizes = threshold
            nodes[f"neurons{place}"] = _neuron_node(nir, threshold.reshape(shape))
    nodes["output"] = nir.Output({"output": np.array(shape)})
    return nodes


def _input_shape(layer: Layer) -> tuple[int, ...]:
    return layer.input_shape if isinstance(layer, Conv2d) else (layer.inputs,)


def _folded(layer: Layer, sizes: FloatArray) -> FloatArray | None:
    """Return the weights times the sizes of the spikes that they receive; None where a kernel would meet several."""
    if not isinstance(layer, Conv2d):
        return layer.weight * sizes
    per_channel = sizes.reshape(layer.input_shape[0], -1)
    if (per_channel != per_channel[:, :1]).any():
        return None
    return layer.weight * per_channel[:, 0][None, :, None, None]


def _linear_node(nir: Any, layer: Layer, weight: FloatArray) -> Any:
    if not isinstance(layer, Conv2d):
        return nir.Affine(weight, layer.bias) if layer.bias.any() else nir.Linear(weight)
    return nir.Conv2d(layer.input_shape[1:], weight, layer.stride, layer.padding, (1, 1), 1, layer.bias)


def _neuron_node(nir: Any, threshold: FloatArray) -> Any:
    alive = (threshold > 0).astype(np.float32)
    return nir.IF(r=alive, v_threshold=np.where(alive > 0, threshold, np.float32(1)), v_reset=np.zeros_like(threshold))


def _metadata(bundle: Bundle) -> dict[str, Any]:
    """Return all that a decision needs beside the nodes: numbers, arrays, and the rules in words."""
    actor, neurons = bundle.actor, bundle.network.neurons
    assert isinstance(neurons, MembraneNeurons)
    head, normaliser = actor.head, actor.normaliser
    said: dict[str, Any] = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "name": actor.name, "neuron": "if", "coding": "rate",
        "timesteps": neurons.timesteps, "dt": 1.0, "alpha_clip": float(neurons.alpha_clip),
        "residual": neurons.residual, "head": head.kind,
        "observation_shape": np.array(actor.observation_shape), "action_shape": np.array(actor.action_shape),
        "residual_rule": RULES[f"residual_{neurons.residual}"], "head_rule": RULES[f"head_{head.kind}"],
        NETWORK_KEY: network_digest(bundle.network),
        **{f"{name}_rule": RULES[name] for name in ("input", "reset", "spike", "order", "v_start", "output")},
    }  # fmt: skip
    if neurons.alpha:
        said["alpha"] = np.array(neurons.alpha, np.float64)
    if actor.env_id is not None:
        said["env_id"] = actor.env_id
    if head.discrete:
        said["head_choices"] = np.array(head.choices)
    else:
        said |= {"head_low": head.low, "head_high": head.high, "head_scale": head.scale, "head_offset": head.offset,
                 "head_pre_clip": float(head.pre_clip)}  # fmt: skip
    if normaliser is not None:
        said |= {"normaliser_mean": normaliser.mean, "normaliser_scale": normaliser.scale,
                 "normaliser_clip": float(normaliser.clip), "normaliser_rule": RULES["normaliser"]}  # fmt: skip
    return {name: value for name, value in said.items() if not (isinstance(value, np.ndarray) and value.size == 0)}
