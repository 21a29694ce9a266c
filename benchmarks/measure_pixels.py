"""Measure time and memory of a decision from pixels, per engine, T and batch, on pictures of the actor's task.

    python -m benchmarks.measure_pixels                              # the small network; prints a Markdown table
    python -m benchmarks.measure_pixels --policy BUNDLE --batches 1,8          # such as DrQ-v2's, see docs/pixels.md

Each case runs in a process of its own, so that its peak memory can be told (on Linux); within it, the spiking decision
and the ANN's `session.run` in ONNX Runtime take turns on one thread, and their ratio is what counts.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

CASES: dict[str, dict[str, Any]] = {
    "sigma-delta 0.02": {},
    **{f"IF T={steps}": {"neuron": "if", "timesteps": steps} for steps in (4, 8, 16, 32)},
    "MT differential T=4": {"neuron": "mt", "coding": "differential", "timesteps": 4},
}
SMALL = "pixels-small-cartpole-swingup"
REPEATS, CALIBRATION, WARM_UP, RECORDING_SEED = 20, 200, 3, 0
PEAK_RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def memory(name: str) -> float:
    """Return megabytes: VmRSS, what the process holds now, or VmHWM, the most since `PEAK_RESET` was written to."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return float(line.split()[1]) / 1024


def convert_case(source: str, pictures: Path, case: str, bundle: Path) -> None:
    from snn_policy import convert
    from snn_policy.commands.common import read_actor

    convert(read_actor(source), np.load(pictures)[:CALIBRATION], **CASES[case]).save(bundle)


def measure_case(bundle: Path, pictures: Path, engine: str, rows: int, repeats: int) -> dict[str, Any]:
    """Return one case's milliseconds per decision of all rows, the ratio to the ANN, and the memory they add."""
    from snn_policy import SpikingPolicy
    from snn_policy.bench.baselines import onnx_runtime

    policy, recorded = SpikingPolicy.load(bundle, engine=engine), np.load(pictures)
    decide = onnx_runtime(policy.actor, rows)
    apart = (len(recorded) - repeats - WARM_UP) // rows
    batches = [recorded[turn : turn + apart * rows : apart] for turn in range(WARM_UP + repeats)]
    before = memory("VmRSS")
    PEAK_RESET.write_text("5")
    spiking, ann, operations = [], [], []
    for batch in batches:
        as_floats = batch.astype(np.float32)
        begin = time.perf_counter()
        policy.act(batch)
        middle = time.perf_counter()
        decide(as_floats)
        spiking.append(middle - begin)
        ann.append(time.perf_counter() - middle)
        assert policy.last_decision is not None
        operations.append(policy.last_decision.synaptic_operations.mean())
    peak = memory("VmHWM")
    times, baseline = np.array(spiking[WARM_UP:]), np.array(ann[WARM_UP:])
    return {"milliseconds": 1e3 * float(np.median(times)), "ratio": float(np.median(times / baseline)),
            "megabytes": peak - before,
            "synaptic_share": float(np.mean(operations[WARM_UP:])) / policy.actor.dense_macs}  # fmt: skip


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the function's result, from a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(source: str, engines: Sequence[str], batches: Sequence[int], repeats: int) -> Iterator[dict[str, Any]]:
    """Record pictures of the actor's task, then yield every case with what `measure_case` found."""
    from snn_policy.commands.common import read_actor

    actor = read_actor(source)
    with tempfile.TemporaryDirectory() as directory:
        pictures = Path(directory) / "pictures.npy"
        np.save(pictures, actor.collect(str(actor.env_id), 500, RECORDING_SEED, progress=True))
        for case in CASES:
            bundle = Path(directory) / case
            alone(convert_case, source, pictures, case, bundle)
            for engine, rows in product(engines, batches):
                found = alone(measure_case, bundle, pictures, engine, rows, repeats)
                yield {"case": case, "engine": engine, "rows": rows, **found}


def main(
    policy: Annotated[str, typer.Option(help="shipped pixel actor, or any source of one")] = SMALL,
    repeats: Annotated[int, typer.Option(help="decisions per case", min=1)] = REPEATS,
    engines: Annotated[str, typer.Option(help="separated by commas")] = "event,torch",
    batches: Annotated[str, typer.Option(help="rows, separated by commas")] = "1,8",
) -> None:
    """Record pictures of the actor's task, then print a table of all cases."""
    print(f"| {policy} | engine | rows | ms per decision | × ANN in ONNX Runtime | MB more | operations ÷ MACs |")
    print("|---|---|---|---|---|---|---|")
    for found in measure(policy, engines.split(","), [int(rows) for rows in batches.split(",")], repeats):
        figures = f"{found['milliseconds']:.1f} | {found['ratio']:.2f} | {found['megabytes']:.0f}"
        case = f"{found['case']} | {found['engine']} | {found['rows']}"
        print(f"| {case} | {figures} | {found['synaptic_share']:.3f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
