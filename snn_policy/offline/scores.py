"""D4RL's normalised scores: 0 is its random policy, 100 its expert, per task.

The reference returns are those published with D4RL (Fu et al. 2020, `d4rl/infos.py`), measured on the v2
environments of its day. The environments here are v5: the same robots with small differences in physics, contact
forces and, for Hopper and Walker2d, in how reward and termination are written. Scores are therefore comparable
with published ones in size, not to the decimal.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NOTE = "scores: D4RL's reference returns of its v2 environments (0 random, 100 expert); the environments here are v5"


@dataclass(frozen=True)
class ReferenceReturns:
    """Hold mean undiscounted episode returns of D4RL's random policy and of its expert."""

    random: float
    expert: float


D4RL_REFERENCES = {
    "HalfCheetah": ReferenceReturns(-280.178953, 12135.0),
    "Hopper": ReferenceReturns(-20.272305, 3234.3),
    "Walker2d": ReferenceReturns(1.629008, 4592.3),
    "Ant": ReferenceReturns(-325.6, 3879.7),
}


def reference_returns(env_id: str | None) -> ReferenceReturns | None:
    """Return D4RL's references for a Gymnasium id of any version, such as HalfCheetah-v5; None where D4RL has none."""
    return D4RL_REFERENCES.get((env_id or "").rpartition("-v")[0])


def normalised_score(env_id: str | None, returns: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return 100 · (return − random) / (expert − random), elementwise, in the shape of `returns`.

    Raises:
        ValueError: a task without D4RL reference returns.
    """
    references = _required(env_id)
    return 100 * (np.asarray(returns, np.float64) - references.random) / (references.expert - references.random)


def score_to_return(env_id: str | None, scores: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return the inverse of `normalised_score`."""
    references = _required(env_id)
    return np.asarray(scores, np.float64) / 100 * (references.expert - references.random) + references.random


def _required(env_id: str | None) -> ReferenceReturns:
    references = reference_returns(env_id)
    if references is None:
        raise ValueError(f"{env_id}: no D4RL reference returns; there are {', '.join(D4RL_REFERENCES)}")
    return references
