"""`snn-policy convert`: any trained actor to a bundle; its options are `convert`'s arguments."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_policy.commands.common import (
    FORMATS,
    EnvironmentOption,
    JsonOption,
    check_directory,
    check_target,
    environment_of,
    read_actor,
    read_recording,
    with_options_of,
    write_json,
)

if TYPE_CHECKING:
    from snn_policy.actor import Actor
    from snn_policy.calibration.pilots import Pilot
    from snn_policy.policy import SpikingPolicy
    from snn_policy.spiking.settings import NeuronSettings

_SIGMA_DELTA: dict[str, Any] = {"rich_help_panel": "Options of sigma-delta neurons"}
_MEMBRANE: dict[str, Any] = {"rich_help_panel": "Options of if, snm and mt neurons"}
_CALIBRATION: dict[str, Any] = {"rich_help_panel": "Spike calibration of if neurons"}
_PILOT: dict[str, Any] = {"rich_help_panel": "Options of pilots"}
_SOURCE: dict[str, Any] = {"rich_help_panel": "Options of the source"}
_RECORDING: dict[str, Any] = {"rich_help_panel": "Options of the recording"}

Source = Annotated[str, typer.Argument(metavar="SOURCE", help=f"A shipped policy's name, or {FORMATS}.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the bundle goes; made if missing.")]
Neuron = Annotated[str, typer.Option(help="sigma-delta, if, snm or mt.")]
Engine = Annotated[str, typer.Option(help="What runs it: auto, event, numpy or torch.")]
Steps = Annotated[int, typer.Option(help="Observations to record.", min=1, **_RECORDING)]
Seed = Annotated[int, typer.Option(help="Seed of the recording's first episode.", min=0, **_RECORDING)]
Observations = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Your own recording instead, consecutive: .npy; .npz with observations and, of recurrent policies, "
        "episode_starts; a folder of train collect.",
        **_RECORDING,
    ),
]
Tolerance = Annotated[
    str | None,
    typer.Option(
        metavar="X|pilot",
        help="RMS action error in half-ranges; 0.02 by default. pilot: the largest of 0.05 … 0.005 that keeps the "
        "return in the environment, by at most 200 episodes each.",
        **_SIGMA_DELTA,
    ),
]
Delta = Annotated[
    float | None,
    typer.Option(help="Loss of mean return that pilots allow, as a share; 0.01 by default.", **_PILOT),
]
Digits = Annotated[
    str | None, typer.Option(metavar="N[,N…]", help="Most spikes per neuron and decision, per stage.", **_SIGMA_DELTA)
]
Base = Annotated[float | None, typer.Option(help="Of the spikes' sizes; 2 by default.", **_SIGMA_DELTA)]
Predictor = Annotated[
    str | None,
    typer.Option(
        metavar="auto|0|1",
        help="1 sends changes, 0 values, auto (default) what pays; give it where rows are not consecutive.",
        **_SIGMA_DELTA,
    ),
]
Threshold = Annotated[str | None, typer.Option(help="mse (default), max or percentile:P.", **_MEMBRANE)]
Coding = Annotated[str | None, typer.Option(help="rate (default) or differential.", **_MEMBRANE)]
Timesteps = Annotated[int | None, typer.Option(help="Per decision; 8 by default, a QCFS actor's L.", **_MEMBRANE)]
Levels = Annotated[int | None, typer.Option(help="Of mt; 4 by default.", **_MEMBRANE)]
Alpha = Annotated[
    str | None,
    typer.Option(
        metavar="A[,A…]|pilot",
        help="Share of the residual carried to the next decision: 0.5 by default, and pilot tries 0, 0.5 and 1 in the "
        "environment; of if, snm and mt 0.3, and pilot tries 0.3 and 0.8.",
    ),
]
AlphaClip = Annotated[float | None, typer.Option(help="Bound of the carried charge, in thresholds.", **_MEMBRANE)]
Residual = Annotated[str | None, typer.Option(help="bounded (default) or plain.", **_MEMBRANE)]
Iterations = Annotated[
    int | None, typer.Option(help="Corrections of each layer's spike counts before its T steps.", **_CALIBRATION)
]
Adaptive = Annotated[
    str | None, typer.Option(metavar="MIN,MAX", help="Choose the iterations decision by decision.", **_CALIBRATION)
]
SimulationSteps = Annotated[int | None, typer.Option(help="Of each simulated pass; T by default.", **_CALIBRATION)]
Rule = Annotated[str | None, typer.Option(help="first-pass (default) or literal.", **_CALIBRATION)]
NO_STATISTICS = Path("none")
VecNormalize = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="VecNormalize statistics not beside the zip; or none, if it has none.", **_SOURCE
    ),
]
Low = Annotated[str | None, typer.Option(metavar="X[,X…]", help="Lower action bounds.", **_SOURCE)]
High = Annotated[str | None, typer.Option(metavar="X[,X…]", help="Upper action bounds.", **_SOURCE)]
Output = Annotated[
    str | None,
    typer.Option("--output", "--onnx-output", metavar="NAME", help="The ONNX output that is the action.", **_SOURCE),
]
Activation = Annotated[
    str | None,
    typer.Option(metavar="NAME[,NAME]", help="A checkpoint's hidden activation, and that of its output.", **_SOURCE),
]
Prefix = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which of a checkpoint's networks is the policy.", **_SOURCE)
]
ObservationShape = Annotated[
    str | None,
    typer.Option(metavar="N[,N…]", help="One observation's shape, as 48 or 3,84,84, if the source is open.", **_SOURCE),
]


def converted(
    source: Source,
    env: EnvironmentOption = None,
    neuron: Neuron = "sigma-delta",
    engine: Engine = "auto",
    steps: Steps = 10_000,
    seed: Seed = 0,
    observations: Observations = None,
    tolerance: Tolerance = None,
    digits: Digits = None,
    base: Base = None,
    predictor: Predictor = None,
    coding: Coding = None,
    timesteps: Timesteps = None,
    levels: Levels = None,
    threshold: Threshold = None,
    alpha: Alpha = None,
    alpha_clip: AlphaClip = None,
    residual: Residual = None,
    iterations: Iterations = None,
    adaptive: Adaptive = None,
    simulation_steps: SimulationSteps = None,
    rule: Rule = None,
    vecnormalize: VecNormalize = None,
    low: Low = None,
    high: High = None,
    output: Output = None,
    observation_shape: ObservationShape = None,
    activation: Activation = None,
    prefix: Prefix = None,
    delta: Delta = None,
) -> "SpikingPolicy":
    """Return the conversion that these options ask for; every command that converts takes them."""
    from snn_policy.calibration.pilots import Pilot
    from snn_policy.spiking.settings import settings_of

    given = source_options(vecnormalize, low, high, output, observation_shape, activation, prefix)
    actor = read_actor(source, **given)
    settings = settings_of(
        neuron, tolerance=_number_or_pilot("tolerance", tolerance), digits=_one_or_more("digits", digits, int),
        base=base, predictor=int(predictor) if predictor in ("0", "1") else predictor, coding=coding,
        timesteps=timesteps, levels=levels, threshold=threshold, alpha=_number_or_pilot("alpha", alpha),
        alpha_clip=alpha_clip, residual=residual,
        calibration=_calibration(iterations=iterations, adaptive=_numbers("adaptive", adaptive, int),
                                 simulation_steps=simulation_steps, rule=rule),
    )  # fmt: skip
    pilot = None if delta is None else Pilot(delta=delta)
    return _converted(actor, env, steps, seed, observations, settings, engine, pilot)


@with_options_of(converted)
def convert(out: Out, json: JsonOption = None, **options: Any) -> None:
    """Convert a trained actor, without retraining, into a spiking policy: a directory to load, evaluate and ship.

    The actor's own episodes are recorded (every second one with action noise) to set thresholds.

    [bold]Examples[/]:

    snn-policy convert model.zip --env HalfCheetah-v5 --out run/cheetah

    snn-policy convert model.zip --env Hopper-v5 --out run/hopper --tolerance pilot --alpha pilot

    snn-policy convert model.zip --out run/if --neuron if --timesteps 16 --alpha 0.5

    snn-policy convert model.zip --out run/calibrated --neuron if --timesteps 8 --adaptive 1,3

    snn-policy convert policy.onnx --out run/robot --observations log.npy --output actions --low -1 --high 1
    """
    check_target(json)
    check_directory(out)
    policy = converted(**options)
    policy.save(out)
    if not write_json({"out": str(out), **_summary(policy)}, json):
        _print_summary(policy, out)


def source_options(
    vecnormalize: Path | None,
    low: str | None,
    high: str | None,
    output: str | None,
    observation_shape: str | None,
    activation: str | None,
    prefix: str | None,
) -> dict[str, Any]:
    """Return `load_actor`'s arguments from the options of the source."""
    statistics = False if vecnormalize == NO_STATISTICS else vecnormalize
    return {
        "vecnormalize": statistics, "low": _one_or_more("low", low), "high": _one_or_more("high", high),
        "output": output, "observation_shape": _numbers("observation-shape", observation_shape, int),
        "activation": activation, "prefix": prefix,
    }  # fmt: skip


def _converted(
    actor: "Actor", env: str | None, steps: int, seed: int, recording: Path | None, settings: "NeuronSettings",
    engine: str, pilot: "Pilot | None",
) -> "SpikingPolicy":  # fmt: skip
    """Convert; whatever is wrong with the settings or the engine is said before anything is recorded."""
    from snn_policy.convert import check_settings
    from snn_policy.convert import convert as convert_actor
    from snn_policy.engines import check_engine

    if env is not None:
        actor = replace(actor, env_id=env)
    check_settings(actor, settings, pilot=pilot)
    check_engine(actor, engine)
    if recording is None:
        observations = actor.collect(environment_of(actor, env), steps=steps, seed=seed, progress=True)
    else:
        observations = read_recording(recording, actor.observation_shape)
    return convert_actor(actor, observations, neuron=settings, engine=engine, pilot=pilot, progress=True)


def _calibration(**given: Any) -> Any:
    """Return the settings of spike calibration; None where no option asks for it."""
    from snn_policy.spiking.spike_calibration import SpikeCalibration

    settings = {name: value for name, value in given.items() if value is not None}
    return SpikeCalibration(**settings) if settings else None


def _numbers(name: str, text: str | None, kind: type = float) -> list[Any] | None:
    try:
        return None if text is None else [kind(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"--{name} {text!r}: expected numbers separated by commas") from None


def _one_or_more(name: str, text: str | None, kind: type = float) -> Any:
    values = _numbers(name, text, kind)
    return values[0] if values is not None and len(values) == 1 else values


def _number_or_pilot(name: str, text: str | None) -> Any:
    from snn_policy.spiking.settings import PILOT

    return text if text == PILOT else _one_or_more(name, text)


def _summary(policy: "SpikingPolicy") -> dict[str, Any]:
    return {
        "actor": policy.actor.name,
        "env_id": policy.actor.env_id,
        "timesteps": policy.timesteps,
        "conversion": policy.conversion,
    }


def _print_summary(policy: "SpikingPolicy", out: Path) -> None:
    from snn_policy.calibration.action_units import unit_name

    made = policy.conversion
    print(f"{out}: {policy.actor.name} as {made['neuron']} neurons, up to {policy.timesteps} timesteps per decision")
    if "open_loop_error" in made:
        print(
            f"on the {made['observations']:,} recorded observations: RMS action error {made['open_loop_error']:.4f} "
            f"{unit_name(policy.actor)}, {sum(made['open_loop_spikes']):.0f} spikes per decision"
        )
    if "pilot" in made:
        _print_pilot(made["pilot"])
    command = "compare" if policy.actor.env_id else "inspect"  # without an environment nothing can be compared
    print(f"next: snn-policy {command} {shlex.quote(str(out))}")


def _print_pilot(pilot: dict[str, Any]) -> None:
    """Print one line per choice, one for the report, one for what it took."""
    if "alpha" in pilot:
        means = ", ".join(f"{tried['alpha']}: {tried['mean']:.1f}" for tried in pilot["alpha"]["candidates"])
        print(f"pilot: α = {pilot['alpha']['chosen']} (mean returns at {means})")
    for tried in pilot.get("tolerance", {}).get("candidates", ()):
        taken = "accepted" if tried["accepted"] else "rejected"
        print(
            f"pilot: tolerance {tried['tolerance']} {taken} after {tried['episodes']} episodes: {tried['reason']} "
            f"(loss {tried['loss']:.2%} ± {tried['standard_error']:.2%}, failed {tried['failed']:.1%}, ANN "
            f"{tried['ann_failed']:.1%})"
        )
    report = pilot["report"]
    print(
        f"on {report['episodes']} unseen episodes, seeds {report['seeds'][0]}…: retention {report['retention']:.4f} "
        f"± {report['standard_error']:.4f}, failed {report['snn_failed']:.1%}, ANN {report['ann_failed']:.1%}; "
        f"{pilot['steps']:,} environment steps"
    )
