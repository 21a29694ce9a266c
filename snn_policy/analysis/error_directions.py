"""Whether a conversion's errors point the same way decision after decision, and whether the ANN turns them back.

    e_k = a_SNN(s_k) − a_ANN(s_k)                                   along episodes of the spiking policy
    consistency = mean cos(e_k, e_{k+1})
    correction  = mean cos(e_k, a_ANN(s') − a_ANN(s))
    drift       = mean cos(e_k, a_SNN(s') − a_ANN(s))

s' and s are the states reached from s_k by the SNN's and by the ANN's action. CRPI (Xu et al., arXiv 2601.21778).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from snn_policy.actor import Actor
from snn_policy.analysis.estimates import Estimate
from snn_policy.analysis.walks import Floats, Walks
from snn_policy.environments import EnvironmentSource
from snn_policy.protocol import Policy


@dataclass(frozen=True, eq=False)
class Consistency:
    """Hold cosines per decision: one array (decisions,) per episode; NaN where a vector is zero or there is none.

    Attributes:
        consistency, correction, drift: the cosines above.
        error: RMS of e_k over its entries, in half-ranges of the action (of discrete actions: in the values' own unit).
        changed: 1 where the two actions differ, else 0.
    """

    consistency: tuple[Floats, ...]
    correction: tuple[Floats, ...]
    drift: tuple[Floats, ...]
    error: tuple[Floats, ...]
    changed: tuple[Floats, ...]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return the mean of each attribute, by its name."""
        raise NotImplementedError


def consistency(
    actor: Actor,
    policy: Policy,
    env: EnvironmentSource,
    episodes: int = 10,
    seed: int = 0,
    *,
    walks: Walks | None = None,
    progress: bool = False,
) -> Consistency:
    """Return the cosines along episodes of the spiking policy.

    Args:
        walks: of the same actor, policy and environment, where they have been walked already.
    """
    raise NotImplementedError
