"""Pictures of an analysis, for light and for dark pages. Needs matplotlib, which is loaded with this module alone."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation

from snn_policy.analysis.error_spectra import LOW
from snn_policy.analysis.estimates import Estimate
from snn_policy.analysis.findings import KINDS
from snn_policy.analysis.report import Analysis
from snn_policy.atomic_files import write_together
from snn_policy.reporting.axes import finish
from snn_policy.reporting.themes import THEMES, Theme

FORMS = ("png", "svg")
SIZE, DOTS_PER_INCH = (5.2, 3.3), 160
MOST_POINTS, MOST_SHOWN = 600, 100
"""Places per policy in the embedding; decisions in the picture of actions."""
SMALLEST_SHOWN = 1.0
"""Per cent of the return: an axis of losses shows at least that much, so that next to nothing looks like it."""
LOOKS: dict[str, Any] = {"font.size": 10.5, "font.family": "sans-serif", "svg.hashsalt": "snn-policy"}
Draw = Callable[[Axes, Analysis, Theme], None]


def write_pictures(analysis: Analysis, directory: Path) -> list[Path]:
    """Write NAME_THEME.png and NAME_THEME.svg of every picture into the directory (made if missing); return the paths.

    Raises:
        OSError: naming the file; the others are as they were.
    """
    files = {directory / name: content for name, content in picture_files(analysis).items()}
    directory.mkdir(parents=True, exist_ok=True)
    write_together(files)
    return list(files)


def picture_files(analysis: Analysis) -> dict[str, bytes]:
    """Return the pictures that this analysis has the figures for, by the names of their files."""
    return {
        f"{name}_{kind}.{form}": rendered(analysis, name, theme, form)
        for name in drawable(analysis)
        for kind, theme in THEMES.items()
        for form in FORMS
    }


def names_of_all() -> set[str]:
    """Return the names of the files of all pictures that there can be."""
    return {f"{name}_{kind}.{form}" for name in PICTURES for kind in THEMES for form in FORMS}


def drawable(analysis: Analysis) -> list[str]:
    """Return the names of the pictures that this analysis has the figures for."""
    absent = {"embedding"} if analysis.embedding is None else set[str]()
    parted = analysis.divergence
    if not any((distance > 0).any() for distance in (*parted.snn, *parted.disturbed, *parted.unrelated)):
        absent.add("divergence")
    if analysis.spectra is None:
        absent.add("spectra")
    if analysis.ablation is None:
        absent.add("ablation")
    if analysis.tsne is None:
        absent.add("tsne")
    return [name for name in PICTURES if name not in absent]


def rendered(analysis: Analysis, name: str, theme: Theme, form: str, *, text: str = "path") -> bytes:
    """Return one picture, "png" or "svg"; the same bytes every time.

    Args:
        text: of SVG: "path" draws letters, "none" leaves them to whatever shows it.
    """
    looks: Any = {**LOOKS, "svg.fonttype": text}
    with rc_context(looks):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        PICTURES[name](axes, analysis, theme)
        finish(axes, theme)
        axes.set_axisbelow(True)
        target = io.BytesIO()
        options: dict[str, Any] = {"metadata": {"Date": None, "Creator": None}} if form == "svg" else {}
        facecolor = "none" if text == "none" else theme.page
        figure.savefig(target, format=form, dpi=DOTS_PER_INCH, facecolor=facecolor, **options)
    return target.getvalue()


def _cosines(axes: Axes, analysis: Analysis, theme: Theme) -> None:
    sections = analysis.sections
    axes.axhline(0, color=theme.faint, linewidth=1)
    lines = (("consistency", "SNN consistency"), ("correction", "ANN correction"), ("drift", "SNN drift"),
             ("residual_cosine", "residuals, consecutive"))  # fmt: skip
    for colour, (name, label) in zip(theme.colours, lines, strict=False):
        found = {key: value for key, value in sections.get(name, {}).items() if key.startswith("alpha_")}
        x = [float(key.removeprefix("alpha_")) for key in found]
        _line(axes, x, list(found.values()), label, colour)
    axes.set_xlabel("α, the share of the residual carried on")
    axes.set_ylabel("mean cosine")
    axes.set_xticks(sorted(analysis.by_alpha))
    _legend(axes, theme)


def _decomposition(axes: Axes, analysis: Analysis, theme: Theme) -> None:
    found = analysis.decomposition.summary
    labels = {"policy": "its actions alone", "states": "the states it gets into", "interaction": "both together",
              "length": "the episode's length", "lost": "lost altogether"}  # fmt: skip
    names = [name for name in labels if name in found]
    colours = [theme.colours[0] if name != "lost" else theme.colours[1] for name in names]
    _bars(axes, [labels[name] for name in names], [found[name] for name in names], colours, theme)
    axes.set_xlabel("% of the ANN's return lost")


def _divergence(axes: Axes, analysis: Analysis, theme: Theme) -> None:
    found = analysis.divergence
    lines = (
        ("snn", "SNN from ANN"),
        ("disturbed", "ANN, disturbed once"),
        ("unrelated", "unrelated episodes"),
    )
    for colour, (name, label) in zip(theme.colours, lines, strict=False):
        episodes = [np.asarray(episode, float) for episode in getattr(found, name)]
        if not episodes:
            continue
        mean = _mean_over_time(episodes)
        shown = np.where(mean > 0, mean, np.nan)  # a logarithm has no place for the common start
        axes.plot(np.arange(1, len(mean) + 1), shown, color=colour, label=label, linewidth=1.4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PlainPowers())
        axis.set_minor_formatter(PlainPowers())
    axes.set_xlabel("decisions since the common start")
    axes.set_ylabel("distance of states, in spreads")
    _legend(axes, theme)


def _spectra(axes: Axes, analysis: Analysis, theme: Theme) -> None:
    found = analysis.spectra
    assert found is not None
    axes.axvspan(0, LOW, color=theme.faint, alpha=0.18, linewidth=0)
    for colour, (episodes, label) in zip(
        theme.colours, ((found.error, "error of the action"), (found.action, "the ANN's action")), strict=False
    ):
        power = found.mean_power(episodes).mean(axis=1)
        axes.plot(found.frequencies, np.maximum(power, 1e-14), color=colour, label=label, linewidth=1.4)
    axes.set_yscale("log")
    axes.set_xlabel("cycles per decision (shaded: slow)")
    axes.set_ylabel(f"power, {_unit(analysis)}²")
    _legend(axes, theme)


def _sensitivity(axes: Axes, analysis: Analysis, theme: Theme) -> None:
    found = analysis.sensitivity.summary
    axes.axhline(0, color=theme.faint, linewidth=1)
    gains = sorted({float(name.partition("@")[2]) for name in found if name.partition("@")[0] in KINDS})
    for place, gain in enumerate(gains):
        kinds = [kind for kind in KINDS if f"{kind}@{gain}" in found]
        x = [list(KINDS).index(kind) + 0.16 * (place - (len(gains) - 1) / 2) for kind in kinds]
        estimates = [found[f"{kind}@{gain}"] for kind in kinds]
        _line(axes, x, estimates, f"gain {gain:g}", theme.colours[place % 5], style="o")
    axes.set_xticks(
        range(len(KINDS)), [text.removeprefix("a ").removeprefix("an ").split()[0] for text in KINDS.values()]
    )
    axes.set_ylabel("% of the return lost")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -SMALLEST_SHOWN), max(high, SMALLEST_SHOWN))
    _legend(axes, theme, ncols=3)


def _ablation(axes: Axes, analysis: Analysis, theme: Theme) -> None:
    assert analysis.ablation is not None
    found = analysis.ablation.summary
    sources = [
        name for name in ("none", "clipping", "quantisation", "unevenness", "residual") if f"error_{name}" in found
    ]
    labels = ["as converted" if name == "none" else f"no {name}" for name in sources]
    colours = [theme.colours[1] if name == "none" else theme.colours[0] for name in sources]
    _bars(axes, labels, [found[f"error_{name}"] for name in sources], colours, theme)
    axes.set_xlabel(f"action error, {_unit(analysis)}")


def _embedding(axes: Axes, analysis: Analysis, theme: Theme) -> None:
    found = analysis.embedding
    assert found is not None
    _places(axes, np.concatenate(found.ann), np.concatenate(found.spiking), theme)
    first, second = (100 * share for share in found.explained)
    axes.set_xlabel(f"first principal component ({first:.0f} % of the variance)")
    axes.set_ylabel(f"second ({second:.0f} %)")


def _tsne(axes: Axes, analysis: Analysis, theme: Theme) -> None:
    assert analysis.tsne is not None
    _places(axes, *analysis.tsne, theme)
    axes.set_xlabel("t-SNE: neighbours stay neighbours, distances mean nothing")


def _places(axes: Axes, ann: np.ndarray, spiking: np.ndarray, theme: Theme) -> None:
    for places, label, colour in ((ann, "ANN", theme.colours[1]), (spiking, "SNN", theme.colours[0])):
        step = max(1, len(places) // MOST_POINTS)
        shown, named = places[::step], label if step == 1 else f"{label}, one state in {step}"
        axes.scatter(shown[:, 0], shown[:, 1], s=5, alpha=0.45, color=colour, linewidths=0, label=named)
    _legend(axes, theme, markerscale=2)


def _actions(axes: Axes, analysis: Analysis, theme: Theme) -> None:
    """Draw both actions' most sticking dimension around the longest run that sticks, or the first decisions."""
    index = int(np.argmax([int(sticks.sum()) for sticks in analysis.sticking.sticks]))
    trace, sticks = analysis.traces[index], analysis.sticking.sticks[index]
    middle = int(np.flatnonzero(sticks).mean()) if sticks.any() else 0
    start = max(0, min(middle - MOST_SHOWN // 2, len(trace.actions) - MOST_SHOWN))
    shown = slice(start, start + MOST_SHOWN)
    dimension = int(np.argmax(abs(trace.errors[shown]).sum(axis=0)))
    x = np.arange(start, start + len(trace.actions[shown]))
    below: dict[str, Any] = {"color": theme.colours[1], "linewidth": 3.2, "alpha": 0.6}
    axes.step(x, trace.ann[shown, dimension], where="mid", label="ANN, asked there", **below)
    axes.step(
        x, trace.actions[shown, dimension], where="mid", color=theme.colours[0], label="SNN, acting", linewidth=1.2
    )
    axes.set_xlabel("decision")
    axes.set_ylabel(f"choice {dimension}" if analysis.about["discrete"] else f"action {dimension}, half-ranges")
    _legend(axes, theme)


class PlainPowers(LogFormatterSciNotation):
    """Write 0.01 and 200 on logarithmic axes, wherever a label has room."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _unit(analysis: Analysis) -> str:
    """Return what action errors along recorded episodes are measured in."""
    return "one-hot" if analysis.about["discrete"] else "half-ranges"


PICTURES: dict[str, Draw] = {
    "decomposition": _decomposition, "cosines": _cosines, "spectra": _spectra, "ablation": _ablation,
    "sensitivity": _sensitivity, "divergence": _divergence, "actions": _actions, "embedding": _embedding,
    "tsne": _tsne,
}  # fmt: skip


def _line(
    axes: Axes, x: Sequence[float], found: Sequence[Estimate], label: str, colour: str, style: str = "o-"
) -> None:
    y = [estimate.mean for estimate in found]
    axes.errorbar(
        x, y, yerr=_reach(found), fmt=style, color=colour, label=label, markersize=4.5, linewidth=1.4, capsize=2.5
    )


def _bars(axes: Axes, labels: Sequence[str], found: Sequence[Estimate], colours: Sequence[str], theme: Theme) -> None:
    places = np.arange(len(labels))[::-1]
    look: dict[str, Any] = {"error_kw": {"ecolor": theme.ink, "elinewidth": 1.1, "capsize": 2.5}}
    axes.barh(places, [e.mean for e in found], xerr=_reach(found), color=colours, height=0.62, **look)
    axes.set_yticks(places, labels)
    axes.axvline(0, color=theme.faint, linewidth=1)


def _reach(found: Sequence[Estimate]) -> np.ndarray:
    """Return how far intervals reach below and above the means, (2, figures); 0 where there is none."""
    ends = np.array([[e.mean - e.interval[0], e.interval[1] - e.mean] for e in found]).reshape(-1, 2)
    return np.maximum(np.nan_to_num(ends), 0).T


def _mean_over_time(episodes: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over those episodes that still run, (longest,)."""
    padded = np.full((len(episodes), max(map(len, episodes))), np.nan)
    for row, episode in enumerate(episodes):
        padded[row, : len(episode)] = episode
    counts = np.maximum((~np.isnan(padded)).sum(axis=0), 1)
    return np.nansum(padded, axis=0) / counts


def _legend(axes: Axes, theme: Theme, **look: Any) -> None:
    """Name the lines above the axes, where none of them runs."""
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 2, "borderaxespad": 0.1}
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=9.5, **place | look)
