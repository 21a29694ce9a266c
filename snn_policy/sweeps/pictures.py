"""Pictures of a sweep for light and dark pages, as SVG and PNG: the same bytes every time. Needs matplotlib."""

import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from snn_policy.errors import needs_extra
from snn_policy.evaluation.statistics import bootstrap_interval, mean
from snn_policy.reporting.axes import finish
from snn_policy.reporting.themes import THEMES, Theme
from snn_policy.sweeps.findings import CHOSEN, CURVE, Findings
from snn_policy.sweeps.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ENVIRONMENTS, MOST_ROWS, MOST_LINES = 24, 40, 12
LONGEST_LABEL = 44
DOTS_PER_INCH = 100
WIDTH, INCHES_PER_ROW = 4.8, 0.4
"""Inches: letters can be read on a phone."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")


class Picture(NamedTuple):
    """Hold a picture: its files' stem, what it shows, and its bytes by theme and ending ("light", "svg")."""

    name: str
    title: str
    caption: str
    files: dict[tuple[str, str], bytes]


def pictures_of(found: Findings) -> list[Picture]:
    """Return all pictures.

    Raises:
        ModuleNotFoundError: matplotlib is not installed; it names the extra that brings it.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise needs_extra("matplotlib", "report", "drawing pictures (leave them out with --no-pictures)") from error
    made = []
    drawn = found.environments[:MOST_ENVIRONMENTS]
    for place, environment in enumerate(drawn, 1):
        stem = f"energy-{place}-{_file_name(environment)}"
        caption = (
            f"Mean return against nanojoules per decision ({found.profile.name}), every policy there; an ANN is "
            "the one that skips zeros. Bars: 95 % bootstrap intervals. The line is the Pareto front: nothing else "
            "returns more for less."
        )
        runs = [run for run in found.runs if run.environment == environment]
        cut = _cut(sum(bool(run.evaluation.energy_by(found.profile)) for run in runs), len(runs), "policies")
        if place == len(drawn):
            cut = " · ".join(filter(None, (cut, _cut(len(drawn), len(found.environments), "environments"))))
        title = f"{environment}: return against energy"
        made.append(_picture(stem, title, caption, found, environment, _energy, cut))
    if found.compared:
        few = found.compared[:MOST_ROWS]
        cut = _cut(len(few), len(found.compared), "policies")
        spiking = sum(run.spiking for run in found.runs)
        caption = "Retention of means with 95 % bootstrap intervals over pairs of episodes; the line is the ANN."
        of_all = _cut(len(few), spiking, "policies")
        made.append(_picture("retention", "Retention per actor", caption, found, few, _retention, of_all))
        caption = (
            "Share of runs (episodes) that keep at least τ of their ANN's mean return, every actor weighing the same; "
            "bands: pointwise 95 % stratified bootstrap."
        )
        names = found.profile_names[:MOST_LINES]
        some = _cut(len(names), len(found.profile_names), "rows")
        made.append(_picture("profiles", "Performance profiles over actors", caption, found, names, _profiles, some))
        caption = "Share of seeds on which the policy returns at least what its ANN returns; 95 % Wilson intervals."
        made.append(_picture("as-good", "At least as good as its ANN", caption, found, few, _as_good, cut))
        caption = "Share of episodes below the ANN's median by more than 20 %; 95 % Wilson intervals. ×: the ANN's."
        made.append(_picture("failures", "Failures", caption, found, few, _failed, cut))
    return made


def time_picture(found: Findings) -> Picture | None:
    """Return the picture of times; None where no cell was timed."""
    timed = [run for run in found.runs if all(cell.timed for cell in run.cells)][:MOST_ROWS]
    caption = "Microseconds per decision inside the policy, on the machines that computed the cells."
    cut = _cut(len(timed), len(found.runs), "policies")
    return _picture("time", "Time per decision", caption, found, timed, _time, cut) if timed else None


def _cut(shown: int, of: int, things: str) -> str:
    """Return what a picture says that shows fewer things than its table; nothing where it shows all."""
    return "" if shown >= of else f"{shown:,} of {of:,} {things}; all in the table"


def _picture(
    name: str, title: str, caption: str, found: Findings, what: Any, draw: Callable[..., "Figure"], cut: str
) -> Picture:
    files = {}
    for kind, theme in THEMES.items():
        with _style(theme):
            figure = draw(found, what, theme)
            heading = "\n".join(filter(None, (shortened(title), cut)))
            figure.suptitle(heading, color=theme.ink, fontsize=11)
            for ending in ("svg", "png"):
                files[kind, ending] = _bytes_of(figure, ending, theme)
                figure.set_layout_engine("none")  # laid out once, for both
    return Picture(name, title, f"{caption} {cut[:1].upper()}{cut[1:]}." if cut else caption, files)


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    """Draw without markup in names, without dates, and in a theme's colours."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "snn-policy", "svg.fonttype": "path", "font.size": 10, "text.parse_math": False,
                     "text.color": theme.ink, "axes.unicode_minus": True}), warnings.catch_warnings():  # fmt: skip
        warnings.simplefilter("ignore")  # letters that the font lacks are drawn as boxes
        yield


def _bytes_of(figure: "Figure", ending: str, theme: Theme) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    content = BytesIO()
    metadata = {"Date": None} if ending == "svg" else {"Software": None}
    figure.savefig(content, format=ending, dpi=DOTS_PER_INCH, facecolor=theme.page, metadata=metadata)
    return content.getvalue()


def _energy(found: Findings, environment: str, theme: Theme) -> "Figure":
    """Draw one environment's policies by energy and return, a colour per setting, a marker per actor."""
    runs = [run for run in found.runs if run.environment == environment]
    energies = {run.number: run.evaluation.energy_by(found.profile) for run in runs}
    points = {number: energy for number, energy in energies.items() if energy}
    known = [run for run in runs if run.number in points]
    settings, actors = _places(found.runs, "setting"), _places(known, "actor")
    figure, axes = _figure(_legend_height(len(settings) + 1, len(actors)))
    shown: dict[str, Any] = {}
    for run in known:
        marker, colour = MARKERS[actors[run.actor] % len(MARKERS)], _colour(settings, run.setting, theme)
        low, high = bootstrap_interval(mean, run.evaluation.returns)
        axes.plot([points[run.number]] * 2, [low, high], color=colour, linewidth=1.2, alpha=0.7)
        axes.plot(points[run.number], run.evaluation.mean, marker, color=colour, markersize=7, alpha=0.9)
        if run.setting not in shown:
            (shown[run.setting],) = axes.plot([], [], "o" if len(actors) == 1 else "s", color=colour, linestyle="none")
    for actor in actors if len(actors) > 1 else ():
        marker = MARKERS[actors[actor] % len(MARKERS)]
        (shown[f"actor {actor}"],) = axes.plot([], [], marker, color=theme.ink, fillstyle="none", linestyle="none")
    front = sorted((points[run.number], run.evaluation.mean) for run in known if run.number in found.front)
    if front:
        axes.step(*zip(*front, strict=True), where="post", color=theme.faint, linewidth=1, zorder=0)
        _logarithmic(axes)
    _finish(axes, f"nanojoules per decision, {found.profile.name}", "mean return", theme)
    _legend(figure, shown, theme)
    return figure


def _retention(found: Findings, runs: Sequence[Run], theme: Theme) -> "Figure":
    results = [run.compared for run in runs]
    bars = [(result.retention_of_means, *result.retention_of_means_interval) for result in results]
    figure, axes = _bars(found, runs, bars, theme)
    axes.axvline(1, color=theme.faint, linewidth=1)
    _finish(axes, "retention of the mean return", "", theme)
    return figure


def _as_good(found: Findings, runs: Sequence[Run], theme: Theme) -> "Figure":
    figure, axes = _bars(found, runs, [tuple(run.as_good[:3]) for run in runs], theme)
    axes.axvline(0.5, color=theme.faint, linewidth=1)
    axes.set_xlim(-0.02, 1.02)
    _finish(axes, "share of seeds (as good, by another way: about 0.5)", "", theme)
    return figure


def _failed(found: Findings, runs: Sequence[Run], theme: Theme) -> "Figure":
    figure, axes = _bars(found, runs, [tuple(run.failed[:3]) for run in runs], theme)
    axes.plot([run.compared.ann_failed for run in runs], range(len(runs)), "x", color=theme.faint, markersize=6)
    axes.set_xlim(left=-0.01)
    _finish(axes, "share of episodes", "", theme)
    return figure


def _time(found: Findings, runs: Sequence[Run], theme: Theme) -> "Figure":
    values = [run.evaluation.microseconds for run in runs]
    figure, axes = _bars(found, runs, [(value, value, value) for value in values], theme)
    if min(values) > 0:
        _logarithmic(axes)
    _finish(axes, "microseconds per decision", "", theme)
    return figure


def _profiles(found: Findings, names: Sequence[str], theme: Theme) -> "Figure":
    figure, axes = _figure(_legend_height(len(names)))
    settings, shown = _places(found.runs, "setting"), {}
    for name in names:
        profile = found.curves[name]
        colour = _colour(settings, name, theme)
        style = "--" if settings.get(name, 0) >= len(theme.colours + theme.more) else "-"
        (line,) = axes.plot(profile.thresholds, profile.share, style, color=colour, linewidth=1.6)
        axes.fill_between(profile.thresholds, profile.low, profile.high, color=colour, alpha=0.18, linewidth=0)
        shown[f"{shortened(name)} ({profile.actors} actor{'s' if profile.actors != 1 else ''})"] = line
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(_first_drop(found, names), CURVE[-1])
    _finish(axes, "retention τ of a run", "share of runs with retention ≥ τ", theme)
    _legend(figure, shown, theme)
    return figure


def _first_drop(found: Findings, names: Sequence[str]) -> float:
    """Return the τ from which on profiles differ from 1, a little earlier: to the left there is nothing to see."""
    shares = [found.curves[name].share for name in names]
    dropped = np.min(np.nan_to_num(shares, nan=1.0), axis=0) < 1
    first = float(CURVE[np.argmax(dropped)]) if dropped.any() else 0.9
    return max(0.0, min(first - 0.05, 0.9))


def _bars(
    found: Findings, runs: Sequence[Run], bars: Sequence[tuple[float, ...]], theme: Theme
) -> "tuple[Figure, Axes]":
    """Draw a row per run: its name, and below it a point with its interval in its setting's colour."""
    figure, axes = _figure(1.3 + INCHES_PER_ROW * len(runs))
    settings = _places(found.runs, "setting")
    for row, (run, (value, low, high)) in enumerate(zip(runs, bars, strict=True)):
        colour = _colour(settings, run.setting, theme)
        if math.isfinite(value):
            axes.plot([value], [row], "o", color=colour, markersize=5)
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [row, row], color=colour, linewidth=1.8)
        name = _row_name(found, run)
        box = {"facecolor": theme.page, "edgecolor": "none", "pad": 0.5, "alpha": 0.85}
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "xytext": (4, 0)}
        axes.annotate(name, (0, row - 0.42), fontsize=7.5, va="center", bbox=box, **place)
    axes.set_yticks([])
    axes.set_ylim(len(runs) - 0.5, -0.8)
    return figure, axes


def _row_name(found: Findings, run: Run) -> str:
    """Return what tells a run from the others: actor and setting, the environment where there are several."""
    where = [shortened(run.environment, 22)] if len(found.environments) > 1 else []
    return " · ".join([shortened(run.actor, 24), *where, shortened(run.setting, 38)])


def _colour(settings: dict[str, int], setting: str, theme: Theme) -> str:
    """Return a setting's colour; the ANN's is faint, and what was chosen among settings has none of theirs."""
    if setting == CHOSEN:
        return theme.ink
    colours = theme.colours + theme.more
    return colours[settings[setting] % len(colours)] if setting in settings else theme.faint


def _places(runs: Sequence[Run], name: str) -> dict[str, int]:
    """Return the place of every actor's or setting's name: its colour or its marker."""
    values = dict.fromkeys(getattr(run, name) for run in runs if run.spiking or name != "setting")
    return {value: place for place, value in enumerate(values)}


def _legend_height(*entries: int) -> float:
    """Return inches for a picture with a legend of that many lines."""
    return 3.4 + 0.17 * min(sum(entries), MOST_LINES)


def _figure(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _legend(figure: "Figure", shown: dict[str, Any], theme: Theme) -> None:
    names = list(shown)[:MOST_LINES]
    labels = [shortened(name) for name in names]
    if len(shown) > MOST_LINES:
        labels[-1] = f"… and {len(shown) - MOST_LINES + 1} more"
    handles = [shown[name] for name in names]
    look: dict[str, Any] = {"frameon": False, "labelcolor": theme.ink, "fontsize": 8}
    figure.legend(handles, labels, loc="outside lower center", **look)


def _logarithmic(axes: "Axes") -> None:
    """Make the lower axis logarithmic, with plain numbers: names are drawn without markup, and so are exponents."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _finish(axes: "Axes", x: str, y: str, theme: Theme) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    finish(axes, theme)
    axes.tick_params(which="both", labelsize=8.5)


def shortened(name: str, length: int = LONGEST_LABEL) -> str:
    """Return a name that fits into a picture, and that a legend does not take for one to be left out."""
    shown = name if len(name) <= length else f"{name[: length - 1]}…"
    return f" {shown}" if shown.startswith("_") else shown


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)[:60].strip("-.") or "environment"
