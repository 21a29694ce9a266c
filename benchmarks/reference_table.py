"""From the records of `measure_reference_actors.py` to `results/results.json` and the tables in Markdown.

The tables replace what stands between `<!-- results: begin -->` and `<!-- results: end -->`; text around it stays.
"""

import json
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.markers import marks, replaced
from benchmarks.places import raw_of
from snn_policy.evaluation.results import Comparison, Evaluation
from snn_policy.versions import installed_versions

MARKER = "results"
DEFAULT_VARIANT, PLAIN_VARIANT = "sigma-delta 0.02", "sigma-delta 0.02 plain"
"""What `convert` makes by default; and the neuron before it: α = 0, and γ = 1 wherever it saves a spike."""
Row = dict[str, Any]


def write_results(records: list[dict[str, Any]], directory: Path, readme: Path) -> None:
    """Write `results.md` into the directory, its raw figures, and, from `docs`, the short table into the README.

    Raw figures that are there already and are not among the records stay.
    """
    rows = rows_of(records)
    open_loop = [{"actor": record["actor"], "variant": record["variant"], **record["open_loop"]}
                 for record in records if "open_loop" in record]  # fmt: skip
    if not rows and not open_loop:
        print("nothing measured yet")
        return
    directory.mkdir(parents=True, exist_ok=True)
    raw = raw_of(directory) / "results.json"
    before = json.loads(raw.read_text()) if raw.is_file() else {}
    rows = merged(rows, before.get("rows", []), ("actor", "variant"))
    open_loop = merged(open_loop, before.get("open_loop", []), ("actor", "variant", "correlation"))
    kept = len(rows) > len(rows_of(records))
    document = {"versions": versions_beside(records, before if kept else {}), "rows": rows, "open_loop": open_loop}
    raw.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    text = "\n".join([*(actor_table(list(group)) for _, group in groupby(rows, lambda row: row["actor"])),
                      open_loop_table(open_loop)])  # fmt: skip
    fill(directory / "results.md", text)
    if directory.resolve() == readme.parent / "docs":
        fill(readme, short_table(rows))
    print(text)


def merged(new: list[Row], old: list[Row], names: tuple[str, ...]) -> list[Row]:
    """Return both, actor by actor, the new ones first; where the values of these names agree, the new ones alone."""
    measured = {tuple(row[name] for name in names) for row in new}
    rows = [*new, *(row for row in old if tuple(row[name] for name in names) not in measured)]
    actors = dict.fromkeys(row["actor"] for row in [*old, *new])
    return [row for actor in actors for row in rows if row["actor"] == actor]


def versions_of(records: list[dict[str, Any]]) -> dict[str, str]:
    """Those of the evaluations, if they agree (as they should), else marked as mixed."""
    found = [record["evaluation"]["versions"] for record in records if "evaluation" in record] or [installed_versions()]
    return {name: version if all(entry.get(name) == version for entry in found) else "mixed"
            for name, version in found[-1].items()}  # fmt: skip


def versions_beside(records: list[dict[str, Any]], before: Row) -> dict[str, str]:
    """Return those of the records, marked as mixed where rows that stay beside theirs were stored with others."""
    new, old = versions_of(records), before.get("versions", {})
    return {name: version if old.get(name, version) == version else "mixed" for name, version in new.items()}


def evaluation_of(values: dict[str, Any]) -> Evaluation:
    given: dict[str, Any] = {field.name: values[field.name] for field in fields(Evaluation) if field.name in values}
    given |= {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return Evaluation(**given)


def rows_of(records: list[dict[str, Any]]) -> list[Row]:
    """Return one row per actor and variant; an actor without its ANN's episodes has none."""
    measured = [record for record in records if "evaluation" in record]
    anns = {
        element["actor"]: evaluation_of(element["evaluation"]) for element in measured if element["variant"] == "ANN"
    }
    rows = []
    for element in measured:
        if element["variant"] != "ANN" and element["actor"] in anns:
            snn = evaluation_of(element["evaluation"])
            comparison = Comparison(anns[element["actor"]], snn, element["dense_macs"])
            rows.append({"actor": element["actor"], "variant": element["variant"], **row_of(comparison)})
    return rows


def row_of(comparison: Comparison) -> Row:
    ann, snn = comparison.ann, comparison.snn
    return {
        "environment": snn.environment,
        "episodes": snn.episodes,
        "first_seed": snn.seeds[0],
        "ann_return_mean": ann.mean,
        "ann_return_std": ann.std,
        "ann_return_median": ann.median,
        "ann_interquartile_mean": ann.interquartile_mean,
        "ann_interval": list(ann.interval),
        "return_mean": snn.mean,
        "return_std": snn.std,
        "return_median": snn.median,
        "interquartile_mean": snn.interquartile_mean,
        "interval": list(snn.interval),
        "retention_mean": comparison.retention_of_means,
        "retention_median": comparison.retention_of_medians,
        "retention_mean_interval": list(comparison.retention_of_means_interval),
        "retention_standard_error": standard_error(ann.returns, snn.returns),
        "failed": comparison.snn_failed,
        "ann_failed": comparison.ann_failed,
        "energy_share": comparison.energy_share,
        "zero_skipping_share": comparison.zero_skipping_share,
        "spikes_per_decision": snn.spikes_per_decision,
        "events": snn.events,
        "energies": comparison.energies,
        "synaptic_operations": snn.synaptic_operations,
        "energy_nanojoules": snn.energy,
        "dense_energy_nanojoules": comparison.dense_energy,
        "iterations": snn.iterations,
    }


def standard_error(ann: tuple[float, ...], snn: tuple[float, ...]) -> float | None:
    """Return that of the mean retention, episodes paired by seed; None of one episode, or of an ANN that returns 0."""
    size = abs(float(np.mean(ann)))
    if len(ann) < 2 or not size:
        return None
    return float(np.std(np.subtract(snn, ann), ddof=1) / np.sqrt(len(ann)) / size)


def retention(row: Row) -> str:
    """Return the mean's, with two standard errors, and the median's."""
    error = row.get("retention_standard_error")
    spread = "" if error is None else f" ± {2 * error:.3f}"
    return f"{row['retention_mean']:.3f}{spread} · {row['retention_median']:.3f}"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def count(share: float, episodes: int) -> str:
    return str(round(share * episodes))


def actor_table(rows: list[Row]) -> str:
    """One actor's variants under its ANN, whose energy is 1 (or, skipping zero activations, that share of it)."""
    first = rows[0]
    low, high = first["ann_interval"]
    episodes = first["episodes"]
    lines = [
        f"### {first['actor']} on {first['environment']}",
        "",
        "| | return, mean ± std | interquartile mean [95 %] | retention: mean ± 2 s.e. · median | failed | energy |",
        "|---|---|---|---|---|---|",
        f"| ANN | {number(first['ann_return_mean'])} ± {number(first['ann_return_std'])} "
        f"| {number(first['ann_interquartile_mean'])} [{number(low)}, {number(high)}] | "
        f"| {count(first['ann_failed'], episodes)} of {episodes} | 1 (or {first['zero_skipping_share']:.3f}) |",
    ]
    for row in rows:
        low, high = row["interval"]
        lines.append(
            f"| {label(row)} | {number(row['return_mean'])} ± {number(row['return_std'])} "
            f"| {number(row['interquartile_mean'])} [{number(low)}, {number(high)}] "
            f"| {retention(row)} "
            f"| {count(row['failed'], row['episodes'])} of {row['episodes']} | {row['energy_share']:.3f} |"
        )
    return "\n".join([*lines, ""])


def label(row: Row) -> str:
    """Return the variant; where it chooses its iterations, with their mean."""
    mean = f" (mean {row['iterations']:.2f})" if "adaptive" in row["variant"] else ""
    return f"{row['variant']}{mean}"


def open_loop_table(rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = [
        f"### {rows[0]['actor']}, open loop",
        "",
        "| | lag-1 correlation | RMS action error, half-ranges | energy of dense ANN | ANN skipping zeros |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['variant']} | {row['correlation']:g} | {row['error']:.4f} | {row['energy_share']:.3f} "
            f"| {row['zero_skipping_share']:.3f} |"
        )
    return "\n".join([*lines, ""])


def short_table(rows: list[Row]) -> str:
    """Return the default conversion of every actor, and what the neuron before it needed.

    Where the default has not been measured, that neuron's row stands for it, and says so.
    """
    plain = {row["actor"]: row["energy_share"] for row in rows if row["variant"] == PLAIN_VARIANT}
    default = {row["actor"] for row in rows if row["variant"] == DEFAULT_VARIANT}
    lines = [
        "| actor | environment | ANN return | retention: mean ± 2 s.e. · median | failed SNN · ANN "
        "| energy of dense ANN | plain neuron | ANN skipping zeros |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        missing = row["variant"] == PLAIN_VARIANT and row["actor"] not in default
        if row["variant"] == DEFAULT_VARIANT or missing:
            name, before = f"{row['actor']} (plain)" if missing else row["actor"], plain.get(row["actor"])
            lines.append(
                f"| {name} | {row['environment']} | {number(row['ann_return_mean'])} | {retention(row)} "
                f"| {count(row['failed'], row['episodes'])} · {count(row['ann_failed'], row['episodes'])} "
                f"of {row['episodes']} | {row['energy_share']:.3f} | {'' if before is None else f'{before:.3f}'} "
                f"| {row['zero_skipping_share']:.3f} |"
            )
    return "\n".join([*lines, ""])


def fill(path: Path, text: str) -> None:
    """Put the text between the markers, which are appended where they are missing."""
    page = path.read_text() if path.is_file() else "# Results\n"
    begin, end = marks(MARKER)
    if begin not in page or end not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    path.write_text(replaced(page, MARKER, text))
