"""What Stable-Baselines3 policies consist of, from a live policy or from a zip, read without unpickling.

From the zip's `data` plain JSON is used and, of its `:serialized:` parts, spaces and last observations, by the
unpickler for numbers only; the weights are loaded by `torch.load(weights_only=True)`; the layers follow from the
weights' names.
"""

import io
import re
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from snn_policy.errors import SourceError, UnsupportedLayerError, needs_extra
from snn_policy.sources.refusals import refusal
from snn_policy.sources.sb3_spaces import (
    ActionSpace,
    action_space,
    holds_bytes,
    keyed_shape,
    kind_of,
    serialised_array,
    serialised_bounds,
    shape_of,
)
from snn_policy.sources.sb3_statistics import Normalised, was_normalised
from snn_policy.untrusted_files import (
    LARGEST_TEXT,
    LARGEST_WEIGHTS,
    MEGABYTE,
    MOST_GROWTH,
    checked,
    parse_json,
    reading,
)

Family = Literal["td3", "sac", "dqn", "actor-critic", "crossq", "qrdqn", "ars"]
ALGORITHMS = "TD3, DDPG, SAC, TQC, CrossQ, PPO, MaskablePPO, A2C, TRPO, DQN, QR-DQN or ARS"

FAMILIES: dict[str, Family] = {
    "stable_baselines3.td3.policies": "td3",
    "stable_baselines3.sac.policies": "sac",
    "sb3_contrib.tqc.policies": "sac",
    "stable_baselines3.dqn.policies": "dqn",
    "stable_baselines3.common.policies": "actor-critic",
    "sb3_contrib.common.maskable.policies": "actor-critic",
    "sb3_contrib.common.recurrent.policies": "actor-critic",
    "sb3_contrib.crossq.policies": "crossq",
    "sb3_contrib.qrdqn.policies": "qrdqn",
    "sb3_contrib.ars.policies": "ars",
}

_EXTRACTORS = tuple(
    f"stable_baselines3.common.torch_layers.{name}" for name in ("FlattenExtractor", "NatureCNN", "CombinedExtractor")
)


@dataclass(frozen=True, eq=False)
class Archive:
    """Hold a policy's parts.

    Attributes:
        activation: the hidden layers' class as text, None for the family's default.
        divides: whether observations are images of bytes, which the policy divides by 255.
        normalised: whether it tells that it was trained in `VecNormalize`; None where it does not say.
        masked: whether masks rule out actions at every step, which are no part of an actor.
        norm_epsilon: of CrossQ's BatchRenorm layers.
    """

    family: Family
    weights: dict[str, npt.NDArray[Any]]
    activation: str | None
    clip_mean: float
    squash: bool
    observation_shape: tuple[int, ...]
    divides: bool
    actions: ActionSpace
    normalised: Normalised | None = None
    masked: bool = False
    norm_epsilon: float = 1e-3


def family_of(module: Any) -> Family:
    """Return which rules a policy class of this module follows."""
    if module in FAMILIES:
        return FAMILIES[module]
    if "recurrent" in str(module):
        raise refusal("policy_class", f"{module}, LSTM")
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
    limit = min(limit, MOST_GROWTH * path.stat().st_size + MEGABYTE)
    with archive.open(name) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise SourceError(f"{path}: {name} unpacks to more than {limit / MEGABYTE:.3g} MB; refused")
    return content


def _described(data: dict[str, Any], weights: bytes, path: Path) -> Archive:
    options = data.get("policy_kwargs") or {}
    if "features_extractor_class" in options:
        extractor = re.sub(r"^<class '(.*)'>$", r"\1", str(options["features_extractor_class"]))
        check_extractor("policy_kwargs.features_extractor_class", extractor)
    space = data["observation_space"]
    keyed, box = (kind_of(space) == kind for kind in ("Dict", "Box"))
    family = family_of(data["policy_class"].get("__module__"))
    return Archive(
        family,
        _state_dict(weights, path),
        None if options.get("activation_fn") is None else str(options["activation_fn"]),
        float(options.get("clip_mean", 2.0)),
        bool(options.get("squash_output", family == "ars" and not _is_linear(data["policy_class"]))),
        keyed_shape(space) if keyed else checked_observations(kind_of(space), shape_of(space) if box else ()),
        bool(options.get("normalize_images", True)) and not keyed and holds_bytes(space),
        action_space(data["action_space"]),
        _was_normalised(data, space, family),
        "maskable" in str(data["policy_class"].get("__module__")),
        float(options.get("batch_norm_eps", 1e-3)),
    )


def _is_linear(policy_class: dict[str, Any]) -> bool:
    """Return whether a class of ARS's is its linear policy, which does not squash its actions by default."""
    return "Linear" in f"{policy_class.get('__init__')} {str(policy_class.get('__doc__')).strip()[:20]}"


def _was_normalised(data: dict[str, Any], space: dict[str, Any], family: Family) -> Normalised | None:
    last, original = (data.get(key) for key in ("_last_obs", "_last_original_obs"))
    if kind_of(space) == "Dict":
        return None
    low, high = serialised_bounds(space) or (None, None)
    values = serialised_array(original)
    kept = original if values is None else values
    return was_normalised(serialised_array(last), kept, low, high, family != "actor-critic")


def _state_dict(content: bytes, path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        import torch
    except ImportError as problem:
        raise needs_extra("torch") from problem
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as inner:
            if sum(member.file_size for member in inner.infolist()) > LARGEST_WEIGHTS:
                raise SourceError(f"{path}: policy.pth unpacks to more than {LARGEST_WEIGHTS // MEGABYTE} MB; refused")
    try:
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return {str(key): value.detach().numpy() for key, value in loaded.items()}
    except Exception as problem:
        reason = "holds more than weights, or is damaged" if "weights" in str(problem).lower() else "is damaged"
        raise SourceError(f"{path}: policy.pth {reason}; nothing of it was executed") from problem


def checked_observations(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a Box; other spaces are refused."""
    if kind != "Box":
        remedy = "Train on one array of numbers (gymnasium's FlattenObservation)"
        raise UnsupportedLayerError("observation_space", kind, "only Box observations are read", remedy)
    return shape


def check_extractor(path: str, name: str) -> None:
    """Refuse all feature extractors (module and class) but two of the library's own: without layers, and NatureCNN."""
    if name not in _EXTRACTORS:
        raise features_refused(path, name)


def features_refused(path: str, kind: str) -> UnsupportedLayerError:
    reason = "of feature extractors with layers of their own, only NatureCNN is read"
    return UnsupportedLayerError(path, kind, reason, "Use MlpPolicy or CnnPolicy, or pass the actor as a torch module")
