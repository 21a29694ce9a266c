"""Draw how much return each peer's network keeps, against T: docs/comparison_{light,dark}.svg. Needs matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.peers_cells import (
    ANN,
    CRPI,
    LOOP,
    PER_CHANNEL,
    SCALED,
    SIGMA_DELTA,
    SPIKINGJELLY,
    TIMESTEPS,
    found_at,
    kept,
)
from benchmarks.plots import Theme, write_themes
from snn_policy.reporting.axes import finish

LINES = {CRPI: "o-", PER_CHANNEL: "s--", SPIKINGJELLY[0]: "v:", SCALED: "^-.", LOOP: "D:"}
LEAST, MOST = -0.1, 1.15
Row = Mapping[str, Any]


def draw_returns(rows: Sequence[Row], directory: Path) -> None:
    """Draw a panel per actor that has spiking peers, for light and for dark pages."""
    write_themes("comparison", directory, 11, lambda theme, target: draw(rows, theme, target))


def draw(rows: Sequence[Row], theme: Theme, target: Path) -> None:
    """Draw the panels into one file."""
    actors = [actor for actor in dict.fromkeys(row["actor"] for row in rows)
              if any(row["actor"] == actor and row["peer"] == CRPI for row in rows)]  # fmt: skip
    figure, panels = plt.subplots(1, len(actors), figsize=(2.6 * len(actors) + 0.6, 3.6), sharey=True,
                                  layout="constrained", squeeze=False)  # fmt: skip
    for axes, actor in zip(panels.flat, actors, strict=True):
        panel(axes, [row for row in rows if row["actor"] == actor], theme)
        axes.set_title(actor, color=theme.ink, fontsize=11)
    panels.flat[0].set_ylabel("mean return, as a share of the ANN's", color=theme.ink)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, labelcolor=theme.ink)
    figure.savefig(target, transparent=True, metadata={"Date": None})
    plt.close(figure)


def panel(axes: Axes, own: Sequence[Row], theme: Theme) -> None:
    """Draw one actor's lines, with their intervals, and sigma-delta's level."""
    (ann,) = found_at(own, ANN)
    axes.axhline(1, color=theme.faint, linewidth=1)
    for row in found_at(own, SIGMA_DELTA):
        level = kept(row, ann)["retention"]
        axes.axhline(level, color=theme.ink, linewidth=2, label=f"{SIGMA_DELTA} (no T)")
    for (peer, look), colour in zip(LINES.items(), theme.colours, strict=True):
        found = [(step, kept(row, ann)) for step in TIMESTEPS for row in found_at(own, peer, step)]
        x, y = [step for step, _ in found], [of["retention"] for _, of in found]
        axes.plot(x, y, look, color=colour, markersize=5, label=peer)
        axes.vlines(x, [of["interval"][0] for _, of in found], [of["interval"][1] for _, of in found], color=colour,
                    alpha=0.4)  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(TIMESTEPS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(TIMESTEPS, [str(step) for step in TIMESTEPS])
    axes.set_xlabel("timesteps T")
    axes.set_ylim(LEAST, MOST)
    finish(axes, theme, grid=False)
