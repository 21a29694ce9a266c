"""The colours of light and of dark pages, for every picture of the project."""

from typing import NamedTuple


class Theme(NamedTuple):
    """Hold the colours of light or dark pages; `more` are for what has more than `colours` parts."""

    page: str
    ink: str
    faint: str
    colours: tuple[str, ...]
    more: tuple[str, ...]


THEMES = {
    "light": Theme("#ffffff", "#1f2328", "#8c959f",
                   ("#0969da", "#bc4c00", "#8250df", "#1a7f37", "#9a6700"), ("#cf222e", "#1b7c83", "#bf3989")),
    "dark": Theme("#0d1117", "#e6edf3", "#7d8590",
                  ("#58a6ff", "#f0883e", "#bc8cff", "#3fb950", "#d29922"), ("#ff7b72", "#39c5cf", "#f778ba")),
}  # fmt: skip
