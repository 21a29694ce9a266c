"""`snn-policy compress`: a trained actor to a sparse one, converted; may be stopped and resumed at any time."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_policy.bundle.files import CHECKPOINT_FILE
from snn_policy.commands.common import (
    FORMATS,
    EnvironmentOption,
    JsonOption,
    check_directory,
    check_target,
    environment_of,
    is_bundle,
    naming,
    read_actor,
    read_recording,
    write_json,
)
from snn_policy.compression.settings import STEPS

if TYPE_CHECKING:
    from snn_policy.actor import Actor

VECTORS, PICTURES = 10_000, 1_000
"""How many observations the conversion is calibrated on; of a recording all, but for pictures."""
CHECKPOINTS = "compression"
"""The folder inside --out where a run's checkpoints are."""

Source = Annotated[str, typer.Argument(metavar="MODEL", help=f"A shipped policy's name, or {FORMATS}.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the converted student goes, and its checkpoints.")]
TargetOption = Annotated[
    str,
    typer.Option(
        metavar="energy:E|retention:R",
        help="What you want: so small a share of the dense ANN's energy, or so large a share of its return.",
    ),
]
Steps = Annotated[int, typer.Option(help="Gradient steps at most.", min=1)]
Seed = Annotated[int, typer.Option(help="Of everything random.", min=0)]
Block = Annotated[int, typer.Option(help="Consecutive outputs that are pruned together: 1, 8, 16, 32.", min=1)]
Count = Annotated[str, typer.Option(help="What is kept low: spikes, or events (neurons that say anything).")]
Tolerance = Annotated[
    float | None,
    typer.Option(
        help="Of the conversion that the student is made for.",
        show_default="half of its own error or, to meet the energy, up to all of it",
    ),
]
Observations = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Your own recording instead of an environment (.npy, consecutive)."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")]


def compress(
    source: Source,
    out: Out,
    env: EnvironmentOption = None,
    target: TargetOption = "retention:0.99",
    steps: Steps = STEPS,
    seed: Seed = 0,
    block: Block = 16,
    count: Count = "spikes",
    tolerance: Tolerance = None,
    observations: Observations = None,
    resume: Resume = False,
    json: JsonOption = None,
) -> None:
    """Distil a sparse, quiet student of an actor, and convert it: two to four times less energy. Needs torch.

    The student learns the actor's actions on the actor's states and on its own, and is pruned on the way; at intervals
    its spiking conversion runs episodes beside the actor. The given model is not changed. Some minutes on one core;
    after Ctrl-C the same command with --resume goes on (every 1,000 steps are kept). With a recording alone
    (--observations) there are no episodes: noise stands in for them, and the target must be an energy.

    [bold]Examples[/]:

    snn-policy compress model.zip --env HalfCheetah-v5 --out run/small

    snn-policy compress model.zip --target energy:0.03 --out run/tiny

    snn-policy compress policy.onnx --observations log.npy --target energy:0.1 --out run/robot
    """
    from snn_policy.compression.compress import compress as compress_actor
    from snn_policy.compression.compress import sees_pictures
    from snn_policy.compression.settings import Target
    from snn_policy.convert import convert

    check_target(json)
    check_directory(out)
    wanted = Target.parse(target)
    if is_bundle(out) and not resume:
        raise ValueError(f"{out}: holds a policy already; choose another directory")
    actor = read_actor(source)
    place = env or (None if observations is not None else environment_of(actor, None))
    if env is not None:
        actor = replace(actor, env_id=env)
    recording = None if observations is None else read_recording(observations, actor.observation_shape)
    with _telling_what_is_kept(out / CHECKPOINTS), naming(observations):
        small = compress_actor(
            actor, place, target=wanted, observations=recording, steps=steps, seed=seed, block=block, count=count,
            tolerance=tolerance, directory=out / CHECKPOINTS, resume=resume, progress=True, report=_show,
        )  # fmt: skip
        pictures = sees_pictures(small)
        if place is not None:
            recording = small.collect(place, PICTURES if pictures else VECTORS, progress=True)
        assert recording is not None
        policy = convert(small, recording[:PICTURES] if pictures else recording, progress=True)
    policy.card = {"compression": small.provenance["compression"]}
    policy.save(out)
    if not write_json({"out": str(out), "compression": small.provenance["compression"]}, json):
        _print_summary(small, out)
        print(f"next: {_next_command(source, env, small, out)}")


@contextmanager
def _telling_what_is_kept(directory: Path) -> Iterator[None]:
    """Say at Ctrl-C on stderr whether there is anything to go on with, and how."""
    try:
        yield
    except KeyboardInterrupt:
        kept = (directory / CHECKPOINT_FILE).exists()
        how = "its last checkpoint is kept: go on with the same command and --resume"
        again = "nothing is kept yet: run the same command again"
        print(f"{directory}: {how if kept else again}", file=sys.stderr)
        raise


def _next_command(source: str, env: str | None, small: "Actor", out: Path) -> str:
    """Return a command that can be run as it is: without an environment nothing can be compared."""
    if small.env_id is None:
        return f"snn-policy inspect {shlex.quote(str(out))}"
    where = "" if env is None else f" --env {shlex.quote(env)}"
    return f"snn-policy compare {shlex.quote(source)} {shlex.quote(str(out))}{where} --episodes 100"


def _show(state: dict[str, Any]) -> None:
    """Print one line of progress on stderr."""
    from rich.console import Console

    judged = state["verdicts"][-1] if state["verdicts"] else None
    note = "" if judged is None or judged["retention"] is None else f", retention {judged['retention']:.3f}"
    Console(stderr=True).print(
        f"step {state['step']:,}: action error {state['error']:.3f}, density {state['density']:.2f}, "
        f"expected energy {state['energy']:.3f}{note}",
        highlight=False,
    )


def _print_summary(small: "Actor", out: Path) -> None:
    record = small.provenance["compression"]
    error = "" if record["error"] is None else f", action error {record['error']:.3f}"
    kept = "" if record["retention"] is None else f", {record['retention']:.3f} of the return ({record['episodes']} episodes)"  # fmt: skip  # noqa: E501
    energy = f"energy {record['energy']:.3g}"
    print(f"{out}: {record['density']:.0%} of {record['teacher']}'s weights, {energy}{error}{kept}")
