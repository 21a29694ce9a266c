"""What a conversion costs by its actions alone, and what by the states that they lead to.

R(π, P): mean reward of policy π's action in the states that policy P visits (restored, one step). Per episode pair of
one seed, with lengths L and mean rewards R, in per cent of the ANN's mean return:

    policy       = L_ANN · (R(ANN, ANN) − R(SNN, ANN))
    states       = L_ANN · (R(ANN, ANN) − R(ANN, SNN))
    interaction  = L_ANN · (R(SNN, ANN) + R(ANN, SNN) − R(ANN, ANN) − R(SNN, SNN))
    length       = (L_ANN − L_SNN) · R(SNN, SNN)

Their sum is what the conversion loses. CRPI (Xu et al., arXiv 2601.21778) has the first two.
"""

from dataclasses import dataclass

from snn_policy.actor import Actor
from snn_policy.analysis.estimates import Estimate
from snn_policy.analysis.walks import Floats, Walks
from snn_policy.environments import EnvironmentSource
from snn_policy.protocol import Policy


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Hold rewards per decision, one array (decisions,) per episode.

    Attributes:
        ann_in_ann, snn_in_ann: of each policy's action in the states of the ANN's episodes.
        ann_in_snn, snn_in_snn: in the states of the SNN's episodes.
    """

    ann_in_ann: tuple[Floats, ...]
    snn_in_ann: tuple[Floats, ...]
    ann_in_snn: tuple[Floats, ...]
    snn_in_snn: tuple[Floats, ...]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return the four mean rewards by their names; `policy`, `states`, `interaction`, `length`, `lost` in per cent;
        and `ann_return`, `snn_return`, `ann_length`, `snn_length`."""
        raise NotImplementedError


def decomposition(
    actor: Actor,
    policy: Policy,
    env: EnvironmentSource,
    episodes: int = 10,
    seed: int = 0,
    *,
    walks: Walks | None = None,
    progress: bool = False,
) -> Decomposition:
    """Return the rewards of both policies' actions in both policies' states.

    Args:
        walks: of the same actor, policy and environment, where they have been walked already.
    """
    raise NotImplementedError
