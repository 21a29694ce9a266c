"""Recorded observations in any form a user has them: one array, an iterable of arrays, a Minari dataset."""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.calibration.episodes import EpisodeRecording, checked_starts
from snn_policy.protocol import FloatArray, KeyedShape, Mask, as_batch, unmasked

CHUNK_ROWS, CHUNK_VALUES = 2048, 2**22
MOST_SCRATCH_BYTES = 2**26
SENSITIVITY_VALUES = 2**24
"""Sensitivities are averaged over at most so many recorded values, evenly spaced: some 250 images, any vectors."""
HANDFUL = 20
"""Fewer different rows than these decide nothing: not how large an activation gets, nor how errors add up."""


def as_recordings(observations: Any, shape: tuple[int, ...], episode_starts: Any = None) -> EpisodeRecording:
    """Return the observations as one array (N, *shape), in order: float32, or uint8 where all are images of it.

    Where episodes begin is taken from `episode_starts`, else from what is given: an `EpisodeRecording`, several of
    them, or a Minari dataset.

    Args:
        observations: an array (N, *shape), which is only read; an iterable of arrays (N_i, *shape) or (*shape,),
            which may all be the same buffer, filled anew each time; or a Minari dataset (anything with
            `iterate_episodes()`), whose episodes follow one another.
        episode_starts: (N,) whether an episode begins there.

    Raises:
        ValueError: another shape, NaN, infinity or masked values, or no observation at all; starts that do not fit.
    """
    if isinstance(observations, np.ndarray):
        starts = getattr(observations, "episode_starts", None)
        plain = np.asarray(unmasked(observations, "observations"))
        return _with_starts(_checked(plain, shape, "observations"), starts, episode_starts)
    if isinstance(observations, Mapping):
        return _with_starts(_checked(_keyed(observations, shape), shape, "observations"), None, episode_starts)
    episodic = hasattr(observations, "iterate_episodes")
    if episodic:
        parts = (episode.observations for episode in observations.iterate_episodes())
    elif hasattr(observations, "__iter__") and not isinstance(observations, str | bytes):
        parts = iter(observations)
    else:
        raise ValueError(
            "observations: expected an array, an iterable of arrays or a Minari dataset, got "
            f"{type(observations).__name__}{_way_out(observations)}"
        )
    batches, begun = [], []
    for index, part in enumerate(parts):
        batches.append(np.array(_checked(part, shape, f"observations[{index}]")))
        first = np.arange(len(batches[-1])) == 0
        begun.append(first if episodic else getattr(part, "episode_starts", None))
    if not batches:
        raise ValueError("observations: none were given")
    known = [starts for starts in begun if starts is not None]
    joined = np.concatenate(known) if len(known) == len(batches) else None
    return _with_starts(batches[0] if len(batches) == 1 else np.concatenate(batches), joined, episode_starts)


def _with_starts(observations: npt.NDArray[Any], known: Mask | None, given: Any) -> EpisodeRecording:
    starts = known if given is None else checked_starts(given, len(observations))
    fits = starts is not None and len(starts) == len(observations)
    return EpisodeRecording(observations, starts if fits else None)


def _keyed(observations: Mapping[Any, Any], shape: tuple[int, ...]) -> Any:
    """Return a dictionary of arrays (N, …) as it is, where the actor takes one, else refuse it."""
    if isinstance(shape, KeyedShape):
        return observations
    keys = ", ".join(map(repr, list(observations)[:4]))
    raise ValueError(
        f"observations: a dictionary (keys {keys}), but the actor takes one array of shape (N, *{shape}); pass the "
        "array under the key that it was trained on"
    )


def _way_out(observations: Any) -> str:
    """Return how to come by observations, for what can be stepped or names something that can."""
    if isinstance(observations, str | Path):
        named = str(observations)
        loaded = f'numpy.load("{named}")' if named.endswith((".npy", ".npz")) else f'actor.collect("{named}")'
        return f"; pass {loaded}"
    steps = hasattr(observations, "step") and hasattr(observations, "reset")
    return "; pass what actor.collect(function that makes an environment) records in it" if steps else ""


def _checked(part: Any, shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    """Return (N, *shape): images stay bytes, in a quarter of the memory."""
    unmasked(part, name)
    images = isinstance(part, np.ndarray) and part.dtype == np.uint8 and part.size > 0
    if images and shape in (part.shape, part.shape[1:]):
        return part.reshape(-1, *shape)
    return as_batch(part, shape, name)[0]


def distinct_rows(values: npt.NDArray[Any], most: int) -> int:
    """Count the rows that differ from each other, at most `most`: as soon as there are so many, no more are read."""
    seen: set[int] = set()
    for row in values:
        seen.add(hash(row.tobytes()))
        if len(seen) >= most:
            break
    release(values)
    return len(seen)


def pieces(values: npt.NDArray[Any], rows: int = CHUNK_ROWS, most: int | None = None) -> Iterator[slice]:
    """Yield consecutive rows, at most `rows` at a time and at most so many values, to bound the memory of a pass."""
    rows = max(1, min(rows, (most or CHUNK_VALUES) * len(values) // max(values.size, 1)))
    for start in range(0, len(values), rows):
        yield slice(start, start + rows)
        release(values)


def chunks(observations: npt.NDArray[Any], rows: int = CHUNK_ROWS) -> Iterator[FloatArray]:
    """Yield the recordings' `pieces` as float32."""
    for piece in pieces(observations, rows):
        yield observations[piece].astype(np.float32, copy=False)


def scratch(rows: int, width: int) -> FloatArray:
    """Return an array (rows, width) to fill; a large one lies in a temporary file, which goes when the array does."""
    if 4 * rows * width <= MOST_SCRATCH_BYTES:
        return np.empty((rows, width), np.float32)
    with TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=(rows, width))


def release(values: npt.NDArray[Any]) -> None:
    """Keep a scratch file's contents in the file alone, no longer in this process's memory."""
    if isinstance(values.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        values.base.madvise(mmap.MADV_DONTNEED)
