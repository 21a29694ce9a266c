"""Summaries of a handful of heavy-tailed episode returns, with percentile-bootstrap intervals.

Every interval resamples episodes with a generator of fixed seed: the same returns always give the same interval.
The interquartile mean is the mean without the lowest and the highest quarter (Agarwal et al. 2021, rliable).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from snn_policy.protocol import Array

RESAMPLES = 5_000
FAILURE_MARGIN = 0.2

Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""(…, episodes) → (…): a summary along the last axis."""


def mean(returns: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return np.mean(np.asarray(returns, np.float64), axis=-1)


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
    lost = np.divide(ann - snn, np.abs(ann), out=np.where(snn == 0, 0.0, np.nan), where=ann != 0)
    return 1.0 - lost


def bootstrap_interval(statistic: Statistic, returns: npt.ArrayLike, seed: int = 0) -> tuple[float, float]:
    """Return 95 % interval of a statistic of these returns, resampling episodes."""
    values = np.asarray(returns, np.float64)
    return _central(statistic(values[_resamples(len(values), seed)]))


def retention_interval(
    statistic: Statistic, ann: npt.ArrayLike, snn: npt.ArrayLike, seed: int = 0
) -> tuple[float, float]:
    """Return 95 % interval of the retention of a statistic, resampling episodes in pairs of one seed."""
    ann, snn = np.asarray(ann, np.float64), np.asarray(snn, np.float64)
    drawn = _resamples(len(ann), seed)
    return _central(retention(statistic(ann[drawn]), statistic(snn[drawn])))


def failures(returns: npt.ArrayLike, ann: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which episodes, (episodes,), are below the ANN's median return by more than 20 % of that median's size."""
    typical = float(median(ann))
    return np.asarray(returns) < typical - FAILURE_MARGIN * abs(typical)


def failed_share(returns: npt.ArrayLike, ann: npt.ArrayLike) -> float:
    """Return the share of `failures`."""
    return float(np.mean(failures(returns, ann)))


def _resamples(episodes: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(episodes, size=(RESAMPLES, episodes))


def _central(samples: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)
