"""Checks of numbers that users and files give."""

from typing import Any

import numpy as np
import numpy.typing as npt


def require(condition: bool, message: str) -> None:
    """Raise `ValueError(message)` unless the condition holds."""
    if not condition:
        raise ValueError(message)


def whole(value: Any, low: int, high: int) -> bool:
    """Return whether the value is a whole number from low to high."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(low <= value <= high)


def at_least(least: int, **values: Any) -> None:
    """Raise `ValueError` naming the first value that is no whole number from `least` to 2³¹ − 1."""
    for name, value in values.items():
        if not whole(value, least, 2**31 - 1):
            raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def number(name: str, value: Any) -> float:
    """Return the value as a float; `ValueError` naming it where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError(f"{name} {value!r}: expected a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}: a whole number that no float holds") from None


def frozen_array(values: npt.ArrayLike, name: str, ndim: int | None = None) -> npt.NDArray[np.float32]:
    """Return a read-only float32 copy; `ValueError` if it holds NaN or infinity, or has another number of axes."""
    with np.errstate(over="ignore"):
        array = np.array(values, np.float32)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} axes, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: holds NaN or infinity")
    array.flags.writeable = False
    return array
