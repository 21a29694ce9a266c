"""Measure every reference actor, and those shipped beside them, as an ANN and as a spiking network of each kind.

    python -m benchmarks.measure_reference_actors --workers 2          # hours; stop and start it as you like
    python -m benchmarks.measure_reference_actors --actors sac-Pendulum-v1 --episodes 2
    python -m benchmarks.measure_reference_actors --variants "sigma-delta 0.02"        # the default: ten minutes

Every finished cell (actor × variant) is one line of `runs/reference.jsonl` and is not measured again. At the end
`results/results.json`, and the tables of `docs/results.md` and `README.md`, are written from all cells of the same
protocol; rows that stand there and were not measured now stay, and say of how many episodes they are. Reference actors
come from SNN_POLICY_REFERENCE_DIR, or from ../shared/policies beside the project.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: these matrices are small, and workers share the cores

import json
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks.gamma import gamma_where_it_saves
from benchmarks.places import DOCS, REFERENCE_ACTORS, ROOT
from benchmarks.reference_table import PLAIN_VARIANT, write_results
from snn_policy import Actor, SpikeCalibration, SpikingPolicy, convert
from snn_policy.calibration import open_loop
from snn_policy.energy import nanojoules
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.exported import names as shipped_names
from snn_policy.exported import path as shipped_path
from snn_policy.progress import counting
from snn_policy.protocol import FloatArray
from snn_policy.sources import load_actor

LOG = ROOT / "runs" / "reference.jsonl"
OBSERVATIONS, RECORDING_SEED = 10_000, 0

WITH_ENVIRONMENT = (
    "tqc-HalfCheetah-v3", "sac-Walker2d-v3", "tqc-Swimmer-v3", "ppo-Hopper-v3", "trpo-Swimmer-v3",
    "sac-Pendulum-v1", "sac-MountainCarContinuous-v0", "dqn-CartPole-v1",
)  # fmt: skip
OPEN_LOOP, CORRELATIONS, SEQUENCES = "ppo-go1", (0.0, 0.9, 0.99), 10

ANN = "ANN"
SIGMA_DELTA: dict[str, dict[str, Any]] = {
    **{f"sigma-delta {tolerance}": {"tolerance": tolerance} for tolerance in (0.01, 0.02, 0.03)},
    PLAIN_VARIANT: {"tolerance": 0.02, "alpha": 0.0},
}
MEMBRANE: dict[str, dict[str, Any]] = {
    "MT differential T=2": {"neuron": "mt", "coding": "differential", "timesteps": 2},
    "MT differential T=4": {"neuron": "mt", "coding": "differential", "timesteps": 4},
    "SNM T=8": {"neuron": "snm", "timesteps": 8},
    "IF T=8 α=0": {"neuron": "if", "timesteps": 8, "alpha": 0.0},
    "IF T=8 α=0.3": {"neuron": "if", "timesteps": 8, "alpha": 0.3},
    "IF T=16 α=0": {"neuron": "if", "timesteps": 16, "alpha": 0.0},
    "IF T=16 α=0.3": {"neuron": "if", "timesteps": 16, "alpha": 0.3},
}
CALIBRATED: dict[str, dict[str, Any]] = {
    f"IF T=8 α={alpha} {name}": {"neuron": "if", "timesteps": 8, "alpha": alpha, "calibration": settings}
    for alpha in (0, 0.3)
    for name, settings in (
        ("I=1", SpikeCalibration(1)),
        ("I=2", SpikeCalibration(2)),
        ("I=3", SpikeCalibration(3)),
        ("adaptive I=1…3", SpikeCalibration(adaptive=(1, 3))),
    )
}
VARIANTS = {ANN: {}, **SIGMA_DELTA, **MEMBRANE, **CALIBRATED}


@dataclass(frozen=True)
class Cell:
    """One measurement: an actor, a variant (or, open loop, a correlation of the observations), and the protocol."""

    actor: str
    variant: str
    episodes: int = 0
    seed: int = 0
    correlation: float | None = None

    @property
    def key(self) -> str:
        return json.dumps([self.actor, self.variant, self.episodes, self.seed, self.correlation])


def main(
    episodes: Annotated[int, typer.Option(help="per cell", min=2)] = 100,
    seed: Annotated[int, typer.Option(help="of the first episode")] = 5000,
    actors: Annotated[str | None, typer.Option(help="names separated by commas; all by default")] = None,
    variants: Annotated[str | None, typer.Option(help="beside the ANN, separated by commas; all by default")] = None,
    workers: Annotated[int, typer.Option(help="processes", min=1)] = 1,
    out: Annotated[Path, typer.Option(help="where results.md goes")] = DOCS,
) -> None:
    """Measure what is missing, then write the tables."""
    cells = [cell for cell in all_cells(available_actors(actors), episodes, seed)
             if variants is None or cell.variant in (ANN, *variants.split(","))]  # fmt: skip
    done = finished()
    missing = [cell for cell in cells if cell.key not in done]
    print(f"{len(cells)} cells, {len(missing)} to measure")
    run(missing, workers)
    done = finished()
    write_results([done[cell.key] for cell in cells if cell.key in done], out, ROOT / "README.md")


def available_actors(wanted: str | None) -> list[str]:
    """Reference actors whose files are there, and the shipped ones of `train_actor.py` on Gymnasium's tasks."""
    found = [name for name in (*WITH_ENVIRONMENT, OPEN_LOOP) if (REFERENCE_ACTORS / f"{name}.json").is_file()]
    found += [name for name in shipped_names() if name.startswith("td3-")]
    if wanted is None:
        return found
    unknown = set(wanted.split(",")) - set(found)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: expected some of {', '.join(found)}")
    return [name for name in found if name in wanted.split(",")]


def all_cells(actors: list[str], episodes: int, seed: int) -> Iterator[Cell]:
    for name in actors:
        if name == OPEN_LOOP:
            yield from (Cell(name, "sigma-delta 0.02", correlation=correlation) for correlation in CORRELATIONS)
            continue
        relu = all(layer.activation is not None and layer.activation.name == "relu" for layer in read(name).hidden)
        for variant in (ANN, *SIGMA_DELTA, *((*MEMBRANE, *CALIBRATED) if relu else ())):
            yield Cell(name, variant, episodes, seed)


def finished() -> dict[str, dict[str, Any]]:
    """Return the log's records by their cell's key; a line cut short by an interruption counts as not measured."""
    records = {}
    for line in LOG.read_text().splitlines() if LOG.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        records[record["key"]] = record
    return records


def run(cells: list[Cell], workers: int) -> None:
    """Measure in worker processes; this one alone writes the log."""
    LOG.parent.mkdir(exist_ok=True)
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        futures: dict[Future[dict[str, Any]], Cell] = {pool.submit(measure, cell): cell for cell in cells}
        with counting("cells", len(cells)) as advance, LOG.open("a") as log:
            for future in as_completed(futures):
                log.write(json.dumps(future.result(), allow_nan=False) + "\n")
                log.flush()
                Console(stderr=True).print(f"{futures[future].actor}: {futures[future].variant}", highlight=False)
                advance()
    finally:
        pool.shutdown(cancel_futures=True)


def measure(cell: Cell) -> dict[str, Any]:
    """Return one cell's record: what it is, and an `Evaluation` as plain data or the open-loop figures."""
    about = {"key": cell.key, "actor": cell.actor, "variant": cell.variant}
    if cell.correlation is not None:
        return {**about, "open_loop": open_loop_figures(cell.actor, cell.correlation, **VARIANTS[cell.variant])}
    actor = read(cell.actor)
    policy = actor if cell.variant == ANN else converted(actor, recording(cell.actor), cell.variant)
    result = evaluate(policy, str(actor.env_id), episodes=cell.episodes, seed=cell.seed)
    return {**about, "evaluation": result.as_dict(), "dense_macs": actor.dense_macs}


def converted(actor: Actor, observations: FloatArray, variant: str) -> SpikingPolicy:
    with gamma_where_it_saves(0.0 if variant == PLAIN_VARIANT else open_loop.LEAST_SAVING):
        return convert(actor, observations, **VARIANTS[variant])


def read(name: str) -> Actor:
    return load_actor(shipped_path(name) if name in shipped_names() else REFERENCE_ACTORS / name)


@lru_cache(maxsize=1)
def recording(name: str) -> FloatArray:
    actor = read(name)
    return actor.collect(str(actor.env_id), steps=OBSERVATIONS, seed=RECORDING_SEED)


def open_loop_figures(name: str, correlation: float, **settings: Any) -> dict[str, Any]:
    """Convert on synthetic observations, and compare the actions with the ANN's on fresh ones of the same kind."""
    actor = replace(read(name), env_id=None)
    policy = convert(actor, synthetic(actor, OBSERVATIONS, correlation, seed=0), **settings)
    steps = OBSERVATIONS // SEQUENCES
    fresh = np.stack([synthetic(actor, steps, correlation, seed=1 + index) for index in range(SEQUENCES)], axis=1)
    policy.reset(num_envs=SEQUENCES)
    error = np.stack([policy.act(obs) - actor.act(obs) for obs in fresh]) / actor.head.half_range(dtype=np.float32)
    dense = float(nanojoules(actor.dense_macs, 0))
    ann, events = actor.counters, policy.counters.events
    return {
        "correlation": correlation,
        "error": float(np.sqrt(np.mean(error**2))),
        "energy_share": float(np.mean(policy.counters.energy / policy.counters.decisions)) / dense,
        "zero_skipping_share": float(np.mean(ann.energy / ann.decisions)) / dense,
        "spikes_per_decision": float(np.mean(policy.counters.spikes.sum(axis=1) / policy.counters.decisions)),
        "events": None if events is None else float(np.mean(events / policy.counters.decisions)),
    }


def synthetic(actor: Actor, steps: int, correlation: float, seed: int) -> FloatArray:
    """(steps, *shape): a first-order autoregressive walk with the normaliser's mean and standard deviation."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(steps, *actor.observation_shape))
    walk = noise.copy()
    for step in range(1, steps):
        walk[step] = correlation * walk[step - 1] + np.sqrt(1 - correlation**2) * noise[step]
    if actor.normaliser is None:
        return walk.astype(np.float32)
    return (actor.normaliser.mean + actor.normaliser.scale * walk).astype(np.float32)


if __name__ == "__main__":
    typer.run(main)
