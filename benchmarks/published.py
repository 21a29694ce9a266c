"""Measure anew every speed ratio that the documents publish, in one run, and rewrite their tables and pictures.

    python -m benchmarks.published                       # about 25 minutes on two quiet cores
    python -m benchmarks.published --tables-only         # rewrite tables and pictures from benchmarks/results
    python -m benchmarks.published --only core,onnx --most 3 --out run/trial     # a quick trial, documents untouched

Every part is one file of `benchmarks/results` (versions, processor, date and load in it), stored once it is measured.
The actors are the reference actors (SNN_POLICY_REFERENCE_DIR names their folder); DrQ-v2's network is timed where --drq
gives its bundle (docs/pixels.md has the commands that make it).
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import footprint, measure_core, measure_onnx, measure_pixels
from benchmarks.conditions import conditions, load
from benchmarks.places import DOCS, REFERENCE_ACTORS, RESULTS, ROOT
from benchmarks.published_tables import read_measured, write_tables
from benchmarks.scaling import measure_scaling
from benchmarks.scaling_points import ScalingPoint
from snn_policy import Actor, load_actor
from snn_policy.atomic_files import write_atomically
from snn_policy.bench.baselines import BASELINES, Builder
from snn_policy.bench.decisions import time_decisions
from snn_policy.protocol import FloatArray

LARGE, WALKER, HOPPER = "tqc-HalfCheetah-v3", "sac-Walker2d-v3", "ppo-Hopper-v3"
SWIMMER, PENDULUM = "trpo-Swimmer-v3", "sac-Pendulum-v1"
TIMED = (LARGE, WALKER, HOPPER, SWIMMER, PENDULUM)
IN_PLAIN_C = (LARGE, WALKER, HOPPER, PENDULUM)
EXPORTED = (LARGE, WALKER, HOPPER, SWIMMER)
SCALING_ENGINES = ("auto", "numpy", "torch")
RECORDED = 5_000


@dataclass(frozen=True)
class Effort:
    """Hold how often each part repeats its measurement.

    Attributes:
        most: repetitions of any part at most, for a trial; None for those of a published figure.
        drq: DrQ-v2's bundle, where there is one.
    """

    most: int | None = None
    drq: str | None = None

    def times(self, usual: int) -> int:
        return usual if self.most is None else min(usual, self.most)


@lru_cache
def recorded(name: str) -> tuple[Actor, FloatArray]:
    """Return a reference actor and (RECORDED, *shape) observations of its own episodes."""
    actor = load_actor(REFERENCE_ACTORS / name)
    return actor, actor.collect(str(actor.env_id), RECORDED)


def all_baselines() -> dict[str, Builder]:
    """Return the command's baselines, and those in torch where it is installed."""
    try:
        from benchmarks.torch_baselines import TORCH_BASELINES
    except ModuleNotFoundError:
        return BASELINES
    return {**BASELINES, **TORCH_BASELINES}


def speed(effort: Effort) -> dict[str, Any]:
    """Time single decisions of every actor, beside all baselines."""
    actors = []
    for name in TIMED:
        actor, observations = recorded(name)
        found = time_decisions(actor, observations, ("event",), all_baselines(), effort.times(60))
        actors.append({"name": name, "widths": list(actor.widths), **asdict(found)})
    return {"actors": actors}


def core(effort: Effort) -> dict[str, Any]:
    """Time the core beside plain C; measure cold starts and what is installed."""
    actors = [{"name": name, "calls": measure_core.measure(*recorded(name), effort.times(200))} for name in IN_PLAIN_C]
    return {
        "actors": actors,
        "cold_start": footprint.cold_start(effort.times(footprint.STARTS)),
        "installed": footprint.installed(),
    }


def scaling(effort: Effort) -> dict[str, Any]:
    """Time the large actor at every size."""
    found = measure_scaling(*recorded(LARGE), SCALING_ENGINES, rounds=effort.times(30))
    return {"name": LARGE, "source": LARGE, **asdict(found)}


def onnx(effort: Effort) -> dict[str, Any]:
    """Time exported graphs, and count their flips."""
    found = [measure_onnx.measure(recorded(name)[0], effort.times(measure_onnx.BURSTS)) for name in EXPORTED]
    return {"actors": [{**measured, "name": name} for name, measured in zip(EXPORTED, found, strict=True)]}


def pixels(effort: Effort) -> dict[str, Any]:
    """Time the small pixel actor."""
    return _pixels(measure_pixels.SMALL, (1, 32), effort)


def drq(effort: Effort) -> dict[str, Any] | None:
    """Time DrQ-v2's network, where its bundle is given."""
    return None if effort.drq is None else {**_pixels(effort.drq, (1, 8), effort), "policy": "DrQ-v2's network"}


def _pixels(source: str, batches: tuple[int, ...], effort: Effort) -> dict[str, Any]:
    cases = measure_pixels.measure(source, ("event", "torch"), batches, effort.times(measure_pixels.REPEATS))
    return {"policy": source, "rows": list(cases)}


PARTS: dict[str, Callable[[Effort], dict[str, Any] | None]] = {
    "speed": speed,
    "core": core,
    "scaling": scaling,
    "onnx": onnx,
    "pixels": pixels,
    "pixels-drq": drq,
}
"""What is measured, by the name of its file."""


def measure(name: str, effort: Effort, out: Path) -> bool:
    """Measure one part and store it in `out`; return whether there was anything to measure."""
    before = load()
    found = PARTS[name](effort)
    if found is None:
        return False
    document = {"conditions": conditions(before), **found}
    write_atomically(out / f"{name}.json", (json.dumps(document, allow_nan=False) + "\n").encode())
    return True


def draw_pictures(results: Path, directory: Path) -> list[Path]:
    """Draw the pictures of `scaling.json`, where it is measured; return their paths."""
    measured = read_measured(results / "scaling.json")
    if measured is None:
        return []
    from benchmarks.plots import draw

    return draw([ScalingPoint(**point) for point in measured["points"]], measured["name"], directory)


def main(
    tables_only: Annotated[bool, typer.Option("--tables-only", help="measure nothing")] = False,
    only: Annotated[str | None, typer.Option(help=f"parts, separated by commas, of: {', '.join(PARTS)}")] = None,
    most: Annotated[int | None, typer.Option(help="repetitions of any part, for a trial", min=1)] = None,
    drq: Annotated[str | None, typer.Option(help="bundle of DrQ-v2's network")] = None,
    out: Annotated[Path, typer.Option(help="where figures go; the documents follow those of the default")] = RESULTS,
) -> None:
    """Measure what the documents publish, then rewrite their tables and pictures."""
    parts = [*PARTS] if only is None else only.split(",")
    if unknown := set(parts) - set(PARTS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: expected some of {', '.join(PARTS)}")
    if most is not None and out.resolve() == RESULTS:
        raise typer.BadParameter("--most is for a trial: give --out, so that no document publishes it")
    out.mkdir(parents=True, exist_ok=True)
    for name in [] if tables_only else parts:
        measured = measure(name, Effort(most, drq), out)
        print(f"{name}: {'measured' if measured else 'left out: give --drq BUNDLE'}", flush=True)
    if out.resolve() == RESULTS:
        print(*write_tables(out, ROOT), *draw_pictures(out, DOCS), sep="\n")


if __name__ == "__main__":
    typer.run(main)
