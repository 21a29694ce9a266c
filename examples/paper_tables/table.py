"""The paper's tables, made here: which runs and cells there are, how one is trained, how one is measured.

A cell is one column of one task, quality and training seed: whole episodes of one policy, as normalised scores. It
becomes one JSON line in `cells.jsonl` when it is finished, so that the work can stop and go on at any time.
"""

import json
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from snn_policy.offline.batches import PackedData
    from snn_policy.protocol import Policy

COLUMNS = ("ReLU", "QCFS", "direct", "I=0", "I=1", "I=2", "I=3", "adaptive", "sigma-delta")
"""Those of the paper, and the QCFS actor converted with sigma-delta neurons instead."""
CALIBRATED = ("I=0", "I=1", "I=2", "I=3")
ACTIVATION_OF = {"ReLU": "relu", "direct": "spiking"} | dict.fromkeys(("QCFS", *COLUMNS[3:]), "qcfs")
ADAPTIVE = (1, 3)
CELLS_FILE = "cells.jsonl"
EVALUATIONS, EVALUATED_EVERY = 5, 5_000
"""How many evaluations a score is the mean of, and the gradient steps between two: the paper's."""
EVALUATION_SEED, RECORDING_SEED = 5_000, 20_000
RECORDED_STEPS, COUNTED_OBSERVATIONS = 10_000, 1_000
Key = tuple[str, str, str, int]
"""Task, quality, column and training seed."""
_one_reads_at_a_time = threading.Lock()


@dataclass(frozen=True)
class TrainingRun:
    """One training run: task (a Gymnasium id), quality of its data, the actor's activation, seed."""

    task: str
    quality: str
    activation: str
    seed: int

    @property
    def dataset(self) -> str:
        return f"{self.task}-{self.quality}"

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.activation}-{self.seed}"


@dataclass(frozen=True)
class Cell:
    """A column of one run, and how it is to be measured."""

    run: TrainingRun
    column: str
    episodes: int


@dataclass(frozen=True)
class Result:
    """One finished cell, as its JSON line has it.

    Attributes:
        steps: gradient steps of the actor that was measured.
        scores: D4RL normalised scores, one per episode; episode i has the environment seed 5000 + i.
        iterations: I per decision, where it adapts; else None.
        versions: of the packages that the returns depend on.
        energy: nanojoules per decision, of an ANN without its zero activations.
        equal_counts: share of the neurons whose count is the QCFS ANN's (`calibration.spike_agreement`), of fixed I.
    """

    task: str
    quality: str
    column: str
    seed: int
    steps: int
    scores: tuple[float, ...]
    iterations: float | None
    versions: dict[str, str]
    energy: float | None = None
    equal_counts: float | None = None

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))


def plan(
    tasks: Iterable[str], qualities: Iterable[str], columns: Iterable[str], seeds: Iterable[int], episodes: int
) -> list[Cell]:
    """All cells, those of one run together.

    Raises:
        ValueError: a column that there is none of.
    """
    chosen = list(columns)
    for column in chosen:
        if column not in COLUMNS:
            raise ValueError(f"column {column!r}: expected one of {', '.join(COLUMNS)}")
    return [
        Cell(TrainingRun(task, quality, ACTIVATION_OF[column], seed), column, episodes)
        for seed in seeds
        for quality in qualities
        for task in tasks
        for column in sorted(chosen, key=lambda name: (ACTIVATION_OF[name], COLUMNS.index(name)))
    ]


def finished(place: Path) -> list[Result]:
    """Return the cells finished so far, of a directory or a file; a last line cut off by a kill is left out.

    Raises:
        ValueError: a line that is no cell.
    """
    path, results = place / CELLS_FILE if place.is_dir() else place, []
    if not path.exists():
        return results
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            fields = json.loads(line)
            results.append(Result(**{**fields, "scores": tuple(fields["scores"])}))
        except (ValueError, TypeError, LookupError):
            raise ValueError(f"{path}: line {number} is no finished cell; remove it") from None
    return results


def lines_of(results: Iterable[Result]) -> bytes:
    """Return the file with these cells, a line each."""
    return b"".join(json.dumps(asdict(result)).encode() + b"\n" for result in results)


def record(directory: Path, result: Result) -> None:
    """Append one line, whole; what an earlier kill left of a line is cut off first."""
    with (directory / CELLS_FILE).open("ab+") as file:
        file.seek(0)
        complete = file.read().rfind(b"\n") + 1
        file.truncate(complete)
        file.write(lines_of([result]))
        file.flush()
        os.fsync(file.fileno())


def matching(results: Iterable[Result], cell: Cell, steps: int) -> Result | None:
    """Return the newest whole result of this cell with at least as many episodes and exactly as many steps, or None."""
    run = cell.run
    wanted = (run.task, run.quality, cell.column, run.seed, steps)
    found = [
        result
        for result in results
        if (result.task, result.quality, result.column, result.seed, result.steps) == wanted
        and len(result.scores) >= cell.episodes
        and result.energy is not None
    ]
    return found[-1] if found else None


def last_evaluations(results: Iterable[Result]) -> dict[Key, list[Result]]:
    """Return the evaluations that a score is the mean of, by their steps, of every task, quality, column and seed.

    The last five, as in the paper, of those at most EVALUATED_EVERY gradient steps apart; so of a run that was
    measured once, or of a learning curve with wider steps, the last alone. Measured again at the same steps: the last.
    """
    found: dict[Key, dict[int, Result]] = {}
    for result in results:
        key = result.task, result.quality, result.column, result.seed
        found.setdefault(key, {})[result.steps] = result
    last: dict[Key, list[Result]] = {}
    for key, by_steps in found.items():
        newest_first = sorted(by_steps, reverse=True)
        chosen = newest_first[:1]
        for steps in newest_first[1:EVALUATIONS]:
            if chosen[-1] - steps > EVALUATED_EVERY:
                break
            chosen.append(steps)
        last[key] = [by_steps[steps] for steps in reversed(chosen)]
    return last


def steps_of(directory: Path) -> int:
    """Gradient steps of the run's last checkpoint; 0 where there is none."""
    from snn_policy.bundle.files import CHECKPOINT_FILE
    from snn_policy.offline.checkpoints import read_checkpoint

    return read_checkpoint(directory)[2] if (directory / CHECKPOINT_FILE).exists() else 0


def train(run: TrainingRun, datasets: Path, directory: Path, steps: int, device: str = "cpu") -> int:
    """Train what is missing of a run, in its own directory; the steps it has then."""
    reached = steps_of(directory / run.name)
    if reached >= steps:
        return reached
    from snn_policy.offline.td3bc import TD3BCSettings
    from snn_policy.offline.training import CHECKPOINT_EVERY, train_run

    with _one_reads_at_a_time:
        data = _packed(datasets / run.dataset, run.task)
    settings = TD3BCSettings(activation=run.activation, seed=run.seed)
    every = CHECKPOINT_EVERY if device == "cpu" else 25 * CHECKPOINT_EVERY
    return train_run(
        directory / run.name, data, settings, steps, resume=True, checkpoint_every=every, device=device
    ).step


@lru_cache(maxsize=4)
def _packed(directory: Path, task: str) -> "PackedData":
    """Return a dataset, read once for all runs of this process."""
    from snn_policy.offline.batches import pack
    from snn_policy.offline.datasets import load_dataset

    return pack(load_dataset(directory, env_id=task))


def measure(cell: Cell, directory: Path) -> Result:
    """Run the cell's episodes with the actor that its run has now."""
    from snn_policy.evaluation.evaluate import evaluate
    from snn_policy.offline.scores import normalised_score

    run, path = cell.run, directory / cell.run.name
    steps, policy = steps_of(path), policy_of(cell.column, path, run.task)
    found = evaluate(policy, run.task, episodes=cell.episodes, seed=EVALUATION_SEED)
    scores = tuple(float(score) for score in normalised_score(run.task, found.returns))
    iterations = found.iterations if cell.column == "adaptive" else None
    return Result(
        run.task, run.quality, cell.column, run.seed, steps, scores, iterations, found.versions, found.energy,
        _equal_counts(policy, run.task) if cell.column in CALIBRATED else None,
    )  # fmt: skip


def _equal_counts(policy: "Policy", task: str) -> float:
    """On observations of the QCFS ANN's own episodes."""
    from snn_policy.calibration.spike_agreement import equal_counts
    from snn_policy.policy import SpikingPolicy

    assert isinstance(policy, SpikingPolicy)
    observations = policy.actor.collect(task, COUNTED_OBSERVATIONS, RECORDING_SEED)
    return equal_counts(policy.network, observations)


def policy_of(column: str, path: Path, task: str) -> "Policy":
    """Return the policy that a column stands for, from its run's directory; I ≥ 0 converts at T = L without CRPI."""
    from snn_policy.convert import convert
    from snn_policy.offline.trained import read_checkpoint_policy
    from snn_policy.sources.training_run import read_training_run
    from snn_policy.spiking.spike_calibration import SpikeCalibration

    if column == "direct":
        return read_checkpoint_policy(path)
    actor = read_training_run(path)
    if column in ("ReLU", "QCFS"):
        return actor
    if column == "sigma-delta":
        return convert(actor, actor.collect(task, RECORDED_STEPS, RECORDING_SEED))
    adaptive = column == "adaptive"
    iterations = 1 if adaptive else int(column.removeprefix("I="))
    calibration = SpikeCalibration(iterations=iterations, adaptive=ADAPTIVE if adaptive else None)
    assert actor.normaliser is not None
    observations = np.stack([actor.normaliser.mean] * 2)  # θ = λ was trained: nothing is set from them
    return convert(
        actor, observations, neuron="if", coding="rate", alpha=0.0, calibration=calibration if iterations else None
    )


@dataclass(frozen=True)
class Stage:
    """A run up to so many gradient steps: trained there, and its cells measured before it is trained further."""

    run: TrainingRun
    steps: int


def milestones(steps: int, evaluations: int, curve: int) -> list[int]:
    """Return the gradient steps to measure at: the last few up to `steps`, and every `curve` before them (0: none)."""
    last = [steps - EVALUATED_EVERY * index for index in range(evaluations)]
    early = range(curve, min(last), curve) if curve else ()
    return sorted({*early, *(count for count in last if count > 0), steps})


def work(
    cells: list[Cell], steps: Sequence[int], datasets: Path, directory: Path, workers: int, device: str = "cpu"
) -> Iterator[tuple[str, Result | int]]:
    """Train and measure all that is missing; yields each run's name with its steps, each cell's with its result.

    Results are recorded in `directory` before they are yielded. On a GPU the runs are threads of this process, which
    share it: the kernels of several processes would take turns.

    Args:
        steps: gradient steps at which every run is measured, ascending. A run that is already beyond one of them is
            measured where it is.
    """
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
    from multiprocessing import get_context

    known = finished(directory)
    directory.mkdir(parents=True, exist_ok=True)
    todo: deque[Stage | Cell] = deque(Stage(run, steps[0]) for run in dict.fromkeys(cell.run for cell in cells))
    running: dict[Future[Any], Stage | Cell] = {}
    unmeasured: dict[TrainingRun, int] = {}
    reached: dict[TrainingRun, int] = {}

    def go_on(run: TrainingRun) -> None:
        further = [count for count in steps if count > reached[run]]
        if not unmeasured[run] and further:
            todo.appendleft(Stage(run, further[0]))

    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool, ThreadPoolExecutor(workers) as threads:
        trainers = pool if device == "cpu" else threads
        while todo or running:
            while todo and len(running) < workers:
                job = todo.popleft()
                if isinstance(job, Stage):
                    running[trainers.submit(train, job.run, datasets, directory, job.steps, device)] = job
                else:
                    running[pool.submit(measure, job, directory)] = job
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                job, outcome = running.pop(done), done.result()
                if isinstance(job, Cell):
                    record(directory, outcome)
                    yield f"{job.run.name} {job.column}", outcome
                    unmeasured[job.run] -= 1
                    go_on(job.run)
                    continue
                yield job.run.name, outcome
                reached[job.run], unmeasured[job.run] = outcome, 0
                for cell in reversed([element for element in cells if element.run == job.run]):
                    present = matching(known, cell, outcome)
                    if present is None:
                        todo.appendleft(cell)  # measured before this or the next run is trained
                        unmeasured[job.run] += 1
                    else:
                        yield f"{job.run.name} {cell.column}", present
                go_on(job.run)
