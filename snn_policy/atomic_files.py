"""Files that are there whole or not at all (bundles, graphs, checkpoints, snapshots), and who may write them.

Locks are flock(2)'s: the system releases them when their holder ends, however it ends. Where there are none (not every
network file system has them, Windows has not), files are whole all the same, but what a killed writer left stays.
"""

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PARTIAL = re.compile(r"\.\d+-[0-9a-f]{16}\.partial")
"""What follows a file's name in the name of one that is being written."""
OTHERS_MAY_TAKE = 60.0
"""Seconds that another writer of the same directory is waited for."""


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write the whole content or none of it: beside the file under a name of its own, flushed to disk, renamed over it.

    Any number of processes and threads may do so at the same time; one of them is last. What a killed writer of the
    same file left beside it is removed.

    Args:
        mode: permissions of a new file, less the umask.

    Raises:
        OSError: naming the file; what was there before is untouched, and nothing is left beside it.
    """
    write_together({path: content}, mode=mode)


def write_together(contents: Mapping[Path, bytes], instead_of: Iterable[Path] = (), *, mode: int = 0o666) -> None:
    """Write files that belong together: each as `write_atomically` does, and none is renamed before all are on disk.

    Whatever fails or interrupts this on the way leaves all files as they were; an interrupt after that waits until all
    are renamed, which takes no more than moments.

    Args:
        instead_of: files of before that go when the new ones are there.
        mode: permissions of new files, less the umask.

    Raises:
        OSError: naming the file that cannot be written; nothing is left beside it.
    """
    partials: dict[Path, Path] = {}
    with contextlib.ExitStack() as being_written:
        try:
            for path, content in contents.items():
                with _named(path, content):
                    if path.is_dir():
                        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
                    remove_abandoned(path)
                    descriptor = _create_partial(path, mode, partials)
                    file = being_written.enter_context(open(descriptor, "wb"))
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            if fcntl is None:  # else renamed while they are locked, so that nobody takes them for abandoned
                being_written.close()
            _rename(partials, contents, tuple(instead_of))
        except BaseException:
            being_written.close()
            for partial in partials:
                with contextlib.suppress(NotADirectoryError):
                    partial.unlink(missing_ok=True)
            raise


def _rename(
    partials: Mapping[Path, Path], contents: Mapping[Path, bytes], instead_of: tuple[Path, ...], again: bool = False
) -> None:
    """Rename all and remove what is superseded; `again`: after an interrupt, what is not done yet."""
    try:
        for partial, path in partials.items():
            if not (again and not partial.exists()):
                with _named(path, contents[path]):
                    partial.replace(path)
        for path in instead_of:
            path.unlink(missing_ok=True)
    except KeyboardInterrupt:
        if not again:
            _rename(partials, contents, instead_of, again=True)
        raise


@contextlib.contextmanager
def _named(path: Path, content: bytes) -> Iterator[None]:
    """Say of a failure which file it concerns, and how large that was to be."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, {len(content):,} bytes were to be written", str(path)) from None


def _create_partial(path: Path, mode: int, partials: dict[Path, Path]) -> int:
    """Return a new file that is locked while it is open; it stands in `partials` before it exists."""
    while True:
        partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(8)}.partial")
        partials[partial] = path
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        if try_lock(descriptor) is not False and _is_still(partial, descriptor):
            return descriptor
        os.close(descriptor)  # somebody took it for abandoned before it was locked, and removes it
        del partials[partial]


def _is_still(path: Path, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    return False


def remove_abandoned(path: Path) -> None:
    """Remove partial files of this one whose writers have ended."""
    try:
        names = os.listdir(path.parent)
    except OSError:  # what is wrong with the directory is said when the file is made
        return
    for name in names:
        if name.startswith(path.name) and PARTIAL.fullmatch(name, len(path.name)):
            with contextlib.suppress(OSError):  # another user's, or removed by another writer
                descriptor = os.open(path.parent / name, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
                try:
                    if try_lock(descriptor):
                        (path.parent / name).unlink()
                finally:
                    os.close(descriptor)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or directory for this descriptor alone; False: another has it; None: no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextlib.contextmanager
def sole_writer(directory: Path) -> Iterator[bool]:
    """Keep every other writer of a directory out until the block ends; yields whether there are locks to do so.

    Raises:
        TimeoutError: another one takes longer than a minute.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except PermissionError:  # a directory that may be written but not read; on Windows, any
        yield False
        return
    try:
        deadline = time.monotonic() + OTHERS_MAY_TAKE
        while (held := try_lock(descriptor)) is False:
            if time.monotonic() > deadline:
                reason = f"another process has been writing there for {OTHERS_MAY_TAKE:.0f} seconds"
                raise TimeoutError(errno.ETIMEDOUT, reason, str(directory))
            time.sleep(0.002)
        yield bool(held)
    finally:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for a forked child that has inherited it
        os.close(descriptor)
