"""A compression as a directory: what it is (`compression.json`, written once), and where it stands
(`checkpoint.safetensors`, with a digest of all that it holds).

Everything that changes is in the one file, replaced in one rename: after a kill or on a full disk the last complete
checkpoint is still there. Neither file is ever executed.
"""

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn_policy.actor import Actor
from snn_policy.atomic_files import sole_writer, write_atomically
from snn_policy.bundle import describe_actor
from snn_policy.bundle.files import CHECKPOINT_FILE
from snn_policy.checks import require
from snn_policy.compression.distillation import (
    CORRECTIONS,
    LEAST_WEIGHT,
    MOST_SPIKE_UNIT,
    MOST_WEIGHT,
    Distillation,
    Kept,
    Progress,
)
from snn_policy.compression.judging import EPISODES_ONLY, Verdict
from snn_policy.compression.pictures import states_of
from snn_policy.compression.settings import ADDITIONS, CompressionSettings
from snn_policy.compression.states import States
from snn_policy.environments import EnvironmentSource
from snn_policy.errors import SourceError
from snn_policy.untrusted_files import LARGEST_TEXT, LARGEST_WEIGHTS, checked, is_sealed, parse_json, reading, sealed

FORMAT, FORMAT_VERSION = "snn-policy-compression", 2
RUN_FILE = "compression.json"


def describe_run(teacher: Actor, settings: CompressionSettings, env: str | None, states: str) -> dict[str, Any]:
    """Return what a run is, as plain JSON data.

    Args:
        states: the SHA-256 of the observations it begins with; "" where it records them itself.
    """
    described, arrays = describe_actor(teacher)
    total = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(arrays):
        total.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "settings": {**asdict(settings), "target": str(settings.target)},
        "teacher": {"name": teacher.name, "sha256": total.hexdigest()},
        "states": {"env_id": env, "sha256": states},
    }


def claim_directory(directory: Path, described: dict[str, Any], resume: bool) -> bool:
    """Write the description into the directory, or find it there; return whether there is a checkpoint to go on from.

    A run that was stopped before its first checkpoint has left its description alone: it begins anew.

    Raises:
        ValueError: the directory holds a run's checkpoint and `resume` is false, or holds another run.
        SourceError: its files are damaged.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / RUN_FILE
    with sole_writer(directory):
        if not path.exists():
            write_atomically(path, json.dumps(described, indent=1).encode())
            return False
    begun = (directory / CHECKPOINT_FILE).exists()
    if begun and not resume:
        go_on = "go on with it (--resume; in Python resume=True)"
        raise ValueError(f"{directory}: holds a compression already; {go_on}, or choose another place")
    found, way_out = _read_description(path), "choose another place"
    if not begun:
        way_out = f"nothing of it is kept: delete {path}, or {way_out}"
    for part in ("settings", "teacher", "states"):
        for key, value in described[part].items():
            own = found[part].get(key)
            what = f"its {part} {key} is {own!r}, not {value!r}"
            require(own == value, f"{directory}: holds another compression ({what}); {way_out}")
    return begun


def _read_description(path: Path) -> dict[str, Any]:
    document = parse_json(checked(path, LARGEST_TEXT).read_bytes(), path)
    if document.get("format") != FORMAT or document.get("format_version") != FORMAT_VERSION:
        raise SourceError(f"{path}: not a compression that this release reads")
    if not all(isinstance(document.get(part), dict) for part in ("settings", "teacher", "states")):
        raise SourceError(f"{path}: settings, teacher or states are missing; the file was altered")
    return document


def _digest(described: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def save_checkpoint(run: Distillation, directory: Path, described: dict[str, Any]) -> None:
    """Replace the directory's checkpoint with the run's present state.

    Raises:
        OSError: it cannot be written; the previous one is untouched.
    """
    from safetensors.torch import save

    tensors = {**_arrays(run), "observations": torch.from_numpy(np.ascontiguousarray(run.states.observations))}
    progress = asdict(run.progress)
    if run.kept is not None:
        tensors |= {"kept.values": run.kept.values, **_named("kept.mask", run.kept.masks)}
        progress["kept"] = {"verdict": asdict(run.kept.verdict), "step": run.kept.step}
    metadata = {"run": _digest(described), "progress": json.dumps(progress)}
    write_atomically(directory / CHECKPOINT_FILE, save(tensors, sealed(metadata, _numbers(tensors))))


def _numbers(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def _named(name: str, tensors: list[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{index}": tensor for index, tensor in enumerate(tensors)}


def _arrays(run: Distillation) -> dict[str, Tensor]:
    """Return what training changes in place."""
    return {
        "values": run.parameters.values,
        "mean": run.optimiser.mean,
        "square": run.optimiser.square,
        **_named("mask", run.student.kept),
    }


def read_checkpoint(directory: Path, described: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of the directory's checkpoint, and the progress beside them.

    Raises:
        SourceError: missing, altered by as much as a bit, without a digest, or a checkpoint of another run.
    """
    from safetensors import safe_open

    path = checked(directory / CHECKPOINT_FILE, 2 * LARGEST_WEIGHTS)
    with reading(path, "checkpoint"), safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        same = metadata["run"] == _digest(described)
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
        progress, whole = json.loads(metadata["progress"]), is_sealed(metadata, _numbers(tensors))
    if not whole:
        raise _altered(path, "it has no digest: an earlier release wrote it" if whole is None else "it was altered")
    if not same:
        raise SourceError(f"{path}: a checkpoint of another run than {RUN_FILE} describes; put back the one it had")
    for name, tensor in tensors.items():
        fits = tensor.dtype == torch.float32 or (name == "observations" and tensor.dtype == torch.uint8)
        if not fits or not torch.isfinite(tensor).all():
            raise SourceError(f"{path}: {name} holds something else than finite float32 numbers")
        if "mask." in name and not ((tensor == 0) | (tensor == 1)).all():
            raise SourceError(f"{path}: {name} holds something else than zeros and ones")
    return tensors, progress


def _altered(path: Path, why: str) -> SourceError:
    return SourceError(
        f"{path}: its content cannot be trusted ({why}); delete {path.parent} and start anew, without --resume"
    )


def restore(
    directory: Path, described: dict[str, Any], teacher: Actor, settings: CompressionSettings,
    env: EnvironmentSource | None,
) -> Distillation:  # fmt: skip
    """Return the run that the directory's checkpoint holds, where it stands.

    Raises:
        SourceError: as `read_checkpoint`.
    """
    tensors, given = read_checkpoint(directory, described)
    with reading(directory / CHECKPOINT_FILE, "checkpoint"):
        kept = given.pop("kept", None)
        progress = _progress(given)
        if progress.finished and kept is None:
            raise ValueError("finished, but no student is kept")
        states = _states(teacher, tensors["observations"].numpy(), settings, progress.added)
        run = Distillation(teacher, states, settings, env)
        run.progress, run.optimiser.steps = progress, progress.step
        for name, own in _arrays(run).items():
            own.copy_(_like(name, tensors, own))
        if kept is not None:
            masks = [_like(f"kept.mask.{index}", tensors, own) for index, own in enumerate(run.student.kept)]
            values = _like("kept.values", tensors, run.parameters.values)
            run.kept = Kept(values, masks, _verdict(kept["verdict"]), int(kept["step"]))
        return run


def _states(teacher: Actor, observations: np.ndarray, settings: CompressionSettings, times: int) -> States:
    """Return the states in the parts in which they came: sums round alike."""
    added = settings.added
    begun = len(observations) - added * times
    if observations.shape[1:] != teacher.observation_shape or begun < 2:
        raise ValueError(f"observations of shape {observations.shape} do not fit the run")
    states = states_of(teacher, observations[:begun], begun + ADDITIONS * added if times else 0)
    for first in range(begun, len(observations), added or 1):
        states.add(observations[first : first + added])
    return states


def _progress(given: dict[str, Any]) -> Progress:
    """Read plain numbers, checked: a file may hold anything."""
    read = Progress(**given)
    for field in fields(Progress):
        value, kind = getattr(read, field.name), type(getattr(Progress(), field.name))
        fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
        if not fits or isinstance(value, bool) != (kind is bool) or (kind in (int, float) and not 0 <= value < 1e9):
            raise ValueError(f"{field.name} is {value!r}")
    bounds = {"correction": CORRECTIONS, "closed_loop": CORRECTIONS, "weight": (LEAST_WEIGHT, MOST_WEIGHT),
              "spike_unit": (1.0, MOST_SPIKE_UNIT), "scale": (np.finfo(np.float32).tiny, np.inf)}  # fmt: skip
    for name, (low, high) in bounds.items():
        if not low <= getattr(read, name) <= high:
            raise ValueError(f"{name} {getattr(read, name)} is nothing that a run comes to")
    for verdict in read.verdicts:
        _verdict({name: value for name, value in verdict.items() if name not in ("step", "density")})
    goes_on = read.finished or read.step < read.end
    if read.added > ADDITIONS or not read.begin <= read.step <= read.end or not goes_on:
        raise ValueError(f"step {read.step} of {read.begin} to {read.end} does not fit")
    return read


def _verdict(given: dict[str, Any]) -> Verdict:
    """Read a verdict of plain, finite numbers; some may be unknown, those of episodes where none were run."""
    unknown = ("retention", "error", *(() if given.get("episodes") else EPISODES_ONLY))
    for name, value in given.items():
        known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
        if not known and not (name in unknown and value is None):
            raise ValueError(f"{name} is {value!r}")
    read = Verdict(**{name: value for name, value in given.items() if value is not None})
    if read.energy < 0 or (read.error or 0) < 0 or not 0 < read.tolerance <= 1:
        raise ValueError(f"a verdict of energy {read.energy}, tolerance {read.tolerance} and error {read.error}")
    return read


def _like(name: str, tensors: dict[str, Tensor], own: Tensor) -> Tensor:
    if tensors[name].shape != own.shape:
        raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, not {tuple(own.shape)}")
    return tensors[name]
