"""The tables of results.md, dm_control.md, energy.md and README.md in Markdown, from the rows of stored cells."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from benchmarks.stored_cells import (
    CHOSEN,
    DEFAULT_VARIANT,
    WITHOUT_RESIDUAL,
    Document,
    Row,
    comparisons,
    evaluation_of,
    rows_of,
    slot,
)
from snn_policy.energy import PROFILES
from snn_policy.evaluation.results import Comparison
from snn_policy.evaluation.statistics import bootstrap_interval, mean
from snn_policy.evaluation.statistics import retention as retained

AS_SHIPPED = {"qcfs": "if"}
"""Kinds of neurons that shipped policies of that training have, where it is not the sigma-delta neuron."""
SWEEPS = {
    "results": ("[results](results.md)", "1.5"),
    "dm_control": ("[the Control Suite](dm_control.md)", "0.1"),
    "dm_control_pixels": ("[the Control Suite from pixels](dm_control.md)", "2.5"),
    "energy": ("[energy](energy.md), the first table of the README", "0.1"),
    "neuron": ("[the neuron](neuron.md)", "0.3"),
    "compression": ("[compression](compression.md)", "2"),
}
"""Every sweep: its pages, and estimated core-hours."""
SIZES = {
    "dm_control": ("96 at most, of which it reports 30", "1,344"),
    "dm_control_pixels": ("64 at most, of which it reports 20", "768"),
    "compression": ("35", "3,500"),
}
"""Cells and episodes where stored cells do not tell them: a sweep that reports what it has chosen, and those that fill
no page (`snn-policy sweep … --dry-run` says them)."""
COUNTS = ("spikes_per_decision", "events", "multiply_accumulates", "mean")
ENERGY_HEADINGS = ("policy", "spikes · events per decision", "weights fetched, of the skipping ANN's")


def actor_tables(document: Document) -> str:
    """Return a table per actor: its ANN, and all variants that there are."""
    return "\n".join(actor_table(list(rows)) for _, rows in groupby(rows_of(document), lambda row: row["actor"]))


def suite_tables(document: Document) -> str:
    """Return a table per actor, and below it what a chosen α gains over α = 0 on the reported episodes."""
    parts = []
    for name, rows in groupby(rows_of(document), lambda row: row["actor"]):
        lines = {**document.get("older", {}).get("effects", {}).get(name, {}), **effects_of_alpha(document, name)}
        parts += [actor_table(list(rows)), *(lines[key] for key in sorted(lines, key=lambda key: (len(key), key))), ""]
    return "\n".join(parts)


def effects_of_alpha(document: Document, actor: str) -> dict[str, str]:
    """Return a line per T: what the chosen α gains over α = 0 on the same episodes, with a 95 % bootstrap interval."""
    cells = {slot(cell["variant"]): cell for cell in document["cells"] if cell["actor"] == actor}
    lines = {}
    for place, chosen in cells.items():
        name = place.removesuffix(CHOSEN)
        without = cells.get(f"{name} α=0")
        if place != name and without is not None:
            pair = [np.array(evaluation_of(cell).returns) for cell in (without, chosen)]
            low, high = bootstrap_interval(mean, pair[1] - pair[0])
            gain = pair[1].mean() - pair[0].mean()
            lines[name] = f"- {chosen['variant']} against α=0: {gain:+.1f} [{low:+.1f}, {high:+.1f}]"
    return lines


def actor_table(rows: Sequence[Row]) -> str:
    """Return one actor's variants under its ANN, whose energy is 1 (or, skipping zero activations, a share of it)."""
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


def short_table(document: Document) -> str:
    """Return the default conversion of every actor, and what it needs without the residual."""
    rows = rows_of(document)
    without = {row["actor"]: row["energy_share"] for row in rows if row["variant"] == WITHOUT_RESIDUAL}
    lines = [
        "| actor | environment | ANN return | retention: mean ± 2 s.e. · median | failed SNN · ANN "
        "| energy of dense ANN | with α = 0 | ANN skipping zeros |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["variant"] == DEFAULT_VARIANT:
            other = without.get(row["actor"])
            lines.append(
                f"| {row['actor']} | {row['environment']} | {number(row['ann_return_mean'])} | {retention(row)} "
                f"| {count(row['failed'], row['episodes'])} · {count(row['ann_failed'], row['episodes'])} "
                f"of {row['episodes']} | {row['energy_share']:.3f} | {'' if other is None else f'{other:.3f}'} "
                f"| {row['zero_skipping_share']:.3f} |"
            )
    return "\n".join([*lines, ""])


def energy_rows(document: Document, everything: bool = False) -> list[Row]:
    """Return a row per policy: counts and energies beside its ANN's, a compressed policy's beside its teacher's.

    Args:
        everything: every cell, instead of one per policy in the neuron that it is shipped with.
    """
    anns = {cell["actor"]: cell for cell in document["cells"] if cell["baseline"] is None}
    found = []
    for cell, pair in comparisons(document):
        name, neuron = cell["actor"], "sigma-delta" if cell["variant"].startswith("sigma") else "if"
        if everything or neuron == AS_SHIPPED.get(name.partition("-")[0], "sigma-delta"):
            ann = anns.get(cell["teacher"] or name, anns[name])
            beside = Comparison(evaluation_of(ann), pair.snn, ann["dense_multiply_accumulates"])
            found.append({"policy": name, "neuron": neuron, **energy_row(beside)})
    measured = {row["policy"] for row in found}
    return found + [row for row in document.get("older", {}).get("rows", ()) if row["policy"] not in measured]


def energy_row(found: Comparison) -> Row:
    """Return the figures of a comparison that the tables of energies show."""
    sides = {"ann": found.ann, "snn": found.snn}
    counts = {side: {name: getattr(given, name) for name in COUNTS} for side, given in sides.items()}
    return {**counts, "dense_multiply_accumulates": found.dense_multiply_accumulates, "energies": found.energies}


def energy_table(document: Document, everything: bool = False) -> str:
    """Return, under each profile, every policy as a share of the 8-bit or float32 ANN that skips zeros."""
    headings = [*ENERGY_HEADINGS, *(f"{name}: of dense · skipping" for name in PROFILES)]
    headings[len(ENERGY_HEADINGS)] += " · 8-bit skipping"
    headings += ["retention"] if everything else []
    rows = [energy_line(row, everything) for row in energy_rows(document, everything)]
    return "\n".join([f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *rows, ""])


def energy_line(row: Row, returns: bool = False) -> str:
    """Return one line of that table; with what is kept of the mean return, where that is asked for."""
    snn, ann = row["snn"], row["ann"]
    cells = [f"{row['policy']} ({row['neuron']})", f"{snn['spikes_per_decision']:,.0f} · {snn['events']:,.0f}"]
    cells.append(f"{(snn['events'] + snn['multiply_accumulates']) / ann['multiply_accumulates']:.2f}")
    for name in PROFILES:
        energies = row["energies"][name]
        shares = [f"{energies['snn'] / energies[key]:.2f}" for key in ("ann_dense", "ann_skipping")]
        if PROFILES[name].eight_bit != name:
            shares.append(f"{energies['snn'] / energies['ann_skipping_8bit']:.2f}")
        cells.append(" · ".join(shares))
    if returns:
        cells.append(f"{retained(row['ann']['mean'], row['snn']['mean']):.3f}")
    return f"| {' | '.join(cells)} |"


def retention(row: Row) -> str:
    """Return the mean's, with two standard errors, and the median's."""
    error = row.get("retention_standard_error")
    spread = "" if error is None else f" ± {2 * error:.3f}"
    return f"{row['retention_mean']:.3f}{spread} · {row['retention_median']:.3f}"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def count(share: float, episodes: int) -> str:
    return str(round(share * episodes))


def label(row: Row) -> str:
    """Return the variant; with the mean of its iterations where it chooses them; and whether it is older."""
    mean_of_iterations = f" (mean {row['iterations']:.2f})" if "adaptive" in row["variant"] else ""
    older = " (older)" if row.get("older") else ""
    return f"{row['variant']}{mean_of_iterations}{older}"


def hours_of(document: Document) -> float:
    """Return the hours that policies and environments took, of all cells together: conversions are not among them."""
    return sum(float(cell["seconds"]) for cell in document["cells"]) / 3600


def sweeps_table(documents: Mapping[str, Document]) -> str:
    """Return what every sweep of the documents is, and how long its cells took, or are estimated to take."""
    lines = ["| `snn-policy sweep …` | of | cells | episodes | core-hours |", "|---|---|---|---|---|"]
    for name, (pages, hours) in SWEEPS.items():
        document = documents.get(name, {"cells": [], "missing": 0})
        took, done, missing = f"{hours}, estimated", len(document["cells"]), document["missing"]
        if done:
            took = f"{hours_of(document):.2f}, measured"
            took += f" on {done} cells; all: {hours}, estimated" if missing else ""
        if name in SIZES:
            cells, episodes = SIZES[name]
        else:
            cells, episodes = f"{done + missing:,}", f"{(done + missing) * document['cells'][0]['episodes']:,}"
        lines.append(f"| `benchmarks/sweeps/{name}.toml` | {pages} | {cells} | {episodes} | {took} |")
    return "\n".join(lines)
