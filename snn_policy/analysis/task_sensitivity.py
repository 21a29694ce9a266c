"""Which action errors a task forgives: a constant one, a white one, a slow one of the same power, at several gains.

The ANN acts in the environment, and its action a_k is disturbed before it is carried out:

    a_k ← centre + gain · (a_k − centre + size · half-range · n_k), within the action's bounds

n_k has mean square 1 in every kind: `bias` a random sign per entry, constant over the episode; `white` Gaussian;
`low_passed` n_k = ρ·n_{k−1} + √(1−ρ²)·w_k, w white; `alternating` a random sign per entry that changes with every
decision. What a kind costs is measured against `none` at the same gain and seed. Where actions are discrete, the values
of the last layer are disturbed, size in half their RMS spread, and there is only the gain 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snn_policy.actor import Actor
from snn_policy.analysis.estimates import Estimate
from snn_policy.analysis.walks import Floats
from snn_policy.environments import EnvironmentSource

KINDS = ("none", "bias", "white", "low_passed", "alternating")
GAINS = (0.5, 1.0, 1.5)


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Hold rewards per decision, one array (decisions,) per episode, by (kind, gain)."""

    size: float
    rewards: Mapping[tuple[str, float], tuple[Floats, ...]]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return per cent of the return lost, by "KIND@GAIN": of a kind against `none` at that gain, of `none` against
        the gain 1; negative where something is gained."""
        raise NotImplementedError


def sensitivity(
    actor: Actor,
    env: EnvironmentSource,
    episodes: int = 10,
    seed: int = 0,
    *,
    size: float = 0.1,
    kinds: Sequence[str] = KINDS[1:],
    gains: Sequence[float] = GAINS,
    smoothing: float = 0.9,
    progress: bool = False,
) -> Sensitivity:
    """Return what the ANN's episodes give under each disturbance.

    Args:
        size: RMS of every entry's disturbance, in half-ranges of the action.
        smoothing: ρ of the low-passed kind.
    """
    raise NotImplementedError
