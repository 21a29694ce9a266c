"""One line per event on stderr, never a traceback, and never so many that a hostile client could fill a disk."""

import logging
import time

MOST_LINES_PER_SECOND = 20


class OneLine(logging.Formatter):
    """The message, and of an exception its type and text."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        text = f"{self.formatTime(record)} {record.levelname.lower()} {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text += f": {type(error).__name__}: {error}"
        return " ".join(text.split())


class Sparing(logging.Filter):
    """Lets some lines per second pass."""

    def __init__(self) -> None:
        super().__init__()
        self._second, self._lines = 0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= MOST_LINES_PER_SECOND


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
