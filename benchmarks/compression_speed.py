"""Time compressed policies beside their ANN in ONNX Runtime and in plain C, and count instructions on Cortex-M7.

    python -m benchmarks.compression_speed                                # the shipped ones
    python -m benchmarks.compression_speed runs/compression/*/bundle      # what `benchmarks.compression` made

Rows go to `benchmarks/results/compression_speed.json`, each by its policy's name; `compression_tables` writes them into
docs/compression.md. Opponents: the dense ANN in ONNX Runtime (the original and the compressed one take as long); the
compressed ANN in plain C that skips zero activations, and the same that skips pruned weights, too, as the core does.
Times are the thread's own processor time, so that they can be taken beside other work; ratios are of the same round.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import cortex
from benchmarks.bare_metal import EXACT, TARGETS, missing_packages
from benchmarks.conditions import conditions, load
from benchmarks.measure_core import ACT, CORE, DENSE, EXPORTED, SKIPPING, in_turns, kernel
from benchmarks.places import RESULTS
from benchmarks.plain_c import exported, plain_ann, sparse_ann
from snn_policy import SpikingPolicy
from snn_policy.atomic_files import write_atomically
from snn_policy.bench.baselines import REFERENCE, onnx_runtime
from snn_policy.exported import names

MEASURED = RESULTS / "compression_speed.json"
SPARSE = "plain C, skipping zeros and pruned weights"
RECORDED, DECISIONS = 3_000, 300


def measure(name: str, policy: SpikingPolicy, rounds: int) -> dict[str, Any]:
    """Return one policy's times and instructions, with what was done to it."""
    actor = policy.actor
    observations = np.asarray(actor.collect(str(actor.env_id), steps=RECORDED, seed=0), np.float32)
    normalised = actor.inputs(observations)
    times = in_turns({
        REFERENCE: (onnx_runtime(actor), observations),
        DENSE: (plain_ann(actor, False), normalised),
        SKIPPING: (plain_ann(actor, True), normalised),
        SPARSE: (sparse_ann(actor), normalised),
        CORE: (kernel(policy), observations),
        ACT: (policy.act, observations),
        EXPORTED: (exported(policy), observations),
    }, REFERENCE, rounds, time.thread_time)  # fmt: skip
    instructions = {}
    if not missing_packages(TARGETS["cortex-m7"]):
        stream = observations[-DECISIONS:]
        instructions = cortex.instructions(actor, policy, stream, "cortex-m7", ("-O3", *EXACT))
    record = policy.card["compression"]
    kept = {key: record[key] for key in ("teacher", "block", "count", "target")}
    density = [float(np.mean(layer.weight != 0)) for layer in policy.network.actor.layers]
    return {"policy": name, **kept, "widths": list(actor.widths), "density": density, "times": times,
            "instructions": instructions}  # fmt: skip


def bundles(places: list[Path]) -> dict[str, Path]:
    """Return bundles by name (a run's `bundle` by the run's): those at the places, or else the shipped ones."""
    from snn_policy.exported import path

    if not places:
        return {name: path(name) for name in names() if name.endswith("-compressed")}
    return {place.parent.name if place.name == "bundle" else place.name: place for place in places}


def main(
    places: Annotated[list[Path] | None, typer.Argument(help="bundles of compressed policies")] = None,
    rounds: Annotated[int, typer.Option(help="rounds in which all calls take turns")] = 200,
) -> None:
    """Measure, print, and replace these policies' rows in the file."""
    before = load()
    rows = {row["policy"]: row for row in read_rows()}
    for name, place in bundles(places or []).items():
        rows[name] = {**measure(name, SpikingPolicy.load(place), rounds), "conditions": conditions(before)}
        print(f"{name}: {rows[name]['density']}")
        for call, found in rows[name]["times"].items():
            print(f"  {call:<45}{found['microseconds']:9.2f} µs   {found['ratio']:.2f} of {REFERENCE}")
        for program, count in rows[name]["instructions"].items():
            print(f"  {program:<45}{count:9,.0f} instructions", flush=True)
        kept = [rows[known] for known in sorted(rows)]
        write_atomically(MEASURED, (json.dumps({"rows": kept}, indent=1) + "\n").encode())


def read_rows() -> list[dict[str, Any]]:
    """Return the stored rows."""
    return json.loads(MEASURED.read_text())["rows"] if MEASURED.exists() else []


if __name__ == "__main__":
    typer.run(main)
