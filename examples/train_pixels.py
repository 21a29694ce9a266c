"""Train pixel actors for the DeepMind Control Suite by imitation, with published architectures, on a CPU.

    python examples/train_actor.py train dm_control/cartpole-swingup-repeat2-v0 --algorithm sac    # the state expert
    python examples/train_pixels.py train cartpole-swingup --expert runs/…/best.zip                # minutes
    python examples/train_pixels.py export cartpole-swingup          # writes exported/pixels-small-cartpole-swingup

Behaviour cloning with DAgger (Ross et al. 2011): in every round the student acts, an expert that sees the state says
what it would have done, and the student is trained on all that was seen so far. The student that acts best on seeds
1000… is kept; the card's returns are measured on seeds 6000…. `train_direct.py` trains spiking networks on the same
data.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from cards import returns_card
from imitation import fit, pixel_batches, save
from pixel_networks import IMAGE_SHAPE, Network, PixelActor
from pixel_rollouts import Rollouts, Student, roll_out
from torch import nn

from snn_policy import Actor, compare, convert, load_actor
from snn_policy.environments import make_environment

ROOT = Path(__file__).resolve().parent.parent
SELECTION_SEED, TRAINING_SEED, REPORT_SEED, RECORDING_SEED = 1_000, 100_000, 6_000, 20_000
RECORDED = 1_000
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

Task = Annotated[str, typer.Argument(help="of the suite, such as cartpole-swingup")]
NetworkOption = Annotated[str, typer.Option("--network", help="small, or drq: DrQ-v2's (15 times the work)")]
Run = Annotated[Path | None, typer.Option(help="directory of the run; runs/pixels-NETWORK-TASK by default")]


def pixels_id(task: str) -> str:
    return f"dm_control/{task}-pixels-v0"


def directory_of(run: Path | None, network: str, task: str) -> Path:
    if network not in ("small", "drq"):
        raise typer.BadParameter(f"{network!r}: small or drq")
    return run or ROOT / "runs" / f"pixels-{network}-{task}"


def acting(module: nn.Module) -> Student:
    def act(obs: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(obs)[None])[0].numpy()

    return act


def read_expert(path: Path, task: str) -> Actor:
    return load_actor(path, env_id=f"dm_control/{task}-repeat2-v0")


@app.command()
def train(
    task: Task,
    expert: Annotated[Path, typer.Option(help="the state expert: a Stable-Baselines3 zip or a bundle")],
    network: NetworkOption = "small",
    rounds: Annotated[int, typer.Option(help="of DAgger, after one of plain cloning")] = 8,
    episodes: Annotated[int, typer.Option(help="per round; 500 decisions each")] = 10,
    batches: Annotated[int, typer.Option(help="of 64 per round, and five times as many in the last")] = 1_500,
    seed: int = 0,
    data: Annotated[Path | None, typer.Option(help="data.npz of another run, to begin with")] = None,
    run: Run = None,
) -> None:
    """Train a pixel actor on TASK, keeping the best one seen, a log of all rounds, and the data."""
    torch.set_num_threads(1)
    directory, rng = directory_of(run, network, task), np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    teacher, env = read_expert(expert, task), make_environment(pixels_id(task))
    seen = Rollouts.load(data) if data else roll_out(env, teacher, episodes, TRAINING_SEED, rng, noise=0.3)
    module, best = PixelActor(kind(network), seen.actions.shape[1]), -np.inf
    for turn in range(rounds + 1):
        loss = fit(module, pixel_batches(seen, rng), batches * (5 if turn == rounds else 1), f"round {turn}")
        own = roll_out(env, teacher, 4, SELECTION_SEED, rng, student=acting(module))
        mean = float(own.returns.mean())
        line = {"round": turn, "decisions": len(seen), "loss": loss, "mean": mean, "std": float(own.returns.std()),
                "best": mean > best}  # fmt: skip
        if mean > best:
            best = mean
            save(module, directory / "actor.pt")
            (directory / "best.json").write_text(json.dumps({**line, "task": task, "seed": seed, "network": network}))
        with (directory / "rounds.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(line, flush=True)
        if turn < rounds:
            first = TRAINING_SEED + (turn + 1) * 1_000
            seen = seen.joined(roll_out(env, teacher, episodes, first, rng, student=acting(module), noise=0.3))
            if data is None:
                seen.save(directory / "data.npz")
    env.close()


def kind(network: str) -> Network:
    return "drq" if network == "drq" else "small"


def read_pixel_actor(directory: Path, network: str, task: str) -> Actor:
    """The ANN that `train` left."""
    tensors = torch.load(directory / "actor.pt", weights_only=True)
    module = PixelActor(kind(network), len(list(tensors.values())[-1])).eval()
    module.load_state_dict(tensors)
    return as_actor(module, f"pixels-{network}-{task}", task)


def as_actor(module: nn.Module, name: str, task: str) -> Actor:
    """The module as an `Actor`."""
    return load_actor(module, observation_shape=IMAGE_SHAPE, low=-1.0, high=1.0, env_id=pixels_id(task), name=name)


@app.command()
def export(
    task: Task,
    network: NetworkOption = "small",
    episodes: Annotated[int, typer.Option(help="episodes of the returns in the card")] = 20,
    run: Run = None,
) -> None:
    """Convert the actor of a run with the defaults, measure it, and ship it with its card."""
    torch.set_num_threads(1)
    directory = directory_of(run, network, task)
    reached, actor = json.loads((directory / "best.json").read_text()), read_pixel_actor(directory, network, task)
    recordings = actor.collect(pixels_id(task), RECORDED, RECORDING_SEED, progress=True)
    policy = convert(actor, recordings, progress=True)
    comparison = compare(actor, policy, pixels_id(task), episodes=episodes, seed=REPORT_SEED, progress=True)
    policy.card = {
        "env_id": pixels_id(task),
        "algorithm": f"behaviour cloning of a state expert with DAgger, {network} network",
        "training": {**reached, "versions": {name: version(name) for name in ("torch", "dm_control", "mujoco")}},
        "chosen": f"the best mean return of all rounds, seeds {SELECTION_SEED}…",
        "returns": returns_card(comparison),
    }
    policy.save(ROOT / "exported" / actor.name, dtype="float16", observations=recordings[:200], xz=True)
    print(json.dumps(policy.card, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    app()
