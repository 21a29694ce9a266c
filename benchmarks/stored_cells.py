"""What the documents keep of a sweep: in one file its cells, without what can be computed again; and rows made of them.

    {"sweep", "file", "code", "versions", "cells": [{"key", "actor", "variant", "baseline", …, "returns"}], "older"}

`older` has rows of former measurements that no cell stands for yet, and says what they are.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.places import TRAINED
from snn_policy.bundle import read_bundle
from snn_policy.evaluation.results import Comparison, Evaluation
from snn_policy.evaluation.statistics import error_of_mean
from snn_policy.exported import names, path
from snn_policy.spiking.settings import KINDS, as_record
from snn_policy.sweeps.cell_record import REPORT, CellResult
from snn_policy.sweeps.read_results import SweepResults, read_sweep

ANN = "ANN"
DEFAULT_VARIANT, WITHOUT_RESIDUAL = "sigma-delta 0.02", "sigma-delta 0.02 α=0"
CHOSEN = " α chosen"
"""In place of the α that a sweep has chosen."""
FORMER = " plain"
"""Ends the names of older rows: the neuron before the residual, with γ = 1 wherever it saved a spike."""
COSTS = ("decisions", "spikes", "synaptic_operations", "multiply_accumulates", "iterations", "events")
NAMED = {"sigma-delta": ("tolerance", "alpha"), "if": ("timesteps", "alpha", "calibration"), "snm": ("timesteps",),
         "mt": ("coding", "timesteps")}  # fmt: skip
"""What of a neuron's settings is in the names that tables give them; all else has its usual value."""
Row = dict[str, Any]
Document = dict[str, Any]


def gathered(directory: Path) -> Document:
    """Return what is to be stored of a sweep's directory, whether all of its cells are there or not.

    Raises:
        SourceError: it is no sweep's directory.
        ValueError: a cell is damaged, or was computed with other settings than tables have names for.
    """
    results = read_sweep(directory)
    if results.damaged:
        raise ValueError(f"{directory}/{results.damaged[0]}; run the sweep again: it is computed anew")
    cells = [cell for cell in results.cells.values() if cell.purpose == REPORT and not lacks_ann(cell, results)]
    return {
        "sweep": results.name,
        "file": f"benchmarks/sweeps/{results.name}.toml",
        "missing": len(results.missing),
        "code": distinct([code for cell in cells for code in cell.code]),
        "versions": distinct([dict(cell.evaluation.versions) for cell in cells]),
        "cells": [stored(cell) for cell in cells],
    }


def lacks_ann(cell: CellResult, results: SweepResults) -> bool:
    """Return whether the ANN's cell that it is to be compared with is not there."""
    return cell.baseline is not None and cell.baseline not in results.cells


def distinct(values: Sequence[Any]) -> list[Any]:
    """Return these, every one once, in the order in which they are met."""
    return [value for place, value in enumerate(values) if value not in values[:place]]


def stored(cell: CellResult) -> dict[str, Any]:
    """Return one cell as it is stored."""
    found = cell.evaluation
    record = json.loads(cell.record)
    return {
        "key": cell.key,
        "actor": cell.actor,
        "variant": variant_of(record),
        "baseline": cell.baseline,
        "teacher": teacher_of(cell.actor),
        "environment": cell.environment,
        "seed": cell.seed,
        "episodes": found.episodes,
        "dense_multiply_accumulates": cell.dense_multiply_accumulates,
        "seconds": round(found.policy_seconds + found.environment_seconds, 2),
        **{name: getattr(found, name) for name in COSTS},
        "returns": list(found.returns),
    }


def teacher_of(name: str) -> str | None:
    """Return the shipped actor that a student, shipped or in `examples/trained`, was made from; None of all others."""
    if name not in names() and not (TRAINED / name).exists():
        return None
    return read_bundle(path(name) if name in names() else TRAINED / name).card.get("compression", {}).get("teacher")


def variant_of(record: Mapping[str, Any]) -> str:
    """Return what tables call a cell's setting.

    Raises:
        ValueError: a setting that no table has a name for.
    """
    if record["settings"] is None:
        return ANN
    kind = record["settings"]["neuron"]
    usual = json.loads(json.dumps(as_record(KINDS[kind]())))
    given = {**usual, **record["settings"]}
    unnamed = [name for name in given if name not in NAMED[kind] and given[name] != usual.get(name)]
    if record["compression"] is not None or unnamed or isinstance(given["alpha"], list):
        raise ValueError(f"{record['label']}: no table has a name for it")
    if kind == "sigma-delta":
        residual = "" if given["alpha"] == usual["alpha"] else f" α={given['alpha']:g}"
        return f"sigma-delta {given['tolerance']:g}{residual}"
    names = {"if": "IF", "snm": "SNM", "mt": f"MT {given['coding']}"}
    residual = f" α={given['alpha']:g}{iterations_of(given['calibration'])}" if kind == "if" else ""
    return f"{names[kind]} T={given['timesteps']}{residual}"


def iterations_of(calibration: Mapping[str, Any] | None) -> str:
    """Return what tables call a spike calibration."""
    if calibration is None:
        return ""
    if calibration["adaptive"] is None:
        return f" I={calibration['iterations']}"
    least, most = calibration["adaptive"]
    return f" adaptive I={least}…{most}"


def written(document: Document) -> bytes:
    """Return the file: a line per cell and per older row, so that changes show where they are."""
    cells = document["cells"]
    head = {name: value for name, value in document.items() if name != "older" and not (name == "cells" and cells)}
    text = one_line(head)[:-1] + (f',\n"cells": {line_by_line(cells)}' if cells else "")
    if "older" in document:
        about = {name: value for name, value in document["older"].items() if name != "rows"}
        text += f',\n"older": {one_line(about)[:-1]}, "rows": {line_by_line(document["older"]["rows"])}}}'
    return f"{text}\n}}\n".encode()


def line_by_line(values: Sequence[Any]) -> str:
    return "[\n" + ",\n".join(one_line(value) for value in values) + "\n]"


def one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def evaluation_of(cell: Mapping[str, Any]) -> Evaluation:
    """Return the episodes of a stored cell."""
    costs = {name: tuple(cell[name]) if isinstance(cell[name], list) else cell[name] for name in COSTS}
    count = cell["episodes"]
    given = {"environment": cell["environment"], "seeds": tuple(range(cell["seed"], cell["seed"] + count)),
             "returns": tuple(cell["returns"]), "lengths": (1,) * count, "num_envs": 1, "microseconds": 0.0,
             "versions": {}, **costs}  # fmt: skip
    return Evaluation(**{field.name: given[field.name] for field in fields(Evaluation) if field.name in given})


def comparisons(document: Document) -> list[tuple[dict[str, Any], Comparison]]:
    """Return the spiking cells, every one beside its ANN on the same seeds."""
    anns = {cell["key"]: evaluation_of(cell) for cell in document["cells"] if cell["baseline"] is None}
    return [
        (cell, Comparison(anns[cell["baseline"]], evaluation_of(cell), cell["dense_multiply_accumulates"]))
        for cell in document["cells"]
        if cell["baseline"] is not None
    ]


def rows_of(document: Document) -> list[Row]:
    """Return a row per spiking cell, actor by actor, and after them what older rows no cell stands for."""
    rows = [{"actor": cell["actor"], "variant": cell["variant"], **row_of(found)}
            for cell, found in comparisons(document)]  # fmt: skip
    older = [{**row, "older": True} for row in document.get("older", {}).get("rows", ())]
    actors = dict.fromkeys(row["actor"] for row in [*rows, *older])
    rows += without_those_measured(older, rows)
    return [row for actor in actors for row in rows if row["actor"] == actor]


def without_those_measured(older: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Return the older rows whose place in their actor's table no cell has taken."""
    taken = {(row["actor"], slot(row["variant"])) for row in rows}
    return [row for row in older if (row["actor"], slot(row["variant"])) not in taken]


def slot(variant: str) -> str:
    """Return a row's place in its actor's table: a chosen α has one, and the former neuron that of today's."""
    return re.sub(r"^(IF T=\d+) α=(?!0$)[\d.]+$", rf"\1{CHOSEN}", variant.removesuffix(FORMER))


def row_of(found: Comparison) -> Row:
    """Return the figures of a comparison that tables and pictures show."""
    ann, snn = found.ann, found.snn
    return {
        "environment": snn.environment,
        "episodes": snn.episodes,
        "first_seed": snn.seeds[0],
        "ann_return_mean": ann.mean,
        "ann_return_std": ann.std,
        "ann_interquartile_mean": ann.interquartile_mean,
        "ann_interval": list(ann.interval),
        "return_mean": snn.mean,
        "return_std": snn.std,
        "interquartile_mean": snn.interquartile_mean,
        "interval": list(snn.interval),
        "retention_mean": found.retention_of_means,
        "retention_median": found.retention_of_medians,
        "retention_standard_error": standard_error(ann.returns, snn.returns),
        "failed": found.snn_failed,
        "ann_failed": found.ann_failed,
        "energy_share": found.energy_share,
        "zero_skipping_share": found.zero_skipping_share,
        "iterations": snn.iterations,
    }


def standard_error(ann: Sequence[float], snn: Sequence[float]) -> float | None:
    """Return that of the mean retention, episodes paired by seed; None of one episode, or of an ANN that returns 0."""
    size = abs(float(np.mean(ann)))
    if len(ann) < 2 or not size:
        return None
    return error_of_mean(np.subtract(snn, ann)) / size
