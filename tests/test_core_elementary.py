"""The core's own exp, expm1, tanh, erf, log1p and square root: at most 2 units in the last place from the true one."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from snn_policy.engines.core import library

FUNCTIONS: dict[str, tuple[Callable[[Any], Any], float, float]] = {
    "exp": (np.exp, -103.9, 88.7),
    "expm1": (np.expm1, -1e30, 88.7),
    "tanh": (np.tanh, -1e30, 1e30),
    "erf": (np.vectorize(math.erf), -1e30, 1e30),
    "log1p": (np.log1p, np.nextafter(np.float32(-1), np.float32(0)), 1e30),
    "sqrt": (np.sqrt, float(np.finfo(np.float32).tiny), 3.4028235e38),
}
"""By their numbers in the library: the true function, and where it is asked for."""


def evaluate(name: str, x: Any) -> Any:
    y = np.empty_like(x)
    library.core().elementary(list(FUNCTIONS).index(name), x.ctypes.data, y.ctypes.data, len(x))
    return y


def arguments(low: float, high: float, apart: int) -> Any:
    """Every so many-th float32 of either sign within the bounds."""
    bits = np.arange(0, 0x7F800000, apart, dtype=np.uint32)
    x = np.concatenate([bits, bits | np.uint32(0x80000000)]).view(np.float32)
    return np.ascontiguousarray(x[(x >= low) & (x <= high)])


def units(y: Any, true: Any) -> Any:
    """|y − true| in units in the last place of the true value."""
    place = np.maximum(np.spacing(abs(true.astype(np.float32))).astype(np.float64), 2.0**-149)
    return abs(y - true) / place


@pytest.mark.parametrize("name", FUNCTIONS)
def test_at_most_two_units_in_the_last_place(name: str) -> None:
    function, low, high = FUNCTIONS[name]
    x = arguments(low, high, 20_011 if name == "erf" else 1_009)
    assert units(evaluate(name, x), function(x.astype(np.float64))).max() <= 2


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_seams_between_formulas_are_as_good(name: str) -> None:
    function, low, high = FUNCTIONS[name]
    seams = (0.65, 1.0, 4.0, math.sqrt(2) - 1, math.log(2) / 2, 17.3)
    near = [seam + beside for seam in seams for beside in np.linspace(-0.01, 0.01, 4001)]
    x = np.array([sign * values for values in near for sign in (1, -1)], np.float32)
    x = np.ascontiguousarray(x[(x >= low) & (x <= high)])
    assert units(evaluate(name, x), function(x.astype(np.float64))).max() <= 2


def test_what_is_exact_stays_exact() -> None:
    zero = np.zeros(1, np.float32)
    assert evaluate("exp", zero)[0] == 1
    for name in ("expm1", "tanh", "erf", "log1p"):
        assert evaluate(name, zero)[0] == 0
    far = np.array([-200, 200], np.float32)
    assert evaluate("tanh", far).tolist() == evaluate("erf", far).tolist() == [-1, 1]
    assert evaluate("expm1", far[:1])[0] == -1
    assert evaluate("exp", far).tolist() == [0, np.inf]
