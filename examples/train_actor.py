"""Train one of the actors shipped in `exported/`: Stable-Baselines3 TD3 or SAC, 256×256 ReLU.

    python examples/train_actor.py train HalfCheetah-v5 --steps 500000    # hours: run it in the background
    python examples/train_actor.py export HalfCheetah-v5                  # writes exported/td3-HalfCheetah-v5
    python examples/train_actor.py train dm_control/cartpole-swingup-repeat2-v0 --algorithm sac --steps 50000

`train` keeps the actor with the best evaluation so far in `runs/` and can be stopped at any time:
`export` takes what was reached and says in the card (`policy.json`) what that is. The checkpoint is
chosen on evaluation seeds 1000…, the card's returns are measured on seeds 5000….
"""

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from cards import returns_card

if TYPE_CHECKING:
    from stable_baselines3.common.buffers import ReplayBuffer


ROOT = Path(__file__).resolve().parent.parent
SELECTION_SEED, REPORT_SEED = 1_000, 5_000
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


@app.callback()
def main() -> None:
    pass


def actor_name(algorithm: str, env_id: str) -> str:
    task = re.sub(r"^dm_control/(.*?)(-repeat[0-9]+)?-v0$", r"\1", env_id)
    return f"{algorithm}-{task}"


@app.command()
def train(
    env_id: Annotated[str, typer.Argument(help="an environment with continuous actions; dm_control/… too")],
    algorithm: Annotated[str, typer.Option(help="td3 or sac")] = "td3",
    steps: Annotated[int, typer.Option(help="environment steps; 100 to 200 per CPU-second")] = 300_000,
    seed: int = 0,
    eval_every: Annotated[int, typer.Option(help="environment steps between two evaluations")] = 10_000,
    eval_episodes: Annotated[int, typer.Option(help="episodes per evaluation")] = 8,
    learning_rate: float = 1e-3,
    stop_at: Annotated[
        float | None, typer.Option(help="stop at this mean return, and keep the replay buffer: a 'medium' actor")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="directory of the run; runs/ALGORITHM-ENV_ID by default")] = None,
) -> None:
    """Train an actor on ENV_ID, keeping the best one seen and a log of all evaluations."""
    import numpy as np
    import torch
    from stable_baselines3 import SAC, TD3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import NormalActionNoise

    from snn_policy.environments import make_environment
    from snn_policy.offline.products import multiplied_here
    from snn_policy.versions import installed_versions

    torch.set_num_threads(1)
    directory = run or ROOT / "runs" / actor_name(algorithm, env_id)
    directory.mkdir(parents=True, exist_ok=True)

    class KeepTheBest(BaseCallback):
        """Evaluates on fixed seeds; saves `best.zip` and one line of `evaluations.jsonl` each time."""

        def _on_training_start(self) -> None:
            self.env, self.best, self.started = make_environment(env_id), -np.inf, time.time()

        def episode_return(self, episode_seed: int) -> float:
            observation, _ = self.env.reset(seed=episode_seed)
            total, over = 0.0, False
            while not over:
                action, _ = self.model.predict(observation, deterministic=True)
                observation, reward, terminated, truncated, _ = self.env.step(action)
                total, over = total + float(reward), terminated or truncated
            return total

        def _on_step(self) -> bool:
            if self.num_timesteps % eval_every:
                return True
            returns = [self.episode_return(SELECTION_SEED + i) for i in range(eval_episodes)]
            # an actor that sometimes falls is a worse product than its mean says
            score = float(np.mean(returns) - np.std(returns))
            line = {
                "steps": self.num_timesteps,
                "mean": float(np.mean(returns)),
                "std": float(np.std(returns)),
                "minutes": round((time.time() - self.started) / 60, 2),
                "best": score > self.best,
            }
            if score > self.best:
                self.best = score
                self.model.save(directory / "best.partial.zip")
                (directory / "best.partial.zip").replace(directory / "best.zip")
                (directory / "best.json").write_text(json.dumps(line))
            with (directory / "evaluations.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(line, flush=True)
            return stop_at is None or line["mean"] < stop_at

    env = make_environment(env_id)
    shared = {"learning_rate": learning_rate, "policy_kwargs": {"net_arch": [256, 256]}, "seed": seed, "device": "cpu"}
    start = min(10_000, steps // 10)
    if algorithm == "td3":
        size = env.action_space.sample().shape
        noise = NormalActionNoise(np.zeros(size), 0.1 * np.ones(size))
        model = TD3(
            "MlpPolicy",
            env,
            action_noise=noise,
            learning_starts=start,
            batch_size=256,
            train_freq=1,
            gradient_steps=1,
            **shared,
        )
    elif algorithm == "sac":
        model = SAC("MlpPolicy", env, learning_starts=start, **shared)
    else:
        raise typer.BadParameter(f"{algorithm!r}: td3 or sac")
    multiplied_here(model.policy)
    settings = {
        "env": env_id,
        "algorithm": algorithm,
        "steps": steps,
        "seed": seed,
        "learning_rate": learning_rate,
        "versions": installed_versions(),
    }
    (directory / "training.json").write_text(json.dumps(settings, indent=1))
    model.learn(steps, callback=KeepTheBest(), progress_bar=True)
    if stop_at is not None:
        model.save(directory / "last.zip")
        save_replay(model.replay_buffer, directory / "replay.npz")


def save_replay(buffer: "ReplayBuffer | None", path: Path) -> None:
    """The transitions in their order: observations, next_observations, actions, rewards, terminations, truncations."""
    import numpy as np

    assert buffer is not None
    end = buffer.buffer_size if buffer.full else buffer.pos
    truncations = buffer.timeouts[:end, 0] > 0
    np.savez_compressed(
        path,
        observations=buffer.observations[:end, 0],
        next_observations=buffer.next_observations[:end, 0],
        actions=buffer.actions[:end, 0],
        rewards=buffer.rewards[:end, 0],
        terminations=(buffer.dones[:end, 0] > 0) & ~truncations,
        truncations=truncations,
    )


@app.command()
def export(
    env_id: Annotated[str, typer.Argument(help="an environment that `train` has been run on")],
    algorithm: Annotated[str, typer.Option(help="td3 or sac")] = "td3",
    episodes: Annotated[int, typer.Option(help="episodes of the returns in the card")] = 50,
    tolerance: Annotated[float | None, typer.Option(help="of the conversion, where the default loses return")] = None,
    run: Annotated[Path | None, typer.Option(help="directory of the run; runs/ALGORITHM-ENV_ID by default")] = None,
) -> None:
    """Convert the best actor of a run, measure it, and ship it with its card."""
    import torch

    from snn_policy import Comparison, compare, convert, load_actor

    torch.set_num_threads(1)
    name = actor_name(algorithm, env_id)
    directory = run or ROOT / "runs" / name
    settings, reached = (json.loads((directory / entry).read_text()) for entry in ("training.json", "best.json"))
    actor = load_actor(directory / "best.zip", env_id=env_id, name=name)
    policy = convert(actor, actor.collect(env_id, progress=True), tolerance=tolerance)
    comparison: Comparison = compare(actor, policy, env_id, episodes=episodes, seed=REPORT_SEED, progress=True)
    policy.card = {
        "env_id": env_id,
        "algorithm": f"Stable-Baselines3 {algorithm.upper()}, 256×256 ReLU",
        "training": {**settings, "steps": reached["steps"], "planned_steps": settings["steps"]},
        "chosen": f"the best mean − std of the returns at the evaluations, seeds {SELECTION_SEED}…",
        "returns": returns_card(comparison),
    }
    policy.save(ROOT / "exported" / name, xz=True)
    print(json.dumps(policy.card, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    app()
