"""What rounding a student's weights costs in actions and saves in bytes, by significant bits.

    python -m benchmarks.student_precision runs/compression/*/bundle   # bundles with all 24 bits of their weights

Rows go to `benchmarks/results/student_precision.json`; `compression_tables` writes them into docs/compression.md.
Errors are RMS over recorded states, in half-ranges of the action: of the rounded student against the unrounded one, and
against the original. Bytes are those of the bundle's weights, stored as float16 (above 11 bits as float32) and xz.
"""

import json
import os
import tempfile

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.places import REFERENCE_ACTORS, RESULTS
from snn_policy import Actor, SpikingPolicy, convert, load_actor
from snn_policy.atomic_files import write_atomically
from snn_policy.calibration.open_loop import forward
from snn_policy.compression.loss import ActionError
from snn_policy.compression.rounding import rounded_actor
from snn_policy.protocol import FloatArray

MEASURED = RESULTS / "student_precision.json"
ALL_BITS, FLOAT16_BITS = 24, 11
BITS = ALL_BITS, FLOAT16_BITS, 10, 8, 7, 6, 5
RECORDED, SEED = 6_000, 777


def actions(actor: Actor, error: ActionError, observations: FloatArray) -> FloatArray:
    """Return (N, actions) in half-ranges."""
    import torch

    return error.action(torch.from_numpy(forward(actor, actor.inputs(observations))[-1])).numpy()


def stored_bytes(actor: Actor, observations: FloatArray, bits: int) -> int:
    """Return the size of the weights of its conversion's bundle."""
    policy, dtype = convert(actor, observations), "float16" if bits <= FLOAT16_BITS else "float32"
    with tempfile.TemporaryDirectory() as directory:
        policy.save(directory, dtype=dtype, xz=True)
        return next(Path(directory).glob("weights*")).stat().st_size


def measure(place: Path) -> dict[str, Any]:
    """Return the errors and the bytes of one student."""
    student = SpikingPolicy.load(place).actor
    record = student.provenance["compression"]
    teacher = load_actor(REFERENCE_ACTORS / record["teacher"])
    observations = student.collect(str(student.env_id), RECORDED, SEED)
    error = ActionError(teacher, forward(teacher, teacher.inputs(observations))[-1])
    original, own = (actions(actor, error, observations) for actor in (teacher, student))
    rows = []
    for bits in BITS:
        small = student if bits == ALL_BITS else rounded_actor(student, bits)
        found = actions(small, error, observations)
        against_own, against_original = (float(np.sqrt(np.mean((found - other) ** 2))) for other in (own, original))
        size = stored_bytes(small, observations, bits)
        rows.append({"bits": bits, "added": against_own, "error": against_original, "bytes": size})
    return {"actor": record["teacher"], "target": record["target"], "rows": rows}


def main(places: Annotated[list[Path], typer.Argument(help="bundles of students")]) -> None:
    """Measure, print, and write the file."""
    found = [measure(place) for place in places]
    print(json.dumps(found, indent=1))
    write_atomically(MEASURED, (json.dumps({"students": found}, indent=1) + "\n").encode())


if __name__ == "__main__":
    typer.run(main)
