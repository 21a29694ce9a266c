"""Store finished cells of the calibration paper's tables, and fill their page from all that are stored.

    python -m examples.paper_tables --steps 200000 --out runs/table …     # trains and measures, a day of one core
    python -m benchmarks.paper_page runs/table                            # stores its cells, and fills the page
    python -m benchmarks.paper_page                                       # fills the page from what is stored

Tables 1, 2 and 4 and the learning curves: `results/paper-tables-200k.jsonl`. Table 3, retention: the cells of 100
episodes where there are some (`results/paper-tables-100-episodes.jsonl`), else the same cells.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.markers import replaced
from benchmarks.places import DOCS, RESULTS
from examples.paper_tables.table import EVALUATIONS, Result, finished, last_evaluations, lines_of
from examples.paper_tables.table_pages import learning_curves, markdown_tables
from snn_policy.atomic_files import write_together
from snn_policy.evaluation.statistics import error_of_mean

PAGE = DOCS / "calibrated-spiking-rl.md"
CELLS, OF_100_EPISODES = RESULTS / "paper-tables-200k.jsonl", RESULTS / "paper-tables-100-episodes.jsonl"
COMPARED = ("I=0", "I=1", "I=2", "I=3", "adaptive", "sigma-delta")
LEAST_STEPS = 50_000
"""Shorter runs are tries."""


def filled(page: str, cells: list[Result], of_100_episodes: list[Result]) -> str:
    """Return the page with its tables and its learning curves between their markers."""
    tables = list(markdown_tables(cells).values())
    measured = {(key[0], key[1]) for key in last_evaluations(of_100_episodes)}
    others = [cell for cell in cells if (cell.task, cell.quality) not in measured]
    tables[2] = list(markdown_tables([*of_100_episodes, *others]).values())[2]
    for number, lines in enumerate(tables, 1):
        page = replaced(page, f"table {number}", "\n".join(lines))
    page = replaced(page, "differences", "\n".join(differences(cells)))
    return replaced(page, "learning curves", "\n".join(learning_curves(cells)))


def differences(cells: list[Result]) -> list[str]:
    """Return the table of what a converted network scores more than its QCFS ANN, over the same episodes, ± error.

    Of the runs with five evaluations, and of I that adapts its mean.
    """
    runs: dict[tuple[str, str, int], dict[str, list[Result]]] = {}
    for (task, quality, column, seed), run in last_evaluations(cells).items():
        if len(run) == EVALUATIONS:
            runs.setdefault((quality, task, seed), {})[column] = run
    lines = [
        f"| quality | task | {' | '.join(COMPARED)} | iterations, adaptive |",
        "| --- " * (3 + len(COMPARED)) + "|",
    ]
    for (quality, task, _), columns in sorted(runs.items()):
        scores = {name: np.concatenate([cell.scores for cell in run]) for name, run in columns.items()}
        gained = [scores[name] - scores["QCFS"] for name in COMPARED]
        texts = [f"{gain.mean():+.1f} ± {error_of_mean(gain):.1f}" for gain in gained]
        spent = np.mean([cell.iterations for cell in columns["adaptive"] if cell.iterations is not None])
        lines.append(f"| {quality} | {task.rpartition('-v')[0]} | {' | '.join(texts)} | {spent:.2f} |")
    return lines


def with_those_of(directories: list[Path], stored: list[Result]) -> list[Result]:
    """Return the stored cells, and after them those of the directories that are not among them.

    Raises:
        ValueError: a directory without finished cells.
    """
    cells = list(stored)
    for directory in directories:
        found = [cell for cell in finished(directory) if cell.steps >= LEAST_STEPS]
        if not found:
            raise ValueError(f"{directory}: no finished cell of {LEAST_STEPS:,} gradient steps or more")
        cells += [cell for cell in found if cell not in cells]
    return cells


def main(
    directories: Annotated[list[Path] | None, typer.Argument(metavar="DIR", help="--out of paper_tables")] = None,
) -> None:
    """Fill the page."""
    try:
        cells = with_those_of(directories or [], finished(CELLS))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    page = filled(PAGE.read_text(), cells, finished(OF_100_EPISODES))
    write_together({CELLS: lines_of(cells), PAGE: page.encode()})
    print(f"{len(cells)} cells, {len(last_evaluations(cells))} of them with a place in a table")


if __name__ == "__main__":
    typer.run(main)
