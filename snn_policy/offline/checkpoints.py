"""A training run as a directory: what it is (`td3bc.json`, written once), where it stands (`checkpoint.safetensors`).

Everything that changes is in the one file, replaced in one rename: after a kill or on a full disk the last complete
checkpoint is still there. Neither file is ever executed. Minibatches depend on the seed and the step alone
(`snn_policy.offline.batches`), so that parameters, targets, moments and the step are all there is to resume.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_policy.atomic_files import sole_writer, write_atomically
from snn_policy.bundle.files import CHECKPOINT_FILE, RUN_FILE
from snn_policy.offline.batches import PackedData
from snn_policy.offline.td3bc import TD3BC, TD3BCSettings
from snn_policy.sources.training_run import FORMAT, FORMAT_VERSION, read_run, read_tensors, run_digest
from snn_policy.untrusted_files import sealed


def describe_run(data: PackedData, settings: TD3BCSettings) -> dict[str, Any]:
    """Return what a run is, as plain JSON data: format, settings and dataset."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "settings": asdict(settings),
        "data": {
            "env_id": data.env_id,
            "name": data.name,
            "transitions": len(data.rows),
            "sha256": data.fingerprint,
            "observation_shape": list(data.mean.shape),
            "action_low": data.low.tolist(),
            "action_high": data.high.tolist(),
        },
    }


def open_run(
    directory: Path, data: PackedData, settings: TD3BCSettings, resume: bool, device: str | torch.device = "cpu"
) -> TD3BC:
    """Open a run that writes into this directory: a new one, or with `resume` the one there, where it stopped.

    The device is no part of what a run is: one begun on a GPU goes on without.

    Raises:
        ValueError: the directory holds a run and `resume` is false, or holds a run of other settings or data.
        SourceError: its files are damaged.
    """
    run, path, wanted = TD3BC(data, settings, device), directory / RUN_FILE, describe_run(data, settings)
    directory.mkdir(parents=True, exist_ok=True)
    with sole_writer(directory):  # of two runs that begin here at the same time, one describes itself
        if not path.exists():
            write_atomically(path, json.dumps(wanted, indent=1).encode())
            return run
    if not resume:
        raise ValueError(f"{directory}: holds a run already; go on with it (--resume), or choose another directory")
    _require_same(read_run(directory), wanted, directory)
    if (directory / CHECKPOINT_FILE).exists():
        arrays, step = read_tensors(directory, wanted)
        _restore(run, {name: torch.from_numpy(values) for name, values in arrays.items()}, step)
    return run


def _require_same(found: dict[str, Any], wanted: dict[str, Any], directory: Path) -> None:
    for part in ("data", "settings"):
        for key, value in wanted[part].items():
            own = found[part].get(key)
            if own != value:
                what = f"its {part[:-1] if part == 'settings' else 'dataset'} {key} is {own!r}, not {value!r}"
                raise ValueError(f"{directory}: holds another run ({what}); choose another directory")


def save_checkpoint(run: TD3BC, directory: Path) -> None:
    """Replace the directory's checkpoint with the run's present state.

    Raises:
        OSError: it cannot be written; the previous checkpoint is untouched.
    """
    from safetensors.torch import save

    tensors = {
        **{name: values.cpu() for name, values in _state(run).items()},
        "observation.mean": torch.from_numpy(run.data.mean.copy()),
        "observation.scale": torch.from_numpy(run.data.scale.copy()),
    }
    metadata = {"run": run_digest(describe_run(run.data, run.settings)), "step": str(run.step)}
    content = {name: values.detach().numpy() for name, values in tensors.items()}
    write_atomically(directory / CHECKPOINT_FILE, save(tensors, sealed(metadata, content)))


def _state(run: TD3BC) -> dict[str, Tensor]:
    return {
        "actor": run.actor.values,
        "actor.target": run.target_actor.values,
        "actor.mean": run.actor_optimiser.mean,
        "actor.square": run.actor_optimiser.square,
        "critics": run.critics.values,
        "critics.target": run.target_critics.values,
        "critics.mean": run.critic_optimiser.mean,
        "critics.square": run.critic_optimiser.square,
    }


def _restore(run: TD3BC, tensors: dict[str, Tensor], step: int) -> None:
    for name, own in _state(run).items():
        own.copy_(tensors[name])
    run.step = step


def read_checkpoint(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor], int]:
    """Return the run's description, its checkpoint's tensors and step; errors as of `read_run` and `read_tensors`."""
    described = read_run(directory)
    arrays, step = read_tensors(directory, described)
    return described, {name: torch.from_numpy(values) for name, values in arrays.items()}, step
