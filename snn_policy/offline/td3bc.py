"""TD3+BC: offline reinforcement learning with a behaviour-cloning term (Fujimoto & Gu 2021), made fast on a CPU.

    critics: y = r + γ·(1 − terminated)·minᵢ Qᵢ'(s', clip(π'(s') + clip(σ·ε, ±c), ±1));  Σᵢ mean (Qᵢ(s, a) − y)²
    actor (every second step):  −λ·mean Q₁(s, π(s)) + mean (π(s) − a)²,  λ = α / mean |Q₁(s, π(s))|
    targets (with the actor): θ' ← τ·θ + (1 − τ)·θ'

All numbers are the published ones. What is stored and resumed: `snn_policy.offline.checkpoints`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_policy.engines.one_thread import one_thread
from snn_policy.offline.batches import BLOCK_STEPS, Batch, PackedData
from snn_policy.offline.td3bc_networks import (
    ACTOR_ACTIVATIONS,
    FlatAdam,
    FlatParameters,
    TwinCritics,
    make_actor,
)


@dataclass(frozen=True)
class TD3BCSettings:
    """Hold what identifies a run beside its data.

    Attributes:
        activation: of the actor: "relu", "qcfs" or "spiking".
        levels: L of QCFS, T of spiking actors; without meaning for ReLU.
        initial_lambda: λ of QCFS, θ of IF neurons, at the start.
        policy_noise, noise_clip: σ and c, in units of the action's half-range.
    """

    activation: str = "relu"
    levels: int = 4
    seed: int = 0
    initial_lambda: float = 1.0
    hidden: int = 256
    batch_size: int = 256
    learning_rate: float = 3e-4
    alpha: float = 2.5
    discount: float = 0.99
    tau: float = 0.005
    policy_noise: float = 0.2
    noise_clip: float = 0.5
    policy_delay: int = 2

    def __post_init__(self) -> None:
        if self.activation not in ACTOR_ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r}: expected one of {', '.join(ACTOR_ACTIVATIONS)}")
        for name in ("levels", "hidden", "batch_size", "policy_delay", "initial_lambda", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)!r}: expected a positive number")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed!r}: expected at least 0")


class TD3BC:
    """Hold one run: networks, targets, optimisers and steps taken. Deterministic, given one torch thread.

    Attributes:
        actor, critics: with their targets and optimisers.
        step: gradient steps of the critics so far.
    """

    def __init__(self, data: PackedData, settings: TD3BCSettings) -> None:
        self.data, self.settings, self.step = data, settings, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            sizes = data.observations, settings.hidden, data.actions
            actor = make_actor(settings.activation, *sizes, settings.levels, settings.initial_lambda)
            critics = TwinCritics(data.observations + data.actions, settings.hidden)
        self.actor, self.critics = FlatParameters(actor), FlatParameters(critics)
        self.target_actor, self.target_critics = self.actor.target(), self.critics.target()
        self.actor_optimiser = FlatAdam(self.actor, settings.learning_rate)
        self.critic_optimiser = FlatAdam(self.critics, settings.learning_rate)

    def train(self, until: int, advance: Callable[[], None] = lambda: None) -> None:
        """Take gradient steps until `until` of them have been taken; calls `advance` after each.

        Runs on one thread, the faster way for networks of this size, and the only one that is always repeatable.
        """
        with one_thread():
            self._train(until, advance)

    def _train(self, until: int, advance: Callable[[], None]) -> None:
        while self.step < until:
            number, first = divmod(self.step, BLOCK_STEPS)
            batches = self.data.block(number, self.settings.seed, self.settings.batch_size)
            for batch in batches[first : first + until - self.step]:
                self.update(batch)
                advance()

    def update(self, batch: Batch) -> None:
        """Take one step of the critics and, every `policy_delay` steps, one of the actor and the targets."""
        self._update_critics(batch)
        self.step += 1
        if self.step % self.settings.policy_delay == 0:
            self._update_actor(batch)
            self.target_critics.values.lerp_(self.critics.values, self.settings.tau)
            self.target_actor.values.lerp_(self.actor.values, self.settings.tau)

    def _update_critics(self, batch: Batch) -> None:
        expected = self._expected_return(batch)
        q = self.critics.module(batch.observation_action)
        q.backward((q.detach() - expected) * (2 / len(expected)))
        self.critic_optimiser.step()

    @torch.no_grad()
    def _expected_return(self, batch: Batch) -> Tensor:
        """Return y, (N,)."""
        settings = self.settings
        action = self.target_actor.module(batch.next_observation)
        noise = (batch.noise * settings.policy_noise).clamp_(-settings.noise_clip, settings.noise_clip)
        action.add_(noise).clamp_(-1, 1)
        q = self.target_critics.module(torch.cat((batch.next_observation, action), 1)).amin(0)
        return torch.addcmul(batch.reward, batch.continues, q, value=settings.discount)

    def _update_actor(self, batch: Batch) -> None:
        observation, action = batch.observation_action.split((self.data.observations, self.data.actions), 1)
        chosen = self.actor.module(observation)
        q = self.critics.module.first(torch.cat((observation, chosen), 1))  # pyright: ignore[reportCallIssue]
        weight = self.settings.alpha / q.detach().abs().mean()
        ((chosen - action).square().mean() - weight * q.mean()).backward()
        self.actor_optimiser.step()
