"""Draw `results/results.json`: how much return each kind of spiking network keeps, against the energy it needs.

    python -m benchmarks.plot_energy_return            # writes docs/energy_return_{light,dark}.svg

Faint dots are actors, connected dots the medians over them: the same actors in every family, those that have all
variants which are drawn; a variant that fewer than two thirds of the actors have is left out. The line below which a
spiking network beats the ANN that skips zeros is drawn at the median of their ANNs.
"""

import json
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
import typer

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.places import RESULTS, pictures_of
from benchmarks.plots import write_themes
from benchmarks.stored_cells import Row, rows_of
from snn_policy.reporting.axes import finish
from snn_policy.reporting.themes import Theme

# legend → its variants and their labels in the picture, in order
FAMILIES = {
    "sigma-delta, tolerance": {"sigma-delta 0.01": "0.01", "sigma-delta 0.02": "0.02", "sigma-delta 0.03": "0.03"},
    "MT differential, timesteps": {"MT differential T=2": "2", "MT differential T=4": "4"},
    "SNM, timesteps": {"SNM T=8": "8"},
    "IF with α = 0.3, timesteps": {"IF T=8 α=0.3": "8", "IF T=16 α=0.3": "16"},
    "IF with α = 0, timesteps": {"IF T=8 α=0": "8", "IF T=16 α=0": "16"},
}
ABOVE = dict.fromkeys(FAMILIES, 9) | {"SNM, timesteps": 22, "IF with α = 0, timesteps": -18}
"""How far above its dots a family's labels stand, in points: none hides another's."""
DECADES_PER_LETTER = 0.02
"""Of energy: a label that is nearer than that to the one before stands on the other side of the dots."""
MOST = 2 / 3
"""Share of the actors that a variant must have been measured on."""
ENERGY_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
LEAST_RETENTION, MOST_RETENTION = 0.0, 1.1


def main(
    results: Annotated[Path, typer.Option(help="what fill_page.py stored")] = RESULTS / "results.json",
    out: Annotated[Path | None, typer.Option(help="directory of the pictures; by default as plot_scaling.py")] = None,
) -> None:
    """Draw the picture for light and for dark pages."""
    if not results.is_file():
        raise typer.BadParameter(f"{results}: no such file; write it with benchmarks/fill_page.py")
    rows = of_common_actors(rows_of(json.loads(results.read_text())))
    directory = out or pictures_of(results)
    write_themes("energy_return", directory, 12, lambda theme, target: draw(rows, theme, target))


def of_common_actors(rows: list[Row]) -> list[Row]:
    """Return the rows that are drawn: variants that most actors have, of the actors that have all of these.

    Raises:
        typer.BadParameter: there is no such actor.
    """
    known = {variant for variants in FAMILIES.values() for variant in variants}
    have: dict[str, set[str]] = {}
    for row in rows:
        if row["variant"] in known:
            have.setdefault(row["actor"], set()).add(row["variant"])
    drawn = {variant for variant in known if sum(variant in found for found in have.values()) >= MOST * len(have)}
    common = {actor for actor, found in have.items() if drawn <= found}
    if not drawn or not common:
        raise typer.BadParameter("no actor has all variants that are to be drawn; finish the sweep first")
    return [row for row in rows if row["actor"] in common and row["variant"] in drawn]


def draw(rows: list[Row], theme: Theme, target: Path) -> None:
    figure, axes = plt.subplots(figsize=(9, 4.6), layout="constrained")
    axes.set_facecolor("none")
    skipping = float(np.median([row["zero_skipping_share"] for row in rows]))
    axes.axhline(1, color=theme.faint, linewidth=1)
    axes.axvline(skipping, color=theme.faint, linewidth=1, linestyle=":")
    axes.annotate("ANN skipping\nzeros (median)", (skipping, 0.03), xytext=(5, 0), textcoords="offset points",
                  color=theme.faint, fontsize=10, va="bottom")  # fmt: skip
    for (family, variants), colour in zip(FAMILIES.items(), theme.colours, strict=True):
        draw_family(axes, rows, family, variants, colour)
    scale(axes, theme, len({row["actor"] for row in rows}))
    figure.savefig(target, transparent=True, metadata={"Date": None})
    plt.close(figure)


def draw_family(axes: Axes, rows: list[Row], family: str, variants: dict[str, str], colour: str) -> None:
    """The family's actors as dots, its medians connected, labelled above or below."""
    medians = []
    for variant, label in variants.items():
        of_variant = [row for row in rows if row["variant"] == variant]
        if not of_variant:
            continue
        energy = np.array([row["energy_share"] for row in of_variant])
        kept = np.array([np.nan if row["retention_mean"] is None else row["retention_mean"] for row in of_variant])
        shown = np.clip(kept, LEAST_RETENTION, MOST_RETENTION)
        outside = kept != shown
        axes.scatter(energy[~outside], shown[~outside], s=14, color=colour, alpha=0.35, linewidths=0)
        axes.scatter(energy[outside], shown[outside], s=20, color=colour, alpha=0.35, linewidths=0, marker="v",
                     clip_on=False)  # fmt: skip
        medians.append((float(np.median(energy)), float(np.nanmedian(shown)), label))
    if not medians:
        return
    x, y, labels = zip(*medians, strict=True)
    axes.plot(x, y, "o-", color=colour, markersize=8, linewidth=2, label=family)
    crossed, before = False, 1e-9
    for place, label in zip(zip(x, y, strict=True), labels, strict=True):
        crossed = not crossed and abs(np.log10(place[0] / before)) < DECADES_PER_LETTER * len(label)
        height, before = -9 - ABOVE[family] if crossed else ABOVE[family], place[0]
        axes.annotate(label, place, xytext=(0, height), textcoords="offset points",
                      color=colour, ha="center", fontsize=10, fontweight="bold")  # fmt: skip


def scale(axes: Axes, theme: Theme, actors: int) -> None:
    axes.set_xscale("log")
    axes.set_xlim(ENERGY_TICKS[0], ENERGY_TICKS[-1])
    axes.set_ylim(LEAST_RETENTION, MOST_RETENTION)
    axes.xaxis.set_major_locator(FixedLocator(ENERGY_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ENERGY_TICKS, [f"{tick:g}" for tick in ENERGY_TICKS])
    axes.set_xlabel("energy of a decision, as a share of the dense ANN's (estimate from operation counts)")
    axes.set_ylabel(f"mean return, as a share of the ANN's; {actors} actors")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.02), labelcolor=theme.ink, fontsize=11)
    finish(axes, theme, grid=False)


if __name__ == "__main__":
    typer.run(main)
