"""Checks of numbers that users and files give."""

from typing import Any

import numpy as np


def require(condition: bool, message: str) -> None:
    """`ValueError(message)` unless the condition holds."""
    if not condition:
        raise ValueError(message)


def whole(value: Any, low: int, high: int) -> bool:
    """Whether the value is a whole number from low to high."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(low <= value <= high)


def number(name: str, value: Any) -> float:
    """The value as a float; `ValueError` naming it where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"{name} {value!r}: expected a number")
    return float(value)
