"""Means of per-decision figures with intervals that know that decisions of one episode are not independent.

Every interval is the percentile bootstrap over whole episodes, with a generator of fixed seed: the same figures always
give the same interval.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from snn_policy.evaluation.statistics import RESAMPLES, finite

MANY = 30
"""Values: how many a mean stands on is said where they are fewer."""


class Estimate(NamedTuple):
    """Hold a mean and its 95 % interval. NaN where there was nothing to measure.

    Attributes:
        episodes: in which there was something to measure.
        samples: values that the mean stands on: decisions in which the figure exists, segments of a spectrum, or whole
            episodes; None where nobody counted them.
    """

    mean: float
    interval: tuple[float, float]
    episodes: int
    samples: int | None = None

    @property
    def few(self) -> bool:
        """Return whether the mean stands on so few values that their number has to stand beside it."""
        return self.samples is not None and 0 < self.samples < MANY

    def as_dict(self) -> dict[str, object]:
        """Return what a JSON file keeps: numbers that do not exist are null there."""
        low, high = (finite(end) for end in self.interval)
        return {"mean": finite(self.mean), "interval": [low, high], "episodes": self.episodes}


def estimate(episodes: Sequence[npt.ArrayLike], seed: int = 0) -> Estimate:
    """Return the mean over all decisions of all episodes, with an interval that resamples whole episodes.

    `episodes` holds one array, (decisions,), per episode; NaN marks a decision in which the figure does not exist (an
    error of zero has no direction). An interval of a single episode is (NaN, NaN).
    """
    values = [np.asarray(episode, np.float64).ravel() for episode in episodes]
    sums = np.array([np.nansum(episode) for episode in values])
    counts = np.array([np.count_nonzero(~np.isnan(episode)) for episode in values], np.float64)
    told = int(np.count_nonzero(counts))
    if not told:
        return Estimate(float("nan"), (float("nan"), float("nan")), 0, 0)
    mean, samples = float(sums.sum() / counts.sum()), int(counts.sum())
    if told == 1:
        return Estimate(mean, (float("nan"), float("nan")), 1, samples)
    sums, counts = sums[counts > 0], counts[counts > 0]
    drawn = np.random.default_rng(seed).integers(told, size=(RESAMPLES, told))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(mean, (float(low), float(high)), told, samples)
