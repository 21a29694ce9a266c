"""How far a sweep is, on stderr: a bar on a terminal; elsewhere, as in a cluster's log, a line every half minute."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from snn_policy.progress import counting

EVERY_SECONDS = 30.0


class Watching:
    """Count cells and episodes, and say what is left.

    Args:
        what: the work, in a word.
        cells, episodes: that are missing.
        step: called for every episode.
        lines: say so in lines.
    """

    def __init__(self, what: str, cells: int, episodes: int, step: Callable[[], None], lines: bool) -> None:
        self._what, self._cells, self._episodes, self._step, self._lines = what, cells, episodes, step, lines
        self._done, self._finished = 0, 0
        self._begin = self._said = time.monotonic()

    def advance(self, episodes: int, cell: bool = False) -> None:
        """Count finished episodes, and a finished cell."""
        self._done += episodes
        self._finished += cell
        for _ in range(episodes):
            self._step()
        if self._lines and time.monotonic() - self._said >= EVERY_SECONDS:
            self._said = time.monotonic()
            self.note(self.line(self._said - self._begin))

    def line(self, seconds: float) -> str:
        """Return how far it is after so many seconds."""
        left = duration(seconds * max(0, self._episodes - self._done) / max(1, self._done))
        counted = f"{self._finished:,} of {self._cells:,} cells, {self._done:,} of {self._episodes:,} episodes"
        return f"{self._what}: {counted}, {left} left"

    def note(self, message: str) -> None:
        """Show a line."""
        print(message, file=sys.stderr, flush=True)


@contextmanager
def watching(what: str, cells: int, episodes: int, enabled: bool) -> Iterator[Watching]:
    """Yield what a sweep tells its progress to, about so many missing cells and episodes."""
    terminal = sys.stderr.isatty()
    with counting(f"{what} {cells:,} cells", episodes, enabled and terminal and episodes > 0) as step:
        yield Watching(what, cells, episodes, step, enabled and not terminal)


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
