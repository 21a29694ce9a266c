"""What tables are made of: values that know how they are shown and what they stand for."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from snn_policy.evaluation.statistics import finite
from snn_policy.sweeps.profiles import Share

UNKNOWN = "–"
ALMOST = 0.9995
"""From here on a confidence is written as "> 0.999": a bootstrap cannot tell it from 1."""


class Value(NamedTuple):
    """Hold one entry of a table.

    Attributes:
        text: as it is shown.
        numbers: what it stands for, one per field of its column: numbers, texts, or None where there is nothing.
        anchor: of the run that it is about, where one can look up what it depends on.
    """

    text: str
    numbers: tuple[float | str | None, ...]
    anchor: str | None = None


class Column(NamedTuple):
    """Hold a heading, and the names of what its values stand for in files of numbers."""

    heading: str
    fields: tuple[str, ...]
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """Hold a table. `note` says what its columns mean."""

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]


def text(shown: str) -> Value:
    return Value(shown, (shown,))


def nothing(fields: int) -> Value:
    """Return the entry of a column with that many fields where there is nothing to say."""
    return Value(UNKNOWN, (None,) * fields)


def integer(count: int) -> Value:
    return Value(f"{count:,}", (count,))


def figure(value: float) -> Value:
    return Value(number(value), (finite(value),))


def interval(value: float, low: float, high: float) -> Value:
    """Return a share near one with its interval."""
    shown = f"{value:.3f}" + ("" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]")
    return Value(UNKNOWN if math.isnan(value) else shown, (finite(value), finite(low), finite(high)))


def share(counted: Share) -> Value:
    """Return a share of episodes with its interval, in percent; four fields."""
    value, low, high, episodes = counted
    shown = f"{value:.1%} [{low:.1%}, {high:.1%}]"
    return Value(UNKNOWN if math.isnan(value) else shown, (finite(value), finite(low), finite(high), episodes))


def percent(value: float | None) -> Value:
    return nothing(1) if value is None or math.isnan(value) else Value(f"{value:.1%}", (finite(value),))


def confidence(value: float) -> Value:
    return Value("> 0.999" if value >= ALMOST else f"{value:.3f}", (value,))


def number(value: float) -> str:
    """Write three figures or more, without an exponent where it can be read."""
    size = abs(value)
    if math.isnan(value):
        return UNKNOWN
    if size >= 1e9:
        return f"{value:.3g}"
    return f"{value:,.0f}" if size >= 1_000 else f"{value:.1f}" if size >= 10 else f"{value:.3g}"
