"""What the paper's tables do not show: each converted network against its own QCFS ANN, on the same episodes."""

from collections.abc import Iterable, Iterator

import numpy as np
from rich import box
from rich.table import Table

from examples.paper_tables.printed import QUALITIES, TASKS
from examples.paper_tables.table import CALIBRATED, Result, newest
from snn_policy.evaluation.statistics import retention
from snn_policy.offline.scores import score_to_return

CONVERTED = (*CALIBRATED, "adaptive", "sigma-delta")
RETENTION_TITLE = "Table 3: share of the QCFS ANN's mean return that is kept"
COUNTS_TITLE = "Table 4: share of the neurons whose spike count is the QCFS ANN's"
NONE = "–"
Lines = list[tuple[str, ...]]


def retention_lines(results: Iterable[Result]) -> Lines:
    """Headings, then one line per task and quality: the ANN's return, retention per column, nanojoules per decision."""
    lines: Lines = [("quality", "task", "QCFS ANN's return", *CONVERTED, "nJ: ANN · I=1 · sigma-delta")]
    for quality, task, found in _runs(results):
        if "QCFS" not in found:
            continue
        ann = _returns(found["QCFS"])
        spread = float(np.std(ann) / abs(np.mean(ann)))
        kept = [_retention(ann, found.get(column), found["QCFS"]) for column in CONVERTED]
        energies = [_number(found.get(column), "energy", ".0f") for column in ("QCFS", "I=1", "sigma-delta")]
        lines.append((quality, task, f"{np.mean(ann):,.0f} ± {spread:.0%}", *kept, " · ".join(energies)))
    return lines


def count_lines(results: Iterable[Result]) -> Lines:
    """Headings, then one line per task and quality: equal counts per I."""
    lines: Lines = [("quality", "task", *CALIBRATED)]
    for quality, task, found in _runs(results):
        shares = [_number(found.get(column), "equal_counts", ".4f") for column in CALIBRATED]
        if set(shares) != {NONE}:
            lines.append((quality, task, *shares))
    return lines


def terminal_tables(results: Iterable[Result]) -> Iterator[Table]:
    """Both tables for rich."""
    results = list(results)
    for title, lines in ((RETENTION_TITLE, retention_lines(results)), (COUNTS_TITLE, count_lines(results))):
        table = Table(title=title, box=box.HORIZONTALS, title_justify="left")
        for heading in lines[0]:
            table.add_column(heading, justify="left" if heading in ("quality", "task") else "right")
        for line in lines[1:]:
            table.add_row(*line)
        yield table


def _runs(results: Iterable[Result]) -> Iterator[tuple[str, str, dict[str, Result]]]:
    """Quality, task and the results per column of every first training seed."""
    best = newest(results)
    for quality in QUALITIES:
        for task in TASKS:
            seeds = {cell.seed for cell in best.values() if cell.quality == quality and _task(cell) == task}
            if seeds:
                chosen = min(seeds)
                own = [
                    cell for cell in best.values() if (cell.quality, _task(cell), cell.seed) == (quality, task, chosen)
                ]
                yield quality, task, {cell.column: cell for cell in own}


def _task(result: Result) -> str:
    return result.task.rpartition("-v")[0]


def _returns(result: Result) -> np.ndarray:
    return score_to_return(result.task, result.scores)


def _retention(ann: np.ndarray, snn: Result | None, of: Result) -> str:
    """Of networks made from the same checkpoint, on the same episodes."""
    if snn is None or snn.steps != of.steps or len(snn.scores) != len(ann):
        return NONE
    return f"{float(retention(ann.mean(), _returns(snn).mean())):.3f}"


def _number(result: Result | None, field: str, form: str) -> str:
    value = None if result is None else getattr(result, field)
    return NONE if value is None else format(value, form)
