"""Measure what a conversion costs by its actions alone, and what by the states that they lead to.

R(π, P): mean reward of policy π's action in the states that policy P visits (restored, one step). Per pair of episodes
of one seed, with lengths L and mean rewards R, in per cent of the ANN's mean return:

    policy       = L_ANN · (R(ANN, ANN) − R(SNN, ANN))
    states       = L_ANN · (R(ANN, ANN) − R(ANN, SNN))
    interaction  = L_ANN · (R(SNN, ANN) + R(ANN, SNN) − R(ANN, ANN) − R(SNN, SNN))
    length       = (L_ANN − L_SNN) · R(SNN, SNN)

Their sum is what the conversion loses. The paper has the first two: Xu et al., arXiv 2601.21778.
"""

from dataclasses import dataclass, fields

import numpy as np

from snn_policy.actor import Actor
from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.walks import Floats, Walks, walk
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
    def costs(self) -> dict[str, Floats]:
        """Return `policy`, `states`, `interaction`, `length` and their sum `lost`, (episodes,), in per cent of the
        ANN's mean return; NaN where that is zero. Negative: something is gained."""
        ann, alone, elsewhere, snn = (
            np.array([rewards.mean() for rewards in getattr(self, field.name)]) for field in fields(self)
        )
        steps = np.array([len(rewards) for rewards in self.ann_in_ann], np.float64)
        fewer = steps - [len(rewards) for rewards in self.snn_in_snn]
        parts = {
            "policy": steps * (ann - alone),
            "states": steps * (ann - elsewhere),
            "interaction": steps * (alone + elsewhere - ann - snn),
            "length": fewer * snn,
        }
        parts["lost"] = sum(parts.values(), np.zeros(len(steps)))
        size = abs(float(np.mean(steps * ann)))
        return {name: 100 * part / size if size else np.full(len(steps), np.nan) for name, part in parts.items()}

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return the four mean rewards per decision by their names; `costs` by theirs; and of both policies' episodes
        `ann_return`, `snn_return`, `ann_length` and `snn_length`."""
        means = {field.name: estimate(getattr(self, field.name)) for field in fields(self)}
        totals = {
            f"{name}_{what}": estimate([[of(rewards)] for rewards in getattr(self, f"{name}_in_{name}")])
            for what, of in (("return", np.sum), ("length", len))
            for name in ("ann", "snn")
        }
        return {**means, **{name: estimate(list(part[:, None])) for name, part in self.costs.items()}, **totals}


def decomposition(
    actor: Actor,
    policy: Policy,
    env: EnvironmentSource,
    episodes: int = 10,
    seed: int = 0,
    *,
    decisions: int | None = None,
    walks: Walks | None = None,
    progress: bool = False,
) -> Decomposition:
    """Return the rewards of both policies' actions in both policies' states.

    Args:
        decisions: see `walks.walk`, as for what it raises.
        walks: of the same actor, policy and environment, where they have been walked already.
    """
    walks = walks or walk(actor, policy, env, episodes, seed, decisions=decisions, progress=progress)
    return Decomposition(
        ann_in_ann=tuple(episode.ann_rewards for episode in walks.ann),
        snn_in_ann=tuple(episode.snn_rewards for episode in walks.ann),
        ann_in_snn=tuple(episode.ann_rewards for episode in walks.snn),
        snn_in_snn=tuple(episode.snn_rewards for episode in walks.snn),
    )
