"""Recordings in files: an array, or one beside where its episodes begin; nothing in them is executed.

.npy: the observations (N, *observation_shape) · .npz: `observations`, and `episode_starts` (N,) where it is known, or
`terminations` and `truncations` (N,), as replay buffers have them, which say where episodes end. Of policies trained on
dictionaries, an .npz may hold an array (N, …) under every key instead (`KEY`, or `observations.KEY`).
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.calibration.episodes import EpisodeRecording
from snn_policy.protocol import KeyedShape, as_batch

LARGEST_RECORDING = 2**34
"""Bytes that an archive may unpack to."""
ENDS = ("terminations", "truncations")


def read_recording(path: Path, shape: tuple[int, ...] | None = None) -> npt.NDArray[Any]:
    """Return the recorded observations, an `EpisodeRecording` where the file says where episodes begin.

    Args:
        shape: the policy's observation shape; one with keys is looked for under them, and joined in their order.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no array; an archive without `observations`, with starts that do not fit, or too large.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return _from_archive(path, found, shape if isinstance(shape, KeyedShape) else None)
    except (EOFError, zipfile.BadZipFile, MemoryError, OverflowError):
        raise _misfit(path) from None
    except ValueError as problem:
        raise (problem if str(path) in str(problem) else _misfit(path)) from None


def _misfit(path: Path) -> ValueError:
    return ValueError(f"{path}: not an array of numbers as numpy.save or numpy.savez writes it")


def _from_archive(path: Path, stored: Any, keyed: KeyedShape | None) -> npt.NDArray[Any]:
    places = {} if keyed is None or "observations" in stored.files else _places(path, stored, keyed)
    if not places and "observations" not in stored.files:
        held = ", ".join(sorted(stored.files)[:6]) or "nothing"
        raise ValueError(f"{path}: several arrays, none of them `observations` ({held}); expected that, or one (.npy)")
    extra = [name for name in ("episode_starts", *ENDS) if name in stored.files]
    names = [*(places.values() or ["observations"]), *extra]
    unpacked = sum(entry.file_size for entry in stored.zip.infolist() if entry.filename.removesuffix(".npy") in names)
    if unpacked > LARGEST_RECORDING:
        raise ValueError(f"{path}: unpacks to {unpacked:,} bytes, more than the {LARGEST_RECORDING:,} allowed")
    arrays = {name: stored[name] for name in names}
    observations, starts = arrays.get("observations"), arrays.get("episode_starts")
    if keyed is not None and places:
        parts = {key: arrays[name] for key, name in places.items()}
        try:
            observations = as_batch(parts, keyed, "observations")[0]  # pyright: ignore[reportArgumentType]
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from None
    assert observations is not None
    if starts is None and all(name in arrays for name in ENDS):
        over = arrays[ENDS[0]].astype(np.bool_) | arrays[ENDS[1]].astype(np.bool_)
        starts = np.append(True, over[:-1])
    if observations.ndim == 0:
        raise ValueError(f"{path}: `observations` is a single number, expected (N, *observation_shape)")
    try:
        return EpisodeRecording(observations, starts)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None


def _places(path: Path, stored: Any, keyed: KeyedShape) -> dict[str, str]:
    """Return by key the name of its array."""
    found = {}
    for key in keyed.parts:
        names = (key, f"observations.{key}", f"observations/{key}", f"obs.{key}")
        named = [name for name in names if name in stored.files]
        if not named:
            held = ", ".join(sorted(stored.files)[:6]) or "nothing"
            raise ValueError(f"{path}: no array {key!r} ({held}); the policy takes {', '.join(map(repr, keyed.parts))}")
        found[key] = named[0]
    return found
