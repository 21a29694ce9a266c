"""Replay buffers as `examples/train_actor.py` stores them: one .npz with the transitions in their order."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy.errors import SourceError
from snn_policy.offline.hdf5 import LARGEST_DATASET
from snn_policy.offline.transitions import FLAG_ARRAYS, FLOAT_ARRAYS, Transitions
from snn_policy.untrusted_files import MEGABYTE, checked, parse_json, reading


def read_replay(path: Path) -> Transitions:
    """Return the transitions; `env_id` from the run's `training.json` beside the file, where there is one.

    Raises:
        SourceError: missing, truncated, without one of the arrays, with pickled objects, or with unusable values.
    """
    names = (*FLOAT_ARRAYS, *FLAG_ARRAYS)
    checked(path, LARGEST_DATASET)
    with reading(path, "replay buffer"):
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
        if missing := [name for name in names if name not in sizes]:
            raise SourceError(f"lacks {', '.join(map(repr, missing))}")
        if sum(sizes.values()) > LARGEST_DATASET:
            raise SourceError(f"unpacks to {sum(sizes.values()):,} bytes, more than the {LARGEST_DATASET:,} allowed")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in names}
    return built(path, **arrays, env_id=_environment(path.parent), name=path.parent.name or path.stem).with_cuts()


def built(path: Path, **fields: Any) -> Transitions:
    """Return transitions of a file's arrays, their errors naming the file."""
    try:
        return Transitions(**fields)
    except ValueError as problem:
        raise SourceError(f"{path}: {problem}") from None


def _environment(run: Path) -> str | None:
    settings = run / "training.json"
    if not settings.is_file():
        return None
    env_id = parse_json(checked(settings, MEGABYTE).read_bytes(), settings).get("env")
    return env_id if isinstance(env_id, str) and ":" not in env_id else None
