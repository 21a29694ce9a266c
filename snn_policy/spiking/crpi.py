"""CRPI, cross-step residual potential initialisation: what a decision leaves over starts the next one.

Source: Xu et al., "Error Amplification Limits ANN-to-SNN Conversion in Continuous Control", arXiv 2601.21778;
the bound of the residual from below is this project's own (docs/methods.md §2).

    r = max(v[T] − v[0], −M)                      the residual of a decision, M the layer's net output in it
    v[0] = base + clip(α·r, −c·θ, +c·θ)           the next decision's start; r = 0 after an episode reset

Without the bound −M ("plain"), silent neurons carry negative charge that stands for no error.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from snn_policy.protocol import Array

ResidualRule = Literal["bounded", "plain"]
DEFAULT_ALPHA = 0.3
PILOT_ALPHAS = (0.3, 0.8)


def default_clip(model: str, coding: str) -> float:
    """Return c: 1/2 for IF and SNM under rate coding; 1/16 for MT and differential coding, unstable at 1/2."""
    return 0.5 if model != "mt" and coding == "rate" else 1 / 16


def start_potential(base: Array, residual: Array, alpha: float, bound: Array) -> Array:
    """Return v[0] of the next decision, (rows, neurons); `bound` is c·θ, (neurons,)."""
    xp = array_namespace(residual)
    return base + xp.minimum(xp.maximum(residual * alpha, -bound), bound)


def residual_potential(v_end: Array, v_start: Array, net: Array, rule: ResidualRule) -> Array:
    """Return r of the finished decision, (rows, neurons)."""
    difference = v_end - v_start
    return array_namespace(v_end).maximum(difference, -net) if rule == "bounded" else difference


def pilot_alpha(returns_at: Callable[[float], npt.NDArray[np.float64]]) -> float:
    """Choose α by a pilot (docs/methods.md §9): 0.8 if it beats 0.3 by more than the paired standard error, else 0.3.

    Args:
        returns_at: episode returns, (episodes,), of the policy with a given α, always on the same seeds.
    """
    low, high = PILOT_ALPHAS
    difference = returns_at(high) - returns_at(low)
    standard_error = difference.std(ddof=1) / np.sqrt(len(difference))
    return high if difference.mean() > standard_error else low
