"""What Stable-Baselines3 policies consist of, from a live policy or from a zip, read without unpickling.

From the zip's `data` only plain JSON is used, never its `:serialized:` parts; the weights are loaded by
`torch.load(weights_only=True)`; the layers follow from the weights' names.
"""

import io
import re
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.files import LARGEST_TEXT, LARGEST_WEIGHTS, MEGABYTE, checked, needs_extra, parse_json, reading

Family = Literal["td3", "sac", "dqn", "actor-critic"]
ALGORITHMS = "TD3, DDPG, SAC, TQC, PPO, A2C, TRPO or DQN"

FAMILIES: dict[str, Family] = {
    "stable_baselines3.td3.policies": "td3",
    "stable_baselines3.sac.policies": "sac",
    "sb3_contrib.tqc.policies": "sac",
    "stable_baselines3.dqn.policies": "dqn",
    "stable_baselines3.common.policies": "actor-critic",
}

_EXTRACTORS = tuple(f"stable_baselines3.common.torch_layers.{name}" for name in ("FlattenExtractor", "NatureCNN"))


@dataclass(frozen=True, eq=False)
class ActionSpace:
    """A Box's bounds, each (n,) or unknown; or the number of discrete `choices`."""

    low: npt.NDArray[np.float64] | None = None
    high: npt.NDArray[np.float64] | None = None
    choices: int | None = None


@dataclass(frozen=True, eq=False)
class Archive:
    """A policy's parts.

    Attributes:
        activation: the hidden layers' class as text, None for the family's default.
        divides: whether observations are images of bytes, which the policy divides by 255.
    """

    family: Family
    weights: dict[str, npt.NDArray[Any]]
    activation: str | None
    clip_mean: float
    squash: bool
    observation_shape: tuple[int, ...]
    divides: bool
    actions: ActionSpace


def family_of(module: Any) -> Family:
    """Which rules a policy class of this module follows."""
    if module in FAMILIES:
        return FAMILIES[module]
    reason = f"only the standard policies of {ALGORITHMS} are read by their own rules"
    remedy = "Pass the actor as a torch module, or an ONNX export of it"
    raise UnsupportedLayerError("policy_class", str(module), reason, remedy)


def read_archive(path: Path) -> Archive:
    """Read a zip.

    Raises:
        SourceError: damaged, too large, or not such a zip.
        UnsupportedLayerError: another algorithm, space or feature extractor.
    """
    checked(path, 4 * LARGEST_WEIGHTS)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: _member(archive, name, limit, path) for name, limit in _MEMBERS.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as problem:
        raise SourceError(f"{path}: not a readable zip, or a truncated one ({problem})") from problem
    data = parse_json(members["data"], path)
    with reading(path, "Stable-Baselines3 zip"):
        return _described(data, members["policy.pth"], path)


_MEMBERS = {"data": LARGEST_TEXT, "policy.pth": LARGEST_WEIGHTS}


def _member(archive: zipfile.ZipFile, name: str, limit: int, path: Path) -> bytes:
    if name not in archive.namelist():
        raise SourceError(f"{path}: no {name!r} inside; not a Stable-Baselines3 zip")
    with archive.open(name) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise SourceError(f"{path}: {name} unpacks to more than {limit // MEGABYTE} MB; refused")
    return content


def _described(data: dict[str, Any], weights: bytes, path: Path) -> Archive:
    options = data.get("policy_kwargs") or {}
    if "features_extractor_class" in options:
        extractor = re.sub(r"^<class '(.*)'>$", r"\1", str(options["features_extractor_class"]))
        check_extractor("policy_kwargs.features_extractor_class", extractor)
    space = data["observation_space"]
    family = family_of(data["policy_class"].get("__module__"))
    return Archive(
        family,
        _state_dict(weights, path),
        None if options.get("activation_fn") is None else str(options["activation_fn"]),
        float(options.get("clip_mean", 2.0)),
        bool(options.get("squash_output", False)),
        checked_observations(_kind(space), _shape(space) if _kind(space) == "Box" else ()),
        bool(options.get("normalize_images", True)) and _holds_bytes(space),
        _action_space(data["action_space"]),
    )


def _state_dict(content: bytes, path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        import torch
    except ImportError as problem:
        raise needs_extra("torch") from problem
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as inner:
            if sum(each.file_size for each in inner.infolist()) > LARGEST_WEIGHTS:
                raise SourceError(f"{path}: policy.pth unpacks to more than {LARGEST_WEIGHTS // MEGABYTE} MB; refused")
    try:
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return {str(key): value.detach().numpy() for key, value in loaded.items()}
    except Exception as problem:
        reason = "holds more than weights, or is damaged" if "weights" in str(problem).lower() else "is damaged"
        raise SourceError(f"{path}: policy.pth {reason}; nothing of it was executed") from problem


def _kind(space: Any) -> str:
    return re.sub(r".*\.|'>", "", str(space.get(":type:", "unknown")))


def _shape(space: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in (space["_shape"] if "_shape" in space else space["shape"]))


def _holds_bytes(space: dict[str, Any]) -> bool:
    """Whether a Box is of images of bytes 0 to 255; NumPy shortens its printed bounds, which are equal everywhere."""

    def everywhere(name: str, value: str) -> bool:
        printed = re.findall(r"[\d.]*\d", f"{space.get(name)} {space.get(f'{name}_repr')}")
        return bool(printed) and set(printed) == {value}

    image = len(_shape(space)) == 3 and "uint8" in str(space.get("dtype"))
    return image and everywhere("low", "0") and everywhere("high", "255")


def checked_observations(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a Box; other spaces are refused."""
    if kind != "Box":
        remedy = "Train on one array of numbers (gymnasium's FlattenObservation)"
        raise UnsupportedLayerError("observation_space", kind, "only Box observations are read", remedy)
    return shape


def _action_space(space: dict[str, Any]) -> ActionSpace:
    kind = _kind(space)
    if kind == "Discrete":
        return ActionSpace(choices=int(space["n"]))
    size = checked_actions(kind, _shape(space) if kind == "Box" else ())
    return ActionSpace(_bound(space, "low", size), _bound(space, "high", size))


def checked_actions(kind: str, shape: tuple[int, ...]) -> int:
    """The number of actions of a one-dimensional Box."""
    if kind != "Box" or len(shape) != 1:
        what = kind if kind != "Box" else f"Box of shape {shape}"
        reason, remedy = "only Discrete and one-dimensional Box actions are read", "Flatten the action space"
        raise UnsupportedLayerError("action_space", what, reason, remedy)
    return shape[0]


def _bound(space: dict[str, Any], name: str, size: int) -> npt.NDArray[np.float64] | None:
    """A bound from its printed form; None where NumPy shortened it."""
    for text in (space.get(name), space.get(f"{name}_repr")):
        if text is not None and "..." not in str(text):
            numbers = [float(each) for each in re.sub(r"[\[\],]", " ", str(text)).split()]
            return np.broadcast_to(np.array(numbers), (size,))
    return None


def check_extractor(path: str, name: str) -> None:
    """Refuse all feature extractors (module and class) but two of the library's own: without layers, and NatureCNN."""
    if name not in _EXTRACTORS:
        raise features_refused(path, name)


def features_refused(path: str, kind: str) -> UnsupportedLayerError:
    reason = "of feature extractors with layers of their own, only NatureCNN is read"
    return UnsupportedLayerError(path, kind, reason, "Use MlpPolicy or CnnPolicy, or pass the actor as a torch module")
