"""An analysis as a table for the terminal (rich), narrow enough for 80 columns."""

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from snn_policy.analysis.labels import COUNTS, SECTIONS, rows

if TYPE_CHECKING:
    from snn_policy.analysis import Analysis

LEFT_OUT = {
    "decomposition": ("ann_", "snn_"),
    "ablation": ("return_",),
    "spectra": ("error_", "action_"),
    "embedding": ("distance", "ann_distance"),
    "sensitivity": ("none",),
}
"""How the names of figures begin that stand in the JSON and on the page alone; of disturbances all gains but 1, too."""


def analysis_table(analysis: "Analysis") -> Table:
    """Return the figures of every section: what, the mean, the 95 % interval."""
    about = analysis.about
    title = f"{about['actor']} in {about['environment']}: {about['neuron']}, {about['episodes']} episodes"
    table = Table(title=Text(title, "bold"), title_justify="left", box=box.HORIZONTALS, padding=(0, 1, 0, 0),
                  pad_edge=False, caption=Text(COUNTS, "dim"), caption_justify="left")  # fmt: skip
    table.add_column("", overflow="fold")
    table.add_column("mean", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    sections = analysis.sections
    for name, section in SECTIONS.items():
        if name not in sections:
            continue
        table.add_section()
        table.add_row(Text(section.title, "bold"), "", "")
        shown = {key: value for key, value in sections[name].items() if _has_room(name, key)}
        for what, mean, interval in rows(name, shown):
            table.add_row(Text(f"  {what}"), mean, interval)
    return table


def _has_room(section: str, name: str) -> bool:
    return not name.startswith(LEFT_OUT.get(section, ())) and name.partition("@")[2] in ("", "1.0")
