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


def bench(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"A shipped policy's name, or {FORMATS}.")],
    env: EnvironmentOption = None,
    engines: Annotated[str, typer.Option(metavar="E[,E…]", help="event, numpy, torch.")] = "event",
    json: JsonOption = None,
) -> None:
    """Time one decision at a time on real observations: the ANN, and its conversions, as ratios to ONNX Runtime.

    Everything runs interleaved in this one process, on one thread; close other programs for steady figures.

    [bold]Example[/]: snn-policy bench td3-HalfCheetah-v5 --engines event,numpy
    """
    from dataclasses import asdict

    from rich.console import Console

    from snn_policy.bench import time_decisions
    from snn_policy.tables import timing_table
    from snn_policy.versions import installed_versions

    check_target(json)
    actor = read_actor(source)
    observations = actor.collect(environment_of(actor, env), progress=True)
    with busy("timing"):
        timings = time_decisions(actor, observations, tuple(engines.split(",")))
    document = {"source": source, "timings": [asdict(each) for each in timings], "versions": installed_versions()}
    if not write_json(document, json):
        Console().print(timing_table(actor.name, timings))
