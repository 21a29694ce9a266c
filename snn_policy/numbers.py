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
