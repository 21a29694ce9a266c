"""Files that are there whole or not at all: bundles, graphs, checkpoints, snapshots."""

import os
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, suffix: str = ".partial", mode: int = 0o666) -> None:
    """The whole content or none of it: written beside the file, flushed to disk, renamed over it.

    Args:
        suffix: of the file beside it; one of its own for each process where several may write.
        mode: permissions of a new file, less the umask.

    Raises:
        OSError: naming the file; what was there before is untouched, and nothing is left beside it.
    """
    partial = path.with_name(path.name + suffix)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT, mode))  # an error here names what is in the way
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, f"{error.strerror}, {len(content):,} bytes were to be written", str(path)) from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
