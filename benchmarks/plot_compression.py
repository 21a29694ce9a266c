"""Draw `results/compression.jsonl`: return against energy of every actor's students, spiking and as compressed ANNs.

    python -m benchmarks.plot_compression              # writes docs/compression_{light,dark}.svg

Bars are standard errors over episodes, paired by seed. The default conversion, where `results/energy.json` has it,
begins the spiking curve; a dotted line is the original ANN that skips zeros. Needs matplotlib.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import typer

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.compression import MEASURED, WANTED
from benchmarks.compression_tables import Line, chosen, read_lines
from benchmarks.fill_page import read_stored
from benchmarks.page_tables import energy_rows
from benchmarks.places import pictures_of
from benchmarks.plots import write_themes
from snn_policy.evaluation.statistics import retention
from snn_policy.reporting.axes import finish
from snn_policy.reporting.themes import Theme

TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
LEAST, MOST = 0.95, 1.03
"""Retentions shown; what lies below is drawn at the edge, as a triangle."""
SPIKING, COMPRESSED, DEFAULT = "compressed, spiking", "compressed ANN, skipping zeros", "default conversion"


def main(out: Annotated[Path | None, typer.Option(help="directory of the pictures; docs by default")] = None) -> None:
    """Draw the picture for light and for dark pages."""
    lines, directory = read_lines(), out or pictures_of(MEASURED)
    if not lines:
        raise typer.BadParameter(f"{MEASURED}: nothing is measured; run benchmarks/compression.py")
    write_themes("compression", directory, 11, lambda theme, target: draw(lines, theme, target))


def default_point(actor: str) -> tuple[float, float] | None:
    """Return energy and retention of the actor's default conversion; None where it was not measured."""
    for row in energy_rows(read_stored("energy")):
        if row["policy"] == actor:
            energies, ann = row["energies"]["fp32-45nm"], row["ann"]["mean"]
            return energies["snn"] / energies["ann_dense"], retention(ann, row["snn"]["mean"])
    return None


def draw(lines: Sequence[Line], theme: Theme, target: Path) -> None:
    """Write one picture: a panel per actor."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained", sharex=True, sharey=True)
    for axes, actor in zip(panels.flat, WANTED, strict=True):
        wanted: dict[str, Any] = {"actor": actor, "block": 16, "count": "spikes"}
        draw_actor(axes, chosen(lines, **wanted), actor, theme)
    handles, labels = next(pair for axes in panels.flat if (pair := axes.get_legend_handles_labels())[0])
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, labelcolor=theme.ink)
    for axes in panels[-1]:
        axes.set_xlabel("energy, of the dense original's (fp32-45nm)", color=theme.ink)
    for axes in panels[:, 0]:
        axes.set_ylabel("mean return, of the original's", color=theme.ink)
    figure.savefig(target, transparent=True, metadata={"Date": None})
    plt.close(figure)


def draw_actor(axes: Axes, lines: Sequence[Line], actor: str, theme: Theme) -> None:
    """Draw an actor's students by their energy, and the line at 0.99."""
    axes.set_facecolor("none")
    axes.axhline(0.99, color=theme.faint, linewidth=1, linestyle="--")
    for prefix, label, colour, marker in (("", SPIKING, theme.colours[0], "o"),
                                          ("student_", COMPRESSED, theme.colours[1], "s")):  # fmt: skip
        draw_students(axes, lines, prefix, fmt=f"{marker}-", color=colour, label=label)
    start = default_point(actor)
    if start is not None:
        axes.plot(start[0], start[1], "D", color=theme.colours[2], markersize=6, label=DEFAULT)
    if lines:
        axes.axvline(lines[0]["zero_skipping_energy"], color=theme.faint, linewidth=1, linestyle=":")
    scale(axes, actor, theme)


def draw_students(axes: Axes, lines: Sequence[Line], prefix: str, **style: Any) -> None:
    """Draw students with their bars; those below the picture at its edge, as triangles."""
    points = sorted((line[f"{prefix}energy"], line[f"{prefix}retention"], line[f"{prefix}standard_error"])
                    for line in lines)  # fmt: skip
    if not points:
        return
    x, y, error = zip(*points, strict=True)
    shown = [min(max(value, LEAST), MOST) for value in y]
    axes.errorbar(x, shown, error, markersize=6, linewidth=1.5, **style)
    below = [place for place, value in zip(x, y, strict=True) if value < LEAST]
    axes.scatter(below, [LEAST] * len(below), color=style["color"], marker="v", s=60, clip_on=False)


def scale(axes: Axes, actor: str, theme: Theme) -> None:
    axes.set_title(actor, color=theme.ink, fontsize=11)
    axes.set_xscale("log")
    axes.set_xlim(TICKS[0], TICKS[-1])
    axes.set_ylim(LEAST, MOST)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    finish(axes, theme, grid=False)


if __name__ == "__main__":
    typer.run(main)
