"""One line per event on stderr, never a traceback, and never so many that a hostile client could fill a disk."""

import logging
import time

MOST_LINES_PER_SECOND = 20


class OneLine(logging.Formatter):
    """Write the message, and of an exception its type and text."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = f"{self.formatTime(record)} {record.levelname.lower()} {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text += f": {type(error).__name__}: {error}"
        return " ".join(text.split())


class Sparing(logging.Filter):
    """Let some lines per second pass."""

    def __init__(self) -> None:
        super().__init__()
        self._second, self._lines = 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= MOST_LINES_PER_SECOND


class Seldom:
    """Say once per second at most that something has happened, and how often since it last said so."""

    def __init__(self) -> None:
        self._said_at, self._count = -float("inf"), 0

    def count(self) -> int | None:
        """Count one more; return how many are to be reported now, None for none."""
        self._count += 1
        now = time.monotonic()
        if now - self._said_at < 1:
            return None
        unsaid, self._said_at, self._count = self._count, now, 0
        return unsaid


def log_to_stderr() -> None:
    """Send the server's own lines, asyncio's and websockets' to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    handler.addFilter(Sparing())
    for name, level in (("snn_policy", logging.INFO), ("asyncio", logging.ERROR), ("websockets", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        logger.handlers = [handler]
