"""How often students fall, and their originals on the same seeds: more episodes than a table of returns has.

    python -m benchmarks.student_falls runs/compression/sac-Walker2d-v3-energy-0.02-20000-16-spikes-0/bundle

A hundred episodes tell 1 fall from 8, not 1 from 3. Lines go to `benchmarks/results/student_falls.jsonl`, with the
returns; `compression_tables` writes them into docs/compression.md, with Wilson's intervals.
"""

import json
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.places import REFERENCE_ACTORS, RESULTS
from snn_policy import SpikingPolicy, compare, load_actor
from snn_policy.evaluation.statistics import failures
from snn_policy.versions import installed_versions

MEASURED = RESULTS / "student_falls.jsonl"
SEED, EPISODES = 90_000, 400
"""Seeds that neither training, judging nor any other table has."""


def main(
    places: Annotated[list[Path], typer.Argument(help="bundles of students")],
    episodes: Annotated[int, typer.Option(help="of the student and of its original")] = EPISODES,
) -> None:
    """Run the episodes and append a line per student."""
    for place in places:
        policy = SpikingPolicy.load(place)
        record = policy.actor.provenance["compression"]
        teacher = load_actor(REFERENCE_ACTORS / record["teacher"])
        found = compare(teacher, policy, str(teacher.env_id), episodes=episodes, seed=SEED)
        ann, snn = found.ann.returns, found.snn.returns
        line = {
            "actor": record["teacher"], "target": record["target"], "training_seed": record["seed"],
            "steps": record["steps"], "seed": SEED, "episodes": episodes,
            "ann_failed": int(failures(ann, ann).sum()), "failed": int(failures(snn, ann).sum()),
            "energy": found.energy_share, "ann_returns": ann, "snn_returns": snn, "versions": installed_versions(),
        }  # fmt: skip
        with MEASURED.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print({key: value for key, value in line.items() if "returns" not in key}, flush=True)


if __name__ == "__main__":
    typer.run(main)
