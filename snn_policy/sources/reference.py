"""Reference actors: NAME.safetensors (net.0.weight, net.0.bias, net.2.weight, …) and NAME.json for all the rest."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError
from snn_policy.sources.assemble import assemble
from snn_policy.sources.environment_ids import current_id
from snn_policy.sources.operations import (
    ArgMax,
    Operation,
    activate,
    affine,
    clip,
    normalise,
    squash,
)
from snn_policy.untrusted_files import LARGEST_TEXT, LARGEST_WEIGHTS, checked, parse_json, reading

_ACTIVATIONS = {
    "relu": ("relu", 0.0),
    "tanh": ("tanh", 0.0),
    "elu": ("elu", 1.0),
    "swish": ("silu", 0.0),
    "silu": ("silu", 0.0),
    "leaky_relu": ("leaky_relu", 0.01),
}
_PRE_SQUASH = re.compile(r"hardtanh\[\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*\] before tanh\b.*")
_TENSOR = re.compile(r"net\.(\d+)\.(weight|bias)")


def read_reference(
    source: str | Path,
    *,
    name: str | None = None,
    observation_shape: Sequence[int] | None = None,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
) -> Actor:
    """Read the pair, given either file or their common stem; `low` and `high` stand in for the stored bounds."""
    stem = re.sub(r"\.(safetensors|json)$", "", str(source))
    card_path, weights_path = Path(stem + ".json"), Path(stem + ".safetensors")
    card = parse_json(checked(card_path, LARGEST_TEXT).read_bytes(), card_path)
    tensors = _tensors(checked(weights_path, LARGEST_WEIGHTS))
    with reading(card_path, "actor description"):
        operations = [*_normaliser(card), *_layers(card, tensors, weights_path), *_head(card, low, high)]
        known = env_id or current_id(card.get("env_id"))
    return assemble(operations, name=name or Path(stem).name, observation_shape=observation_shape, env_id=known)


def _tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    with reading(path, "safetensors file"):
        return load_file(path)


def _normaliser(card: dict[str, Any]) -> list[Operation]:
    statistics = card.get("obs_normalisation")
    if statistics is None or not statistics.get("norm_obs", True):
        return []
    mean, variance = statistics["mean"], statistics["var"]
    if len(mean) != len(variance):
        raise SourceError(f"obs_normalisation: {len(mean)} means, but {len(variance)} variances")
    reach = float(statistics.get("clip", np.inf))
    operation = normalise("obs_normalisation", "normaliser", mean, variance, float(statistics["epsilon"]))
    return [operation, clip("obs_normalisation", "clip", -reach, reach)]


def _layers(card: dict[str, Any], tensors: dict[str, np.ndarray], path: Path) -> list[Operation]:
    matches = {key: _TENSOR.fullmatch(key) for key in tensors}
    unknown = [key for key, match in matches.items() if match is None]
    indices = sorted({int(match[1]) for match in matches.values() if match})
    if unknown or not indices or indices != list(range(0, 2 * len(indices), 2)):
        what = f"unexpected tensor {unknown[0]}" if unknown else f"layers {indices}"
        raise SourceError(f"{path}: {what}; expected net.0.weight, net.0.bias, net.2.weight, …")
    if card["activation"] not in _ACTIVATIONS:
        raise SourceError(f"activation {card['activation']!r}: expected one of {', '.join(_ACTIVATIONS)}")
    operations: list[Operation] = []
    for index in indices:
        missing = {f"net.{index}.weight", f"net.{index}.bias"} - tensors.keys()
        if missing:
            raise SourceError(f"{path}: tensor {missing.pop()} is missing")
        where = f"net.{index}"
        operations.append(affine(where, "Linear", tensors[f"{where}.weight"], tensors[f"{where}.bias"]))
        if index != indices[-1]:
            operations += activate(f"net.{index + 1}", card["activation"], *_ACTIVATIONS[card["activation"]])
    sizes = card.get("layer_sizes")
    found = [tensors["net.0.weight"].shape[-1], *(len(tensors[f"net.{index}.weight"]) for index in indices)]
    if sizes is not None and list(sizes) != found:
        raise SourceError(f"{path}: layer sizes are {found}, but its JSON says {sizes}")
    return operations


def _head(card: dict[str, Any], low: npt.ArrayLike | None, high: npt.ArrayLike | None) -> list[Operation]:
    kind, pre_squash = card["output_squash"], card.get("pre_squash")
    if kind == "argmax":
        return [ArgMax(path="output_squash", kind="argmax")]
    bottom, top = (card["action_low"] if low is None else low), (card["action_high"] if high is None else high)
    if bottom is None or top is None:
        raise SourceError("action_low or action_high is missing; pass low= and high=")
    if kind == "clip" and pre_squash is None:
        return [clip("output_squash", "clip", bottom, top)]
    if kind == "tanh":
        return squash("output_squash", bottom, top, _pre_clip(pre_squash))
    raise SourceError(f"output_squash {kind!r} with pre_squash {pre_squash!r}: expected tanh, clip or argmax")


def _pre_clip(text: str | None) -> float | None:
    if text is None:
        return None
    match = _PRE_SQUASH.fullmatch(text)
    if match is None or float(match[1]) != -float(match[2]):
        raise SourceError(f"pre_squash {text!r}: expected the form 'hardtanh[-2,2] before tanh'")
    return float(match[2])
