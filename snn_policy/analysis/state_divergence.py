"""Measure how fast states of the spiking policy leave those of the ANN from a common start, beside the ANN's own chaos.

    d_k = √(mean over entries of ((o_k − o'_k) / σ)²)

o and o' are observations of two episodes of one seed at the same decision, σ each entry's standard deviation along the
ANN's episodes. Yardsticks: the ANN whose first action is disturbed a little, and two ANN episodes of different seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snn_policy.actor import Actor
from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.last_values import Decider
from snn_policy.analysis.replayed import make_restorable
from snn_policy.analysis.walks import Alter, Floats, Walks, ann_episode, walk
from snn_policy.environments import EnvironmentSource
from snn_policy.observations import EnvironmentRow
from snn_policy.progress import counting
from snn_policy.protocol import FloatArray, Policy


@dataclass(frozen=True, eq=False)
class Divergence:
    """Hold distances d_k, one array (decisions,) per episode, as long as the shorter of the two episodes.

    Attributes:
        disturbance: of the ANN's first action, in half-ranges.
        snn: of the spiking policy from the ANN.
        disturbed: of the ANN from itself, its first action disturbed (a discrete one replaced by another).
        unrelated: of the ANN from itself with the next seed: about the most that there can be; NaN for one episode.
    """

    disturbance: float
    snn: tuple[Floats, ...]
    disturbed: tuple[Floats, ...]
    unrelated: tuple[Floats, ...]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return the mean distances by their names, and `snn_half_way`, `disturbed_half_way`: decisions until the
        distance first exceeds half of the mean `unrelated` one (the episode's length where it never does; NaN where
        there are no unrelated episodes, or none that differ)."""
        means = {name: estimate(getattr(self, name)) for name in ("snn", "disturbed", "unrelated")}
        half = means["unrelated"].mean / 2
        ways = {
            f"{name}_half_way": estimate([[_first_above(distance, half)] for distance in getattr(self, name)])
            for name in ("snn", "disturbed")
        }
        return {**means, **ways}


def divergence(
    actor: Actor,
    policy: Policy,
    env: EnvironmentSource,
    episodes: int = 10,
    seed: int = 0,
    *,
    disturbance: float = 1e-3,
    decisions: int | None = None,
    walks: Walks | None = None,
    progress: bool = False,
) -> Divergence:
    """Return distances over time from common starts.

    Args:
        decisions: see `walks.walk`, as for what it raises.
        walks: of the same actor, policy and environment, where they have been walked already.
    """
    walks = walks or walk(actor, policy, env, episodes, seed, decisions=decisions, progress=progress)
    ann = [episode.observations for episode in walks.ann]
    disturbed = _disturbed(actor, env, walks, disturbance, decisions, progress)
    spread = np.concatenate(ann).std(axis=0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1.0)
    unrelated = _distances(ann, [*ann[1:], ann[0]], spread) if len(ann) > 1 else (np.full(len(ann[0]), np.nan),)
    return Divergence(
        disturbance=disturbance,
        snn=_distances(ann, [episode.observations for episode in walks.snn], spread),
        disturbed=_distances(ann, disturbed, spread),
        unrelated=unrelated,
    )


def _disturbed(
    actor: Actor, env: EnvironmentSource, walks: Walks, disturbance: float, decisions: int | None, progress: bool
) -> list[FloatArray]:
    """Return the observations of ANN episodes of the same seeds whose first action is disturbed."""
    ann, found = Decider(actor, actor), list[FloatArray]()
    environment = make_restorable(env, actor)
    try:
        environment.reset(seed=walks.seed)
        row = EnvironmentRow(environment, actor.observation_shape)
        with counting("disturbing", len(walks.ann), progress) as advance:
            for episode in range(len(walks.ann)):
                alter = _first_action(actor, disturbance, np.random.default_rng((walks.seed, episode)))
                found.append(ann_episode(row, ann, walks.seed + episode, alter, decisions)[0])
                advance()
    finally:
        environment.close()
    return found


def _first_action(actor: Actor, disturbance: float, random: np.random.Generator) -> Alter:
    head = actor.head

    def alter(decision: int, action: Floats, values: Floats) -> object:
        if decision:
            return action
        if head.discrete:
            choices = np.asarray(head.choices if head.action_shape else head.outputs)
            return np.asarray((action + random.integers(1, np.maximum(choices, 2))) % choices, np.int64)[()]
        signs = np.where(random.random(action.shape) < 0.5, -1.0, 1.0)
        moved = action + disturbance * signs * head.half_range()
        outside = (moved < head.low) | (moved > head.high)
        return np.where(outside, action - disturbance * signs * head.half_range(), moved).astype(np.float32)

    return alter


def _distances(ones: Sequence[FloatArray], others: Sequence[FloatArray], spread: Floats) -> tuple[Floats, ...]:
    found: list[Floats] = []
    for one, other in zip(ones, others, strict=True):
        count = min(len(one), len(other))
        difference = (one[:count].astype(np.float64) - other[:count]) / spread
        found.append(np.sqrt(np.mean(difference.reshape(count, -1) ** 2, axis=1)))
    return tuple(found)


def _first_above(distance: Floats, limit: float) -> float:
    if not limit > 0:
        return float("nan")
    above = np.flatnonzero(distance > limit)
    return float(above[0]) if len(above) else float(len(distance))
