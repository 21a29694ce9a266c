"""Convert an actor that has no environment here, ppo-go1, on synthetic observations, and compare actions on fresh ones.

    python -m benchmarks.open_loop              # a minute; results/open_loop.json and its table in docs/results.md

Observations are first-order autoregressive walks with the normaliser's mean and standard deviation: how much an
observation tells of the next one sets what a spiking policy saves. The actor comes from SNN_POLICY_REFERENCE_DIR.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.markers import replaced
from benchmarks.places import DOCS, REFERENCE_ACTORS, RESULTS
from snn_policy import Actor, convert, load_actor
from snn_policy.atomic_files import write_together
from snn_policy.energy import nanojoules
from snn_policy.protocol import FloatArray
from snn_policy.versions import installed_versions

NAME, CORRELATIONS = "ppo-go1", (0.0, 0.9, 0.99)
VARIANTS: dict[str, dict[str, Any]] = {
    "sigma-delta 0.02": {"tolerance": 0.02},
    "sigma-delta 0.02 α=0": {"tolerance": 0.02, "alpha": 0.0},
}
OBSERVATIONS, SEQUENCES = 10_000, 10
STORED, PAGE, MARKER = RESULTS / "open_loop.json", DOCS / "results.md", "open loop"
Row = dict[str, Any]


def main() -> None:
    """Measure, store, and write the table."""
    actor = replace(load_actor(REFERENCE_ACTORS / NAME), env_id=None)
    rows = [
        {"actor": NAME, "variant": variant, **figures(actor, correlation, **settings)}
        for variant, settings in VARIANTS.items()
        for correlation in CORRELATIONS
    ]
    document = json.dumps({"versions": installed_versions(), "rows": rows}, indent=1) + "\n"
    page = replaced(PAGE.read_text(), MARKER, table(rows))
    write_together({STORED: document.encode(), PAGE: page.encode()})
    print(table(rows))


def figures(actor: Actor, correlation: float, **settings: Any) -> Row:
    """Return the error of actions on fresh observations, and what a decision costs."""
    policy = convert(actor, synthetic(actor, OBSERVATIONS, correlation, seed=0), **settings)
    steps = OBSERVATIONS // SEQUENCES
    fresh = np.stack([synthetic(actor, steps, correlation, seed=1 + index) for index in range(SEQUENCES)], axis=1)
    policy.reset(num_envs=SEQUENCES)
    error = np.stack([policy.act(obs) - actor.act(obs) for obs in fresh]) / actor.head.half_range(dtype=np.float32)
    dense = float(nanojoules(actor.dense_macs, 0))
    ann = actor.counters
    return {
        "correlation": correlation,
        "error": float(np.sqrt(np.mean(error**2))),
        "energy_share": float(np.mean(policy.counters.energy / policy.counters.decisions)) / dense,
        "zero_skipping_share": float(np.mean(ann.energy / ann.decisions)) / dense,
        "spikes_per_decision": float(np.mean(policy.counters.spikes.sum(axis=1) / policy.counters.decisions)),
    }


def synthetic(actor: Actor, steps: int, correlation: float, seed: int) -> FloatArray:
    """Return a walk (steps, *shape) with that lag-1 correlation."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(steps, *actor.observation_shape))
    walk = noise.copy()
    for step in range(1, steps):
        walk[step] = correlation * walk[step - 1] + np.sqrt(1 - correlation**2) * noise[step]
    if actor.normaliser is None:
        return walk.astype(np.float32)
    return (actor.normaliser.mean + actor.normaliser.scale * walk).astype(np.float32)


def table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    lines = [
        f"### {rows[0]['actor']}, open loop",
        "",
        "| | lag-1 correlation | RMS action error, half-ranges | energy of dense ANN | ANN skipping zeros |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['variant']} | {row['correlation']:g} | {row['error']:.4f} | {row['energy_share']:.3f} "
        f"| {row['zero_skipping_share']:.3f} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
