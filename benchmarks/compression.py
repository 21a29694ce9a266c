"""What compression brings: energy, return, events and the compressed ANN beside it, of published actors.

    python -m benchmarks.compression                     # four actors, about five minutes each on a free machine
    python -m benchmarks.compression --actors ppo-Hopper-v3 --target retention:0.99

Every line of `benchmarks/results/compression.jsonl` is one student, on 100 episodes whose seeds neither training
nor judging has seen. Runs may be stopped and resumed (`runs/compression`). Published actors come from
SNN_POLICY_REFERENCE_DIR.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from snn_policy import Actor, SpikingPolicy, compress, convert, load_actor
from snn_policy.calibration.encode_sequence import encode_sequence
from snn_policy.energy import nanojoules
from snn_policy.evaluation.evaluate import compare, evaluate
from snn_policy.protocol import FloatArray
from snn_policy.versions import installed_versions

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results" / "compression.jsonl"
WANTED = {
    "tqc-HalfCheetah-v3": "energy:0.045", "sac-Walker2d-v3": "energy:0.02", "ppo-Hopper-v3": "energy:0.025",
    "trpo-Swimmer-v3": "energy:0.06",
}  # fmt: skip
SEED, EPISODES, STUDENT_EPISODES = 40_000, 100, 30
PER_BYTE, PER_MAC8, PER_SPIKE8 = 1.25, 0.3, 0.1
"""Picojoules of the profile int8-45nm-sram (Horowitz 2014)."""


def main(
    actors: Annotated[str, typer.Option(help="names separated by commas")] = ",".join(WANTED),
    target: Annotated[str | None, typer.Option(help="instead of each actor's own")] = None,
    steps: Annotated[int, typer.Option(help="gradient steps at most")] = 12_000,
    block: Annotated[int, typer.Option(help="outputs pruned together")] = 16,
    count: Annotated[str, typer.Option(help="spikes or events")] = "spikes",
    seed: Annotated[int, typer.Option(help="of the compression")] = 0,
    episodes: Annotated[int, typer.Option(help="of the measurement")] = EPISODES,
    runs: Annotated[Path, typer.Option(help="where checkpoints go")] = ROOT.parent / "runs" / "compression",
) -> None:
    """Compress and measure, one actor after another."""
    for name in actors.split(","):
        actor, wanted = load_actor(Path(os.environ["SNN_POLICY_REFERENCE_DIR"]) / name), target or WANTED[name]
        options: dict[str, Any] = {"target": wanted, "steps": steps, "block": block, "count": count, "seed": seed}
        place = runs / f"{name}-{wanted.replace(':', '-')}-{steps}-{block}-{count}-{seed}"
        begin = time.process_time()
        small = compress(actor, directory=place, resume=True, report=_show, **options)
        seconds = time.process_time() - begin
        line = {"actor": name, **options, "cpu_seconds": round(seconds), **measured(actor, small, episodes)}
        line |= {"record": small.provenance["compression"], "versions": installed_versions()}
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def _show(state: dict[str, Any]) -> None:
    print(time.strftime("%H:%M:%S"), {**state, "verdicts": state["verdicts"][-1:]}, flush=True)


def measured(actor: Actor, small: Actor, episodes: int) -> dict[str, Any]:
    """Return, energy and events of the default conversion, on seeds of its own."""
    env = str(actor.env_id)
    policy = convert(small, small.collect(env))
    found = compare(actor, policy, env, episodes=episodes, seed=SEED)
    ann, snn = np.array(found.ann.returns), np.array(found.snn.returns)
    alone = min(episodes, STUDENT_EPISODES)
    student = evaluate(small, env, episodes=alone, seed=SEED)
    recording = small.collect(env, 4_000, seed=SEED)
    costs, own = spiking_costs(policy, recording), zero_skipping(small, recording)
    original = zero_skipping(actor, actor.collect(env, 4_000, seed=SEED))
    dense, int8 = float(nanojoules(actor.dense_macs, 0)), PER_SPIKE8 * costs["spikes"] + PER_BYTE * costs["events"]
    return {
        "episodes": episodes,
        "retention": found.retention_of_means,
        "standard_error": float(np.std((snn - ann) / abs(ann.mean())) / np.sqrt(episodes)),
        "retention_of_medians": found.retention_of_medians,
        "failed": found.snn_failed,
        "ann_failed": found.ann_failed,
        "student_episodes": alone,
        "student_retention": 1 + float(np.mean(student.returns) - ann[:alone].mean()) / abs(float(ann[:alone].mean())),
        "energy": float(nanojoules(0, costs["spikes"])) / dense,
        "student_energy": float(nanojoules(own, 0)) / dense,
        "zero_skipping_energy": float(nanojoules(original, 0)) / dense,
        "events_of_zero_skipping": costs["events"] / original,
        "events_of_student": costs["events"] / own,
        "int8_sram_of_student": int8 / ((PER_MAC8 + PER_BYTE) * own),
        "density": [float(np.mean(layer.weight != 0)) for layer in small.layers],
    }  # fmt: skip


def spiking_costs(policy: SpikingPolicy, observations: FloatArray) -> dict[str, float]:
    """Spikes and events times the weights that are left, per decision, open loop on consecutive observations."""
    neurons: Any = policy.network.neurons
    actor, spikes_total, events_total = policy.actor, 0.0, 0.0
    h = actor.inputs(observations) - neurons.offset
    for stage, layer in enumerate(actor.layers):
        sent, spikes, memory = np.empty_like(h), np.zeros(h.shape[1], np.int64), np.zeros(h.shape[1], np.float32)
        gamma, digits = neurons.predictor[stage], neurons.digits[stage]
        values = np.ascontiguousarray(h)
        encode_sequence(values, neurons.quanta[stage], gamma, memory, digits, neurons.powers, sent, spikes)
        fan_out = np.count_nonzero(layer.weight, axis=0)
        told = np.diff(sent, axis=0, prepend=0 * sent[:1]) * gamma + sent * (1 - gamma)
        spikes_total += float(spikes @ fan_out) / len(h)
        events_total += float((told != 0).sum(axis=0) @ fan_out) / len(h)
        z = layer.batched(sent + neurons.offset if stage == 0 else sent)
        h = z if layer.activation is None else layer.activation(z)
    return {"spikes": spikes_total, "events": events_total}


def zero_skipping(actor: Actor, observations: FloatArray) -> float:
    """Multiply-accumulates per decision of the ANN that skips zero activations and zero weights."""
    stages, _ = actor.activations(observations)
    counted = zip(stages, actor.layers, strict=True)
    return sum(float((h != 0).mean(axis=0) @ np.count_nonzero(layer.weight, axis=0)) for h, layer in counted)


if __name__ == "__main__":
    typer.run(main)
