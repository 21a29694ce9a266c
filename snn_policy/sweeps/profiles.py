"""Summaries over actors: performance profiles, the probability of doing at least as well, the mean retention.

A *score* is the retention of one episode, 1 − (ā − s)/|ā|, by the mean ā of the ANN's returns on the same seeds: its
mean over episodes is the retention of means. Actors (each in its environment) are the tasks of Agarwal et al. 2021
(rliable), episodes their runs; every actor weighs the same, and resamples are stratified: episodes are drawn within
their actor, in pairs of one seed, so that the uncertainty of ā is in every interval.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from snn_policy.evaluation import statistics
from snn_policy.evaluation.statistics import over_resamples

Floats = npt.NDArray[np.float64]
Pair = tuple[npt.ArrayLike, npt.ArrayLike]
"""Returns of an ANN and of the policy that is compared with it, (episodes,) each, in the order of the same seeds."""
PROFILE_RESAMPLES = 2_000
TIE = 1e-9
"""A score that is lower than τ by this share of |ā| reaches it: sums of floats round."""
NORMAL_975 = 1.959963984540054


class PerformanceProfile(NamedTuple):
    """Hold the share of runs whose score is at least τ, with a pointwise 95 % band. All (thresholds,).

    Attributes:
        actors: over how many; those whose ANN returns zero on average have no scores, and are left out.
    """

    thresholds: Floats
    share: Floats
    low: Floats
    high: Floats
    actors: int


class Share(NamedTuple):
    """Hold a share of episodes and its 95 % interval. `episodes` is how many it was counted over."""

    share: float
    low: float
    high: float
    episodes: int


class Mean(NamedTuple):
    """Hold a mean over actors and its 95 % interval."""

    mean: float
    low: float
    high: float
    actors: int


def performance_profile(pairs: Sequence[Pair], thresholds: npt.ArrayLike, seed: int = 0) -> PerformanceProfile:
    """Return the performance profile over actors, a pair of returns for each.

    rliable counts scores above τ; here those that equal τ count, so that an exact copy reaches 1. Without any actor all
    values are NaN.
    """
    wanted = np.asarray(thresholds, np.float64)
    scored = [(np.asarray(a, np.float64), np.asarray(s, np.float64)) for a, s in pairs]
    scored = [(ann, snn) for ann, snn in scored if np.mean(ann) != 0]
    if not scored:
        nothing = np.full(wanted.shape, np.nan)
        return PerformanceProfile(wanted, nothing, nothing, nothing, 0)
    generator = np.random.default_rng(seed)
    shares = [_reached(ann[None], snn[None], wanted)[0] for ann, snn in scored]
    resampled = np.zeros((PROFILE_RESAMPLES, len(wanted)))
    for ann, snn in scored:
        resampled += over_resamples(partial(_reached, thresholds=wanted), (ann, snn), generator, PROFILE_RESAMPLES)
    resampled /= len(scored)
    low, high = np.quantile(resampled, (0.025, 0.975), axis=0)
    return PerformanceProfile(wanted, np.mean(shares, axis=0), low, high, len(scored))


def _retention_of_means(ann: Floats, snn: Floats) -> Floats:
    return np.asarray(statistics.retention(ann.mean(axis=1), snn.mean(axis=1)))


def _reached(ann: Floats, returns: Floats, thresholds: Floats) -> Floats:
    """Return the share of episodes that reach each threshold, (resamples, thresholds), of (resamples, episodes)."""
    means = ann.mean(axis=1, keepdims=True)
    least = means + (thresholds - 1 - TIE) * np.abs(means)
    ordered = np.sort(returns, axis=1)
    below = [np.searchsorted(row, wanted) for row, wanted in zip(ordered, least, strict=True)]
    return 1.0 - np.array(below) / returns.shape[1]


def wilson(share: float, episodes: float) -> tuple[float, float]:
    """Return the 95 % interval of a share of independent episodes (Wilson 1927), which holds at 0 and 1 too."""
    z = NORMAL_975
    centre = (share + z * z / (2 * episodes)) / (1 + z * z / episodes)
    reach = z / (1 + z * z / episodes) * math.sqrt(share * (1 - share) / episodes + z * z / (4 * episodes**2))
    low, high = max(0.0, centre - reach), min(1.0, centre + reach)
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def share_of(counted: npt.ArrayLike) -> Share:
    """Return the share of episodes, (episodes,) booleans, in which something happened."""
    episodes = np.asarray(counted, np.bool_)
    share = float(episodes.mean())
    return Share(share, *wilson(share, len(episodes)), len(episodes))


def at_least_as_good(pair: Pair) -> Share:
    """Return the share of seeds on which the policy returns at least what its ANN returns.

    1 for a copy. A policy that is as good, but takes another way, wins and loses by chance: about 0.5.
    """
    ann, snn = pair
    return share_of(np.asarray(snn, np.float64) >= np.asarray(ann, np.float64))


def share_over_actors(shares: Sequence[Share]) -> Share:
    """Return the mean of shares, every actor weighing the same; NaN without any.

    The interval is Wilson's at the number of episodes whose variance is that of the mean: 1/Σ (w²/n).
    """
    if not shares:
        return Share(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean([share.share for share in shares]))
    effective = len(shares) ** 2 / sum(1 / share.episodes for share in shares)
    return Share(mean, *wilson(mean, effective), sum(share.episodes for share in shares))


def mean_retention(pairs: Sequence[Pair], seed: int = 0) -> Mean:
    """Return the mean over actors of their retention of means, with a stratified bootstrap interval."""
    arrays = [(np.asarray(a, np.float64), np.asarray(s, np.float64)) for a, s in pairs]
    arrays = [(ann, snn) for ann, snn in arrays if np.mean(ann) != 0]
    if not arrays:
        return Mean(math.nan, math.nan, math.nan, 0)
    generator = np.random.default_rng(seed)
    kept = [float(statistics.retention(ann.mean(), snn.mean())) for ann, snn in arrays]
    resampled = np.zeros(PROFILE_RESAMPLES)
    for ann, snn in arrays:
        resampled += over_resamples(_retention_of_means, (ann, snn), generator, PROFILE_RESAMPLES) / len(arrays)
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Mean(float(np.mean(kept)), float(low), float(high), len(arrays))
