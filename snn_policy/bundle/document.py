"""A policy as a directory: `policy.json` (everything readable) and `weights-….safetensors` (every array).

The JSON carries the SHA-256 of the weights, which their file is named by, and of itself, so a truncated or altered
bundle is refused; `snn_policy.bundle.files` says how one is replaced.
Checksums find accidents and careless edits; they are no signature. Both files are data: JSON and
safetensors, read with size limits, checked, and never executed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from snn_policy.actor import Actor
from snn_policy.ann.activations import Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Head, Layer, Linear, Normaliser
from snn_policy.bundle.files import (
    MOST_JSON_BYTES,
    POLICY_FILE,
    SUM,
    read_whole,
    replace_files,
    sha256,
    weights_place,
)
from snn_policy.bundle.graph_record import compact, describe_graph, read_graph
from snn_policy.bundle.sparse import stored_weight
from snn_policy.checks import frozen_array, whole
from snn_policy.errors import SourceError
from snn_policy.protocol import KeyedShape
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.spiking.settings import as_record, membrane_from_record

FORMAT, FIRST_VERSION, SECOND_VERSION, GRAPH_VERSION = "snn-policy", 1, 2, 3
"""Bundles with sparse weights (`snn_policy.bundle.sparse`), or with sigma-delta neurons that carry a residual, are of
the second version, because earlier releases would misread them; networks that are no chains of layers
(`snn_policy.bundle.graph_record`) of the third; all others of the first, which every release reads."""
MOST_WEIGHT_BYTES = 4 * 2**30
MOST_PIXELS = 4096
SIGMA_DELTA_FIELDS = {"digits", "base", "alpha"}
"""What a bundle says of sigma-delta neurons beside their model; the rest are arrays."""
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Bundle:
    """What a bundle directory holds."""

    network: SpikingNetwork
    conversion: dict[str, Any]
    card: dict[str, Any]

    @property
    def actor(self) -> Actor:
        return self.network.actor


def write_bundle(
    directory: Path,
    network: SpikingNetwork,
    conversion: Mapping[str, Any],
    card: Mapping[str, Any],
    graphs: Mapping[str, Any] | None = None,
    graph_files: Mapping[str, bytes] | None = None,
    *,
    dtype: str = "float32",
) -> None:
    """Replace what the directory holds with this policy, as a whole.

    Args:
        graphs: what the document says of the ONNX files beside it; `graph_files`: their content, by name.
        dtype: of the stored weights; "float16" only where it holds every one of them exactly.

    Raises:
        ValueError: weights that the dtype does not hold.
        OSError: a file cannot be written, or another writer does not end.
    """
    from snn_policy.versions import installed_versions

    described, arrays = describe_network(network)
    if dtype != "float32":
        arrays |= {name: _narrowed(name, array, dtype) for name, array in arrays.items() if name.endswith(".weight")}
    sparse = compact(described["actor"], arrays)
    document: dict[str, Any] = {
        "format": FORMAT,
        "format_version": _version(network, sparse),
        **described,
        "conversion": dict(conversion),
        "card": dict(card),
        "versions": installed_versions(),
    }
    if graphs is not None:
        document["onnx"] = dict(graphs)
    weights = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    document = json.loads(json.dumps(document))  # as a reader will see it: keys are texts
    document["weights_sha256"] = sha256(weights)
    document["sha256"] = _digest(document)
    replace_files(directory, json.dumps(document, indent=1).encode(), weights, graph_files or {})


def _version(network: SpikingNetwork, sparse: bool) -> int:
    if not network.actor.graph.is_chain:
        return GRAPH_VERSION
    return SECOND_VERSION if sparse or carries(network) else FIRST_VERSION


def _narrowed(name: str, weight: np.ndarray, dtype: str) -> np.ndarray:
    if dtype != "float16":
        raise ValueError(f"dtype {dtype!r}: expected float32 or float16")
    with np.errstate(over="ignore"):
        stored = weight.astype(np.float16)
    if not np.array_equal(stored.astype(np.float32), weight):
        raise ValueError(f"{name}: float16 does not hold these weights; round them first (SpikingPolicy.save does)")
    return stored


def carries(network: SpikingNetwork) -> bool:
    """Whether its neurons are sigma-delta neurons that carry residuals."""
    return isinstance(network.neurons, SigmaDeltaNeurons) and network.neurons.carries


def describe_network(network: SpikingNetwork) -> tuple[dict[str, Any], Arrays]:
    """Return what a bundle says of its actor and neurons, and their arrays by name."""
    described, arrays = describe_actor(network.actor)
    return {"actor": described, "neurons": _describe_neurons(network, arrays)}, arrays


def _digest(document: Mapping[str, Any]) -> str:
    content = {key: value for key, value in document.items() if key != "sha256"}
    return sha256(json.dumps(content, sort_keys=True).encode())


def _finite(value: float) -> float | None:
    return None if np.isinf(value) else float(value)


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


def read_bundle(directory: Path) -> Bundle:
    """Read what `write_bundle` wrote, also while it is being replaced.

    Raises:
        FileNotFoundError: the directory or one of its files is missing.
        SourceError: truncated, tampered with, of a newer format, or not a bundle.
    """
    document, weights = read_whole(directory, lambda: _read_files(directory), FileNotFoundError)
    try:
        arrays = load(weights)
        actor = _read_actor(document["actor"], arrays)
        network = SpikingNetwork(actor, _read_neurons(document["neurons"], arrays, actor))
        return Bundle(network, dict(document["conversion"]), dict(document["card"]))
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise SourceError(f"{directory}: a damaged bundle ({type(error).__name__}: {error})") from None


def _read_files(directory: Path) -> tuple[dict[str, Any], bytes]:
    """Return the document and the weights that it names."""
    document = _read_document(directory / POLICY_FILE)
    total = document.get("weights_sha256")
    if not isinstance(total, str) or not SUM.fullmatch(total):
        raise SourceError(f"{directory / POLICY_FILE}: weights_sha256 is no SHA-256; save the policy again")
    path = weights_place(directory, total)
    weights = _read(path, MOST_WEIGHT_BYTES)
    if sha256(weights) != total:
        raise SourceError(f"{path}: not the weights that {POLICY_FILE} names; truncated or altered")
    return document, weights


def _read_document(policy_path: Path) -> dict[str, Any]:
    content = _read(policy_path, MOST_JSON_BYTES)
    try:
        document = json.loads(content)
        digest = _digest(document) if isinstance(document, dict) else ""
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{policy_path}: not valid JSON ({error}); the file is truncated or not a policy") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise SourceError(f"{policy_path}: not an snn-policy bundle (no format {FORMAT!r})")
    version, actor = document.get("format_version"), document.get("actor")
    graph = isinstance(actor, dict) and "graph" in actor
    if not whole(version, *((GRAPH_VERSION, GRAPH_VERSION) if graph else (FIRST_VERSION, SECOND_VERSION))):
        known = f"{FIRST_VERSION} and {SECOND_VERSION} of chains of layers, {GRAPH_VERSION} of other graphs"
        raise SourceError(f"{policy_path}: format version {version!r}, but this release reads {known}")
    if document.get("sha256") != digest:
        raise SourceError(f"{policy_path}: its checksum does not match; the file was altered, save the policy again")
    return document


def _read(path: Path, most_bytes: int) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a policy bundle has {POLICY_FILE} and the weights it names")
    if path.stat().st_size > most_bytes:
        raise SourceError(f"{path}: {path.stat().st_size} bytes, more than the {most_bytes} a bundle may have")
    return path.read_bytes()


def _infinite(value: float | None) -> float:
    return float("inf") if value is None else float(value)


def _keys(shape: tuple[int, ...]) -> dict[str, Any]:
    """The keys of observations that are dictionaries, in the order in which they are joined."""
    if not isinstance(shape, KeyedShape):
        return {}
    return {"observation_keys": [[key, list(part)] for key, part in shape.parts.items()]}


def _read_shape(described: dict[str, Any]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in described["observation_shape"])
    if "observation_keys" not in described:
        return shape
    keyed = KeyedShape({str(key): tuple(int(size) for size in part) for key, part in described["observation_keys"]})
    if tuple(keyed) != shape:
        raise ValueError(f"observation_keys give {tuple(keyed)} values, observation_shape {shape}")
    return keyed


def _read_actor(described: dict[str, Any], arrays: Arrays) -> Actor:
    shape = _read_shape(described)
    if "graph" in described:
        graph = read_graph(described["graph"], math.prod(shape), arrays, MOST_WEIGHT_BYTES)
    else:
        graph = Graph.chain(_read_layers(described["layers"], arrays))
    head, normaliser = described["head"], described["normaliser"]
    return Actor(
        graph,
        _read_head(head, arrays, graph.outputs),
        shape,
        None
        if normaliser is None
        else Normaliser(arrays["normaliser.mean"], arrays["normaliser.scale"], _infinite(normaliser["clip"])),
        env_id=_text_or_none(described["env_id"]),
        name=str(described["name"]),
        provenance=dict(described.get("provenance", {})),
    )


def _read_layers(described: Any, arrays: Arrays) -> list[Layer]:
    layers, room = [], MOST_WEIGHT_BYTES
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
    kind, pre_clip = described["kind"], _infinite(described["pre_clip"])
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
        alpha = tuple(settings.get("alpha", ()))  # bundles without it carry no residual
        offset, base = array("offset", (actor.widths[0], 1)), float(settings["base"])
        return SigmaDeltaNeurons(quanta, predictor, offset, digits, base, alpha)
    thresholds = tuple(sizes(f"layers.{i}.threshold", layer.groups) for i, layer in enumerate(actor.hidden))
    return MembraneNeurons(membrane_from_record(described["model"], settings), thresholds)
