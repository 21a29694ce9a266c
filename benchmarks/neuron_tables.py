"""The table of the sweep `neuron`: what tolerances and residuals keep of the return, and what they need, per actor."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.stored_cells import Document, Row, rows_of
from snn_policy.spiking.settings import DEFAULT_SIGMA_DELTA_ALPHA
from snn_policy.sweeps.plan import DEFAULT_WITHIN
from snn_policy.sweeps.selection import least_energy


class Place(NamedTuple):
    """Where a row stands."""

    actor: str
    tolerance: float
    alpha: float


def residual_table(document: Document) -> str:
    """Return a line per actor and tolerance, a column per α, of the last seeds; bold: what the first seeds choose."""
    rows = rows_of(document)
    choosing, reported = min(row["first_seed"] for row in rows), max(row["first_seed"] for row in rows)
    chosen = chosen_of({place_of(row): row for row in rows if row["first_seed"] == choosing})
    shown = {place_of(row): row for row in rows if row["first_seed"] == reported}
    alphas = sorted({place.alpha for place in shown})
    lines = [f"| actor (ANN fails) | tolerance | {' | '.join(f'α = {alpha:g}' for alpha in alphas)} |"]
    lines.append("|---" * (2 + len(alphas)) + "|")
    for actor, tolerance in dict.fromkeys((place.actor, place.tolerance) for place in shown):
        found = [shown.get(Place(actor, tolerance, alpha)) for alpha in alphas]
        fails = next(row["ann_failed"] for row in found if row)
        cells = [cell_of(row, chosen) for row in found]
        lines.append(f"| {actor} ({fails:.2f}) | {tolerance:g} | {' | '.join(cells)} |")
    return "\n".join([*lines, *over_actors(shown, alphas)])


def place_of(row: Row) -> Place:
    """Return the place of a sigma-delta neuron's row, from the name that tables give its settings."""
    tolerance, alpha = re.fullmatch(r"sigma-delta ([\d.]+)(?: α=([\d.]+))?", row["variant"]).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return Place(row["actor"], float(tolerance), DEFAULT_SIGMA_DELTA_ALPHA if alpha is None else float(alpha))


def chosen_of(rows: Mapping[Place, Row]) -> set[Place]:
    """Return, per actor and tolerance, the α that a sweep's [select] would choose."""
    tried: dict[tuple[str, float], list[tuple[float, float, Place]]] = {}
    for place, row in rows.items():
        kept = min(1.0, row["retention_mean"])
        tried.setdefault((place.actor, place.tolerance), []).append((kept, row["energy_share"], place))
    return {least_energy(own, DEFAULT_WITHIN)[2] for own in tried.values()}


def cell_of(row: Row | None, chosen: set[Place]) -> str:
    """Return retention ± standard error / share of failed episodes / energy."""
    if row is None:
        return ""
    kept = f"{row['retention_mean']:.3f} ± {row['retention_standard_error']:.3f}"
    text = f"{kept} / {row['failed']:.2f} / {row['energy_share']:.4f}"
    return f"**{text}**" if place_of(row) in chosen else text


def over_actors(rows: Mapping[Place, Row], alphas: Sequence[float]) -> list[str]:
    """Return a line per tolerance: mean and least retention, failures beyond the ANN's, energy by that of α = 0."""
    lines = []
    for tolerance in sorted({place.tolerance for place in rows}):
        cells = []
        for alpha in alphas:
            own = {place.actor: row for place, row in rows.items() if place[1:] == (tolerance, alpha)}
            base = {actor: rows.get(Place(actor, tolerance, 0.0)) for actor in own}
            shares = [
                row["energy_share"] / base["energy_share"]
                for row, base in zip(own.values(), base.values(), strict=True)
                if base
            ]
            kept = [row["retention_mean"] for row in own.values()]
            more = np.mean([row["failed"] - row["ann_failed"] for row in own.values()])
            energy = f"{np.exp(np.mean(np.log(shares))):.2f}" if shares else "–"
            cells.append(f"{np.mean(kept):.3f} (worst {min(kept):.3f}) / {more:+.3f} / × {energy}")
        lines.append(
            f"| **all: mean / failures beside the ANN's / energy by α = 0's** | {tolerance:g} | {' | '.join(cells)} |"
        )
    return lines
