"""`snn-policy sweep`: many conversions × many episodes, from a file, that survive whatever stops them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snn_policy.commands.common import JsonOption, check_directory, check_target, write_json

if TYPE_CHECKING:
    from snn_policy.sweeps.cells import Seeds
    from snn_policy.sweeps.plan import Plan
    from snn_policy.sweeps.sweep import Summary

FOLDER = Path("runs")
"""Where sweeps go that --out does not name a place for, under their names."""

File = Annotated[Path, typer.Argument(metavar="FILE.toml", help="The grid (docs/sweeps.md).")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where results go, and where it goes on; by default runs/NAME.")
]
Engine = Annotated[str, typer.Option(help="local: processes of this machine; or ray: tasks of a Ray cluster.")]
Workers = Annotated[int, typer.Option(help="Processes, or Ray tasks at the same time; 0: one per core.", min=0)]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="A running Ray cluster (auto: this machine's); else one is started here."),
]
Retries = Annotated[int, typer.Option(help="How often a batch is run again whose worker died.", min=0)]
Select = Annotated[
    str | None,
    typer.Option(
        metavar="FIRST,COUNT", help="Choose settings on these episodes, by retention, then energy; report those."
    ),
]
OtherCode = Annotated[
    bool,
    typer.Option("--accept-other-code", help="Go on with results that an edited checkout's other code has computed."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the file, say what it stands for, and run nothing.")]


def sweep(
    file: File,
    out: Out = None,
    engine: Engine = "local",
    workers: Workers = 0,
    address: Address = None,
    retries: Retries = 3,
    select: Select = None,
    accept_other_code: OtherCode = False,
    dry_run: DryRun = False,
    json: JsonOption = None,
) -> None:
    """Run a grid of actors × settings × environments × seeds; the same command goes on where it was stopped.

    A cell of the grid (one actor as the ANN or with one setting, in one environment, on one range of seeds) is one file
    in DIR/cells, named by the hash of all that it depends on: what is there is never computed again, and what a change
    of FILE.toml does not touch stays. Finished episodes are kept in batches: Ctrl-C, a kill, a full disk or a lost
    machine costs a batch of work, and nothing of the record. The plain ANN always runs the same episodes.

    [bold]A file[/] (docs/sweeps.md has every key; a list of values makes one setting of each):

    episodes = 100

    seeds = [5000]

    actors = [{source = "td3-Hopper-v5"}, {source = "model.zip", environment = "Walker2d-v5"}]

    settings = [{neuron = "sigma-delta", tolerance = [0.01, 0.02]}, {neuron = "if", timesteps = 8, alpha = [0.0, 0.3]}]

    [bold]Examples[/]:

    snn-policy sweep hopper.toml --dry-run

    snn-policy sweep hopper.toml --out runs/hopper --workers 8

    snn-policy sweep hopper.toml --engine ray --address auto --json summary.json

    snn-policy sweep hopper.toml --select 2000,20
    """
    from snn_policy.sweeps.plan import read_plan
    from snn_policy.sweeps.sweep import sweep as run

    check_target(json)
    plan = read_plan(file, None if select is None else _seeds(select))
    place = FOLDER / plan.name if out is None else out
    check_directory(place)
    for sentence in plan.left_out:
        print(f"snn-policy: {sentence}", file=sys.stderr)
    if dry_run:
        _print_plan(plan, place, json)
        return
    options = {"engine": engine, "workers": workers, "address": address, "retries": retries}
    found = run(plan, place, **options, accept_other_code=accept_other_code, progress=True)
    if found.other_code is not None:
        print(f"snn-policy: warning: {place}: {found.other_code}; they were kept", file=sys.stderr)
    if not write_json(found.as_dict(), json):
        _print_summary(found)
    if found.failures:
        count = f"{len(found.failures)} of {found.cells} cells failed"
        raise ValueError(f"{count}, the first one: {found.failures[0]}; the others are kept in {place}")


def _seeds(text: str) -> "Seeds":
    from snn_policy.sweeps.plan import as_range

    try:
        return as_range([int(number) for number in text.split(",")])
    except ValueError:
        raise ValueError(f"--select {text!r}: expected FIRST,COUNT, such as 2000,20, of at least 2 episodes") from None


def _print_plan(plan: "Plan", place: Path, json: str | None) -> None:
    """Say what a file stands for; with a selection, how many cells there are before anything is chosen."""
    from itertools import chain

    cells, episodes = 0, 0
    for cell in chain(plan.selecting(), plan.reporting()):
        cells, episodes = cells + 1, episodes + cell.seeds.count
    document = {"name": plan.name, "directory": str(place), "cells": cells, "episodes": episodes,
                "actors": [actor.name for actor in plan.actors], "left_out": list(plan.left_out)}  # fmt: skip
    if not write_json(document, json):
        most = "" if plan.selection is None else " at most"
        print(f"{plan.name}: {len(plan.actors)} actors, {cells:,} cells{most}, {episodes:,} episodes, into {place}")


def _print_summary(found: "Summary") -> None:
    from snn_policy.sweeps.watching import duration

    run = f"{found.computed:,} computed now ({found.episodes:,} episodes, {duration(found.seconds)})"
    print(f"{found.directory}: {found.cells:,} cells, {run}")
    for place, chosen in (found.chosen or {}).items():
        kept = "unknown" if chosen["retention"] is None else f"{chosen['retention']:.3f}"
        print(f"{place}: {chosen['label']} chosen (retention {kept}, {chosen['energy']:.1f} nJ per decision)")
    print(f"next: snn-policy report {found.directory}")
