"""Fill the tables of a page from a sweep's directory, and store the cells that they are made of.

    snn-policy sweep benchmarks/sweeps/results.toml         # hours; stop and start it as you like; also on a cluster
    python -m benchmarks.fill_page runs/results             # benchmarks/results/results.json and its pages
    python -m benchmarks.fill_page                          # all tables again, from what is stored
    python -m benchmarks.fill_page runs/trial --out /tmp    # a trial: nothing here is changed

The sweep's name says which pages it fills. Nothing is measured here: the same cells make the same bytes. Stored cells
give way to cells of as many episodes or more, never to fewer.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.markers import replaced
from benchmarks.neuron_tables import residual_table
from benchmarks.page_tables import actor_tables, energy_table, hours_of, short_table, suite_tables, sweeps_table
from benchmarks.places import DOCS, RESULTS, ROOT, raw_of
from benchmarks.stored_cells import Document, gathered, rows_of, without_those_measured, written
from snn_policy.atomic_files import write_together
from snn_policy.errors import SourceError

README = ROOT / "README.md"
Text = Callable[[Document], str]


@dataclass(frozen=True)
class Table:
    """Hold where a table stands: the page, the marker around it; and what writes it."""

    page: Path
    marker: str
    text: Text


TABLES: Mapping[str, tuple[Table, ...]] = {
    "results": (
        Table(DOCS / "results.md", "results", actor_tables),
        Table(README, "results", short_table),
    ),
    "dm_control": (Table(DOCS / "dm_control.md", "results", suite_tables),),
    "dm_control_pixels": (Table(DOCS / "dm_control.md", "pixels", suite_tables),),
    "energy": (
        Table(README, "energy", energy_table),
        Table(DOCS / "energy.md", "energy", lambda document: energy_table(document, everything=True)),
    ),
    "neuron": (Table(DOCS / "neuron.md", "residual and tolerance", residual_table),),
}
"""The tables that a sweep fills, by its name."""
DRAWN_FROM: Mapping[str, str] = {"results": "python -m benchmarks.plot_energy_return"}
"""What draws the pictures of a sweep's cells anew."""
LIST = DOCS / "sweeps.md"
"""The page with the list of all sweeps."""


def stored_in(name: str, folder: Path = RESULTS) -> Path:
    """Return the file with the cells of the sweep of that name."""
    return folder / f"{name}.json"


def read_stored(name: str) -> Document:
    """Return what is stored of a sweep."""
    return json.loads(stored_in(name).read_text())


def check_episodes(new: Document, old: Document) -> None:
    """Refuse to replace stored cells with none, or with cells of fewer episodes.

    Raises:
        ValueError: naming one that would be lost.
    """
    found = {(cell["actor"], cell["variant"]): cell["episodes"] for cell in new["cells"]}
    for cell in old.get("cells", ()):
        have = found.get((cell["actor"], cell["variant"]), 0)
        if have < cell["episodes"]:
            what = f"{cell['actor']}, {cell['variant']}"
            raise ValueError(
                f"{what}: {cell['episodes']} episodes are stored, the sweep has {have}; finish it, "
                "or give a trial a place of its own with --out"
            )


def replaced_tables(name: str, document: Document, out: Path | None = None) -> dict[Path, bytes]:
    """Return the pages with the tables of that sweep, by where they go: in `out`, or in their own places."""
    pages: dict[Path, str] = {}
    for table in TABLES[name]:
        target = table.page if out is None else out / table.page.name
        before = pages.get(target) or (target if target.is_file() else table.page).read_text()
        pages[target] = replaced(before, table.marker, table.text(document))
    target = LIST if out is None else out / LIST.name
    documents = {other: read_stored(other) for other in TABLES if other != name} | {name: document}
    pages[target] = replaced((target if target.is_file() else LIST).read_text(), "sweeps", sweeps_table(documents))
    return {target: text.encode() for target, text in pages.items()}


def fill(directory: Path, out: Path | None = None) -> Document:
    """Store a sweep's cells, and write its tables; all files, or none.

    Raises:
        ValueError: a sweep of no page, a damaged cell, or fewer episodes than are stored.
    """
    document = gathered(directory)
    name = document["sweep"]
    if name not in TABLES:
        raise ValueError(f"{directory}: no page has tables of a sweep called {name!r}, only of {', '.join(TABLES)}")
    target = stored_in(name, raw_of(out or DOCS))
    before = json.loads(target.read_text()) if target.is_file() else {}
    check_episodes(document, before)
    left = still_older(before.get("older", {}), document)
    if left["rows"]:
        document["older"] = left
    write_together({target: written(document), **replaced_tables(name, document, out)})
    return document


def still_older(older: Document, document: Document) -> Document:
    """Return the older rows, with what is said of them, whose places no cell has taken."""
    rows = older.get("rows", [])
    if any("policy" in row for row in rows):
        measured = {cell["actor"] for cell in document["cells"]}
        return {**older, "rows": [row for row in rows if row["policy"] not in measured]}
    return {**older, "rows": without_those_measured(rows, rows_of(document))}


def fill_from_stored(out: Path | None = None) -> None:
    """Write all tables again."""
    for name in TABLES:
        write_together(replaced_tables(name, read_stored(name), out))


def told(document: Document) -> str:
    """Return what was stored, in a line."""
    episodes = Counter(cell["episodes"] for cell in document["cells"])
    sizes = ", ".join(f"{count} of {size} episodes" for size, count in sorted(episodes.items()))
    missing = f"; {document['missing']} cells are missing" if document["missing"] else ""
    return f"{document['sweep']}: {len(document['cells'])} cells ({sizes}), {hours_of(document):.2f} hours{missing}"


def main(
    directories: Annotated[list[Path] | None, typer.Argument(metavar="DIR", help="of sweeps; none: as stored")] = None,
    out: Annotated[Path | None, typer.Option(help="where files go instead of their own places")] = None,
) -> None:
    """Fill the pages."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    try:
        for directory in directories or ():
            document = fill(directory, out)
            print(told(document))
            if out is None and document["sweep"] in DRAWN_FROM:
                print(f"next: {DRAWN_FROM[document['sweep']]}")
        if not directories:
            fill_from_stored(out)
    except (ValueError, SourceError) as error:
        raise typer.BadParameter(str(error)) from None


if __name__ == "__main__":
    typer.run(main)
