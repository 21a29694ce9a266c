"""A policy as a directory: `policy.json` (everything readable) and `weights-….safetensors` (every array; or `….xz`).

The JSON carries the SHA-256 of the weights, which their file is named by, and of itself, so a truncated or altered
bundle is refused; `snn_policy.bundle.files` says how one is replaced, `snn_policy.bundle.networks` what it holds of a
network. Checksums find accidents and careless edits; they are no signature. Both files are data: JSON and safetensors,
read with size limits, checked, and never executed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from snn_policy.actor import Actor
from snn_policy.bundle.files import (
    MOST_JSON_BYTES,
    POLICY_FILE,
    SUM,
    XZ,
    read_whole,
    replace_files,
    sha256,
    weights_place,
)
from snn_policy.bundle.graph_record import compact
from snn_policy.bundle.needs import NEEDS_VERSION, check_needs, needs_of
from snn_policy.bundle.networks import carries, describe_network, read_network
from snn_policy.bundle.other_exports import warn_of_other_exports
from snn_policy.bundle.xz import compress, decompress
from snn_policy.checks import whole
from snn_policy.errors import SourceError
from snn_policy.spiking.network import SpikingNetwork

FORMAT, FIRST_VERSION, SECOND_VERSION, GRAPH_VERSION = "snn-policy", 1, 2, 3
"""Bundles with sparse weights (`snn_policy.bundle.sparse`), or with sigma-delta neurons that carry a residual, are of
the second version, because earlier releases would misread them; networks that are no chains of layers
(`snn_policy.bundle.graph_record`) of the third; all others of the first, which every release reads. Whatever needs
words that the first release does not know is of the fourth, and lists them (`snn_policy.bundle.needs`)."""
MOST_WEIGHT_BYTES = 4 * 2**30


@dataclass(frozen=True, eq=False)
class Bundle:
    """Hold what a bundle directory holds; `xz`: whether its weights are compressed."""

    network: SpikingNetwork
    conversion: dict[str, Any]
    card: dict[str, Any]
    xz: bool = False

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
    xz: bool = False,
) -> None:
    """Replace what the directory holds with this policy, as a whole; warn of another's C, TorchScript or NIR there.

    Args:
        graphs: what the document says of the ONNX files beside it; `graph_files`: their content, by name.
        dtype: of the stored weights; "float16" only where it holds every one of them exactly.
        xz: whether the file of weights is compressed.

    Raises:
        ValueError: weights that the dtype does not hold, or that xz is not for.
        OSError: a file cannot be written, or another writer does not end.
    """
    from snn_policy.versions import installed_versions

    described, arrays = describe_network(network)
    if dtype != "float32":
        arrays |= {name: _narrowed(name, array, dtype) for name, array in arrays.items() if name.endswith(".weight")}
    sparse = compact(described["actor"], arrays)
    needs = needs_of(described["actor"])
    document: dict[str, Any] = {
        "format": FORMAT,
        "format_version": NEEDS_VERSION if needs else _version(network, sparse),
        **({"needs": needs} if needs else {}),
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
    packed = compress(weights) if xz else None
    replace_files(directory, json.dumps(document, indent=1).encode(), weights, graph_files or {}, packed=packed)
    warn_of_other_exports(directory, network)


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


def _digest(document: Mapping[str, Any]) -> str:
    content = {key: value for key, value in document.items() if key != "sha256"}
    return sha256(json.dumps(content, sort_keys=True).encode())


def read_bundle(directory: Path) -> Bundle:
    """Read what `write_bundle` wrote, also while it is being replaced.

    Raises:
        FileNotFoundError: the directory or one of its files is missing.
        SourceError: truncated, tampered with, of a newer format, or not a bundle.
    """
    document, weights, xz = read_whole(directory, lambda: _read_files(directory), FileNotFoundError)
    try:
        arrays = load(weights)
        network = read_network(document, arrays, MOST_WEIGHT_BYTES)
        return Bundle(network, dict(document["conversion"]), dict(document["card"]), xz)
    except (SafetensorError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise SourceError(f"{directory}: a damaged bundle ({type(error).__name__}: {error})") from None


def _read_files(directory: Path) -> tuple[dict[str, Any], bytes, bool]:
    """Return the document, the weights that it names, and whether these are compressed."""
    document = _read_document(directory / POLICY_FILE)
    total = document.get("weights_sha256")
    if not isinstance(total, str) or not SUM.fullmatch(total):
        raise SourceError(f"{directory / POLICY_FILE}: weights_sha256 is no SHA-256; save the policy again")
    path = weights_place(directory, total)
    try:
        weights = _read(path, MOST_WEIGHT_BYTES)
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error).replace("no such file", f"no such file (nor {path.name}{XZ})", 1)) from None
    if path.suffix == XZ:
        try:
            weights = decompress(weights, MOST_WEIGHT_BYTES)
        except ValueError as error:
            raise SourceError(f"{path}: {error}") from None
    if sha256(weights) != total:
        raise SourceError(f"{path}: not the weights that {POLICY_FILE} names; truncated or altered")
    return document, weights, path.suffix == XZ


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
    graph, needs = isinstance(actor, dict) and "graph" in actor, document.get("needs")
    if needs is not None and whole(version, NEEDS_VERSION, NEEDS_VERSION):
        check_needs(policy_path, needs)
    elif needs is not None and whole(version, FIRST_VERSION, NEEDS_VERSION - 1):
        reason = (
            f"format version {version} has no needs, but it lists some; the file was altered, save the policy again"
        )
        raise SourceError(f"{policy_path}: {reason}")
    elif not whole(version, *((GRAPH_VERSION, GRAPH_VERSION) if graph else (FIRST_VERSION, SECOND_VERSION))):
        known = (
            f"{FIRST_VERSION} and {SECOND_VERSION} of chains of layers, {GRAPH_VERSION} of other graphs, "
            f"{NEEDS_VERSION} where it lists what it needs; a newer release may read it"
        )
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
