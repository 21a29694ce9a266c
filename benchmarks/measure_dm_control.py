"""Measure the shipped DeepMind Control Suite actors, states and pixels, as ANNs and as spiking networks of each kind.

    python -m benchmarks.measure_dm_control                    # hours; stop and start it as you like
    python -m benchmarks.measure_dm_control --actors sac-cartpole-swingup    # the other actors' rows stay
    python -m benchmarks.measure_dm_control --actors sac-cartpole-swingup --episodes 2 --out /tmp/trial
    python -m benchmarks.measure_dm_control --tables-only                    # from the stored figures

Every finished cell is one line of `runs/dm_control.jsonl` and is not measured again. α of the IF neurons is chosen on
seeds 2000… and reported on seeds 5000…. Directly trained spiking networks that `train_pixels.py spiking` left in
`runs/` are measured beside the actor they imitate. At the end `benchmarks/results/dm_control.json` and the tables of
`docs/dm_control.md` are written; what is stored there and was not measured now stays, whosever row it is.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.gamma import gamma_where_it_saves
from benchmarks.places import DOCS, ROOT, raw_of
from benchmarks.reference_table import Row, actor_table, evaluation_of, fill, merged, rows_of, versions_beside
from snn_policy import Actor, SpikingPolicy, convert, load_actor
from snn_policy.bundle.files import POLICY_FILE
from snn_policy.calibration import open_loop
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.evaluation.statistics import bootstrap_interval, mean
from snn_policy.exported import names, path

LOG = ROOT / "runs" / "dm_control.jsonl"
REPORT_SEED, CHOICE_SEED, RECORDING_SEED = 5_000, 2_000, 0
ALPHAS, CHOICE_EPISODES = (0.3, 0.6, 1.0), {1: 8, 3: 4}
OBSERVATIONS = {1: 10_000, 3: 1_000}
"""How many recorded observations set thresholds and quanta, and above, how many episodes choose α: of vectors, of
pictures."""
ANN, DIRECT, PLAIN, SLOT = "ANN", "trained directly", "plain", "slot"
FIXED: dict[str, dict[str, Any]] = {
    "sigma-delta 0.02": {},
    "sigma-delta 0.01": {"tolerance": 0.01},
    "sigma-delta 0.02 plain": {"alpha": 0.0},
    "sigma-delta 0.01 plain": {"tolerance": 0.01, "alpha": 0.0},
    "MT differential T=4": {"neuron": "mt", "coding": "differential", "timesteps": 4},
}


def membrane(timesteps: int, alpha: float) -> dict[str, Any]:
    return {"neuron": "if", "timesteps": timesteps, "alpha": alpha}


class Measured:
    """The log: every cell is measured once."""

    def __init__(self) -> None:
        lines = LOG.read_text().splitlines() if LOG.is_file() else []
        self.records = {record["key"]: record for record in map(json.loads, lines)}
        self._recordings: dict[str, Any] = {}

    def cell(self, name: str, variant: str, settings: dict[str, Any], episodes: int, seed: int) -> dict[str, Any]:
        """Return the record of one actor and variant; `settings` are `convert`'s."""
        key = json.dumps([name, variant, episodes, seed])
        if key not in self.records:
            actor = load_actor(path(name))
            policy = self._policy(actor, variant, settings)
            found = evaluate(policy, str(actor.env_id), episodes=episodes, seed=seed, progress=True)
            record = {"key": key, "actor": name, "variant": variant, "seed": seed, "evaluation": found.as_dict(),
                      "dense_macs": actor.dense_macs}  # fmt: skip
            LOG.parent.mkdir(exist_ok=True)
            with LOG.open("a") as log:
                log.write(json.dumps(record, allow_nan=False) + "\n")
            self.records[key] = record
            print(f"{name}: {variant}: {found.mean:.1f} ± {found.std:.1f}", flush=True)
        return self.records[key]

    def _policy(self, actor: Actor, variant: str, settings: dict[str, Any]) -> Actor | SpikingPolicy:
        if variant == ANN:
            return actor
        if variant.startswith(DIRECT):
            return SpikingPolicy.load(directly_trained(actor.name))
        if actor.name not in self._recordings:
            steps = OBSERVATIONS[len(actor.observation_shape)]
            self._recordings = {actor.name: actor.collect(str(actor.env_id), steps, RECORDING_SEED, progress=True)}
        with gamma_where_it_saves(0.0 if variant.endswith(PLAIN) else open_loop.LEAST_SAVING):
            return convert(actor, self._recordings[actor.name], **settings, progress=True)


def directly_trained(name: str) -> Path:
    """Return where `train_pixels.py spiking` puts the network that imitates the actor of that name."""
    return ROOT / "runs" / f"direct-{name}"


def cells_of(name: str, measured: Measured, timesteps: tuple[int, ...], episodes: int) -> Iterator[dict[str, Any]]:
    """All variants of one actor, the ANN first."""
    choice = CHOICE_EPISODES[len(load_actor(path(name)).observation_shape)]
    yield measured.cell(name, ANN, {}, episodes, REPORT_SEED)
    for variant, settings in FIXED.items():
        yield measured.cell(name, variant, settings, episodes, REPORT_SEED)
    for steps in timesteps:
        yield measured.cell(name, f"IF T={steps} α=0", membrane(steps, 0.0), episodes, REPORT_SEED)
        tried = [
            measured.cell(name, f"IF T={steps} α={alpha}", membrane(steps, alpha), choice, CHOICE_SEED)
            for alpha in ALPHAS
        ]
        best = ALPHAS[int(np.argmax([record["evaluation"]["mean"] for record in tried]))]
        yield measured.cell(name, f"IF T={steps} α={best}", membrane(steps, best), episodes, REPORT_SEED)
    if (directly_trained(name) / POLICY_FILE).is_file():
        direct = SpikingPolicy.load(directly_trained(name))
        yield measured.cell(name, f"{DIRECT} T={direct.timesteps}", {}, episodes, REPORT_SEED)


def effect_of_crpi(records: list[dict[str, Any]]) -> dict[str, str]:
    """Return a line per T: what the chosen α gains over α = 0 on the same episodes, with a 95 % bootstrap interval."""
    lines = {}
    membranes = [record for record in records if record["variant"].startswith("IF")]
    for without, chosen in zip(membranes[::2], membranes[1::2], strict=True):
        pair = [np.array(evaluation_of(given["evaluation"]).returns) for given in (without, chosen)]
        low, high = bootstrap_interval(mean, pair[1] - pair[0])
        gain = pair[1].mean() - pair[0].mean()
        name, _, _ = chosen["variant"].partition(" α=")
        lines[name] = f"- {chosen['variant']} against α=0: {gain:+.1f} [{low:+.1f}, {high:+.1f}]"
    return lines


def document_of(records: list[dict[str, Any]], before: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be stored: the records' rows, and those stored before that they do not replace.

    The rows of a chosen α replace each other, whichever was chosen.
    """
    old = [{**row, SLOT: slot(row)} for row in before.get("rows", [])]
    new = [{**row, SLOT: slot(row)} for row in rows_of(records)]
    rows = merged(new, old, ("actor", SLOT))
    effects = {name: dict(lines) for name, lines in before.get("effects", {}).items()}
    for name in dict.fromkeys(row["actor"] for row in new):
        found = effect_of_crpi([record for record in records if record["actor"] == name])
        effects[name] = {**effects.get(name, {}), **found}
    versions = versions_beside(records, before if len(rows) > len(new) else {})
    kept = [{name: value for name, value in row.items() if name != SLOT} for row in rows]
    return {"versions": versions, "rows": kept, "effects": effects}


def slot(row: Row) -> str:
    """Return a row's place in its actor's table."""
    return re.sub(r" α=(?!0$).*", " α chosen", row["variant"])


def text_of(document: dict[str, Any]) -> str:
    """Return the tables of stored figures, each with what α gains below it."""
    parts = []
    for name, group in groupby(document["rows"], lambda row: row["actor"]):
        lines = document["effects"].get(name, {})
        parts += [actor_table(list(group)), *(lines[key] for key in sorted(lines, key=lambda key: (len(key), key))), ""]
    return "\n".join(parts)


def check_episodes(episodes: int, chosen: list[str], before: dict[str, Any]) -> None:
    """Refuse to replace stored rows with those of fewer episodes."""
    for row in before.get("rows", []):
        if row["actor"] in chosen and row["episodes"] > episodes:
            reason = f"{row['actor']} has {row['episodes']} episodes there; give a trial a place of its own with --out"
            raise typer.BadParameter(f"--episodes {episodes}: {reason}")


def main(
    episodes: Annotated[int, typer.Option(help="per cell", min=1)] = 20,
    actors: Annotated[str | None, typer.Option(help="shipped names separated by commas; all dm_control ones")] = None,
    timesteps: Annotated[str, typer.Option(help="of the IF neurons, separated by commas")] = "8,16,32",
    out: Annotated[Path, typer.Option(help="where dm_control.md goes")] = DOCS,
    tables_only: Annotated[bool, typer.Option("--tables-only", help="measure nothing")] = False,
) -> None:
    """Measure what is missing, then write the tables."""
    here = [name for name in names() if str(load_actor(path(name)).env_id).startswith("dm_control/")]
    chosen = here if actors is None else actors.split(",")
    if unknown := set(chosen) - set(here):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: expected some of {', '.join(here)}")
    stored = raw_of(out) / "dm_control.json"
    document = json.loads(stored.read_text()) if stored.is_file() else {}
    if not tables_only:
        check_episodes(episodes, chosen, document)
        measured, steps, records = Measured(), tuple(int(part) for part in timesteps.split(",")), []
        for name in chosen:
            records += cells_of(name, measured, steps, episodes)
        document = document_of(records, document)
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    fill(out / "dm_control.md", text_of(document))
    print(text_of(document))


if __name__ == "__main__":
    typer.run(main)
