"""How fast states of the spiking policy leave those of the ANN from a common start, beside the ANN's own chaos.

    d_k = √(mean over entries of ((o_k − o'_k) / σ)²)

o and o' are observations of two episodes of one seed at the same decision, σ each entry's standard deviation along the
ANN's episodes. Yardsticks: the ANN whose first action is disturbed a little, and two ANN episodes of different seeds.
"""

from dataclasses import dataclass

from snn_policy.actor import Actor
from snn_policy.analysis.estimates import Estimate
from snn_policy.analysis.walks import Floats, Walks
from snn_policy.environments import EnvironmentSource
from snn_policy.protocol import Policy


@dataclass(frozen=True, eq=False)
class Divergence:
    """Hold distances d_k, one array (decisions,) per episode, as long as the shorter of the two episodes.

    Attributes:
        snn: of the spiking policy from the ANN.
        disturbed: of the ANN from itself, its first action disturbed by `disturbance` half-ranges (a discrete one
            replaced by another).
        unrelated: of the ANN from itself with the next seed: about the most that there can be.
    """

    disturbance: float
    snn: tuple[Floats, ...]
    disturbed: tuple[Floats, ...]
    unrelated: tuple[Floats, ...]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return the mean distances by their names, and `snn_half_way`, `disturbed_half_way`: decisions until the
        distance first exceeds half of the mean `unrelated` one (the episode's length where it never does)."""
        raise NotImplementedError


def divergence(
    actor: Actor,
    policy: Policy,
    env: EnvironmentSource,
    episodes: int = 10,
    seed: int = 0,
    *,
    disturbance: float = 1e-3,
    walks: Walks | None = None,
    progress: bool = False,
) -> Divergence:
    """Return distances over time from common starts.

    Args:
        walks: of the same actor, policy and environment, where they have been walked already.
    """
    raise NotImplementedError
