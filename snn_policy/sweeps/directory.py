"""A sweep's directory: finished cells, finished batches of cells that are not, converted policies, and one writer.

    sweep.json                         the file, and the keys of its cells in the order of the grid
    cells/KEY.json                     a finished cell
    batches/KEY/FIRST-COUNT.json       finished episodes of a cell that is not
    policies/KEY/                      a converted policy, as a bundle

Every file is whole at any time, and carries its SHA-256; one that does not fit is made again.
"""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from snn_policy.atomic_files import try_lock, write_atomically
from snn_policy.bundle import read_bundle
from snn_policy.bundle.files import POLICY_FILE, replace_files
from snn_policy.errors import SourceError
from snn_policy.sweeps.batches import Batch, holds
from snn_policy.sweeps.cells import Cell, Seeds
from snn_policy.sweeps.contents import Files, files_in
from snn_policy.sweeps.digests import digest_of
from snn_policy.sweeps.files import BATCHES, CELLS, FORMAT, LARGEST, POLICIES, SWEEP_FILE

KEPT = "what is finished is kept: make room, and run the same command again"


class SweepDirectory:
    """Read and write a sweep's directory; the only one to do so while it is open.

    Raises:
        ValueError: what is there is no sweep's.
        BlockingIOError: another sweep is running there.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if (
            path.exists()
            and not (path / SWEEP_FILE).is_file()
            and (not path.is_dir() or any(map(_foreign, path.iterdir())))
        ):
            raise ValueError(f"{path}: exists and is not a sweep's directory; choose another one")
        for folder in (path, path / CELLS, path / BATCHES, path / POLICIES):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path, os.O_RDONLY) if os.name == "posix" else None
        if self._lock is not None and try_lock(self._lock) is False:
            self.close()
            reason = "another sweep is running in this directory; wait for it, stop it, or choose another --out"
            raise BlockingIOError(errno.EWOULDBLOCK, reason, str(path))

    def __enter__(self) -> "SweepDirectory":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def write_sweep(self, name: str, text: str, keys: Sequence[str], select: Mapping[str, Any] | None) -> None:
        document = {"format": FORMAT, "name": name, "file": text, "cells": keys, "select": select}
        self._write(self.path / SWEEP_FILE, document)

    def has_cell(self, key: str) -> bool:
        """Return whether there is a cell's file, whole or not."""
        return self._cell_file(key).is_file()

    def cell(self, key: str) -> dict[str, Any] | None:
        """Return a finished cell; None where there is none, or its file does not hold what it says."""
        document = _read(self._cell_file(key))
        if document is None or document.get("key") != key or "evaluation" not in document:
            return None
        return document if document.get("sha256") == digest_of(document) else None

    def write_cell(self, cell: Cell, evaluation: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """Write a finished cell, and remove its batches."""
        document = {"format": FORMAT, "key": cell.key, "cell": cell.record, "evaluation": evaluation, "timing": timing}
        self._write(self._cell_file(cell.key), {**document, "sha256": digest_of(document)})
        self.forget_batches(cell.key)

    def forget_batches(self, key: str) -> None:
        """Remove what a finished cell, or a writer that was killed, has left of batches."""
        shutil.rmtree(self.path / BATCHES / key, ignore_errors=True)

    def has_batch(self, key: str, seeds: Seeds) -> bool:
        """Return whether there is a batch's file, whole or not."""
        return self._batch_file(key, seeds).is_file()

    def batch(self, key: str, seeds: Seeds) -> Batch | None:
        """Return a finished batch of a cell, None where there is none that is whole."""
        document = _read(self._batch_file(key, seeds))
        if document is None or document.get("key") != key or document.get("sha256") != digest_of(document):
            return None
        return document["batch"] if holds(document["batch"], seeds) else None

    def write_batch(self, key: str, seeds: Seeds, batch: Batch) -> None:
        document = {"format": FORMAT, "key": key, "batch": batch}
        place = self._batch_file(key, seeds)
        with _telling():
            place.parent.mkdir(exist_ok=True)
        self._write(place, {**document, "sha256": digest_of(document)})

    def policy(self, key: str) -> Files | None:
        """Return a converted policy's files; None where there is none that is whole."""
        place = self.path / POLICIES / key
        if not (place / POLICY_FILE).is_file():
            return None
        try:
            read_bundle(place)
        except (SourceError, OSError):
            return None
        return files_in(place)

    def write_policy(self, key: str, files: Files) -> None:
        with _telling():
            (weights,) = (content for name, content in files.items() if name != POLICY_FILE)
            replace_files(self.path / POLICIES / key, files[POLICY_FILE], weights, {})

    def _cell_file(self, key: str) -> Path:
        return self.path / CELLS / f"{key}.json"

    def _batch_file(self, key: str, seeds: Seeds) -> Path:
        return self.path / BATCHES / key / f"{seeds.first}-{seeds.count}.json"

    def _write(self, path: Path, document: Mapping[str, Any]) -> None:
        with _telling():
            write_atomically(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


def _foreign(place: Path) -> bool:
    """Return whether something is none of what a sweep leaves that could not write its first file."""
    return place.name not in (CELLS, BATCHES, POLICIES) and not place.name.startswith(SWEEP_FILE)


def _read(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None where the file is missing, or holds something else."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        document = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant}: not written by a sweep")


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Say of every failed write that nothing is lost, and what to do."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).split(",")[0]
        raise OSError(error.errno, f"{reason}; {KEPT}", error.filename) from None
