"""`python -m examples.paper_tables`: the two tables of the calibration paper, trained and measured here; resumable."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_policy import cli
from snn_policy.atomic_files import write_atomically
from snn_policy.commands.common import JsonOption, check_directory, check_target, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from examples.paper_tables.table import Cell

ALL_TASKS = "HalfCheetah-v5,Hopper-v5,Walker2d-v5,Ant-v5"
ALL_QUALITIES = "expert,medium-expert,medium,medium-replay"
NEEDED_WIDTH = 120
ALL_COLUMNS = "ReLU,QCFS,direct,I=0,I=1,I=2,I=3,adaptive,sigma-delta"

Tasks = Annotated[str, typer.Option(metavar="ID[,ID…]", help="Environments.")]
Qualities = Annotated[str, typer.Option(metavar="Q[,Q…]", help="Of the datasets.")]
Columns = Annotated[str, typer.Option(metavar="C[,C…]", help="Of the tables.")]
Steps = Annotated[int, typer.Option(help="Gradient steps per run; the paper has 1000000. 0 trains nothing.", min=0)]
Evaluations = Annotated[
    int, typer.Option(help="Averaged: the last of each run, 5000 steps apart; the paper has 5.", min=1)
]
Curve = Annotated[int, typer.Option(metavar="N", help="Measure every N steps before them, too; 0: not.", min=0)]
Episodes = Annotated[int, typer.Option(help="Per cell and seed.", min=1)]
Seeds = Annotated[str, typer.Option(metavar="S[,S…]", help="Training seeds.")]
Workers = Annotated[int, typer.Option(help="Runs and cells at a time.", min=1)]
Device = Annotated[str, typer.Option(metavar="NAME", help="torch's, of the trainings: cpu, cuda, cuda:1.")]
Datasets = Annotated[Path, typer.Option(metavar="DIR", help="Holds TASK-QUALITY, as train collect writes them.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Runs and cells.jsonl; made if missing.")]
Page = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables as a Markdown page.")]


app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def tables(
    tasks: Tasks = ALL_TASKS,
    qualities: Qualities = ALL_QUALITIES,
    columns: Columns = ALL_COLUMNS,
    steps: Steps = 100_000,
    evaluations: Evaluations = 5,
    curve: Curve = 50_000,
    episodes: Episodes = 10,
    seeds: Seeds = "0",
    workers: Workers = 1,
    device: Device = "cpu",
    datasets: Datasets = Path("runs/datasets"),
    out: Out = Path("runs/table"),
    page: Page = None,
    json: JsonOption = None,
) -> None:
    """Train what is missing, measure what is missing, and print both tables beside the paper's numbers.

    A score is the mean of a run's last evaluations; those before them are its learning curve.

    May be killed at any time: run it again to go on. Runs with more steps than asked for are measured as they are.

    [bold]Example[/]: python -m examples.paper_tables --tasks Hopper-v5 --qualities medium --steps 20000 --workers 2
    """
    from rich.console import Console

    from examples.paper_tables.table import finished, milestones, plan
    from examples.paper_tables.table_pages import page as markdown
    from examples.paper_tables.table_pages import terminal_tables
    from examples.paper_tables.table_retention import terminal_tables as retention_tables

    check_target(json)
    check_directory(out)
    if page is not None:
        check_directory(page.resolve().parent)
    note = Console(stderr=True)
    cells = plan(_names(tasks), _names(qualities), _names(columns), _numbers("seeds", seeds), episodes)
    possible = _possible(cells, datasets, out, steps, note)
    _fill(possible, note, milestones(steps, evaluations, curve), datasets, out, workers, device)
    results = finished(out)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(page, markdown(results).encode())
    if not write_json({"cells": [vars(result) for result in results]}, json):
        console = Console(width=max(Console().width, NEEDED_WIDTH))
        for table in (*terminal_tables(results), *retention_tables(results)):
            console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code, as `snn-policy` does."""
    return cli.main(arguments, app, "python -m examples.paper_tables")


def _possible(cells: "list[Cell]", datasets: Path, out: Path, steps: int, note: "Console") -> "list[Cell]":
    """Return the cells whose run is there, or can be trained; says which cannot."""
    from examples.paper_tables.table import steps_of

    possible, missing = [], {}
    for cell in cells:
        run = cell.run
        if (steps and (datasets / run.dataset).is_dir()) or steps_of(out / run.name):
            possible.append(cell)
        else:
            missing[run.dataset if steps else run.name] = None
    for name in missing:
        note.print(f"left out: {name}, {'no dataset' if steps else 'not trained yet'}", style="dim")
    if not possible:
        remedy = "collect datasets first: snn-policy train collect --help" if steps else "train first: give --steps"
        raise ValueError(f"{datasets if steps else out}: nothing here for these tasks and qualities; {remedy}")
    return possible


def _fill(cells: "list[Cell]", note: "Console", stages: Sequence[int], *how: Any) -> None:
    from examples.paper_tables.table import Result, work
    from snn_policy.progress import counting

    runs = len({cell.run for cell in cells})
    with counting("runs and cells", len(stages) * (len(cells) + runs)) as advance:
        for name, outcome in work(cells, stages, *how):
            is_cell = isinstance(outcome, Result)
            note.print(f"{name}: " + (f"score {outcome.mean:.1f}" if is_cell else f"{outcome:,} gradient steps"))
            advance()


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _numbers(name: str, text: str) -> list[int]:
    try:
        return [int(entry) for entry in _names(text)]
    except ValueError:
        raise ValueError(f"--{name} {text!r}: expected whole numbers separated by commas") from None


if __name__ == "__main__":
    sys.exit(main())
