"""`snn-policy convert`: any trained actor to a bundle; its options are `convert`'s arguments."""

from dataclasses import replace
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
    from snn_policy.policy import SpikingPolicy

_SIGMA_DELTA = "Options of sigma-delta neurons"
_MEMBRANE = "Options of if, snm and mt neurons"
_SOURCE = "Options of the source"
_RECORDING = "Options of the recording"


def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=f"A shipped policy's name, or {FORMATS}.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the bundle goes; made if missing.")],
    env: EnvironmentOption = None,
    steps: Annotated[int, typer.Option(help="Observations to record.", min=1, rich_help_panel=_RECORDING)] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the recording's first episode.", min=0, rich_help_panel=_RECORDING)] = 0,
    observations: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your own recording (.npy, consecutive) instead.", rich_help_panel=_RECORDING),
    ] = None,
    neuron: Annotated[str, typer.Option(help="sigma-delta, if, snm or mt.")] = "sigma-delta",
    threshold: Annotated[
        str | None, typer.Option(help="mse (default), max or percentile:P.", rich_help_panel=_MEMBRANE)
    ] = None,
    engine: Annotated[str, typer.Option(help="What runs it: auto, numpy or torch.")] = "auto",
    tolerance: Annotated[
        float | None,
        typer.Option(help="RMS action error in half-ranges; 0.02 by default.", rich_help_panel=_SIGMA_DELTA),
    ] = None,
    digits: Annotated[
        str | None,
        typer.Option(metavar="N[,N…]", help="Most spikes per decision, per stage.", rich_help_panel=_SIGMA_DELTA),
    ] = None,
    base: Annotated[float | None, typer.Option(help="Of the spikes' sizes; 2.", rich_help_panel=_SIGMA_DELTA)] = None,
    predictor: Annotated[
        str | None, typer.Option(metavar="auto|0|1", help="auto by default.", rich_help_panel=_SIGMA_DELTA)
    ] = None,
    coding: Annotated[
        str | None, typer.Option(help="rate (default) or differential.", rich_help_panel=_MEMBRANE)
    ] = None,
    timesteps: Annotated[
        int | None, typer.Option(help="Per decision; 8 by default.", rich_help_panel=_MEMBRANE)
    ] = None,
    levels: Annotated[int | None, typer.Option(help="Of mt; 4 by default.", rich_help_panel=_MEMBRANE)] = None,
    alpha: Annotated[
        str | None,
        typer.Option(
            metavar="A[,A…]|pilot",
            help="Share of the residual carried to the next decision; 0.3 by default.",
            rich_help_panel=_MEMBRANE,
        ),
    ] = None,
    alpha_clip: Annotated[
        float | None, typer.Option(help="Bound of the carried charge, in thresholds.", rich_help_panel=_MEMBRANE)
    ] = None,
    residual: Annotated[
        str | None, typer.Option(help="bounded (default) or plain.", rich_help_panel=_MEMBRANE)
    ] = None,
    vecnormalize: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="VecNormalize statistics, if not beside the zip.", rich_help_panel=_SOURCE),
    ] = None,
    low: Annotated[
        str | None, typer.Option(metavar="X[,X…]", help="Lower action bounds.", rich_help_panel=_SOURCE)
    ] = None,
    high: Annotated[
        str | None, typer.Option(metavar="X[,X…]", help="Upper action bounds.", rich_help_panel=_SOURCE)
    ] = None,
    onnx_output: Annotated[
        str | None, typer.Option(help="The ONNX output that is the action.", rich_help_panel=_SOURCE)
    ] = None,
    json: JsonOption = None,
) -> None:
    """Convert a trained actor, without retraining, into a spiking policy: a directory to load, evaluate and ship.

    The actor's own episodes are recorded (every second one with action noise) to set thresholds.

    [bold]Examples[/]:

    snn-policy convert model.zip --env HalfCheetah-v5 --out run/cheetah

    snn-policy convert model.zip --out run/if --neuron if --timesteps 16 --alpha 0.5
    """
    check_target(json)
    check_directory(out)
    actor = read_actor(
        source, vecnormalize=vecnormalize, low=_numbers("low", low), high=_numbers("high", high), output=onnx_output
    )
    settings = {
        "neuron": neuron, "coding": coding, "timesteps": timesteps, "levels": levels, "threshold": threshold,
        "alpha": alpha if alpha == "pilot" else _one_or_more("alpha", alpha),
        "alpha_clip": alpha_clip, "residual": residual, "tolerance": tolerance,
        "digits": _one_or_more("digits", digits, int), "base": base,
        "predictor": int(predictor) if predictor in ("0", "1") else predictor, "engine": engine,
    }  # fmt: skip
    policy = _converted(actor, env, steps, seed, observations, settings)
    policy.save(out)
    if not write_json({"out": str(out), **_summary(policy)}, json):
        _print_summary(policy, out)


def _converted(
    actor: "Actor", env: str | None, steps: int, seed: int, recording: Path | None, settings: dict[str, Any]
) -> "SpikingPolicy":
    import numpy as np

    from snn_policy.convert import convert as convert_actor

    if env is not None:
        actor = replace(actor, env_id=env)
    if recording is None:
        observations = actor.collect(environment_of(actor, env), steps=steps, seed=seed, progress=True)
    else:
        observations = np.load(recording, allow_pickle=False)
    with busy("calibrating"):
        return convert_actor(actor, observations, **settings)


def _numbers(name: str, text: str | None, kind: type = float) -> list[Any] | None:
    try:
        return None if text is None else [kind(each) for each in text.split(",")]
    except ValueError:
        raise ValueError(f"--{name} {text!r}: expected numbers separated by commas") from None


def _one_or_more(name: str, text: str | None, kind: type = float) -> Any:
    values = _numbers(name, text, kind)
    return values[0] if values is not None and len(values) == 1 else values


def _summary(policy: "SpikingPolicy") -> dict[str, Any]:
    return {
        "actor": policy.actor.name,
        "env_id": policy.actor.env_id,
        "timesteps": policy.timesteps,
        "conversion": policy.conversion,
    }


def _print_summary(policy: "SpikingPolicy", out: Path) -> None:
    made = policy.conversion
    print(f"{out}: {policy.actor.name} as {made['neuron']} neurons, up to {policy.timesteps} timesteps per decision")
    if "open_loop_error" in made:
        print(
            f"on the {made['observations']:,} recorded observations: RMS action error {made['open_loop_error']:.4f} "
            f"half-ranges, {sum(made['open_loop_spikes']):.0f} spikes per decision"
        )
    print(f"next: snn-policy compare {out}" + ("" if policy.actor.env_id else " --env ID"))
