"""What compression brings: energy, return, events and the compressed ANN beside it, of published actors.

    python -m benchmarks.compression                     # four actors, two to five minutes each on a free core
    python -m benchmarks.compression --actors ppo-Hopper-v3 --target retention:0.99

Every line of `benchmarks/results/compression.jsonl` is one student, on 100 episodes whose seeds neither training
nor judging has seen. Runs may be stopped and resumed (`runs/compression`), and keep the converted student (`bundle`),
which `compression_speed` times. Published actors come from SNN_POLICY_REFERENCE_DIR.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.places import REFERENCE_ACTORS, RESULTS, ROOT
from snn_policy import Actor, compress, convert, load_actor
from snn_policy.compression.settings import STEPS
from snn_policy.evaluation.evaluate import compare
from snn_policy.evaluation.statistics import failed_share
from snn_policy.versions import installed_versions

MEASURED = RESULTS / "compression.jsonl"
WANTED = {
    "tqc-HalfCheetah-v3": ("energy:0.045", 60_000),
    "sac-Walker2d-v3": ("energy:0.02", STEPS),
    "ppo-Hopper-v3": ("energy:0.025", STEPS),
    "trpo-Swimmer-v3": ("energy:0.06", STEPS),
}
"""Target and gradient steps at most: HalfCheetah's student needs more of them (docs/compression.md)."""
SEED, EPISODES = 40_000, 100


def main(
    actors: Annotated[str, typer.Option(help="names separated by commas")] = ",".join(WANTED),
    target: Annotated[str | None, typer.Option(help="instead of each actor's own")] = None,
    steps: Annotated[int | None, typer.Option(help="gradient steps at most, instead of each actor's own")] = None,
    block: Annotated[int, typer.Option(help="outputs pruned together")] = 16,
    count: Annotated[str, typer.Option(help="spikes or events")] = "spikes",
    seed: Annotated[int, typer.Option(help="of the compression")] = 0,
    episodes: Annotated[int, typer.Option(help="of the measurement")] = EPISODES,
    runs: Annotated[Path, typer.Option(help="where checkpoints go")] = ROOT / "runs" / "compression",
) -> None:
    """Compress and measure, one actor after another."""
    for name in actors.split(","):
        actor = load_actor(REFERENCE_ACTORS / name)
        wanted, most = WANTED[name]
        wanted, most = target or wanted, steps or most
        options: dict[str, Any] = {"target": wanted, "steps": most, "block": block, "count": count, "seed": seed}
        place = runs / f"{name}-{wanted.replace(':', '-')}-{most}-{block}-{count}-{seed}"
        fresh, begin = not place.exists(), time.process_time()
        small = compress(actor, directory=place, resume=True, report=_show, **options)
        seconds = round(time.process_time() - begin) if fresh else None
        line = {"actor": name, **options, "cpu_seconds": seconds, **measured(actor, small, episodes, place / "bundle")}
        line |= {"record": small.provenance["compression"], "versions": installed_versions()}
        with MEASURED.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def _show(state: dict[str, Any]) -> None:
    print(time.strftime("%H:%M:%S"), {**state, "verdicts": state["verdicts"][-1:]}, flush=True)


def measured(actor: Actor, small: Actor, episodes: int, bundle: Path) -> dict[str, Any]:
    """Return, energy and events of the default conversion and of the compressed ANN, counted in the same episodes."""
    env = str(actor.env_id)
    policy = convert(small, small.collect(env))
    policy.card = {"compression": small.provenance["compression"]}
    policy.save(bundle)
    found = compare(actor, policy, env, episodes=episodes, seed=SEED, compressed=small)
    student, original = found.compressed, found.ann.multiply_accumulates
    assert student is not None
    assert found.snn.events is not None
    own, sram = student.multiply_accumulates, found.energies["int8-45nm-sram"]
    retention, error = paired(found.ann.returns, found.snn.returns)
    student_retention, student_error = paired(found.ann.returns, student.returns)
    return {
        "episodes": episodes,
        "retention": retention,
        "standard_error": error,
        "retention_of_medians": found.retention_of_medians,
        "failed": found.snn_failed,
        "ann_failed": found.ann_failed,
        "student_retention": student_retention,
        "student_standard_error": student_error,
        "student_failed": failed_share(student.returns, found.ann.returns),
        "energy": found.energy_share,
        "student_energy": student.energy / found.dense_energy,
        "zero_skipping_energy": found.zero_skipping_share,
        "events_of_zero_skipping": found.snn.events / original,
        "events_of_student": found.snn.events / own,
        "int8_sram_of_student": (sram["snn"] or 0) / (sram["compressed_skipping_8bit"] or 1),
        "density": [float(np.mean(layer.weight != 0)) for layer in small.layers],
    }


def paired(ann: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Retention of the mean return, and its standard error over the pairs."""
    kept = 1 + (np.array(other) - np.array(ann)) / abs(np.mean(ann))
    return float(kept.mean()), float(kept.std() / np.sqrt(len(kept)))


if __name__ == "__main__":
    typer.run(main)
