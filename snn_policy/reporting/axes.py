"""How every picture's axes look."""

from typing import TYPE_CHECKING

from snn_policy.reporting.themes import Theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def finish(axes: "Axes", theme: Theme, grid: bool = True) -> None:
    """Show the lower and the left edge alone, on the page's own ground, and a grid that is hardly seen."""
    axes.set_facecolor("none")
    axes.xaxis.label.set_color(theme.ink)
    axes.yaxis.label.set_color(theme.ink)
    if grid:
        axes.grid(color=theme.faint, alpha=0.25, linewidth=0.6)
    axes.tick_params(which="both", colors=theme.ink)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("bottom", "left"))
        spine.set_color(theme.faint)
