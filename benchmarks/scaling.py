"""Measure how the time of a decision grows with T, width, depth and batch, beside the ANN of the same size and batch.

python -m benchmarks.scaling td3-HalfCheetah-v5 --plot run/plots --json run/scaling.json
python -m benchmarks.scaling SOURCE --engines auto,numpy,torch
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.resizing import with_depth, with_width
from benchmarks.scaling_points import ScalingPoint
from snn_policy.actor import Actor
from snn_policy.bench.baselines import (
    REFERENCE,
    LeftOut,
    check_linear,
    on_engine,
    onnx_runtime,
    stand_for,
    variants_of,
)
from snn_policy.bench.timing import ROUNDS, Decide, recorded_stream, single_thread, take_turns
from snn_policy.commands.bench import chosen_engines
from snn_policy.commands.common import check_directory, check_target, environment_of, read_actor, write_json
from snn_policy.convert import convert
from snn_policy.policy import SpikingPolicy
from snn_policy.progress import counting
from snn_policy.protocol import FloatArray
from snn_policy.spiking.settings import IF, MT, NeuronSettings
from snn_policy.versions import installed_versions

CALIBRATION_ROWS = 2_000
"""How many recorded observations calibrate a conversion: enough to time it, and quick for wide networks."""
COMPARED = ("sigma-delta 0.02", "MT differential T=4", "IF T=8")
"""What is timed at every width, depth and batch size."""
STEPPED: dict[str, IF | MT] = {"IF": IF(), "MT differential": MT(coding="differential")}
"""What is timed at every T."""


@dataclass(frozen=True)
class Sizes:
    """Hold the values on each axis; all others are the actor's own, one row at a time."""

    timesteps: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)
    width: Sequence[int] = (64, 128, 256, 512, 1024, 2048)
    depth: Sequence[int] = (2, 4, 8)
    batch: Sequence[int] = (1, 4, 16, 64, 256, 1024, 4096)


@dataclass(frozen=True)
class Scaling:
    """Hold what `measure_scaling` found; notes: what was left out, and why."""

    points: list[ScalingPoint]
    notes: list[str]


@dataclass(frozen=True)
class _Entry:
    value: int
    neuron: str
    policy: SpikingPolicy


def measure_scaling(
    actor: Actor,
    observations: FloatArray,
    engines: Sequence[str] = ("auto",),
    sizes: Sizes | None = None,
    rounds: int = ROUNDS,
    progress: bool = False,
) -> Scaling:
    """Time conversions of the actor along each axis, widened and deepened by `benchmarks.resizing`.

    Args:
        observations: (N, *observation_shape) consecutive; they calibrate the conversions and are decided on.
        engines: the first is timed along every axis, the others at every batch size.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
        ValueError: an actor with convolutions, or without a hidden layer.
    """
    check_linear(actor)
    if not actor.hidden:
        raise ValueError(f"{actor.name}: no hidden layer whose size could change")
    chosen = Sizes() if sizes is None else sizes
    return _Course(observations, engines, rounds).run(actor, chosen, progress)


class _Course:
    """Measure along all axes, and keep what was found so far."""

    def __init__(self, observations: FloatArray, engines: Sequence[str], rounds: int) -> None:
        self._observations, self._engines, self._rounds = observations, engines, rounds
        self._points: list[ScalingPoint] = []
        self._notes = single_thread()

    def run(self, actor: Actor, sizes: Sizes, progress: bool) -> Scaling:
        own = len(actor.hidden)
        shallow = [depth for depth in sizes.depth if depth < own]
        self._notes += [f"depth {depth}: left out: the actor has {own} hidden layers" for depth in shallow]
        steps = 1 + len(sizes.width) + len(sizes.depth) - len(shallow) + len(sizes.batch)
        with counting("sizes", steps, enabled=progress) as advance:
            self._along_timesteps(actor, sizes.timesteps)
            advance()
            for width in sizes.width:
                wider = with_width(actor, width)
                self._compare("width", width, wider, self._conversions(wider))
                advance()
            for depth in sizes.depth:
                if depth >= own:
                    deeper = with_depth(actor, depth)
                    self._compare("depth", depth, deeper, self._conversions(deeper))
                    advance()
            conversions = self._conversions(actor)
            for batch in sizes.batch:
                self._compare("batch", batch, actor, conversions, batch)
                advance()
        return Scaling(self._points, list(dict.fromkeys(self._notes)))

    def _along_timesteps(self, actor: Actor, timesteps: Sequence[int]) -> None:
        served = {neuron: settings for neuron, settings in STEPPED.items() if stand_for(actor, settings)}
        if len(served) < len(STEPPED):
            missing = " and ".join(neuron for neuron in STEPPED if neuron not in served)
            self._notes.append(f"timesteps: left out: {missing} neurons do not stand for the actor's activations")
        entries = [
            _Entry(t, neuron, self._converted(actor, replace(settings, timesteps=t)))
            for neuron, settings in served.items()
            for t in timesteps
        ]
        if entries:
            self._time("timesteps", actor, entries, None)

    def _conversions(self, actor: Actor) -> dict[str, SpikingPolicy]:
        variants = {name: settings for name, settings in variants_of(actor).items() if name in COMPARED}
        return {name: self._converted(actor, settings) for name, settings in variants.items()}

    def _compare(
        self, axis: str, value: int, actor: Actor, conversions: Mapping[str, SpikingPolicy], batch: int | None = None
    ) -> None:
        entries = [_Entry(value, name, policy) for name, policy in conversions.items()]
        self._time(axis, actor, entries, batch)

    def _converted(self, actor: Actor, settings: NeuronSettings) -> SpikingPolicy:
        return convert(actor, self._observations[:CALIBRATION_ROWS], neuron=settings)

    def _time(self, axis: str, actor: Actor, entries: Sequence[_Entry], batch: int | None) -> None:
        """Time the entries in every engine, all in turns with one baseline."""
        calls: dict[str, Decide] = {REFERENCE: onnx_runtime(actor, batch)}
        run: dict[str, tuple[_Entry, str, SpikingPolicy]] = {}
        for entry in entries:
            for engine in self._engines[: 1 if batch is None else None]:
                try:
                    policy = on_engine(entry.policy, engine)
                except LeftOut as reason:
                    self._notes.append(f"engine {engine}: left out: {reason}")
                    continue
                name = f"{entry.neuron} {entry.value} {engine}"
                calls[name], run[name] = policy.act, (entry, engine, policy)
        stream = recorded_stream(self._observations, batch)
        baseline, *timings = take_turns(calls, stream, REFERENCE, batch or 1, self._rounds)
        for timing in timings:
            entry, engine, policy = run[timing.name]
            decisions = int(policy.counters.decisions.sum())
            self._points.append(
                ScalingPoint(
                    axis=axis,
                    value=entry.value,
                    neuron=entry.neuron,
                    engine=engine,
                    timesteps=policy.timesteps,
                    median=timing.median,
                    p99=timing.p99,
                    ratio=timing.ratio,
                    spread=timing.spread,
                    p99_ratio=timing.p99_ratio,
                    ann_median=baseline.median,
                    synaptic_operations=int(policy.counters.synaptic_operations.sum()) / decisions,
                    multiply_accumulates=int(policy.counters.multiply_accumulates.sum()) / decisions,
                    dense_macs=actor.dense_macs,
                )
            )


def scaling_table(name: str, points: Sequence[ScalingPoint]) -> Table:
    """Return a table of the times per decision at every size, beside the ANN's of that size in ONNX Runtime."""
    table = Table(title=f"{name}, per decision of one row")
    for heading in ("varied", "network", "engine", "µs", "ANN µs", "× ANN", "synaptic\noperations"):
        table.add_column(heading, no_wrap=True)
    for p in points:
        table.add_row(f"{p.axis} {p.value}", p.neuron, p.engine, f"{p.median:.2f}", f"{p.ann_median:.2f}",
                      f"{p.ratio:.2f}", f"{p.synaptic_operations:,.0f}")  # fmt: skip
    return table


def main(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="a shipped policy's name, or any source of an actor")],
    env: Annotated[str | None, typer.Option(help="environment, where the source names none")] = None,
    engines: Annotated[str, typer.Option(help="separated by commas; all after the first only with batches")] = "auto",
    plot: Annotated[Path | None, typer.Option(help="directory for the pictures")] = None,
    rounds: Annotated[int, typer.Option(help="fewer are quicker and noisier", min=1)] = ROUNDS,
    json: Annotated[str | None, typer.Option(help="file for the figures; - for standard output")] = None,
) -> None:
    """Vary T, width, depth and batch on real observations."""
    check_target(json)
    chosen = chosen_engines(engines) or ("auto",)
    if plot is not None:
        check_directory(plot)
        import matplotlib  # noqa: F401  # before the long work, where it is missing
    actor = read_actor(source)
    check_linear(actor)
    observations = actor.collect(environment_of(actor, env), progress=True)
    measured = measure_scaling(actor, observations, chosen, rounds=rounds, progress=True)
    notes = list(measured.notes)
    if plot is not None:
        from benchmarks.plots import draw

        notes += [f"drawn: {path}" for path in draw(measured.points, actor.name, plot)]
    if not write_json({"source": source, **asdict(measured), "versions": installed_versions()}, json):
        console = Console()
        console.print(scaling_table(actor.name, measured.points))
        for note in notes:
            console.print(note, style="dim", highlight=False, markup=False)


if __name__ == "__main__":
    typer.run(main)
