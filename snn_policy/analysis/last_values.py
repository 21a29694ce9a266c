"""Ask any policy for its action and for what its errors are measured in, without touching its memory.

Continuous actions are that themselves. A discrete action hides almost all of an error, so there it is the last layer's
values (Q or logits), less their mean over the choices of one action, which no choice depends on: they come from the
same network with a head that passes them on.
"""

import copy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.layers import Head
from snn_policy.checks import require
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import FloatArray, Policy
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.stateful import StatefulPolicy


class Decided(NamedTuple):
    """Hold a decision: the action for the environment, (m,) float64 values, and the memory after it."""

    action: npt.NDArray[Any]
    values: npt.NDArray[np.float64]
    state: Any


class Decider:
    """Decide without touching the policy: (observation, state) → `Decided`.

    A spiking policy's copy decides in place, which is several times as fast as `step`; its states can therefore only be
    gone on from in the order in which they came.

    Raises:
        TypeError: a policy of discrete actions that is neither an `Actor` nor a `SpikingPolicy`.
    """

    def __init__(self, policy: Policy, actor: Actor) -> None:
        self.policy = policy
        self._head = actor.head
        self._groups = np.cumsum(actor.head.choices)[:-1] if actor.discrete else None
        self._asked = _showing_values(policy) if actor.discrete else policy
        self._copy = copy.deepcopy(self._asked) if isinstance(self._asked, StatefulPolicy) else None
        self._now: object = None

    def initial_state(self) -> Any:
        """Return the state of one row after a reset."""
        if self._copy is None:
            return self._asked.initial_state(1)
        self._copy.reset(num_envs=1)
        self._now = object()
        return self._now

    def __call__(self, obs: FloatArray, state: Any) -> Decided:
        """Decide for one observation (*shape)."""
        y, after = self._asked.step(obs, state) if self._copy is None else self._go_on(self._copy, obs, state)
        if self._groups is None:
            return Decided(y, np.asarray(y, np.float64).ravel(), after)
        centred = [part - part.mean() for part in np.split(y.astype(np.float64), self._groups)]
        return Decided(self._head(y[None])[0], np.concatenate(centred), after)

    def _go_on(self, own: StatefulPolicy, obs: FloatArray, state: Any) -> tuple[npt.NDArray[Any], Any]:
        require(state is self._now, "state: not the one that the decision before has left")
        self._now = object()
        return own.act(obs), self._now

    def choose(self, values: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        """Return the discrete action of these values, (m,)."""
        return self._head(values[None])[0]


def _showing_values(policy: Policy) -> Policy:
    """Return the same policy with the values of its last layer, unbounded, for actions."""
    if isinstance(policy, Actor):
        return _unheaded(policy)
    if isinstance(policy, SpikingPolicy):
        return SpikingPolicy(SpikingNetwork(_unheaded(policy.actor), policy.network.neurons), engine=policy.engine)
    raise TypeError(
        f"policy: {type(policy).__name__} chooses among discrete actions and does not show the values that it "
        "compares; give the SpikingPolicy it was made from"
    )


def _unheaded(actor: Actor) -> Actor:
    unbounded = np.full(actor.head.outputs, np.inf, np.float32)
    return replace(actor, head=Head.clip(-unbounded, unbounded))
