"""A sequential test: does a spiking policy keep the ANN's return on the same episodes, and fail no more often?

Group-sequential with Pocock's constant bound (Pocock 1977; Jennison & Turnbull 2000, §2.4): after every block of 20
episodes, at most ten times, two scores are looked at. With d the paired losses ANN − SNN, δ a share of |mean ANN|:

    z = (mean d − δ·|mean ANN|) / (std d / √n)        of the mean loss
    f = (b − c) / √(b + c)                            of failures; b: only the SNN failed, c: only the ANN did

A candidate is rejected as soon as z or f is above 2.3, and accepted as soon as z is below −2.3 and b ≤ c, but not
before 100 episodes: fewer say little about rare failures. After the last block it is accepted if z ≤ 0.3 and f ≤ 2 (of
200 episodes four failures more than the ANN, where that never fails). Of ten looks at a loss of exactly δ one crosses
2.3 on the one side in 5 % of all cases. With δ of 1 % no loss is accepted in 90 %, a loss of 3 % in 5 % of all cases as
long as the standard deviation of d is at most 14 % of the mean. An episode has failed if it is below the ANN's median
by more than 20 % of its size.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.evaluation.statistics import error_of_mean, failures

BLOCK, MOST_EPISODES, LEAST_TO_ACCEPT = 20, 200, 100
BOUND, LAST_LOSS_BOUND, LAST_FAILURE_BOUND = 2.3, 0.3, 2.0
DEFAULT_DELTA = 0.01


@dataclass(frozen=True)
class Verdict:
    """Hold what is known after so many pairs of episodes.

    Attributes:
        accepted: None where it is not decided yet.
        reason: one line.
        loss: mean paired loss as a share of the ANN's mean's size; `standard_error`: of it.
        failed, ann_failed: shares of the episodes.
    """

    accepted: bool | None
    reason: str
    episodes: int
    loss: float
    standard_error: float
    failed: float
    ann_failed: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON data."""
        return asdict(self)


def judge(ann: npt.ArrayLike, snn: npt.ArrayLike, delta: float = DEFAULT_DELTA, most: int = MOST_EPISODES) -> Verdict:
    """Judge the episodes so far.

    Args:
        ann, snn: (episodes,) returns on the same seeds, at least two.
        delta: the loss that is allowed, as a share of the ANN's mean return's size.
        most: episodes after which it is decided anyhow.
    """
    ann, snn = np.asarray(ann, np.float64), np.asarray(snn, np.float64)
    count, size = len(ann), abs(float(ann.mean()))
    losses = ann - snn
    mean, error = float(losses.mean()), error_of_mean(losses)
    failed, ann_failed = failures(snn, ann), failures(ann, ann)
    only_snn, only_ann = int((failed & ~ann_failed).sum()), int((ann_failed & ~failed).sum())
    accepted, reason = _decision(
        _score(mean - delta * size, error), _score(only_snn - only_ann, np.sqrt(only_snn + only_ann)), count, most
    )
    unit = size or 1.0
    shares = float(failed.mean()), float(ann_failed.mean())
    return Verdict(accepted, reason, count, mean / unit, error / unit, *shares)


def _score(excess: float, error: float) -> float:
    """Return excess / error; without any spread the sign alone, for ever certain. Nothing in excess: nothing lost."""
    if error > 0:
        return float(excess / error)
    return np.inf if excess > 0 else (-np.inf if excess < 0 else 0.0)


def _decision(loss: float, failing: float, count: int, most: int) -> tuple[bool | None, str]:
    if loss > BOUND:
        return False, "the mean return is lower by more than delta"
    if failing > BOUND:
        return False, "more episodes fail than with the ANN"
    if count < most:
        if count >= min(LEAST_TO_ACCEPT, most) and loss < -BOUND and failing <= 0:
            return True, "the mean return is kept within delta, and no more episodes fail"
        return None, "not decided yet"
    if loss > LAST_LOSS_BOUND:
        return False, "after the last episode the mean return is lower by more than delta"
    if failing > LAST_FAILURE_BOUND:
        return False, "after the last episode more episodes fail than with the ANN"
    return True, "after the last episode the mean return is kept within delta, and no more episodes fail"
