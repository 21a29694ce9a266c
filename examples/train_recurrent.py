"""Train policies whose networks are no chains: an LSTM and a GRU on tasks that need memory, and a SimBa-like residual.

    python examples/train_recurrent.py lstm                # RecurrentPPO, CartPole without velocities: 5 minutes
    python examples/train_recurrent.py imitate gru         # DAgger, Pendulum without its velocity: 2 minutes
    python examples/train_recurrent.py imitate simba       # DAgger, HalfCheetah-v5: 5 minutes
    python examples/train_recurrent.py export gru          # converts it, measures it, writes examples/trained/gru-…

`imitate` is behaviour cloning with DAgger (Ross et al. 2011): in every round the student acts, an expert that sees the
whole state says what it would have done, and the student is trained on the episodes of all rounds, through time over
sequences of 50 decisions. The student that acts best on seeds 1000… is kept in `runs/`; the card's returns are measured
on seeds 5000….
"""

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import gymnasium as gym
import hidden_velocities
import numpy as np
import torch
import typer
from cards import returns_card
from recurrent_students import STUDENTS, GruStudent, SimbaStudent, lstm_actor, student_actor
from torch import nn

from snn_policy import Actor, compare, convert, load_actor
from snn_policy.ann.layers import Normaliser
from snn_policy.environments import make_environment
from snn_policy.exported import path as exported
from snn_policy.progress import track

ROOT = Path(__file__).resolve().parent.parent
SELECTION_SEED, REPORT_SEED, TRAINING_SEED = 1_000, 5_000, 100_000
RECORDED = 5_000
CHUNK = 50
Kind = Literal["gru", "simba"]
TASKS = {
    "gru": (hidden_velocities.PENDULUM, "td3-Pendulum-v1", "Pendulum-v1", slice(0, 2)),
    "simba": ("HalfCheetah-v5", "td3-HalfCheetah-v5", "HalfCheetah-v5", slice(None)),
}
"""The student's task, the expert, the expert's environment, and what of its observations the student sees."""
ALGORITHMS = {
    "lstm": "sb3-contrib's RecurrentPPO, LSTM 32 → ReLU 32",
    "gru": "DAgger of td3-Pendulum-v1, GRU 32 → tanh 32",
    "simba": "DAgger of td3-HalfCheetah-v5, LayerNorm residual blocks 48 → 192 → 48, twice",
}
Seed = Annotated[int, typer.Option(help="of all that is random")]
Run = Annotated[Path | None, typer.Option(help="directory of the run; runs/recurrent-KIND by default")]
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)


class Log:
    """Keep the best score of a run, and a line per evaluation."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file, self._best, self._started = directory / "evaluations.jsonl", -np.inf, time.time()

    def add(self, returns: list[float], **facts: float) -> bool:
        """Note the returns of an evaluation; whether they are the best so far, by mean − std."""
        score = float(np.mean(returns) - np.std(returns))
        best = score > self._best
        line = {**facts, "mean": float(np.mean(returns)), "std": float(np.std(returns)), "best": best}
        line["minutes"] = round((time.time() - self._started) / 60, 2)
        with self._file.open("a") as log:
            log.write(json.dumps(line) + "\n")
        print(line, flush=True)
        self._best = max(score, self._best)
        return best


@app.command()
def lstm(
    steps: Annotated[int, typer.Option(help="environment steps")] = 150_000,
    width: Annotated[int, typer.Option(help="of the LSTM and of the layer after it")] = 32,
    seed: Seed = 0,
    run: Run = None,
) -> None:
    """Train an LSTM on CartPole without velocities by RecurrentPPO; writes model.zip and vecnormalize.pkl."""
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)
    directory = run or ROOT / "runs" / "recurrent-lstm"
    log = Log(directory)
    env = VecNormalize(make_vec_env(hidden_velocities.CARTPOLE, 8, seed), norm_reward=False)
    judged = VecNormalize(
        make_vec_env(hidden_velocities.CARTPOLE, 10, SELECTION_SEED), training=False, norm_reward=False
    )

    class KeepTheBest(BaseCallback):
        """Evaluate every 10,000 steps on normalised observations, with the statistics of that moment."""

        def _on_step(self) -> bool:
            if self.num_timesteps % 10_000 >= 8:
                return True
            judged.obs_rms = env.obs_rms
            returns, _ = evaluate_policy(self.model, judged, 10, return_episode_rewards=True)  # pyright: ignore
            if log.add(returns, steps=self.num_timesteps):  # pyright: ignore[reportArgumentType]
                self.model.save(directory / "model.zip")
                env.save(str(directory / "vecnormalize.pkl"))
            return True

    network = {"lstm_hidden_size": width, "net_arch": {"pi": [width], "vf": [width]}, "activation_fn": nn.ReLU}
    model = RecurrentPPO(
        "MlpLstmPolicy", env, n_steps=64, batch_size=512, n_epochs=6, gamma=0.98, gae_lambda=0.8, ent_coef=0.0,
        learning_rate=lambda left: 2e-3 * left, clip_range=0.2, seed=seed, device="cpu",
        policy_kwargs={**network, "ortho_init": False, "shared_lstm": True, "enable_critic_lstm": False},
    )  # fmt: skip
    model.learn(steps, callback=KeepTheBest())


@app.command()
def imitate(
    kind: Annotated[Kind, typer.Argument(help="gru: Pendulum without velocity; simba: HalfCheetah")],
    rounds: Annotated[int, typer.Option(help="of DAgger, after one of plain cloning")] = 10,
    episodes: Annotated[int, typer.Option(help="per round")] = 8,
    batches: Annotated[int, typer.Option(help="of 32 sequences per round, and three times as many in the last")] = 400,
    seed: Seed = 0,
    run: Run = None,
) -> None:
    """Train a student on what an expert with the whole state would have done; writes student.pt."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    directory, rng = run or ROOT / "runs" / f"recurrent-{kind}", np.random.default_rng(seed)
    log, (_, expert_name, env_id, seen) = Log(directory), TASKS[kind]
    expert, env = load_actor(exported(expert_name)), make_environment(env_id)
    recordings = [
        roll_out(env, expert, None, seen, TRAINING_SEED + k, noise=0.3 * (k % 2), rng=rng) for k in range(episodes)
    ]
    everything = np.concatenate([recorded.obs for recorded in recordings])
    mean, scale = everything.mean(axis=0), everything.std(axis=0) + 1e-3
    module = STUDENTS[kind](len(mean), expert.head.outputs)
    student = Student(module, mean, scale, expert)
    for turn in range(rounds + 1):
        loss = fit(student, recordings, batches * (3 if turn == rounds else 1), rng, f"round {turn}")
        returns = [roll_out(env, expert, student, seen, SELECTION_SEED + k).total for k in range(8)]
        if log.add(returns, round=turn, loss=loss):
            stored = {"module": module.state_dict(), "mean": torch.tensor(mean), "scale": torch.tensor(scale)}
            torch.save(stored, directory / "student.partial")
            (directory / "student.partial").replace(directory / "student.pt")
        if turn < rounds:
            first = TRAINING_SEED + (turn + 1) * 1_000
            recordings += [
                roll_out(env, expert, student, seen, first + k, noise=0.1 * (k % 2), rng=rng) for k in range(episodes)
            ]
    env.close()


class Student:
    """Act with a module, decision by decision, in the expert's action space."""

    def __init__(self, module: GruStudent | SimbaStudent, mean: np.ndarray, scale: np.ndarray, expert: Actor) -> None:
        self.module, self.mean, self.scale = module, mean, scale
        self.centre, self.reach = (expert.high + expert.low) / 2, (expert.high - expert.low) / 2
        self._memory: torch.Tensor | None = None

    def reset(self) -> None:
        self._memory = None

    def act(self, obs: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(((obs - self.mean) / self.scale).astype(np.float32))[None, None]
        with torch.inference_mode():
            y, self._memory = self.module(x, self._memory)
        return y[0, 0].numpy() * self.reach + self.centre


class Episode:
    """What the student saw (T, inputs), what the expert would have done (T, actions), and the return."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self.total = 0.0

    @property
    def obs(self) -> np.ndarray:
        return np.stack(self.seen)

    @property
    def wanted(self) -> np.ndarray:
        return np.stack(self.labels)


def roll_out(
    env: gym.Env, expert: Actor, student: Student | None, seen: slice, seed: int, noise: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Episode:  # fmt: skip
    """Return one episode of the student, or of the expert, with the expert's actions as labels."""
    episode, obs, over = Episode(), env.reset(seed=seed)[0], False
    if student is not None:
        student.reset()
    while not over:
        wanted = expert.act(obs)
        episode.seen.append(np.asarray(obs, np.float32)[seen])
        episode.labels.append(wanted)
        action = wanted if student is None else student.act(episode.seen[-1])
        if rng is not None and noise:
            action = expert.head.disturbed(action, noise, rng)
        obs, reward, terminated, truncated, _ = env.step(action)
        episode.total, over = episode.total + float(reward), terminated or truncated
    return episode


def fit(student: Student, recordings: list[Episode], batches: int, rng: np.random.Generator, title: str) -> float:
    """Train on sequences of whole episodes, 50 decisions at a time; the mean squared error of the last 100 batches.

    A sequence's memory goes on from one chunk to the next, its gradient does not.
    """
    length = min(len(episode.seen) for episode in recordings)
    obs = torch.tensor(np.stack([episode.obs[:length] for episode in recordings]))
    x = (obs - torch.tensor(student.mean)) / torch.tensor(student.scale)
    wanted = torch.tensor(np.stack([episode.wanted[:length] for episode in recordings]))
    y = (wanted - torch.tensor(student.centre)) / torch.tensor(student.reach)
    optimiser = torch.optim.Adam(student.module.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, batches, 1e-4)
    losses, at, memory, rows = [], length, None, np.zeros(0, np.int64)
    for _ in track(range(batches), title):
        if at + CHUNK > length:
            at, memory, rows = 0, None, rng.integers(0, len(x), 32)
        given, memory = student.module(x[rows, at : at + CHUNK].float(), memory)
        memory = None if memory is None else memory.detach()
        loss = nn.functional.mse_loss(given, y[rows, at : at + CHUNK].float())
        at += CHUNK
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.module.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses[-100:]))


@app.command()
def export(
    kind: Annotated[str, typer.Argument(help="lstm, gru or simba")],
    episodes: Annotated[int, typer.Option(help="episodes of the returns in the card")] = 100,
    run: Run = None,
) -> None:
    """Convert the actor of a run with the defaults, measure it, and write it with its card to examples/trained."""
    torch.set_num_threads(1)
    actor = read_actor(kind, run)
    policy = convert(actor, actor.collect(str(actor.env_id), RECORDED, progress=True), progress=True)
    comparison = compare(actor, policy, str(actor.env_id), episodes=episodes, seed=REPORT_SEED, progress=True)
    policy.card = {"env_id": actor.env_id, "algorithm": ALGORITHMS[kind], "returns": returns_card(comparison)}
    policy.save(ROOT / "examples" / "trained" / actor.name)
    print(json.dumps(policy.card, indent=1, ensure_ascii=False))


def read_actor(kind: str, run: Path | None = None) -> Actor:
    """Return the ANN that `lstm` or `imitate` has left in `runs/`, or in that directory."""
    directory = run or ROOT / "runs" / f"recurrent-{kind}"
    if kind == "lstm":
        return read_lstm(directory)
    env_id, expert_name, _, _ = TASKS[kind]
    expert, stored = load_actor(exported(expert_name)), torch.load(directory / "student.pt", weights_only=True)
    mean, scale = stored["mean"].numpy(), stored["scale"].numpy()
    module = STUDENTS[kind](len(mean), expert.head.outputs)
    module.load_state_dict(stored["module"])
    actor = student_actor(module, mean, scale, expert.low, expert.high, f"{kind}-{env_id}")
    actor.env_id = env_id
    return actor


def read_lstm(directory: Path) -> Actor:
    from sb3_contrib import RecurrentPPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    env = VecNormalize.load(str(directory / "vecnormalize.pkl"), make_vec_env(hidden_velocities.CARTPOLE, 1))
    scale = np.sqrt(env.obs_rms.var + env.epsilon)  # pyright: ignore
    normaliser = Normaliser(env.obs_rms.mean, scale, env.clip_obs)  # pyright: ignore
    tensors = RecurrentPPO.load(directory / "model.zip", device="cpu").policy.state_dict()
    actor = lstm_actor(tensors, normaliser, f"lstm-{hidden_velocities.CARTPOLE}")
    actor.env_id = hidden_velocities.CARTPOLE
    return actor


if __name__ == "__main__":
    app()
