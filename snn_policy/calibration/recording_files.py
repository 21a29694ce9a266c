"""Recordings in files: an array, or one beside where its episodes begin; nothing in them is executed.

.npy: the observations (N, *observation_shape) · .npz: `observations`, and `episode_starts` (N,) where it is known, or
`terminations` and `truncations` (N,), as replay buffers have them, which say where episodes end.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.calibration.episodes import EpisodeRecording

LARGEST_RECORDING = 2**34
"""Bytes that an archive may unpack to."""
ENDS = ("terminations", "truncations")


def read_recording(path: Path) -> npt.NDArray[Any]:
    """Return the recorded observations, an `EpisodeRecording` where the file says where episodes begin.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no array; an archive without `observations`, with starts that do not fit, or too large.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return _from_archive(path, found)
    except (EOFError, zipfile.BadZipFile, MemoryError, OverflowError):
        raise _misfit(path) from None
    except ValueError as problem:
        raise (problem if str(path) in str(problem) else _misfit(path)) from None


def _misfit(path: Path) -> ValueError:
    return ValueError(f"{path}: not an array of numbers as numpy.save or numpy.savez writes it")


def _from_archive(path: Path, stored: Any) -> npt.NDArray[Any]:
    if "observations" not in stored.files:
        held = ", ".join(sorted(stored.files)[:6]) or "nothing"
        raise ValueError(f"{path}: several arrays, none of them `observations` ({held}); expected that, or one (.npy)")
    names = ["observations", *(name for name in ("episode_starts", *ENDS) if name in stored.files)]
    unpacked = sum(entry.file_size for entry in stored.zip.infolist() if entry.filename.removesuffix(".npy") in names)
    if unpacked > LARGEST_RECORDING:
        raise ValueError(f"{path}: unpacks to {unpacked:,} bytes, more than the {LARGEST_RECORDING:,} allowed")
    arrays = {name: stored[name] for name in names}
    observations, starts = arrays["observations"], arrays.get("episode_starts")
    if starts is None and all(name in arrays for name in ENDS):
        over = arrays[ENDS[0]].astype(np.bool_) | arrays[ENDS[1]].astype(np.bool_)
        starts = np.append(True, over[:-1])
    if observations.ndim == 0:
        raise ValueError(f"{path}: `observations` is a single number, expected (N, *observation_shape)")
    try:
        return EpisodeRecording(observations, starts)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None
