"""What the student is trained on: its action error, and the spikes that its neurons are expected to send.

    L = mean (a_student − a_teacher)² / tolerance² + λ/macs · Σ_l Σ_j fan-out_j · s(|h_j − γ_j·h_j,before| · g_j/ε_l)

with s(u) = log₂(1 + u) for spikes, 1 − 2^(−u) for events (neurons that say anything at all). g_j: RMS of ∂action/∂h_j,
ε_l: the quanta's shares (docs/methods.md §1); so the cost of a neuron does not change if it is rescaled.
Actions in half-ranges; of discrete actions the centred logits, in half-spreads of them (`calibration.action_units`).
"""

import numpy as np
import torch
from torch import Tensor

from snn_policy.actor import Actor
from snn_policy.calibration.action_units import error_unit


class ActionError:
    """Compute the difference of two actions, in their unit, and its derivative.

    Args:
        outputs: (N, outputs) the teacher's last layer on recorded observations.
    """

    def __init__(self, actor: Actor, outputs: np.ndarray) -> None:
        head = actor.head
        self.kind = head.kind
        self.unit = torch.from_numpy(error_unit(actor, outputs).astype(np.float32))
        self.scale = torch.tensor(head.scale)
        low, high = (head.low, head.high) if head.kind == "clip" else (-head.pre_clip, head.pre_clip)
        if head.kind != "argmax":
            shape = (head.outputs,)
            self.low, self.high = (
                torch.tensor(np.broadcast_to(bound, shape).astype(np.float32)) for bound in (low, high)
            )
            return
        own = np.repeat(np.arange(len(head.choices)), head.choices)
        alike = own[:, None] == own
        self.centring = torch.from_numpy((np.eye(len(own)) - alike / alike.sum(1, keepdims=True)).astype(np.float32))

    def action(self, y: Tensor) -> Tensor:
        """Return outputs (N, outputs) as actions in units; a bound stops the value, not the gradient."""
        if self.kind == "argmax":
            return (y / self.unit) @ self.centring
        bounded = y + (torch.clamp(y, self.low, self.high) - y).detach()
        return (bounded.tanh() * self.scale if self.kind == "tanh" else bounded) / self.unit

    def derivative(self, y: Tensor) -> Tensor:
        """Return ∂action/∂y, (N, actions, outputs), zero where the head is at a bound."""
        if self.kind == "argmax":
            return (self.centring / self.unit).expand(len(y), -1, -1)
        inside = ((y > self.low) & (y < self.high)).float()
        slope = inside * (1 - y.tanh() ** 2) * self.scale if self.kind == "tanh" else inside
        return torch.diag_embed(slope / self.unit)


def spikes(size: Tensor) -> Tensor:
    """Return the expected spikes of changes u, in quanta."""
    return torch.log1p(size) * 1.4426950408889634


def events(size: Tensor) -> Tensor:
    """Return the expected events of changes u, in quanta: at most one each."""
    return 1 - torch.exp2(-size)


COUNTS = {"spikes": spikes, "events": events}
