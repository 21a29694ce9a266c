"""Train spiking networks directly, with a surrogate gradient, on the data that `train_pixels.py train` left.

    python examples/train_direct.py states cartpole-swingup     # on the states of those decisions, 256×256
    python examples/train_direct.py pixels cartpole-swingup     # on their pictures, the small network

The baseline of the tables: IF neurons at rate coding, trained thresholds, the same decisions and the same T as the
conversions beside it. The bundles go to `runs/direct-NAME`; `snn-policy eval` measures them.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from imitation import fit, pixel_batches, state_batches
from pixel_networks import IMAGE_SHAPE, SpikingPixelActor
from pixel_rollouts import Rollouts
from train_pixels import ROOT, SELECTION_SEED, as_actor

from snn_policy import SpikingPolicy, convert
from snn_policy.ann.layers import Head, Normaliser
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.offline.spiking_actor import SpikingActor
from snn_policy.offline.trained import spiking_policy

WIDTH, SMALLEST_SCALE = 256, 1e-3
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

Task = Annotated[str, typer.Argument(help="of the suite, such as cartpole-swingup")]
Timesteps = Annotated[int, typer.Option(help="T", min=1)]
Batches = Annotated[int, typer.Option(help="of 64", min=1)]
Data = Annotated[Path | None, typer.Option(help="runs/pixels-small-TASK/data.npz by default")]


def read(task: str, data: Path | None, seed: int) -> tuple[Rollouts, np.random.Generator]:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rollouts = Rollouts.load(data or ROOT / "runs" / f"pixels-small-{task}" / "data.npz")
    return rollouts, np.random.default_rng(seed)


@app.command()
def states(task: Task, timesteps: Timesteps = 8, batches: Batches = 30_000, seed: int = 0, data: Data = None) -> None:
    """Two hidden layers of 256 on normalised states; compared with the conversions of sac-TASK."""
    rollouts, rng = read(task, data, seed)
    mean = rollouts.states.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.maximum(rollouts.states.std(axis=0, dtype=np.float64), SMALLEST_SCALE).astype(np.float32)
    outputs = rollouts.actions.shape[1]
    module = SpikingActor((len(mean), WIDTH, WIDTH, outputs), timesteps)
    batch = state_batches(rollouts, rng, torch.from_numpy(mean), torch.from_numpy(scale))
    loss = fit(module, batch, batches, f"T = {timesteps}")
    policy = spiking_policy(
        module.requires_grad_(False),
        head=Head.bounded(-np.ones(outputs), np.ones(outputs)),
        observation_shape=mean.shape,
        normaliser=Normaliser(mean, scale),
        env_id=f"dm_control/{task}-repeat2-v0",
        name=f"direct-sac-{task}",
    )
    keep(policy, loss, batches, seed)


@app.command()
def pixels(task: Task, timesteps: Timesteps = 8, batches: Batches = 8_000, seed: int = 0, data: Data = None) -> None:
    """The small convolutional network on pictures; compared with the conversions of pixels-small-TASK."""
    rollouts, rng = read(task, data, seed)
    module = SpikingPixelActor("small", rollouts.actions.shape[1], timesteps)
    loss = fit(module, pixel_batches(rollouts, rng), batches, f"T = {timesteps}")
    actor = as_actor(module.shadow(), f"direct-pixels-small-{task}", task)
    policy = convert(actor, np.zeros((2, *IMAGE_SHAPE), np.uint8), neuron="if", coding="rate", alpha=0.0)
    keep(policy, loss, batches, seed)


def keep(policy: SpikingPolicy, loss: float, batches: int, seed: int) -> None:
    """Save the policy with what it was trained on, and say what it returns."""
    actor = policy.actor
    found = evaluate(policy, str(actor.env_id), episodes=5, seed=SELECTION_SEED, progress=True)
    policy.card = {"env_id": actor.env_id, "algorithm": "behaviour cloning with a surrogate gradient",
                   "training": {"batches": batches, "seed": seed, "loss": loss}}  # fmt: skip
    policy.save(ROOT / "runs" / actor.name)
    print({"loss": loss, "mean": found.mean, "std": found.std})


if __name__ == "__main__":
    app()
