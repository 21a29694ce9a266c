"""Where the episodes of a recording begin: carried beside its observations, and laid side by side to be run through.

A recurrent network's value depends on all that its episode has shown so far, so a recording of it is run through in
sequence, from a reset wherever an episode begins.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self, SupportsIndex

import numpy as np
import numpy.typing as npt

from snn_policy.protocol import IntArray, Mask, unmasked

MOST_LANES = 32
"""Episodes are run side by side in at most so many rows."""


class EpisodeRecording(np.ndarray):
    """Hold consecutive observations (N, *shape) that know where episodes begin; in all else a plain array.

    Slices of rows, `copy`, `astype` and pickles keep the starts; whatever else is made of it does not.

    Attributes:
        episode_starts: (N,) bool, or None where it is not known.
    """

    episode_starts: Mask | None

    def __new__(cls, observations: npt.NDArray[Any], episode_starts: Mask | None) -> Self:
        """Return a view of the observations; the starts are copied.

        Raises:
            ValueError: masked observations; other starts than one truth value per observation.
        """
        recording = np.asarray(unmasked(observations, "observations")).view(cls)
        if episode_starts is not None:
            recording.episode_starts = checked_starts(episode_starts, len(recording))
        return recording

    def __array_finalize__(self, obj: Any) -> None:
        self.episode_starts = None

    def __getitem__(self, key: Any) -> Any:
        """Return a slice of rows as a recording; everything else as a plain array or number."""
        found = np.asarray(self)[key]
        rows = key[0] if isinstance(key, tuple) and len(key) == 1 else key
        if isinstance(rows, slice) and rows.step in (None, 1) and self.episode_starts is not None:
            return EpisodeRecording(found, self.episode_starts[rows])
        return found

    def copy(self, order: Any = "C") -> Self:
        """Return a copy that knows the same starts."""
        return type(self)(np.array(self, order=order), self.episode_starts)

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: Any, /) -> Self:
        return self.copy()

    def astype(self, *arguments: Any, **options: Any) -> Any:
        """Return the observations in another type, with the same starts."""
        return type(self)(np.asarray(self).astype(*arguments, **options), self.episode_starts)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Any:
        return type(self), (np.asarray(self), self.episode_starts)


def checked_starts(episode_starts: Any, rows: int) -> Mask:
    """Return a copy as (rows,) bool.

    Raises:
        ValueError: another shape, or values that are no truth values or masked.
    """
    starts = np.array(unmasked(episode_starts, "episode_starts"))
    if starts.shape != (rows,):
        raise ValueError(f"episode_starts: shape {starts.shape}, expected one per observation, ({rows},)")
    if starts.dtype.kind not in "biuf" or not np.isin(starts, (0, 1)).all():
        raise ValueError(f"episode_starts: expected true or false, got {starts.dtype}")
    return starts.astype(np.bool_)


def known_starts(observations: Any) -> Mask | None:
    """Return (N,) where episodes of a recording begin, the first row included; None where it does not say."""
    starts = getattr(observations, "episode_starts", None)
    if starts is None:
        return None
    starts = starts.copy()
    starts[:1] = True
    return starts


@dataclass(frozen=True, eq=False)
class Lanes:
    """Hold the episodes of a recording side by side: one after the other within a lane, lanes about equally long.

    Attributes:
        rows: (steps, lanes) the recording's row that each lane is at; −1 after its end. Longer lanes stand first.
        begins: (steps, lanes) whether an episode begins there.
    """

    rows: IntArray
    begins: Mask

    def __iter__(self) -> Iterator[tuple[IntArray, Mask]]:
        """Yield, step by step, (k,) rows of the lanes that go on, the first k, and whether an episode begins there."""
        going = (self.rows >= 0).sum(axis=1)
        for rows, begins, count in zip(self.rows, self.begins, going, strict=True):
            yield rows[:count], begins[:count]


def lanes(starts: Mask, most: int = MOST_LANES) -> Lanes:
    """Return the lanes of a recording whose episodes begin at `starts`, (N,), the first row among them."""
    edges = np.append(np.flatnonzero(starts), len(starts))
    lengths = np.diff(edges)
    filled = [(0, lane) for lane in range(min(most, len(lengths)))]
    members: list[list[int]] = [[] for _ in filled]
    for episode in np.argsort(-lengths, kind="stable").tolist():
        length, lane = heapq.heappop(filled)
        members[lane].append(episode)
        heapq.heappush(filled, (length + int(lengths[episode]), lane))
    order = sorted(members, key=lambda lane: -int(lengths[lane].sum()))
    columns = [np.concatenate([np.arange(edges[one], edges[one + 1]) for one in lane]) for lane in order]
    rows = np.full((len(columns[0]), len(columns)), -1, np.int64)
    for place, column in enumerate(columns):
        rows[: len(column), place] = column
    return Lanes(rows, np.where(rows >= 0, starts[rows], False))
