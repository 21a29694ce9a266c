"""Reading numeric arrays of HDF5 files that may be anything, within bounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from snn_policy.errors import SourceError, needs_extra
from snn_policy.untrusted_files import reading

GIGABYTE = 2**30
LARGEST_DATASET = 8 * GIGABYTE
MOST_COMPRESSED = 1100
"""Deflate packs at most 1032 bytes into one: what declares more holds values that nobody wrote."""


class BoundedArrays:
    """Read the arrays of one open file; its memory is bounded by the total that has been read so far."""

    def __init__(self, limit: int = LARGEST_DATASET) -> None:
        self.limit, self.taken = limit, 0

    def read(self, group: Any, name: str) -> npt.NDArray[Any]:
        """Return the whole array stored under a name of an open h5py group.

        Raises:
            SourceError: missing, not an array of numbers, stored in another file, or larger than can be true.
        """
        where = _place(group, name)
        dataset, kind = member(group, name), _h5py().Dataset
        if not isinstance(dataset, kind):
            raise SourceError(f"{where} is not an array")
        if dataset.external or dataset.is_virtual:
            raise SourceError(f"{where} is stored in another file; copy the values into this one")
        if dataset.dtype.kind not in "fiub":
            raise SourceError(f"{where} holds {dataset.dtype}, not numbers")
        size = int(dataset.size or 0) * dataset.dtype.itemsize
        self.taken += size
        if self.taken > self.limit:
            raise SourceError(f"{where} brings it to {self.taken:,} bytes, more than the {self.limit:,} it may have")
        if size > MOST_COMPRESSED * dataset.id.get_storage_size():
            raise SourceError(f"{where} declares shape {dataset.shape}, but hardly any of it is stored")
        return dataset[()]


def member(group: Any, name: str) -> Any:
    """Return what a group holds under a name, never following a link to another place or file.

    Raises:
        SourceError: there is nothing of that name, or a link.
    """
    link = group.get(name, getlink=True) if name in group.keys() else None  # noqa: SIM118
    if link is None:
        raise SourceError(f"lacks {_place(group, name)!r}")
    if not isinstance(link, _h5py().HardLink):
        raise SourceError(f"{_place(group, name)!r} is a link to another place; copy the values into this file")
    return group[name]


def _place(group: Any, name: str) -> str:
    return f"{group.name.rstrip('/')}/{name}".lstrip("/")


@contextmanager
def open_hdf5(path: Path, what: str) -> Iterator[Any]:
    """Open an h5py file to read; whatever its contents make h5py raise becomes one `SourceError` with the path."""
    h5py = _h5py()
    if not path.is_file():
        raise SourceError(f"{path}: no such file")
    with reading(path, what), h5py.File(path, "r") as file:
        yield file


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise needs_extra("h5py", "train") from None
    return h5py
