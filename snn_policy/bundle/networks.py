"""A spiking network as a bundle holds it: plain data for `policy.json`, arrays by name for the weights; and read back.

What is read is hostile: every number and array is checked before anything is made of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from snn_policy.actor import Actor
from snn_policy.ann.activations import Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Head, Layer, Linear, Normaliser
from snn_policy.bundle.graph_record import describe_graph, read_graph
from snn_policy.bundle.sparse import stored_weight
from snn_policy.checks import frozen_array, number, whole
from snn_policy.protocol import KeyedShape
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.spiking.settings import as_record, membrane_from_record

MOST_PIXELS = 4096
SIGMA_DELTA_FIELDS = {"digits", "base", "alpha"}
"""What a bundle says of sigma-delta neurons beside their model; the rest are arrays."""
Arrays = dict[str, np.ndarray]


def carries(network: SpikingNetwork) -> bool:
    """Return whether its neurons are sigma-delta neurons that carry residuals."""
    return isinstance(network.neurons, SigmaDeltaNeurons) and network.neurons.carries


def describe_network(network: SpikingNetwork) -> tuple[dict[str, Any], Arrays]:
    """Return what a bundle says of its actor and neurons, and their arrays by name."""
    described, arrays = describe_actor(network.actor)
    return {"actor": described, "neurons": _describe_neurons(network, arrays)}, arrays


def describe_actor(actor: Actor) -> tuple[dict[str, Any], Arrays]:
    """Return what a bundle says of an actor, and its arrays by name."""
    arrays: Arrays = {}
    structure = _describe_layers(actor.layers, arrays) if actor.graph.is_chain else describe_graph(actor.graph, arrays)
    head = actor.head
    if not head.discrete:
        arrays |= {"head.low": head.low, "head.high": head.high, "head.scale": head.scale, "head.offset": head.offset}
    if actor.normaliser is not None:
        arrays |= {"normaliser.mean": actor.normaliser.mean, "normaliser.scale": actor.normaliser.scale}
    described = {
        "name": actor.name,
        "env_id": actor.env_id,
        "observation_shape": list(actor.observation_shape),
        **_keys(actor.observation_shape),
        "layers" if actor.graph.is_chain else "graph": structure,
        "head": {"kind": head.kind, "pre_clip": _finite(head.pre_clip)}
        if not head.discrete or head.action_shape == ()
        else {"kind": "argmaxes", "pre_clip": None, "choices": list(head.choices)},
        "normaliser": actor.normaliser and {"clip": _finite(actor.normaliser.clip)},
        **({"provenance": dict(actor.provenance)} if actor.provenance else {}),
    }
    return described, arrays


def _describe_layers(layers: Sequence[Layer], arrays: Arrays) -> list[dict[str, Any]]:
    for index, layer in enumerate(layers):
        arrays[f"layers.{index}.weight"], arrays[f"layers.{index}.bias"] = layer.weight, layer.bias
    activations = [layer.activation and asdict(layer.activation) for layer in layers]
    return [{**_describe_layer(one), "activation": given} for one, given in zip(layers, activations, strict=True)]


def _describe_layer(layer: Layer) -> dict[str, Any]:
    if isinstance(layer, Linear):
        return {"kind": "linear", "inputs": layer.inputs, "outputs": layer.outputs}
    geometry = {"input_shape": layer.input_shape, "stride": layer.stride, "padding": layer.padding}
    return {"kind": "conv2d", **{name: list(values) for name, values in geometry.items()}}


def _per_group(values: np.ndarray, groups: tuple[int, int]) -> np.ndarray:
    """Return one value per channel of a convolution, where its neurons share it; else as it is."""
    grouped = values.reshape(groups)
    return grouped[:, 0] if groups[1] > 1 and (grouped == grouped[:, :1]).all() else values


def _describe_neurons(network: SpikingNetwork, arrays: Arrays) -> dict[str, Any]:
    neurons = network.neurons
    if isinstance(neurons, SigmaDeltaNeurons):
        arrays["offset"] = neurons.offset
        for stage, groups in enumerate(network.actor.groups):
            arrays[f"stages.{stage}.quantum"] = _per_group(neurons.quanta[stage], groups)
            arrays[f"stages.{stage}.predictor"] = _per_group(neurons.predictor[stage], groups)
        described = {"model": "sigma-delta", "digits": list(neurons.digits), "base": neurons.base}
        return {**described, "alpha": list(neurons.alpha)} if neurons.carries else described
    for index, threshold in enumerate(neurons.thresholds):
        arrays[f"layers.{index}.threshold"] = _per_group(threshold, network.actor.layers[index].groups)
    record = as_record(neurons.settings)
    return {"model": record.pop("neuron"), **record}


def _finite(value: float) -> float | None:
    return None if np.isinf(value) else float(value)


def _keys(shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the keys of observations that are dictionaries, in the order in which they are joined."""
    if not isinstance(shape, KeyedShape):
        return {}
    return {"observation_keys": [[key, list(part)] for key, part in shape.parts.items()]}


def read_network(document: Mapping[str, Any], arrays: Arrays, most_bytes: int) -> SpikingNetwork:
    """Read what `describe_network` said of a network.

    Args:
        document: with `actor` and `neurons`; arrays: by name.
        most_bytes: that the dense weights of all layers may take together.

    Raises:
        LookupError, TypeError, ValueError, AttributeError, ArithmeticError: what is read does not fit together.
    """
    actor = read_actor(document["actor"], arrays, most_bytes)
    return SpikingNetwork(actor, _read_neurons(document["neurons"], arrays, actor))


def _infinite(name: str, value: float | None) -> float:
    return float("inf") if value is None else number(name, value)


def _read_shape(described: dict[str, Any]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in described["observation_shape"])
    if "observation_keys" not in described:
        return shape
    keyed = KeyedShape({str(key): tuple(int(size) for size in part) for key, part in described["observation_keys"]})
    if tuple(keyed) != shape:
        raise ValueError(f"observation_keys give {tuple(keyed)} values, observation_shape {shape}")
    return keyed


def read_actor(described: dict[str, Any], arrays: Arrays, room: int) -> Actor:
    """Read what `describe_actor` said; arguments and errors as of `read_network`, `room` its `most_bytes`."""
    shape = _read_shape(described)
    if "graph" in described:
        graph = read_graph(described["graph"], math.prod(shape), arrays, room)
    else:
        graph = Graph.chain(_read_layers(described["layers"], arrays, room))
    head, normaliser = described["head"], described["normaliser"]
    return Actor(
        graph,
        _read_head(head, arrays, graph.outputs),
        shape,
        None
        if normaliser is None
        else Normaliser(
            arrays["normaliser.mean"], arrays["normaliser.scale"], _infinite("normaliser.clip", normaliser["clip"])
        ),
        env_id=_text_or_none(described["env_id"]),
        name=str(described["name"]),
        provenance=dict(described.get("provenance", {})),
    )


def _read_layers(described: Any, arrays: Arrays, room: int) -> list[Layer]:
    layers = []
    for index, entry in enumerate(described):
        given = entry["activation"]
        activation = None if given is None else Activation(given["name"], given["parameter"], given.get("levels", 0))
        weight = stored_weight(entry, f"layers.{index}.weight", arrays, room)
        room -= weight.nbytes
        layers.append(_read_layer(entry, weight, arrays[f"layers.{index}.bias"], activation))
    return layers


def _read_layer(entry: dict[str, Any], weight: np.ndarray, bias: np.ndarray, activation: Activation | None) -> Layer:
    kind = entry.get("kind", "linear")  # bundles of the first releases name none
    if kind == "linear":
        outputs, inputs = weight.shape
        if (entry.get("outputs", outputs), entry.get("inputs", inputs)) != weight.shape:
            said = f"{entry.get('outputs')!r} outputs of {entry.get('inputs')!r} inputs"
            raise ValueError(f"layer: said to have {said}, but its weights are of shape {weight.shape}")
        return Linear(weight, bias, activation)
    if kind != "conv2d":
        raise ValueError(f"layer {kind!r}: expected linear or conv2d")
    shape, stride, padding = (tuple(entry[name]) for name in ("input_shape", "stride", "padding"))
    if len(shape) != 3 or not all(whole(size, 1, MOST_PIXELS) for size in shape):
        raise ValueError(f"input_shape {shape!r}: expected (channels, height, width)")
    return Conv2d(weight, bias, shape, stride, padding, activation)  # pyright: ignore[reportArgumentType]


def _text_or_none(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"env_id: expected a text, got {type(value).__name__}")
    if value is not None and ":" in value:
        raise ValueError(f"env_id {value!r}: an id that would import a module is not taken from a file")
    return value


def _read_head(described: dict[str, Any], arrays: Arrays, outputs: int) -> Head:
    kind, pre_clip = described["kind"], _infinite("head.pre_clip", described["pre_clip"])
    if kind == "argmax":
        return Head.argmax(outputs)
    if kind == "argmaxes":
        choices = described["choices"]
        counted = isinstance(choices, list) and all(whole(count, 1, outputs) for count in choices)
        if not counted or sum(choices) != outputs:
            raise ValueError(f"head: {choices!r} choices do not fit {outputs} outputs")
        return Head.argmax(choices)
    low, high, scale, offset = (arrays[f"head.{name}"] for name in ("low", "high", "scale", "offset"))
    if any(array.shape != (outputs,) or array.dtype != np.float32 for array in (low, high, scale, offset)):
        raise ValueError(f"head: expected float32 arrays of shape ({outputs},)")
    scale, offset = frozen_array(scale, "head.scale"), frozen_array(offset, "head.offset")
    return Head(kind, low, high, scale, offset, pre_clip)  # pyright: ignore[reportArgumentType]


def _read_neurons(described: dict[str, Any], arrays: Arrays, actor: Actor) -> MembraneNeurons | SigmaDeltaNeurons:
    def sizes(name: str, groups: tuple[int, int]) -> np.ndarray:
        values = array(name, groups)
        if (values < 0).any():
            raise ValueError(f"{name}: expected values of at least 0")
        return values

    def array(name: str, groups: tuple[int, int]) -> np.ndarray:
        values, width = arrays[name], groups[0] * groups[1]
        if values.shape == groups[:1]:
            values = np.repeat(values, groups[1])
        if values.shape != (width,) or values.dtype != np.float32 or not np.isfinite(values).all():
            raise ValueError(f"{name}: expected {width} finite float32 values")
        return values

    settings = dict(described)
    if settings.pop("model") == "sigma-delta":
        if unknown := settings.keys() - SIGMA_DELTA_FIELDS:
            raise ValueError(f"{', '.join(sorted(unknown))}: no setting of 'sigma-delta' neurons")
        stages = range(len(actor.widths))
        quanta = tuple(sizes(f"stages.{i}.quantum", actor.groups[i]) for i in stages)
        predictor = tuple(array(f"stages.{i}.predictor", actor.groups[i]) for i in stages)
        digits = tuple(settings["digits"])
        if len(digits) != len(actor.widths) or any(((gamma != 0) & (gamma != 1)).any() for gamma in predictor):
            raise ValueError("sigma-delta: expected digits per stage, and predictors of 0 and 1")
        alpha = settings.get("alpha", [])  # bundles without it carry no residual
        if not isinstance(alpha, list):
            raise ValueError(f"alpha {alpha!r}: expected a list, one value per stage")
        offset, base = array("offset", (actor.widths[0], 1)), number("base", settings["base"])
        return SigmaDeltaNeurons(quanta, predictor, offset, digits, base, tuple(alpha))
    thresholds = tuple(sizes(f"layers.{i}.threshold", layer.groups) for i, layer in enumerate(actor.hidden))
    return MembraneNeurons(membrane_from_record(described["model"], settings), thresholds)
