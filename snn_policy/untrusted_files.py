"""Reading files that may be anything: every failure is one `SourceError` that names the file."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError, UnsupportedLayerError

MEGABYTE = 2**20
LARGEST_WEIGHTS = 512 * MEGABYTE
LARGEST_TEXT = 64 * MEGABYTE
CONTENT_KEY = "sha256"
"""Under it, a safetensors file's metadata holds the digest of all the rest of it."""
MOST_GROWTH = 64
"""A zip of n bytes (PyTorch's are stored as they are) may unpack to so many times n, and a megabyte."""


def checked(path: Path, limit: int) -> Path:
    """Return the path, if it is a file of at most `limit` bytes."""
    if not path.exists():
        raise SourceError(f"{path}: no such file")
    if not path.is_file():
        raise SourceError(f"{path}: not a file")
    if path.stat().st_size > limit:
        raise SourceError(f"{path}: larger than {limit // MEGABYTE} MB, too large for a policy")
    return path


def open_regular(path: Path) -> BinaryIO:
    """Return a plain file, open to be read: no link, no pipe, no device.

    Raises:
        SourceError: it is there and is none.
        OSError: it is missing, a link, or may not be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceError(f"{path}: not a plain file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """Return the bytes of a plain file.

    Raises:
        SourceError: it is none, or is larger than `limit` bytes.
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(content) > limit:
        raise SourceError(f"{path}: larger than {limit // MEGABYTE} MB")
    return content


@contextmanager
def reading(path: Path | str, what: str) -> Iterator[None]:
    """Turn whatever a malformed file makes a parser raise into one line."""
    try:
        yield
    except (UnsupportedLayerError, ImportError):
        raise
    except SourceError as problem:
        if str(path) in str(problem):
            raise
        raise SourceError(f"{path}: {problem}") from problem.__cause__
    except Exception as problem:
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        detail = f"lacks {lines[0]}" if isinstance(problem, KeyError) else lines[0][:200]
        raise SourceError(f"{path}: not a readable {what} ({detail})") from problem


def parse_json(text: bytes, path: Path | str) -> dict[str, Any]:
    """Return a JSON object."""
    with reading(path, "JSON"):
        values = json.loads(text)
    if not isinstance(values, dict):
        raise SourceError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values


def content_digest(described: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return the SHA-256 of plain JSON data and of arrays: their names, kinds, shapes and every byte."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def sealed(metadata: Mapping[str, str], arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    """Return a safetensors file's metadata with the digest of these and of its arrays."""
    return {**metadata, CONTENT_KEY: content_digest(metadata, arrays)}


def is_sealed(metadata: Mapping[str, str], arrays: Mapping[str, npt.NDArray[Any]]) -> bool | None:
    """Return whether the digest in a safetensors file's metadata fits all that it holds; None where there is none."""
    rest = {key: value for key, value in metadata.items() if key != CONTENT_KEY}
    return None if CONTENT_KEY not in metadata else metadata[CONTENT_KEY] == content_digest(rest, arrays)
