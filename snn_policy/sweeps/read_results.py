"""Read a sweep's directory: `sweep.json`, and what is there of `cells/KEY.json`.

Nothing outside of the directory is read, whatever links are in it. A cell that cannot be used is no reason to stop: it
is missing, and the reason is kept.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from snn_policy.errors import SourceError
from snn_policy.progress import track
from snn_policy.sweeps.cell_record import ANN, KEY, CellResult, cell_result
from snn_policy.sweeps.digests import canonical, digest_of
from snn_policy.sweeps.files import CELLS, FORMAT, LARGEST, SWEEP_FILE
from snn_policy.untrusted_files import parse_json, read_regular, reading

MOST_CELLS = 100_000
FINISH = "run snn-policy sweep FILE.toml, again where it was stopped: what is done is kept"
NOT_YET = "not computed yet"


class Missing(NamedTuple):
    """Name a cell without a usable result. `damaged`: there is a file, but something is wrong with it."""

    key: str
    reason: str
    damaged: bool

    def __str__(self) -> str:
        return f"{CELLS}/{self.key}.json: {self.reason}"


@dataclass(frozen=True)
class SweepResults:
    """Hold a sweep's cells in the order of its grid.

    Attributes:
        keys: of all its cells.
        file: the text of the TOML file that it was made from.
        select: which seeds served to choose settings, and what was chosen, as canonical JSON; None where nothing was.
        cells: those with a usable result, by key.
        missing: all others.
    """

    directory: Path
    name: str
    keys: tuple[str, ...]
    file: str
    select: str | None
    cells: dict[str, CellResult]
    missing: tuple[Missing, ...]

    @property
    def damaged(self) -> tuple[Missing, ...]:
        """Return those that have a file which cannot be used."""
        return tuple(cell for cell in self.missing if cell.damaged)


def read_sweep(directory: Path, progress: bool = False) -> SweepResults:
    """Return what a sweep's directory holds.

    Raises:
        SourceError: it is no sweep's directory, its `sweep.json` is damaged, or no cell has a usable result.
    """
    if not directory.is_dir():
        raise SourceError(f"{directory}: {'not a directory' if directory.exists() else 'no such directory'}")
    place = directory / SWEEP_FILE
    if not os.path.lexists(place):
        raise SourceError(f"{place}: no such file; snn-policy sweep FILE.toml makes such a directory")
    with reading(place, "sweep"):
        document = _read(place)
        name, keys, text, select = _checked(document)
    folder = directory / CELLS
    if folder.is_symlink():
        raise SourceError(f"{folder}: a link; links out of a sweep are not followed, put the folder itself there")
    cells: dict[str, CellResult] = {}
    missing: dict[str, Missing] = {}
    for key in track(keys, "reading cells", enabled=progress):
        found = _read_cell(folder, key)
        if isinstance(found, CellResult):
            cells[key] = found
        else:
            missing[key] = found
    for problem in _contradictions(cells):
        missing[problem.key] = problem
        del cells[problem.key]
    if not cells:
        first = next((str(cell) for cell in missing.values() if cell.damaged), FINISH)
        raise SourceError(f"{directory}: none of its {len(keys):,} cells has a usable result ({first})")
    absent = tuple(missing[key] for key in keys if key in missing)
    return SweepResults(directory, name, keys, text, select, cells, absent)


def _read(path: Path) -> dict[str, Any]:
    """Return the JSON object in one of the directory's files."""
    if path.is_symlink():
        raise SourceError(f"{path}: a link; links out of a sweep are not followed")
    return parse_json(read_regular(path, LARGEST), path)


def _read_cell(folder: Path, key: str) -> CellResult | Missing:
    path = folder / f"{key}.json"
    if not os.path.lexists(path):
        return Missing(key, NOT_YET, damaged=False)
    try:
        with reading(path, "result"):
            return cell_result(_read(path), key)
    except SourceError as problem:
        return Missing(key, str(problem).removeprefix(f"{path}: "), damaged=True)


def _checked(document: dict[str, Any]) -> tuple[str, tuple[str, ...], str, str | None]:
    """Return a sweep's name, keys, TOML text and selection."""
    if document.get("format") != FORMAT:
        raise SourceError(f"format {document.get('format')!r:.40}: expected {FORMAT}")
    if "sha256" in document and document["sha256"] != digest_of(document):
        raise SourceError("sha256: the digest is another one; the file was altered or damaged")
    name, text, keys, select = (document.get(part) for part in ("name", "file", "cells", "select"))
    if not isinstance(name, str) or not name.strip() or len(name) > 200 or not name.isprintable():
        raise SourceError("name: expected 1 to 200 printable characters")
    if not isinstance(text, str):
        raise SourceError("file: expected the text of a TOML file")
    if not isinstance(keys, list) or not 1 <= len(keys) <= MOST_CELLS:
        raise SourceError(f"cells: expected a list of 1 to {MOST_CELLS:,} keys")
    wrong = next((key for key in keys if not isinstance(key, str) or not KEY.fullmatch(key)), None)
    if wrong is not None or None in keys:
        raise SourceError(f"cells: {wrong!r:.60} is no key")
    if len(set(keys)) != len(keys):
        raise SourceError("cells: a key is there twice")
    if select is not None and not isinstance(select, dict):
        raise SourceError("select: expected an object or null")
    return name, tuple(keys), text, None if select is None else canonical(select)


def _contradictions(cells: dict[str, CellResult]) -> Iterator[Missing]:
    """Yield the cells that cannot stand beside others: their ANN is none, or was measured on something else."""
    wrong: list[Missing] = []
    for key, cell in cells.items():
        ann = cells.get(cell.baseline or "")
        if ann is None:
            continue
        if ann.role != ANN:
            wrong.append(Missing(key, f"baseline {ann.key}: not the cell of an ANN", damaged=True))
        elif (ann.environment, ann.options, ann.evaluation.seeds) != (
            cell.environment,
            cell.options,
            cell.evaluation.seeds,
        ):
            wrong.append(Missing(key, f"baseline {ann.key}: another environment or other seeds", damaged=True))
    yield from wrong
