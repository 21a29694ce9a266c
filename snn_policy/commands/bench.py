"""`snn-policy bench`: how long a decision takes, against the ANN in ONNX Runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_policy.commands.common import (
    FORMATS,
    EnvironmentOption,
    JsonOption,
    busy,
    check_directory,
    check_target,
    environment_of,
    read_actor,
    write_json,
)

if TYPE_CHECKING:
    from snn_policy.actor import Actor
    from snn_policy.protocol import FloatArray

DEFAULT_ROUNDS = 60


def bench(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"A shipped policy's name, or {FORMATS}.")],
    env: EnvironmentOption = None,
    engines: Annotated[
        str | None,
        typer.Option(metavar="E[,E…]", help="Engines to time; by default all, with --scaling auto."),
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Vary T, width, depth and batch (this with every engine given).")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --scaling: draw it as PNG files into DIR.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of measurement: fewer are quicker and noisier.", min=1)] = (
        DEFAULT_ROUNDS
    ),
    json: JsonOption = None,
) -> None:
    """Time decisions on real observations: the ANN, and its conversions, as ratios to ONNX Runtime.

    Everything runs interleaved in this one process, on one thread; close other programs for steady figures.

    [bold]Examples[/]: snn-policy bench td3-HalfCheetah-v5 --engines event,numpy
    snn-policy bench td3-HalfCheetah-v5 --scaling --plot run/plots --json run/scaling.json
    """
    check_target(json)
    chosen = _engines(engines)
    if plot is not None:
        if not scaling:
            raise ValueError("--plot: draws what --scaling measures; give both")
        check_directory(plot)
        import matplotlib  # noqa: F401  # before the long work, where it is missing
    from snn_policy.bench.contestants import check_linear

    actor = read_actor(source)
    check_linear(actor)
    observations = actor.collect(environment_of(actor, env), progress=True)
    if scaling:
        _measure_scaling(source, actor, observations, chosen, rounds, plot, json)
    else:
        _compare_contestants(source, actor, observations, chosen, rounds, json)


def _engines(given: str | None) -> tuple[str, ...] | None:
    from snn_policy.engines import ENGINE_NAMES

    names = None if given is None else tuple(given.split(","))
    unknown = [name for name in names or () if name not in ENGINE_NAMES and not name.startswith("torch:")]
    if unknown:
        raise ValueError(f"--engines {', '.join(unknown)}: expected some of {', '.join(ENGINE_NAMES)}, torch:DEVICE")
    return names


def _compare_contestants(
    source: str, actor: "Actor", observations: "FloatArray", engines: tuple[str, ...] | None, rounds: int,
    json: str | None,
) -> None:  # fmt: skip
    from dataclasses import asdict

    from snn_policy.bench.contestants import ENGINES
    from snn_policy.bench.decisions import time_decisions
    from snn_policy.commands.tables import overhead_table, timing_table

    with busy("timing"):
        measured = time_decisions(actor, observations, engines or ENGINES, rounds=rounds)
    tables = timing_table(actor.name, measured.timings), overhead_table(measured.overheads)
    _report(source, asdict(measured), tables, measured.notes, json)


def _measure_scaling(
    source: str, actor: "Actor", observations: "FloatArray", engines: tuple[str, ...] | None, rounds: int,
    plot: Path | None, json: str | None,
) -> None:  # fmt: skip
    from dataclasses import asdict

    from snn_policy.bench.scaling import measure_scaling
    from snn_policy.commands.tables import scaling_table

    measured = measure_scaling(actor, observations, engines or ("auto",), rounds=rounds, progress=True)
    notes = list(measured.notes)
    if plot is not None:
        from snn_policy.bench.plots import draw

        notes += [f"drawn: {path}" for path in draw(measured.points, actor.name, plot)]
    _report(source, asdict(measured), (scaling_table(actor.name, measured.points),), notes, json)


def _report(source: str, document: dict[str, Any], tables: tuple[Any, ...], notes: list[str], json: str | None) -> None:
    from rich.console import Console

    from snn_policy.versions import installed_versions

    if write_json({"source": source, **document, "versions": installed_versions()}, json):
        return
    console = Console()
    for table in tables:
        console.print(table)
    for note in notes:
        console.print(note, style="dim", highlight=False, markup=False)
