"""Steps per second of `evaluate` beside those of the same environments with random actions, on several processes.

    python -m benchmarks.measure_throughput      # minutes, on an idle machine; writes results/throughput.json

Both sides use the same environments, in the same processes, several side by side in each:

    evaluate   what a worker of `evaluate` runs: decide, step, count, take the next seed where an episode ends
    random     a plain loop over `env.step` with actions sampled beforehand, as many steps as the evaluation made

Both begin together on all workers and end with the slowest; they take turns, and a ratio is that of one repetition.
Starting processes, making environments and compiling belong to neither. They are in the last columns: what a user waits
for 100 episodes, from the call of `evaluate` to its result, with one worker and with several.
"""

import itertools
import json
import time
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import typer

from benchmarks.places import RESULTS
from snn_policy import SpikingPolicy
from snn_policy.atomic_files import write_atomically
from snn_policy.environments import make_environment
from snn_policy.evaluation.episodes import CostRecorder, run_episodes
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.evaluation.workers import EpisodeQueue, usable_cores
from snn_policy.exported import path
from snn_policy.versions import installed_versions

EPISODES = {"td3-Pendulum-v1": 2000, "td3-Hopper-v5": 100, "td3-HalfCheetah-v5": 100}
"""Per repetition: some seconds of either side."""
SAMPLED, USERS_EPISODES, SEED = 1000, 100, 5000


@dataclass(frozen=True)
class Turn:
    """One worker's share of one repetition; times in seconds."""

    steps: int
    random: float
    evaluated: float
    policy: float
    environment: float


@dataclass(frozen=True)
class Throughput:
    """One policy's result; steps per second of all workers together, microseconds per step of one worker.

    Attributes:
        ratios: evaluate by random, per repetition.
        seconds_alone, seconds_shared: a user's 100 episodes with one worker and with all.
    """

    policy: str
    steps: int
    random: float
    evaluated: float
    ratio: float
    ratios: list[float]
    policy_microseconds: float
    environment_microseconds: float
    seconds_alone: float
    seconds_shared: float


def random_steps(envs: list[gym.Env], actions: list[list[Any]], steps: int) -> None:
    """That many steps in all, side by side; episodes begin anew where they end."""
    turns = itertools.islice(itertools.cycle(actions), steps // len(envs))
    for each_env in turns:
        for env, action in zip(envs, each_env, strict=True):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()


def work(connection: Any, barrier: Any, queues: list[EpisodeQueue], name: str, rows: int) -> None:
    """One worker's turns, a repetition per queue; sends a `Turn` for each."""
    policy = SpikingPolicy.load(path(name))
    assert policy.actor.env_id is not None
    envs = [make_environment(policy.actor.env_id, policy) for _ in range(rows)]
    for row, env in enumerate(envs):
        env.reset(seed=row)
        env.action_space.seed(row)
    actions = [[env.action_space.sample() for env in envs] for _ in range(SAMPLED)]
    random_steps(envs, actions, SAMPLED)
    for queue in queues:
        recorder = CostRecorder(policy, envs)
        barrier.wait()
        begin = time.perf_counter()
        finished = run_episodes(recorder, envs, SEED, queue.take, queue.finish)
        evaluated, steps = time.perf_counter() - begin, sum(episode.length for episode in finished)
        for env in envs:
            env.reset()
        barrier.wait()
        begin = time.perf_counter()
        random_steps(envs, actions, steps)
        random = time.perf_counter() - begin
        connection.send(Turn(steps, random, evaluated, recorder.policy_seconds, recorder.environment_seconds))


def repetitions(name: str, workers: int, rows: int, repeats: int, episodes: int) -> list[list[Turn]]:
    """Per repetition, the turns of all workers."""
    context = get_context("spawn")
    barrier, queues = context.Barrier(workers), [EpisodeQueue(context, episodes) for _ in range(repeats)]
    pipes = [context.Pipe() for _ in range(workers)]
    processes = [
        context.Process(target=work, args=(pipe[1], barrier, queues, name, rows), daemon=True) for pipe in pipes
    ]
    for process in processes:
        process.start()
    for pipe in pipes:
        pipe[1].close()
    turns = [[pipe[0].recv() for pipe in pipes] for _ in range(repeats)]
    for process in processes:
        process.join()
    return turns


def users_seconds(name: str, workers: int, episodes: int) -> float:
    """From the call of `evaluate` to its result."""
    policy = SpikingPolicy.load(path(name))
    assert policy.actor.env_id is not None
    begin = time.perf_counter()
    evaluate(policy, policy.actor.env_id, episodes=episodes, workers=workers)
    return time.perf_counter() - begin


def measure(name: str, workers: int, rows: int, repeats: int, scale: float) -> Throughput:
    """All repetitions of one policy, and a user's wait."""
    turns = repetitions(name, workers, rows, repeats, max(2 * rows * workers, round(scale * EPISODES[name])))
    steps = np.array([sum(worker.steps for worker in all_workers) for all_workers in turns])
    random = steps / [max(worker.random for worker in all_workers) for all_workers in turns]
    evaluated = steps / [max(worker.evaluated for worker in all_workers) for all_workers in turns]
    everyone = list(itertools.chain(*turns))
    users_seconds(name, 1, 2)  # imports the simulator, once for both
    return Throughput(
        policy=name,
        steps=int(steps.sum()),
        random=float(np.median(random)),
        evaluated=float(np.median(evaluated)),
        ratio=float(np.median(evaluated / random)),
        ratios=(evaluated / random).tolist(),
        policy_microseconds=1e6 * sum(episode.policy for episode in everyone) / int(steps.sum()),
        environment_microseconds=1e6 * sum(episode.environment for episode in everyone) / int(steps.sum()),
        seconds_alone=users_seconds(name, 1, USERS_EPISODES),
        seconds_shared=users_seconds(name, workers, USERS_EPISODES),
    )


def main(
    workers: Annotated[int, typer.Option(help="processes, of either side", min=1)] = 2,
    rows: Annotated[int, typer.Option(help="environments side by side in each process", min=1)] = 10,
    repeats: Annotated[int, typer.Option(help="turns of each side", min=1)] = 7,
    scale: Annotated[float, typer.Option(help="of the episodes per turn; 0.05 to try it out", min=0.0)] = 1.0,
    only: Annotated[str | None, typer.Option(help="one of the shipped policies measured here")] = None,
    out: Annotated[Path, typer.Option(help="the JSON to write")] = RESULTS / "throughput.json",
) -> None:
    if only and only not in EPISODES:
        raise typer.BadParameter(f"{only}: expected one of {', '.join(EPISODES)}")
    print("| | random, steps/s | evaluate, steps/s | ratio (all) | policy µs | environment µs "
          f"| {USERS_EPISODES} episodes, 1 worker | {workers} workers |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    results = []
    for name in [only] if only else EPISODES:
        found = measure(name, workers, rows, repeats, scale)
        results.append(asdict(found))
        print(f"| {name} | {found.random:,.0f} | {found.evaluated:,.0f} | {found.ratio:.2f} "
              f"({min(found.ratios):.2f}–{max(found.ratios):.2f}) | {found.policy_microseconds:.1f} "
              f"| {found.environment_microseconds:.1f} | {found.seconds_alone:.1f} s "
              f"| {found.seconds_shared:.1f} s |", flush=True)  # fmt: skip
    document = {"workers": workers, "rows": rows, "repeats": repeats, "scale": scale, "cores": usable_cores(),
                "results": results, "versions": installed_versions()}  # fmt: skip
    write_atomically(out, (json.dumps(document, indent=1) + "\n").encode())


main.__doc__ = __doc__


if __name__ == "__main__":
    typer.run(main)
