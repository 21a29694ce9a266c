"""What the paper's tables do not show: each converted network against its own QCFS ANN, on the same episodes."""

from collections.abc import Iterable, Iterator

import numpy as np
from rich import box
from rich.table import Table

from examples.paper_tables.printed import QUALITIES, TASKS
from examples.paper_tables.table import CALIBRATED, Result, last_evaluations
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
        ann = np.concatenate([_returns(cell) for cell in found["QCFS"]])
        spread = float(np.std(ann) / abs(np.mean(ann)))
        kept = [_retention(found["QCFS"], found.get(column, [])) for column in CONVERTED]
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


def _runs(results: Iterable[Result]) -> Iterator[tuple[str, str, dict[str, list[Result]]]]:
    """Quality, task and the last evaluations per column of every first training seed."""
    last = list(last_evaluations(results).values())
    for quality in QUALITIES:
        for task in TASKS:
            own = [run for run in last if (run[-1].quality, _task(run[-1])) == (quality, task)]
            if own:
                first = min(run[-1].seed for run in own)
                yield quality, task, {run[-1].column: run for run in own if run[-1].seed == first}


def _task(result: Result) -> str:
    return result.task.rpartition("-v")[0]


def _returns(result: Result) -> np.ndarray:
    return score_to_return(result.task, result.scores)


def _retention(ann: list[Result], snn: list[Result]) -> str:
    """Of networks made from the same checkpoints, on the same episodes; the last one among them."""
    other = {cell.steps: cell for cell in snn}
    pairs = [(cell, other[cell.steps]) for cell in ann if cell.steps in other]
    pairs = [pair for pair in pairs if len(pair[0].scores) == len(pair[1].scores)]
    if not pairs or pairs[-1][0] is not ann[-1]:
        return NONE
    means = [np.concatenate([_returns(cell) for cell in column]).mean() for column in zip(*pairs, strict=True)]
    return f"{float(retention(*means)):.3f}"


def _number(run: list[Result] | None, field: str, form: str) -> str:
    values = [value for cell in run or () if (value := getattr(cell, field)) is not None]
    return format(np.mean(values), form) if values else NONE
