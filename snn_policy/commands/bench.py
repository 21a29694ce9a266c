"""`snn-policy bench`: how long a decision takes, against the ANN in ONNX Runtime."""

from typing import Annotated

import typer

from snn_policy.commands.common import (
    FORMATS,
    EnvironmentOption,
    JsonOption,
    busy,
    check_target,
    environment_of,
    read_actor,
    write_json,
)

DEFAULT_ROUNDS = 60


def bench(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"A shipped policy's name, or {FORMATS}.")],
    env: EnvironmentOption = None,
    engines: Annotated[str | None, typer.Option(metavar="E[,E…]", help="Engines to time; by default all.")] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of measurement: fewer are quicker and noisier.", min=1)] = (
        DEFAULT_ROUNDS
    ),
    json: JsonOption = None,
) -> None:
    """Time decisions on real observations: the ANN, and its conversions, as ratios to ONNX Runtime.

    Recurrent and branching policies are timed like chains, with sigma-delta neurons; their state goes on.

    Everything runs interleaved in this one process, on one thread; close other programs for steady figures.

    [bold]Example[/]: snn-policy bench td3-HalfCheetah-v5 --engines event,numpy --json run/bench.json
    """
    from dataclasses import asdict

    check_target(json)
    chosen = chosen_engines(engines)
    from snn_policy.bench.baselines import ENGINES, check_linear
    from snn_policy.bench.decisions import time_decisions
    from snn_policy.versions import installed_versions

    actor = read_actor(source)
    check_linear(actor)
    observations = actor.collect(environment_of(actor, env), progress=True)
    with busy("timing"):
        measured = time_decisions(actor, observations, chosen or ENGINES, rounds=rounds)
    if write_json({"source": source, **asdict(measured), "versions": installed_versions()}, json):
        return
    from rich.console import Console

    from snn_policy.commands.tables import overhead_table, timing_table

    console = Console()
    console.print(timing_table(actor.name, measured.timings))
    console.print(overhead_table(measured.overheads))
    for note in measured.notes:
        console.print(note, style="dim", highlight=False, markup=False)


def chosen_engines(given: str | None) -> tuple[str, ...] | None:
    """Return the engines of a list with commas, None where none is given; raise `ValueError` on an unknown one."""
    from snn_policy.engines import ENGINE_NAMES

    names = None if given is None else tuple(given.split(","))
    unknown = [name for name in names or () if name not in ENGINE_NAMES and not name.startswith("torch:")]
    if unknown:
        raise ValueError(f"--engines {', '.join(unknown)}: expected some of {', '.join(ENGINE_NAMES)}, torch:DEVICE")
    return names
