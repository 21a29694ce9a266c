"""What a report prints on the terminal: a line per setting, and a line per policy where they are few."""

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from snn_policy.sweeps.findings import Findings
from snn_policy.sweeps.table_values import UNKNOWN

MOST_ROWS = 40
NARROW = 22
"""Characters of a name before it is broken."""


def print_summary(console: Console, found: Findings) -> None:
    """Print the tables, narrow enough for 80 columns."""
    if not found.compared:
        console.print(Text("No spiking policy has its ANN on the same seeds: see the tables of returns."))
        return
    console.print(_settings(found))
    if len(found.compared) <= MOST_ROWS:
        console.print(_policies(found))
    else:
        console.print(Text(f"{len(found.compared):,} policies: one by one in the report.", style="dim"))


def _settings(found: Findings) -> Table:
    table = _table(f"{found.results.name}: settings, over all actors", "setting")
    claim = f"loss <\n{found.delta:g}"
    for heading in ("actors", "retention\n[95 %]", "≥ ANN", "failed", claim, "energy"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found.summaries:
        energy = UNKNOWN if one.energy_of_skipping is None else f"{one.energy_of_skipping:.0%}"
        kept = _interval(one.retention.mean, one.retention.low, one.retention.high)
        counts = f"{one.claimed}/{len(one.runs)}"
        row = (str(len(one.runs)), kept, f"{one.as_good.share:.0%}", f"{one.failed.share:.1%}", counts, energy)
        table.add_row(Text("\n".join(_broken(one.setting))), *row)
    return table


def _policies(found: Findings) -> Table:
    table = _table("policies", "actor, setting, environment")
    for heading in ("retention\n[95 %]", "≥ ANN", "failed", "loss\nbelow", "verdict"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in found.compared:
        both, loss = run.compared, found.losses[run.number]
        kept = _interval(both.retention_of_means, *both.retention_of_means_interval)
        bound = UNKNOWN if loss.bound is None else f"{loss.bound:.3f}"
        name = Text("\n".join(_distinguishing(found, run.actor, run.setting, run.environment)))
        table.add_row(name, kept, f"{run.as_good.share:.0%}", f"{run.failed.share:.1%}", bound, loss.verdict)
    return table


def _distinguishing(found: Findings, actor: str, setting: str, environment: str) -> Iterator[str]:
    yield actor if len(found.environments) == 1 else f"{actor}, {environment}"
    yield from (f"  {line}" for line in _broken(setting))


def _broken(setting: str) -> list[str]:
    """Return a setting in lines: its arguments in a line of their own where it is long."""
    name, bracket, arguments = setting.partition("(")
    return [setting] if len(setting) <= NARROW or not bracket else [f"{name}(", f"  {arguments}"]


def _interval(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return UNKNOWN
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f}\n[{low:.3f}, {high:.3f}]"


def _table(title: str, corner: str) -> Table:
    layout = {"box": box.HORIZONTALS, "padding": (0, 1, 0, 0), "pad_edge": False}
    table = Table(title=Text(title), title_justify="left", title_style="bold", **layout)
    table.add_column(corner, overflow="fold", min_width=NARROW)
    return table
