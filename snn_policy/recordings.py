"""Recorded observations in any form a user has them: one array, an iterable of arrays, a Minari dataset."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from snn_policy.protocol import FloatArray, as_batch

CHUNK_ROWS = 2048


def as_recordings(observations: Any, shape: tuple[int, ...]) -> FloatArray:
    """All observations as one float32 array (N, *shape), in their order.

    Args:
        observations: an array (N, *shape); an iterable of arrays (N_i, *shape) or (*shape,); or a Minari
            dataset (anything with `iterate_episodes()`), whose episodes follow one another.

    Raises:
        ValueError: another shape, NaN or infinity, or no observation at all.
    """
    if isinstance(observations, np.ndarray):
        parts = iter([observations])
    elif hasattr(observations, "iterate_episodes"):
        parts = (episode.observations for episode in observations.iterate_episodes())
    elif hasattr(observations, "__iter__") and not isinstance(observations, str | bytes):
        parts = iter(observations)
    else:
        kind = type(observations).__name__
        raise ValueError(f"observations: expected an array, an iterable of arrays or a Minari dataset, got {kind}")
    batches = [as_batch(part, shape, f"observations[{i}]")[0] for i, part in enumerate(parts)]
    if not batches:
        raise ValueError("observations: none were given")
    return np.concatenate(batches)


def chunks(observations: FloatArray, rows: int = CHUNK_ROWS) -> Iterator[FloatArray]:
    """The recordings in consecutive pieces of at most `rows` rows, to bound the memory of a pass."""
    for start in range(0, len(observations), rows):
        yield observations[start : start + rows]
