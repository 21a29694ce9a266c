"""Say whether a spiking policy loses less than δ of its ANN's return, and with what confidence.

The loss is 1 − retention of means, (ā − s̄)/|ā| of the returns a of the ANN and s of the SNN on the same seeds. That it
lies below x is tested in two ways, one-sided and paired by seed, and the lower confidence counts:

- Student's t of a_i − s_i − x·sgn(ā)·a_i, whose mean is negative if and only if the loss is below x (Fieller 1954 for
  the ratio; with loss > −δ it is the two one-sided tests, TOST, of Schuirmann 1987);
- the share of paired bootstrap resamples of episodes in which the loss is below x.

Neither sees failures that did not happen on these seeds: from n episodes without any, up to about 3/n may fail.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from snn_policy.evaluation.statistics import over_resamples

CONFIDENT = 0.95
FEWEST = 10
"""Episodes below which nothing is claimed."""
NORMAL_FROM = 10_000
"""Degrees of freedom from which Student's t is taken for a normal distribution."""
EQUIVALENT, NO_WORSE, WORSE, UNDECIDED, TOO_FEW = "equivalent", "no worse", "worse", "undecided", "too few episodes"
MEANING = {
    EQUIVALENT: "loss and gain are both below δ, each with 95 % confidence",
    NO_WORSE: "the loss is below δ with 95 % confidence; the gain may be larger",
    WORSE: "the loss is above δ with 95 % confidence",
    UNDECIDED: "these episodes decide neither",
    TOO_FEW: f"fewer than {FEWEST} episodes claim nothing",
}


class Equivalence(NamedTuple):
    """Hold what paired episodes say of a loss of return, as shares of the ANN's mean return.

    Attributes:
        loss: 1 − retention of means; NaN where the ANN's mean is zero.
        bound: the smallest δ whose loss could be claimed with 95 % confidence; None where there is none.
        confidence: that the loss is below δ.
        confidence_of_gain: that the loss is above −δ.
        confidence_of_loss: that the loss is above δ.
    """

    delta: float
    episodes: int
    loss: float
    bound: float | None
    confidence: float
    confidence_of_gain: float
    confidence_of_loss: float

    @property
    def below(self) -> bool:
        """Return whether the loss is below δ with 95 % confidence."""
        return self.verdict in (EQUIVALENT, NO_WORSE)

    @property
    def verdict(self) -> str:
        """Return one of the keys of `MEANING`."""
        if self.episodes < FEWEST:
            return TOO_FEW
        if self.confidence >= CONFIDENT:
            return EQUIVALENT if self.confidence_of_gain >= CONFIDENT else NO_WORSE
        return WORSE if self.confidence_of_loss >= CONFIDENT else UNDECIDED


def equivalence(ann: npt.ArrayLike, snn: npt.ArrayLike, delta: float, seed: int = 0) -> Equivalence:
    """Return what these returns, (episodes,) each and paired by seed, say of a loss of `delta`.

    Raises:
        ValueError: delta is no number in (0, 1).
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta {delta!r}: expected a share of the ANN's return between 0 and 1, such as 0.01")
    losses = _PairedLosses(ann, snn, seed)
    return Equivalence(
        delta,
        losses.episodes,
        losses.loss,
        losses.bound(),
        losses.confidence_below(delta),
        losses.confidence_above(-delta),
        losses.confidence_above(delta),
    )


class _PairedLosses:
    """Keep what both tests need: moments of the pairs, and the losses of resampled episodes."""

    def __init__(self, ann: npt.ArrayLike, snn: npt.ArrayLike, seed: int) -> None:
        a, s = np.asarray(ann, np.float64), np.asarray(snn, np.float64)
        self.episodes = len(a)
        self._difference, self._size = float(np.mean(a - s)), abs(float(np.mean(a)))
        self.loss = self._difference / self._size if self._size else math.nan
        self._pairs = a - s, math.copysign(1.0, float(np.mean(a))) * a
        self._resampled = over_resamples(_loss_of_means, (a, a - s), seed)

    def confidence_below(self, loss: float) -> float:
        """Return with what confidence the true loss is below this one."""
        if not math.isfinite(self.loss) or self.episodes < 2:
            return 0.0
        return min(self._student(loss), float(np.mean(self._resampled < loss)))

    def confidence_above(self, loss: float) -> float:
        if not math.isfinite(self.loss) or self.episodes < 2:
            return 0.0
        exact = self._spread(loss) == 0
        above = float(self.loss > loss) if exact else 1.0 - self._student(loss)
        return min(above, float(np.mean(self._resampled > loss)))

    def bound(self) -> float | None:
        """Return the smallest loss that the true one is below with 95 % confidence, to 1e-6; None: not below 100."""
        if not math.isfinite(self.loss) or self.episodes < 2:
            return None
        low, step = self.loss, 1e-6
        while self.confidence_below(low + step) < CONFIDENT:
            step *= 2
            if step > 100:
                return None
        high = low + step
        while high - low > 1e-6:
            middle = (low + high) / 2
            low, high = (low, middle) if self.confidence_below(middle) >= CONFIDENT else (middle, high)
        return high

    def _student(self, loss: float) -> float:
        """Return the confidence by Student's t."""
        excess, spread = self._difference - loss * self._size, self._spread(loss)
        if spread == 0:
            return float(excess < 0)
        return student_cdf(-excess / (spread / math.sqrt(self.episodes)), self.episodes - 1)

    def _spread(self, loss: float) -> float:
        differences, sizes = self._pairs
        return float(np.std(differences - loss * sizes, ddof=1))


def _loss_of_means(ann: npt.NDArray[np.float64], differences: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the losses, (resamples,), NaN where the ANN's mean is zero, of (resamples, episodes)."""
    means = np.abs(ann.mean(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(means > 0, differences.mean(axis=1) / means, np.nan)


def student_cdf(t: float, freedom: int) -> float:
    """Return P(T ≤ t) of Student's distribution with a whole number of degrees of freedom.

    The finite series of Abramowitz & Stegun 26.7.3 and 26.7.4.
    """
    if freedom > NORMAL_FROM:
        return 0.5 + math.erf(t / math.sqrt(2)) / 2
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    k = np.arange(1, max((freedom - 2 - odd) // 2, 0) + 1)
    factors = 2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k)
    series = 1.0 + float(np.cumprod(factors * cosine**2).sum())
    if odd:
        return 0.5 + (angle + (sine * cosine * series if freedom > 1 else 0.0)) / math.pi
    return 0.5 + sine * series / 2
