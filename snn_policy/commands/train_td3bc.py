"""`snn-policy train td3bc`: an actor from a dataset, by TD3+BC; may be killed and resumed at any time."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_policy.commands.common import JsonOption, check_directory, check_target, write_json

if TYPE_CHECKING:
    from snn_policy.offline.td3bc import TD3BC

Dataset = Annotated[
    str, typer.Argument(metavar="DATASET", help="A directory in Minari's format, a Minari id, a D4RL .hdf5.")
]
Out = Annotated[Path, typer.Option(metavar="DIR", help="The run's directory; made if missing.")]
Activation = Annotated[str, typer.Option(help="relu, qcfs, or spiking (trained directly).")]
Levels = Annotated[int, typer.Option(help="Steps L of qcfs, timesteps T of spiking.", min=1)]
Steps = Annotated[int, typer.Option(help="Gradient steps in all; a finished run can be given more.", min=1)]
Seed = Annotated[int, typer.Option(help="Of networks and minibatches.", min=0)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")]
Environment = Annotated[
    str | None, typer.Option("--env", metavar="ID", help="Where the dataset does not name its environment.")
]
LearningRate = Annotated[float, typer.Option(help="Of Adam.")]
InitialLambda = Annotated[float, typer.Option(help="λ of qcfs, θ of spiking, at the start.")]
CheckpointEvery = Annotated[int, typer.Option(help="Gradient steps between checkpoints.", min=1)]
Device = Annotated[str, typer.Option(metavar="NAME", help="torch's: cpu, cuda, cuda:1. A GPU: some 20 times faster.")]


def train_td3bc(
    dataset: Dataset,
    out: Out,
    activation: Activation = "relu",
    levels: Levels = 4,
    steps: Steps = 1_000_000,
    seed: Seed = 0,
    resume: Resume = False,
    env: Environment = None,
    learning_rate: LearningRate = 3e-4,
    initial_lambda: InitialLambda = 1.0,
    checkpoint_every: CheckpointEvery = 1_000,
    device: Device = "cpu",
    json: JsonOption = None,
) -> None:
    """Train an actor on a dataset by TD3+BC, with the published hyperparameters.

    What comes out is read by every command that takes an actor: snn-policy eval DIR, snn-policy convert DIR.

    [bold]Example[/]: snn-policy train td3bc runs/datasets/Hopper-v5-medium --activation qcfs --out run/hopper
    """
    check_target(json)
    check_directory(out)
    from snn_policy.engines.torch_engine import usable_device
    from snn_policy.offline.batches import pack
    from snn_policy.offline.datasets import load_dataset
    from snn_policy.offline.td3bc import TD3BCSettings

    settings = TD3BCSettings(
        activation=activation, levels=levels, seed=seed, initial_lambda=initial_lambda,
        learning_rate=learning_rate,
    )  # fmt: skip
    usable_device(device)
    data = pack(load_dataset(dataset, env_id=env))
    run = _with_progress(out, data, settings, steps, resume=resume, checkpoint_every=checkpoint_every, device=device)
    if activation == "spiking":
        from snn_policy.offline.trained import read_checkpoint_policy

        read_checkpoint_policy(out).save(out / "policy")
    result = {"out": str(out), "steps": run.step, "settings": vars(settings), "env_id": data.env_id}
    if not write_json(result, json):
        place = out / "policy" if activation == "spiking" else out
        print(f"{out}: {run.step:,} gradient steps on {data.name}\nnext: snn-policy eval {place}")


def _with_progress(out: Path, data: Any, settings: Any, steps: int, **how: Any) -> "TD3BC":
    from snn_policy.offline.training import train_run
    from snn_policy.progress import counting

    done = 0
    with counting(f"{settings.activation} on {data.name}", steps) as advance:

        def show(reached: int) -> None:
            nonlocal done
            for _ in range(reached - done):
                advance()
            done = reached

        return train_run(out, data, settings, steps, **how, advance=show)


def register(app: typer.Typer) -> None:
    app.command("td3bc")(train_td3bc)
