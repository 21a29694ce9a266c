"""Measure what the shipped policies save under every energy profile, beside every opponent: the first table of README.

    python -m benchmarks.energy_profiles                     # the shipped policies whose environments are installed
    python -m benchmarks.energy_profiles --references        # and the reference actors, converted by default
    python -m benchmarks.energy_profiles --pixels            # and those that see pictures, which takes long
    python -m benchmarks.energy_profiles --logged            # what measure_reference_actors has in its log, instead
    python -m benchmarks.energy_profiles --table-only        # README.md from results/energy_profiles.json again

Rows of policies that were not measured now stay; each has its episodes and first seed in the JSON. Reference actors
come from SNN_POLICY_REFERENCE_DIR, or from ../shared/policies.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.markers import replaced
from benchmarks.measure_reference_actors import ANN, finished
from benchmarks.places import REFERENCE_ACTORS, RESULTS, ROOT
from benchmarks.reference_table import DEFAULT_VARIANT, evaluation_of
from snn_policy import Comparison, SpikingPolicy, convert, load_actor
from snn_policy.atomic_files import write_atomically
from snn_policy.bundle import read_bundle
from snn_policy.energy import PROFILES
from snn_policy.evaluation.evaluate import compare
from snn_policy.exported import names, path

MEASURED, README = RESULTS / "energy_profiles.json", ROOT / "README.md"
REFERENCES = {
    "tqc-HalfCheetah-v3": "HalfCheetah-v5", "sac-Walker2d-v3": "Walker2d-v5", "ppo-Hopper-v3": "Hopper-v5",
    "trpo-Swimmer-v3": "Swimmer-v5", "sac-Pendulum-v1": "Pendulum-v1",
}  # fmt: skip
SEED, MARKER = 70_000, "energy"
HEADINGS = ("policy", "spikes · events per decision", "weights fetched, of the skipping ANN's", *PROFILES)


def policies(references: bool, pixels: bool) -> Iterator[tuple[str, Any, SpikingPolicy, str]]:
    """Yield (name, actor, spiking policy, environment)."""
    for name in names():
        bundle = read_bundle(path(name))
        if bundle.actor.env_id is not None and (pixels or len(bundle.actor.observation_shape) == 1):
            teacher = bundle.card.get("compression", {}).get("teacher")
            actor = read_bundle(path(teacher)).actor if teacher in names() else bundle.actor
            yield name, actor, SpikingPolicy.load(path(name)), bundle.actor.env_id
    for name, env_id in REFERENCES.items() if references else ():
        actor = load_actor(REFERENCE_ACTORS / f"{name}.safetensors")
        yield name, actor, convert(actor, actor.collect(env_id)), env_id


def measure(references: bool, pixels: bool, episodes: int, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Compare every policy, or only those named, with its ANN; names those whose environment is missing."""
    found = []
    for name, actor, policy, env_id in policies(references, pixels):
        if only and name not in only:
            continue
        try:
            result = compare(actor, policy, env_id, episodes=episodes, seed=SEED, num_envs=min(episodes, 10))
        except (ValueError, ImportError) as reason:
            print(f"{name}: left out ({str(reason).splitlines()[0]})")
            continue
        found.append(record(name, policy.conversion.get("neuron", "sigma-delta"), result))
        print(row(found[-1]), flush=True)
    return found


def record(name: str, neuron: str, result: Comparison) -> dict[str, Any]:
    """Return what the JSON keeps of a comparison."""
    document = result.as_dict()
    kept = ("spikes_per_decision", "events", "synaptic_operations", "multiply_accumulates", "mean", "energies")
    return {
        "policy": name, "neuron": neuron, "env_id": result.snn.environment, "episodes": result.snn.episodes,
        "seed": result.snn.seeds[0], "dense_multiply_accumulates": result.dense_multiply_accumulates,
        "energies": document["energies"], "ann": {key: document["ann"][key] for key in kept},
        "snn": {key: document["snn"][key] for key in kept}, "versions": result.snn.versions,
    }  # fmt: skip


def logged() -> list[dict[str, Any]]:
    """Return what the log of `measure_reference_actors` has of default conversions and their ANNs."""
    cells = {
        (element["actor"], element["variant"]): element for element in finished().values() if "evaluation" in element
    }
    found = []
    for name in (*names(), *REFERENCES):
        ann, snn = (cells.get((name, variant)) for variant in (ANN, DEFAULT_VARIANT))
        if ann is not None and snn is not None:
            first, second = (evaluation_of(given["evaluation"]) for given in (ann, snn))
            found.append(record(name, "sigma-delta", Comparison(first, second, snn["dense_macs"])))
    return found


def merged(new: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the old rows, those of policies measured now in their places, then the others that are new."""
    rows = {element["policy"]: element for element in (*old, *new)}
    return list(rows.values())


def row(found: dict[str, Any]) -> str:
    """One line of the table: under each profile, the SNN as a share of the 8-bit or float32 ANN that skips zeros."""
    spent, ann = found["snn"], found["ann"]
    cells = [f"{found['policy']} ({found['neuron']})"]
    cells.append(f"{spent['spikes_per_decision']:,.0f} · {spent['events']:,.0f}")
    cells.append(f"{(spent['events'] + spent['multiply_accumulates']) / ann['multiply_accumulates']:.2f}")
    for name in PROFILES:
        energies = found["energies"][name]
        shares = [f"{energies['snn'] / energies[key]:.2f}" for key in ("ann_dense", "ann_skipping")]
        if PROFILES[name].eight_bit != name:
            shares.append(f"{energies['snn'] / energies['ann_skipping_8bit']:.2f}")
        cells.append(" · ".join(shares))
    return f"| {' | '.join(cells)} |"


def table(found: list[dict[str, Any]]) -> str:
    """The table in Markdown."""
    headings = [*HEADINGS[:3], *(f"{name}: of dense · skipping" for name in PROFILES)]
    headings[3] += " · 8-bit skipping"
    return "\n".join([f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *map(row, found)])


def write_readme(found: list[dict[str, Any]]) -> None:
    """Replace the table between the marks in README.md."""
    write_atomically(README, replaced(README.read_text(), MARKER, table(found)).encode())


def main() -> None:
    """Measure, write the JSON, and the table into README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--references", action="store_true")
    parser.add_argument("--pixels", action="store_true")
    parser.add_argument("--only", metavar="NAME", nargs="+", default=(), help="these policies; others keep their rows")
    parser.add_argument("--logged", action="store_true")
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    if not given.table_only:
        before = json.loads(MEASURED.read_text())["rows"] if MEASURED.is_file() else []
        rows = logged() if given.logged else measure(given.references, given.pixels, given.episodes, given.only)
        rows = merged(rows, before)
        write_atomically(MEASURED, (json.dumps({"rows": rows}, indent=1) + "\n").encode())
    write_readme(json.loads(MEASURED.read_text())["rows"])


if __name__ == "__main__":
    main()
