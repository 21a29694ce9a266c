"""Walk episodes of the spiking policy and of its ANN once, and try the other's action in every state on the way.

In state s_k both policies decide; the environment takes one action, is restored, and takes the other. The walk goes on
from the action of the policy that it follows. Everything that asks for restored states (consistency, correction, drift,
return decomposition) is computed from these arrays. The policies are only asked through `step`, so that their own
memories stay as they are.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.environments import EnvironmentSource
from snn_policy.protocol import FloatArray, Policy

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Walk:
    """Hold one episode; first axis: the decision k. m is the size of what errors are measured in.

    That is the action itself (flat, in the environment's units) or, where actions are discrete, the last layer's
    values (Q or logits) less their mean over the choices of one action, which no choice depends on.

    Attributes:
        observations: (decisions, *observation_shape) of s_k.
        snn: (decisions, m) a_SNN(s_k); its memory has seen this episode's observations.
        ann: (decisions, m) a_ANN(s_k).
        snn_rewards: (decisions,) reward of the SNN's action in s_k.
        ann_rewards: (decisions,) reward of the ANN's action in s_k.
        ann_after_ann: (decisions, m) a_ANN(s), s reached from s_k by the ANN's action; NaN where the episode ends there.
        ann_after_snn: (decisions, m) a_ANN(s'), s' reached by the SNN's action.
        snn_after_snn: (decisions, m) a_SNN(s'), with the memory after decision k. NaN in a walk of the ANN's.
        changed: (decisions,) whether the two actions differ at all.
        terminated: whether it ended before its time limit.
    """

    observations: FloatArray
    snn: Floats
    ann: Floats
    snn_rewards: Floats
    ann_rewards: Floats
    ann_after_ann: Floats
    ann_after_snn: Floats
    snn_after_snn: Floats
    changed: npt.NDArray[np.bool_]
    terminated: bool

    @property
    def errors(self) -> Floats:
        """Return e_k = a_SNN(s_k) − a_ANN(s_k), (decisions, m)."""
        return self.snn - self.ann


@dataclass(frozen=True, eq=False)
class Walks:
    """Hold episodes of both policies; the i-th of each begins with seed + i.

    Attributes:
        environment: its name.
        snn: the episodes in which the spiking policy acted.
        ann: those in which the ANN did.
        discrete: whether errors are of the last layer's values instead of actions.
    """

    environment: str
    seed: int
    discrete: bool
    snn: tuple[Walk, ...]
    ann: tuple[Walk, ...]


def walk(
    actor: Actor, policy: Policy, env: EnvironmentSource, episodes: int = 10, seed: int = 0, *, progress: bool = False
) -> Walks:
    """Return that many episodes of each policy.

    Raises:
        CannotRestoreError: the environment's state cannot be restored exactly.
        ValueError: an environment that does not fit the policy.
    """
    raise NotImplementedError
