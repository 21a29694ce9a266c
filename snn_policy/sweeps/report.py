"""A sweep's report: tables, pictures and a page, written into one directory.

index.html                         all of it, in one file
tables.md, tables/NAME.{md,csv}    the same bytes for the same results, whenever and wherever they were computed
episodes.csv                       every return, by seed
time.{md,csv}                      what is another's on another machine
pictures/NAME_{light,dark}.{svg,png}
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from snn_policy.atomic_files import write_together
from snn_policy.sweeps.findings import Findings
from snn_policy.sweeps.page import page
from snn_policy.sweeps.pictures import pictures_of, time_picture
from snn_policy.sweeps.result_tables import tables_of, time
from snn_policy.sweeps.table_files import comma_separated, escaped, field, markdown, records
from snn_policy.sweeps.table_values import Table

PAGE = "index.html"
PROVENANCE = ("cells", "missing")
"""Tables that stand at the page's end."""


class Report(NamedTuple):
    """Hold what was found, as tables, and what is to be written: bytes by name within the report's directory."""

    tables: tuple[Table, ...]
    times: Table
    files: dict[str, bytes]


@np.errstate(all="ignore")  # as in conclude
def make_report(found: Findings, draw: bool = True) -> Report:
    """Return the report of what was found.

    Args:
        draw: with pictures.

    Raises:
        ModuleNotFoundError: pictures are wanted, and matplotlib is not installed.
    """
    pictures = pictures_of(found) if draw else []
    timed = time_picture(found) if draw else None
    if timed is not None:
        pictures.append(timed)
    tables, times = tables_of(found), time(found)
    results = [table for table in tables if table.name not in PROVENANCE]
    closing = [table for table in tables if table.name in PROVENANCE and table.rows]
    texts = {
        "tables.md": f"# {escaped(found.results.name)}\n\n" + "\n".join(markdown(table) for table in tables),
        "time.md": markdown(times),
        "time.csv": comma_separated(times),
        "episodes.csv": _episodes(found),
        PAGE: page(found, [*results, times, *closing], pictures),
    }
    for table in tables:
        texts[f"tables/{table.name}.md"] = markdown(table)
        texts[f"tables/{table.name}.csv"] = comma_separated(table)
    files = {name: text.encode() for name, text in texts.items()}
    for picture in pictures:
        for (theme, ending), content in picture.files.items():
            files[f"pictures/{picture.name}_{theme}.{ending}"] = content
    return Report(tuple(tables), times, files)


def write_report(report: Report, directory: Path) -> None:
    """Write its files, all of them or none; the directory is made where it is missing.

    Raises:
        ValueError: a folder in it is a link to somewhere else.
        OSError: naming the file that could not be written.
    """
    for name in sorted({str(Path(name).parent) for name in report.files}):
        folder = directory / name
        if name != "." and folder.is_symlink():
            raise ValueError(f"{folder}: a link; a report is written into folders of its own, remove it first")
        folder.mkdir(parents=True, exist_ok=True)
    write_together({directory / name: content for name, content in report.files.items()})


def document(found: Findings, report: Report) -> dict[str, Any]:
    """Return everything found as plain data."""
    return {
        "sweep": found.results.name,
        "cells": len(found.results.keys),
        "missing": [{"key": cell.key, "reason": cell.reason} for cell in found.results.missing],
        "remarks": list(found.remarks),
        "delta": found.delta,
        "energy_profile": found.profile.name,
        "tables": {table.name: records(table) for table in (*report.tables, report.times) if table.name != "missing"},
    }


def _episodes(found: Findings) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("run", "actor", "environment", "setting", "seed", "return", "length", "ann_return"))
    for run in found.runs:
        named = [field(name) for name in (run.anchor, run.actor, run.environment, run.setting)]
        for cell, ann in zip(run.cells, run.anns, strict=True):
            own = cell.evaluation
            others: Sequence[float | None] = [None] * own.episodes if ann is None else ann.evaluation.returns
            rows = zip(own.seeds, own.returns, own.lengths, others, strict=True)
            writer.writerows([*named, *(field(number) for number in row)] for row in rows)
    return text.getvalue()
