"""File descriptors: every connection needs one, and a system may give a process fewer than its connections."""

import logging
import os
import resource

log = logging.getLogger("snn_policy.serving.serve")
SPARE = 24
"""For the listening sockets, the event loop, the state file and what else is opened on the way."""


def make_room(sockets: int) -> int:
    """Raise the process's limit of open files, where it may be and must, to hold so many sockets; returns how many fit.

    Raises:
        OSError: the limit leaves no room for a server at all.
    """
    wanted = sockets + _open_files() + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return sockets
    given = _raised(soft, wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
    fitting = min(sockets, given - _open_files() - SPARE)
    if fitting < 1:
        raise OSError(f"{given} file descriptors are too few for a server; raise the limit (ulimit -n {wanted})")
    if fitting < sockets:
        log.warning(
            "few file descriptors: %d of the %d sockets asked for fit into %d; raise the hard limit (ulimit -Hn %d)",
            fitting, sockets, given, wanted,
        )  # fmt: skip
    else:
        log.info("few file descriptors: raised their limit from %d to %d", soft, given)
    return fitting


def _raised(soft: int, wanted: int, hard: int) -> int:
    """Return the limit that there is after trying to raise it."""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # some systems have a limit beyond the one they tell
        return soft
    return wanted


def _open_files() -> int:
    """Return how many this process has open, or some number that is hardly too small where the system does not tell."""
    for directory in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(directory):
            return len(os.listdir(directory))
    return 64
