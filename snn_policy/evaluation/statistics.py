"""Summaries of a handful of heavy-tailed episode returns, with percentile-bootstrap intervals.

Every interval resamples episodes with a generator of fixed seed: the same returns always give the same interval.
The interquartile mean is the mean without the lowest and the highest quarter (Agarwal et al. 2021, rliable).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.protocol import Array

RESAMPLES = 5_000
FAILURE_MARGIN = 0.2
DRAWN_AT_ONCE = 2**20
"""Episodes that are drawn together: 8 MB of numbers."""

Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""(…, episodes) → (…): a summary along the last axis."""


def mean(returns: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.mean(np.asarray(returns, np.float64), axis=-1)


def error_of_mean(values: npt.NDArray[Any]) -> float:
    """Return the standard error of the mean of (N,) values, N ≥ 2: of paired differences, say."""
    return float(values.std(ddof=1) / np.sqrt(values.size))


def median(returns: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.median(np.asarray(returns, np.float64), axis=-1)


def interquartile_mean(returns: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the mean along the last axis less its lowest and highest quarter (each rounded down to whole episodes)."""
    ordered = np.sort(np.asarray(returns, np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def retention(ann: Array, snn: Array) -> Array:
    """Return 1 − (ANN − SNN)/|ANN|, elementwise: 1 when nothing is lost, also where returns are negative.

    Where the ANN's return is zero there is no share of it: 1 if the SNN's is zero too, else NaN.
    """
    ann, snn = np.asarray(ann, np.float64), np.asarray(snn, np.float64)
    with np.errstate(over="ignore"):  # a share of next to nothing is infinite
        lost = np.divide(ann - snn, np.abs(ann), out=np.where(snn == 0, 0.0, np.nan), where=ann != 0)
    return 1.0 - lost


def bootstrap_interval(statistic: Statistic, returns: npt.ArrayLike, seed: int = 0) -> tuple[float, float]:
    """Return 95 % interval of a statistic of these returns, resampling episodes."""
    return _central(over_resamples(statistic, (returns,), seed))


def retention_interval(
    statistic: Statistic, ann: npt.ArrayLike, snn: npt.ArrayLike, seed: int = 0
) -> tuple[float, float]:
    """Return 95 % interval of the retention of a statistic, resampling episodes in pairs of one seed."""
    return _central(over_resamples(lambda ann, snn: retention(statistic(ann), statistic(snn)), (ann, snn), seed))


def finite(value: float) -> float | None:
    """Return a number as files keep it: None where there is none."""
    return float(value) if math.isfinite(value) else None


def failures(returns: npt.ArrayLike, ann: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which episodes, (episodes,), are below the ANN's median return by more than 20 % of that median's size."""
    typical = float(median(ann))
    return np.asarray(returns) < typical - FAILURE_MARGIN * abs(typical)


def failed_share(returns: npt.ArrayLike, ann: npt.ArrayLike) -> float:
    """Return the share of `failures`."""
    return float(np.mean(failures(returns, ann)))


def over_resamples(
    statistic: Callable[..., npt.NDArray[np.float64]],
    returns: Sequence[npt.ArrayLike],
    seed: int | np.random.Generator = 0,
    resamples: int = RESAMPLES,
) -> npt.NDArray[np.float64]:
    """Return a statistic, (resamples, …), of resampled episodes; memory does not grow with the number of episodes.

    Args:
        statistic: of arrays (some of the resamples, episodes), one for each of `returns`.
        returns: (episodes,) each, in the order of the same seeds: all are drawn together.
        seed: or a generator that is used up as far as needed.
    """
    arrays = [np.asarray(values, np.float64) for values in returns]
    episodes, generator = len(arrays[0]), np.random.default_rng(seed)
    rows = max(1, DRAWN_AT_ONCE // episodes)
    found = []
    for first in range(0, resamples, rows):
        drawn = generator.integers(episodes, size=(min(rows, resamples - first), episodes))
        found.append(statistic(*(values[drawn] for values in arrays)))
    return np.concatenate(found)


def _central(samples: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)
