"""Measure whether a conversion's errors point the same way decision after decision, and whether the ANN corrects them.

    e_k = a_SNN(s_k) − a_ANN(s_k)                                   along episodes of the spiking policy
    consistency = mean cos(e_k, e_{k+1})
    correction  = mean cos(e_k, a_ANN(s') − a_ANN(s))
    drift       = mean cos(e_k, a_SNN(s') − a_ANN(s))

s' and s are the states reached from s_k by the SNN's and by the ANN's action. Vectors are of actions in the
environment's own units, as in the paper; where actions are discrete, of the last layer's values (`walks.Walk`), and s'
is s wherever both choose alike, so that correction and drift exist only where they do not. Xu et al., arXiv 2601.21778.
"""

from dataclasses import dataclass, fields

import numpy as np

from snn_policy.actor import Actor
from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.walks import Floats, Walk, Walks, cosines, differences, walk
from snn_policy.environments import EnvironmentSource
from snn_policy.protocol import Policy


@dataclass(frozen=True, eq=False)
class Consistency:
    """Hold figures per decision, one array per episode: (decisions,), of pairs of decisions (decisions − 1,).

    NaN where a vector is zero or there is none.

    Attributes:
        consistency, correction, drift: the cosines above.
        beside_ann: cos(e_k, e_{k+1}) along the ANN's episodes, in which the spiking policy decides and does not act:
            errors that are only consistent in states which they have led to are not so here.
        error: RMS of e_k over its entries, in half-ranges of the action (`walks.Walks.unit`).
        changed: 1 where the two actions differ, else 0.
    """

    consistency: tuple[Floats, ...]
    correction: tuple[Floats, ...]
    drift: tuple[Floats, ...]
    beside_ann: tuple[Floats, ...]
    error: tuple[Floats, ...]
    changed: tuple[Floats, ...]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return the mean of each attribute, by its name."""
        return {field.name: estimate(getattr(self, field.name)) for field in fields(self)}


def consistency(
    actor: Actor,
    policy: Policy,
    env: EnvironmentSource,
    episodes: int = 10,
    seed: int = 0,
    *,
    decisions: int | None = None,
    walks: Walks | None = None,
    progress: bool = False,
) -> Consistency:
    """Return the cosines along episodes of the spiking policy.

    Args:
        decisions: see `walks.walk`, as for what it raises.
        walks: of the same actor, policy and environment, where they have been walked already.
    """
    walks = walks or walk(actor, policy, env, episodes, seed, decisions=decisions, progress=progress)
    return Consistency(
        consistency=tuple(cosines(episode.errors[:-1], episode.errors[1:]) for episode in walks.snn),
        correction=tuple(_change(episode, episode.ann_after_snn) for episode in walks.snn),
        drift=tuple(_drift(episode) for episode in walks.snn),
        beside_ann=tuple(cosines(episode.errors[:-1], episode.errors[1:]) for episode in walks.ann),
        error=tuple(np.sqrt(np.mean((episode.errors / walks.unit) ** 2, axis=1)) for episode in walks.snn),
        changed=tuple(episode.changed.astype(np.float64) for episode in walks.snn),
    )


def _change(episode: Walk, after: Floats) -> Floats:
    return cosines(episode.errors, differences(after, episode.ann_after_ann))


def _drift(episode: Walk) -> Floats:
    drift = _change(episode, episode.snn_after_snn)
    same_state = (episode.ann_after_snn == episode.ann_after_ann).all(axis=1) & ~episode.changed
    return np.where(same_state, np.nan, drift)
