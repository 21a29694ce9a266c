"""TD3+BC: offline reinforcement learning with a behaviour-cloning term (Fujimoto & Gu 2021), made fast on a CPU.

    critics: y = r + γ·(1 − terminated)·minᵢ Qᵢ'(s', clip(π'(s') + clip(σ·ε, ±c), ±1));  Σᵢ mean (Qᵢ(s, a) − y)²
    actor (every second step):  −λ·mean Q₁(s, π(s)) + mean (π(s) − a)²,  λ = α / mean |Q₁(s, π(s))|
    targets (with the actor): θ' ← τ·θ + (1 − τ)·θ'

All numbers are the published ones. What is stored and resumed: `snn_policy.offline.checkpoints`. On a GPU, blocks of
steps are one CUDA graph: `snn_policy.offline.captured_block`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_policy.engines.one_thread import one_thread
from snn_policy.offline.batches import BLOCK_STEPS, Batch, PackedData
from snn_policy.offline.captured_block import CapturedBlock, own_stream, working_on
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

    Networks start, and minibatches are drawn, alike on every device.

    Attributes:
        actor, critics: with their targets and optimisers, on the run's device.
        step: gradient steps of the critics so far.
    """

    def __init__(self, data: PackedData, settings: TD3BCSettings, device: str | torch.device = "cpu") -> None:
        self.data, self.settings, self.step, self.device = data, settings, 0, torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            sizes = data.observations, settings.hidden, data.actions
            actor = make_actor(settings.activation, *sizes, settings.levels, settings.initial_lambda)
            critics = TwinCritics(data.observations + data.actions, settings.hidden)
        self.actor, self.critics = (FlatParameters(module.to(self.device)) for module in (actor, critics))
        self.target_actor, self.target_critics = self.actor.target(), self.critics.target()
        self.actor_optimiser = FlatAdam(self.actor, settings.learning_rate)
        self.critic_optimiser = FlatAdam(self.critics, settings.learning_rate)
        self._stream = own_stream(self.device)
        self._captured: CapturedBlock | None = None

    def train(self, until: int, advance: Callable[[], None] = lambda: None) -> None:
        """Take gradient steps until `until` of them have been taken; calls `advance` after each.

        Runs on one thread, the faster way for networks of this size, and the only one that is always repeatable.
        """
        with one_thread(), working_on(self._stream):
            self._train(until, advance)

    def _train(self, until: int, advance: Callable[[], None]) -> None:
        while self.step < until:
            number, first = divmod(self.step, BLOCK_STEPS)
            drawn = self.data.draw(number, self.settings.seed, self.settings.batch_size)
            whole = first == 0 and until - self.step >= BLOCK_STEPS
            if whole and self._captured is not None:
                self._captured.run(*drawn, self.step)
                self.step += BLOCK_STEPS
                for _ in range(BLOCK_STEPS):
                    advance()
                continue
            batches = self.data.batches(*(array.to(self.device) for array in drawn))
            for batch in batches[first : first + until - self.step]:
                self.update(batch)
                advance()
            if whole and self.device.type == "cuda" and BLOCK_STEPS % self.settings.policy_delay == 0:
                size = self.settings.batch_size
                self._captured = CapturedBlock(self.data, size, self.device, self.apply, self.factors)

    def update(self, batch: Batch) -> None:
        """Take one step of the critics and, every `policy_delay` steps, one of the actor and the targets."""
        self.step += 1
        self.apply(batch, self.factors(self.step))

    def factors(self, step: int) -> tuple[float, ...]:
        """Return the factors of Adam at a step, counted from 1: the critics' two, and the actor's where it moves."""
        moves, remainder = divmod(step, self.settings.policy_delay)
        of_actor = () if remainder else self.actor_optimiser.factors(moves)
        return *self.critic_optimiser.factors(step), *of_actor

    def apply(self, batch: Batch, factors: Sequence[float | Tensor]) -> None:
        """Take the step that these factors belong to: of the critics and, where there are four, of the actor."""
        of_critics, of_actor = factors[:2], factors[2:]
        self._add_critic_gradients(batch)
        self.critic_optimiser.apply(*of_critics)
        if of_actor:
            self._add_actor_gradients(batch)
            self.actor_optimiser.apply(*of_actor)
            self.target_critics.values.lerp_(self.critics.values, self.settings.tau)
            self.target_actor.values.lerp_(self.actor.values, self.settings.tau)

    def _add_critic_gradients(self, batch: Batch) -> None:
        expected = self._expected_return(batch)
        q = self.critics.module(batch.observation_action)
        q.backward((q.detach() - expected) * (2 / len(expected)))

    @torch.no_grad()
    def _expected_return(self, batch: Batch) -> Tensor:
        """Return y, (N,)."""
        settings = self.settings
        action = self.target_actor.module(batch.next_observation)
        noise = (batch.noise * settings.policy_noise).clamp_(-settings.noise_clip, settings.noise_clip)
        action.add_(noise).clamp_(-1, 1)
        q = self.target_critics.module(torch.cat((batch.next_observation, action), 1)).amin(0)
        return torch.addcmul(batch.reward, batch.continues, q, value=settings.discount)

    def _add_actor_gradients(self, batch: Batch) -> None:
        observation, action = batch.observation_action.split((self.data.observations, self.data.actions), 1)
        chosen = self.actor.module(observation)
        q = self.critics.module.first(torch.cat((observation, chosen), 1))  # pyright: ignore[reportCallIssue]
        weight = self.settings.alpha / q.detach().abs().mean()
        ((chosen - action).square().mean() - weight * q.mean()).backward()
