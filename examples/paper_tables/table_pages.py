"""The tables of `examples.paper_tables.table` beside the paper's: on the terminal, and as a Markdown page."""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from examples.paper_tables.printed import (
    MISPRINTS,
    QUALITIES,
    TABLE_1,
    TABLE_1_COLUMNS,
    TABLE_2,
    TABLE_2_COLUMNS,
    TASKS,
    Printed,
    Score,
)
from examples.paper_tables.table import COUNTED_OBSERVATIONS, EVALUATION_SEED, Result, last_evaluations
from examples.paper_tables.table_retention import (
    COUNTS_TITLE,
    RETENTION_TITLE,
    count_lines,
    retention_lines,
)
from snn_policy.offline.scores import NOTE

NONE = "–"
LAST = ("steps", "evaluations", "training seeds")
TITLES = (
    "Table 1: calibrated networks and baselines",
    "Table 2: fixed and adaptive I",
)
RETENTION_NOTE = (
    "Table 3: `1 − (ANN − SNN)/|ANN|` of the mean returns on the same environment seeds; the ANN's return with its "
    "spread over episodes; energies by `snn_policy.energy`, the ANN's without its zero activations. `sigma-delta`: the "
    "same QCFS actor converted with the default neuron instead (tolerance 0.02). Table 4: all hidden neurons on "
    f"{COUNTED_OBSERVATIONS:,} observations of the ANN's own episodes, each layer on its own inputs."
)
EXTENT = "here ± spread / the paper's ± spread; – where there is none (yet)"


class Row(NamedTuple):
    """One task and quality: our score and the paper's per column; fewest steps, evaluations and training seeds."""

    quality: str
    task: str
    cells: tuple[tuple[Score | None, Score | None], ...]
    steps: int
    evaluations: int
    seeds: int

    @property
    def extent(self) -> tuple[str, str, str]:
        """Return what stands in the last columns."""
        return f"{self.steps:,}", str(self.evaluations), str(self.seeds)


class Layout(NamedTuple):
    """One of the two tables."""

    title: str
    columns: tuple[str, ...]
    rows: list[Row]


def layouts(results: Iterable[Result]) -> list[Layout]:
    """Both tables, with the rows that have any result here."""
    last = list(last_evaluations(results).values())
    return [
        Layout(TITLES[0], (*TABLE_1_COLUMNS, "I=3"), _rows(last, (*TABLE_1_COLUMNS, "I=3"), TABLE_1)),
        Layout(TITLES[1], TABLE_2_COLUMNS, _rows(last, TABLE_2_COLUMNS, TABLE_2)),
    ]


def _rows(runs: list[list[Result]], columns: tuple[str, ...], printed: Printed) -> list[Row]:
    rows = []
    for quality in QUALITIES:
        for task in TASKS:
            own = [run for run in runs if run[-1].quality == quality and run[-1].task.rpartition("-v")[0] == task]
            shown = [run for run in own if run[-1].column in columns]
            if shown:
                cells = tuple((summary(own, column), printed.get((quality, task, column))) for column in columns)
                seeds = min(sum(run[-1].column == column for run in shown)
                            for column in {run[-1].column for run in shown})  # fmt: skip
                steps, evaluations = min(run[-1].steps for run in shown), min(map(len, shown))
                rows.append(Row(quality, task, cells, steps, evaluations, seeds))
    return rows


def summary(runs: Iterable[list[Result]], column: str) -> Score | None:
    """Return the mean over the evaluations of every run, and over runs, that is training seeds.

    The spread is over training seeds where there are several, else over the episodes of all evaluations.
    """
    scores = [[score for cell in run for score in cell.scores] for run in runs if run[-1].column == column]
    if not scores:
        return None
    means = [np.mean(found) for found in scores]
    return Score(float(np.mean(means)), float(np.std(means if len(means) > 1 else scores[0])))


def _text(score: Score | None) -> str:
    if score is None:
        return NONE
    return f"{score.mean:.1f}" if score.spread is None else f"{score.mean:.1f}±{score.spread:.1f}"


def terminal_tables(results: Iterable[Result]) -> Iterator[Table]:
    """Both tables for rich; above ours, below the paper's."""
    for layout in layouts(results):
        table = Table(title=layout.title, caption=f"{EXTENT}; {NOTE}", box=box.HORIZONTALS, title_justify="left")
        for heading in ("quality", "task", *layout.columns, *LAST):
            table.add_column(heading, justify="left" if heading in ("quality", "task") else "right")
        for row in layout.rows:
            cells = [f"{_text(ours)}\n[dim]{_text(theirs)}[/]" for ours, theirs in row.cells]
            table.add_row(row.quality, row.task, *cells, *row.extent)
        yield table


def page(results: Iterable[Result]) -> str:
    """Return the Markdown page with all tables and what differs from the paper."""
    results = list(results)
    parts = ["# Calibrated spiking reinforcement learning: the paper's tables, made here", "", _introduction(results)]
    for title, lines in markdown_tables(results).items():
        parts += ["", f"## {title}", "", *lines]
    parts += ["", RETENTION_NOTE, "", *_differences(results)]
    if curves := learning_curves(results):
        parts += ["", "## How the ANNs' scores moved with the steps", "", *curves]
    return "\n".join(parts) + "\n"


def markdown_tables(results: Iterable[Result]) -> dict[str, list[str]]:
    """Return the lines of all four tables in Markdown, by their titles."""
    results, tables = list(results), {}
    for layout in layouts(results):
        headings = ("quality", "task", *layout.columns, *LAST)
        cells = [[f"{_text(ours)} / {_text(theirs)}" for ours, theirs in row.cells] for row in layout.rows]
        lines = [(row.quality, row.task, *own, *row.extent) for row, own in zip(layout.rows, cells, strict=True)]
        tables[layout.title] = [headings, ["---"] * len(headings), *lines]
    for title, (first, *lines) in ((RETENTION_TITLE, retention_lines(results)), (COUNTS_TITLE, count_lines(results))):
        tables[title] = [first, ["---"] * len(first), *lines]
    return {title: [_line(cells) for cells in lines] for title, lines in tables.items()}


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _introduction(results: list[Result]) -> str:
    episodes = sorted({len(result.scores) for result in results}) or [0]
    return (
        "Song et al., *Calibrating the Converted Spiking Reinforcement Learning*: TD3+BC actors with QCFS activations "
        "(L = 4), converted to IF neurons at T = 4 and calibrated with ρ = 4 and I iterations. `direct`: a spiking "
        "actor trained with a surrogate gradient. Made by `python -m examples.paper_tables`; every cell reads "
        f"*{EXTENT}*. D4RL normalised scores of {' or '.join(map(str, episodes))} episodes (environment seeds "
        f"{EVALUATION_SEED}…), averaged over a run's last five evaluations, 5,000 gradient steps apart, where it has "
        "them; the spread is over training seeds where there are several, else over episodes. Last columns: the fewest "
        "in the row."
    )


def learning_curves(results: list[Result]) -> list[str]:
    """Return one line per task, quality, ANN and seed that was measured after several numbers of gradient steps."""
    lines = []
    for quality in QUALITIES:
        for task, column in product(TASKS, ("ReLU", "QCFS")):
            own = [r for r in results if (r.quality, r.task.rpartition("-v")[0], r.column) == (quality, task, column)]
            for seed in sorted({cell.seed for cell in own}):
                found = {cell.steps: cell.mean for cell in own if cell.seed == seed}
                if len(found) > 1:
                    course = ", ".join(f"{mean:.1f} after {steps:,}" for steps, mean in sorted(found.items()))
                    lines.append(f"- {quality} {task}, {column}, seed {seed}: {course}")
    return lines


def _differences(results: list[Result]) -> list[str]:
    adaptive = [result.iterations for result in results if result.iterations is not None]
    mean_iterations = [f"- Adaptive I spent {np.mean(adaptive):.2f} iterations per decision."] if adaptive else []
    steps = sorted({result.steps for result in results})
    span = f"{steps[0]:,} to {steps[-1]:,}" if len(steps) > 1 else f"{steps[0]:,}" if steps else "none"
    return [
        "## What differs from the paper",
        "",
        f"- Gradient steps: {span} (in the tables: the fewest in the row) against one million. Scores of short runs "
        "say more about the training than about the conversion: compare columns within a row.",
        "- Data: collected by this project's own actors, 100,000 transitions or one replay buffer per quality, where "
        "D4RL has up to two million of its own actors'.",
        f"- Environments: Gymnasium's v5 tasks; {NOTE}.",
        "- The directly trained baseline has T = 4 here; the paper's analysis mentions T = 1 for it.",
        "- CRPI is off (α = 0) in every converted column.",
        "- The copy of the paper at hand lacks Table 1's column I = 3 and some spreads; "
        + "; ".join(f"Table 2, {' '.join(cell)}, is {what}" for cell, what in MISPRINTS.items())
        + ".",
        *mean_iterations,
    ]
