"""Read the actor of a TD3+BC run: a directory with `td3bc.json`, written once, and `checkpoint.safetensors`.

The checkpoint holds the actor's parameters as one flat float32 array, in the order weight (outputs, inputs), bias
(outputs,) and, with QCFS, log λ () of each layer, every one padded to a multiple of 64 bytes
(`snn_policy.offline.td3bc_networks.FlatParameters`). Reading it takes NumPy alone, and nothing is executed.
"""

import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.layers import Head, Linear, Normaliser
from snn_policy.bundle.files import CHECKPOINT_FILE, RUN_FILE
from snn_policy.checks import whole
from snn_policy.errors import SourceError, warn
from snn_policy.protocol import FloatArray
from snn_policy.untrusted_files import LARGEST_TEXT, LARGEST_WEIGHTS, checked, is_sealed, parse_json, reading

FORMAT, FORMAT_VERSION = "snn-policy-td3bc", 1
PADDING = 16
"""Floats: 64 bytes."""
MOST_UNITS = 1 << 16


def is_training_run(path: Path) -> bool:
    """Return whether the path is a run's directory, or one of its two files."""
    inside = path.name in (RUN_FILE, CHECKPOINT_FILE) and path.is_file() and (path.parent / RUN_FILE).is_file()
    return inside or (path / RUN_FILE).is_file()


def run_directory(path: str | Path) -> Path:
    """Return the directory, given it or one of its files."""
    path = Path(path)
    return path.parent if path.name in (RUN_FILE, CHECKPOINT_FILE) else path


def read_run(directory: Path) -> dict[str, Any]:
    """Return the run's description.

    Raises:
        SourceError: missing, damaged, or of another format.
    """
    path = directory / RUN_FILE
    document = parse_json(checked(path, LARGEST_TEXT).read_bytes(), path)
    if document.get("format") != FORMAT or document.get("format_version") != FORMAT_VERSION:
        raise SourceError(f"{path}: not a TD3+BC run that this release reads")
    if not isinstance(document.get("settings"), dict) or not isinstance(document.get("data"), dict):
        raise SourceError(f"{path}: settings or data are missing; the file was altered")
    return document


def run_digest(described: dict[str, Any]) -> str:
    """Return the SHA-256 of a run's description, which its checkpoints name."""
    plain = json.loads(json.dumps(described))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def read_tensors(directory: Path, described: dict[str, Any]) -> tuple[dict[str, FloatArray], int]:
    """Return all arrays of the directory's checkpoint, and its step.

    Raises:
        SourceError: missing, altered by as much as a bit, or a checkpoint of another run.
    """
    from safetensors import safe_open

    path = checked(directory / CHECKPOINT_FILE, LARGEST_WEIGHTS)
    with reading(path, "checkpoint"), safe_open(path, "np") as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in list(file.keys())}
        step = int(metadata["step"])
        same = metadata["run"] == run_digest(described)
    if not same:
        raise SourceError(f"{path}: a checkpoint of another run than {RUN_FILE} describes; put back the one it had")
    _require_sealed(path, metadata, arrays)
    for name, values in arrays.items():
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise SourceError(f"{path}: {name} holds something else than finite float32 numbers")
    return arrays, step


def _require_sealed(path: Path, metadata: dict[str, str], arrays: dict[str, FloatArray]) -> None:
    """Refuse a checkpoint that does not have the digest that it was written with; those of 0.1 have none: warn."""
    whole = is_sealed(metadata, arrays)
    if whole is None:
        warn(f"{path}: has no digest (an earlier release wrote it), so that no change of it since would be seen")
    elif not whole:
        raise SourceError(
            f"{path}: its content is not what its digest says: it was altered or damaged; put back a copy, or delete "
            f"{path.parent} and train anew"
        )


def read_training_run(path: str | Path, *, name: str | None = None) -> Actor:
    """Return the actor of a run's last checkpoint, its state normalisation and the action bounds included.

    Args:
        path: the run's directory, or one of its two files.

    Raises:
        SourceError: damaged, of another run, or a directly trained spiking actor.
    """
    directory = run_directory(path)
    described = read_run(directory)
    arrays, step = read_tensors(directory, described)
    with reading(directory / RUN_FILE, "run description"):
        settings = described["settings"]
        if settings["activation"] == "spiking":
            raise SourceError(
                f"{directory}: a directly trained spiking actor is no ANN; read it with "
                "snn_policy.offline.trained.read_checkpoint_policy"
            )
        if not whole(settings["hidden"], 1, MOST_UNITS):
            raise SourceError(f"hidden {settings['hidden']!r}: expected a whole number from 1 to {MOST_UNITS}")
        parts = actor_parts(described, arrays, step, name)
        sizes = (parts["normaliser"].mean.size, settings["hidden"], settings["hidden"], parts["head"].outputs)
        return Actor(_layers(arrays["actor"], sizes, settings), **parts)


def actor_parts(described: dict[str, Any], arrays: dict[str, Any], step: int, name: str | None) -> dict[str, Any]:
    """Return all parts of a run's `Actor` but its layers, by name."""
    settings, data = described["settings"], described["data"]
    return {
        "head": Head.bounded(data["action_low"], data["action_high"]),
        "observation_shape": tuple(data["observation_shape"]),
        "normaliser": Normaliser(arrays["observation.mean"], arrays["observation.scale"]),
        "env_id": data["env_id"],
        "name": name or f"td3bc-{settings['activation']}-{data['name']}-{step}",
    }


def _layers(values: FloatArray, sizes: tuple[int, ...], settings: dict[str, Any]) -> tuple[Linear, ...]:
    """Return the layers that the flat parameters hold; `sizes` from the observation to the action."""
    quantised = {"relu": False, "qcfs": True}[settings["activation"]]
    shapes: list[tuple[int, ...]] = []
    for inputs, outputs in pairwise(sizes):
        shapes += [(outputs, inputs), (outputs,), ()]
    parts = iter(_parts(values, [shape for shape in shapes[:-1] if shape or quantised]))
    layers = []
    for index in range(len(sizes) - 1):
        weight, bias = next(parts), next(parts)
        last = index == len(sizes) - 2
        qcfs = quantised and not last
        activation = Activation("qcfs", float(np.exp(next(parts))), levels=settings["levels"]) if qcfs else RELU
        layers.append(Linear(weight, bias, None if last else activation))
    return tuple(layers)


def _parts(values: FloatArray, shapes: list[tuple[int, ...]]) -> Iterator[FloatArray]:
    """Yield the parameters of these shapes; raise `SourceError` where there are more or fewer."""
    counts = [int(np.prod(shape)) for shape in shapes]
    padded = [-(-count // PADDING) * PADDING for count in counts]
    if values.shape != (sum(padded),):
        raise SourceError(f"actor of {values.size} numbers where its settings need {sum(padded)}; the file was altered")
    start = 0
    for shape, count, length in zip(shapes, counts, padded, strict=True):
        yield values[start : start + count].reshape(shape)
        start += length
