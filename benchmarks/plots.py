"""Draw what `measure_scaling` found: ratios along each axis, and time against operations. Needs matplotlib."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.scaling_points import AXES, ScalingPoint
from snn_policy.reporting.axes import finish
from snn_policy.reporting.themes import THEMES, Theme


def write_themes(name: str, directory: Path, font_size: int, draw: Callable[[Theme, Path], None]) -> None:
    """Draw a picture for light and for dark pages, `NAME_THEME.svg` in the directory; the same bytes every time."""
    directory.mkdir(parents=True, exist_ok=True)
    rcParams.update({"svg.hashsalt": "snn-policy", "font.size": font_size, "svg.fonttype": "path"})
    for theme, colours in THEMES.items():
        target = directory / f"{name}_{theme}.svg"
        draw(colours, target)
        print(target)


TITLES = {
    "timesteps": ("timesteps T", "one row"),
    "width": ("units in each hidden layer", "one row"),
    "depth": ("hidden layers", "one row"),
    "batch": ("rows decided at once", "per row"),
}
KINDS = ("sigma-delta", "MT differential", "IF")
STYLES, MARKERS = ("-", "--", ":", "-."), ("o", "s", "^", "D")
FINE_TICKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)
COARSE_TICKS = (0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
FINE_SPAN = 16
"""Fine ticks up to this ratio of a panel's ends, coarse ones beyond."""
DOTS_PER_INCH = 100


def draw(points: Sequence[ScalingPoint], name: str, directory: Path) -> list[Path]:
    """Write scaling_{light,dark}.png and operations_{light,dark}.png; return their paths.

    Args:
        name: of the actor, for the titles.
        directory: made if missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, theme in THEMES.items():
        for stem, picture in (("scaling", _ratios), ("operations", _operations)):
            figure = picture(points, name, theme)
            FigureCanvasAgg(figure)
            written.append(directory / f"{stem}_{kind}.png")
            figure.savefig(written[-1], dpi=DOTS_PER_INCH, facecolor=theme.page)
    return written


def _ratios(points: Sequence[ScalingPoint], name: str, theme: Theme) -> Figure:
    """Draw four panels: the time of a decision by the ANN's, along each axis."""
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    _title(figure, f"{name}: time of a decision, × the same-sized ANN in ONNX Runtime (one thread)", theme)
    panels = figure.subplots(2, 2)
    engines = list(dict.fromkeys(p.engine for p in points))
    shown: dict[str, Any] = {}
    for axes, axis in zip(panels.flat, AXES, strict=True):
        axes.axhline(1, color=theme.faint, linewidth=1)
        own = [p for p in points if p.axis == axis]
        for neuron, engine in dict.fromkeys((p.neuron, p.engine) for p in own):
            line = sorted((p for p in own if (p.neuron, p.engine) == (neuron, engine)), key=lambda p: p.value)
            colour, place = _colour(neuron, theme), engines.index(engine)
            x, y = [p.value for p in line], [p.ratio for p in line]
            (drawn,) = axes.plot(x, y, STYLES[place % 4], color=colour, marker=MARKERS[place % 4], markersize=5)
            axes.fill_between(x, [p.spread[0] for p in line], [p.spread[1] for p in line], color=colour, alpha=0.15)
            shown.setdefault(_legend(neuron, engine, engines), drawn)
        label, note = TITLES[axis]
        _finish(axes, label, f"× ANN, {note}", theme)
        if own:
            _ticks(axes, sorted({p.value for p in own}))
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=4, frameon=False, labelcolor=theme.ink
    )
    return figure


def _operations(points: Sequence[ScalingPoint], name: str, theme: Theme) -> Figure:
    """Draw two panels: the same times against T × MACs, what a dense simulation costs, and the spikes' cost."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    _title(figure, f"{name}: what the time of a decision grows with (one row; all T, widths and depths)", theme)
    dense, sparse = figure.subplots(1, 2, sharex=True, sharey=True)
    single = [p for p in points if p.axis != "batch"]
    for kind in KINDS:
        own = [p for p in single if p.neuron.startswith(kind)]
        look: dict[str, Any] = {"color": _colour(kind, theme), "s": 26, "alpha": 0.8, "linewidths": 0}
        median = [p.median for p in own]
        dense.scatter([p.timesteps * p.dense_macs for p in own], median, **look)
        spent = [p.synaptic_operations + p.multiply_accumulates for p in own]
        sparse.scatter(spent, median, label=kind, **look)
    ann = sorted({(p.dense_macs, p.ann_median) for p in single})
    for axes in (dense, sparse):
        macs, median = [macs for macs, _ in ann], [median for _, median in ann]
        axes.plot(macs, median, "x-", color=theme.faint, linewidth=1, label="ANN, ONNX Runtime: its MACs")
        axes.set_yscale("log")
        axes.set_xscale("log")
    _finish(dense, "T × MACs of the ANN: a dense simulation's products", "microseconds per decision", theme)
    _finish(sparse, "synaptic operations, with the analog input's MACs", "", theme)
    sparse.legend(frameon=False, labelcolor=theme.ink, fontsize=9, loc="upper left")
    return figure


def _colour(neuron: str, theme: Theme) -> str:
    kind = next((index for index, kind in enumerate(KINDS) if neuron.startswith(kind)), len(KINDS))
    return theme.colours[kind]


def _legend(neuron: str, engine: str, engines: list[str]) -> str:
    """Return the neuron's kind (its T is another on every axis), with the engine where there are several."""
    kind = next((kind for kind in KINDS if neuron.startswith(kind)), neuron)
    return kind if len(engines) == 1 else f"{kind}, {engine}"


def _title(figure: Figure, text: str, theme: Theme) -> None:
    figure.suptitle(text, color=theme.ink, fontsize=12)


def _ticks(axes: Axes, values: Sequence[int]) -> None:
    """Make the axes logarithmic with plain numbers; below, the sizes that were measured."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    low, high = axes.get_ylim()
    ratios = FINE_TICKS if high / low < FINE_SPAN else COARSE_TICKS
    for side, ticks in ((axes.xaxis, values), (axes.yaxis, ratios)):
        side.set_major_locator(FixedLocator([float(tick) for tick in ticks]))
        side.set_minor_locator(NullLocator())
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _finish(axes: Axes, x: str, y: str, theme: Theme) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    finish(axes, theme)
