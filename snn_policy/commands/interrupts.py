"""Ctrl-C while the command `snn-policy` is still importing: one line and exit code 130, no traceback.

Loading NumPy, Gymnasium and the rest takes a second, in which nothing has begun that would have to be cleaned up.
"""

import os
import signal
import sys
from pathlib import PurePath
from typing import Any

INTERRUPTED = 130
MESSAGE = "snn-policy: interrupted"


def is_command() -> bool:
    """Return whether this process is the command: its script, `python -m snn_policy.cli`, or the like; no worker."""
    given = sys.orig_argv[1:]
    if any("multiprocessing" in argument for argument in given):
        return False
    return any(argument.endswith("snn_policy.cli") or "snn_policy.cli import" in argument for argument in given) or (
        len(given) > 0 and PurePath(sys.argv[0]).stem == "snn-policy"
    )


def quit_quietly_while_importing() -> None:
    """Let Ctrl-C end this process at once, where it is the command, until `raise_from_now_on`."""
    if is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        try:
            signal.signal(signal.SIGINT, _quit)
        except ValueError:  # not the main thread, which alone can be interrupted
            return


def raise_from_now_on() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again, for commands that have something to clean up."""
    if signal.getsignal(signal.SIGINT) is _quit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _quit(*_: Any) -> None:
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(INTERRUPTED)
