"""QCFS, the quantised clip-floor-shift activation with a trainable λ, in torch (docs/methods.md §4; Bu et al. 2022).

    h(z) = (λ/L)·clip(⌊z·L/λ + ½⌋, 0, L)

An actor trained with it converts to IF neurons with θ = λ and T = L. This module needs torch, so nothing on the
way to acting imports it.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

DEFAULT_LEVELS = 4


class _QuantisedClip(torch.autograd.Function):
    """Compute h(z), with the straight-through gradient: the floor counts as the identity.

    With u = z·L/λ + ½: ∂h/∂z = 1 where 0 < u < L, else 0; ∂h/∂λ = h/λ − z/λ there, h/λ (0 or 1) elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, levels: int) -> Tensor:
        shifted = (z * (levels / threshold)).add_(0.5)
        inside = (shifted > 0) & (shifted < levels)
        share = shifted.floor_().clamp_(0, levels).mul_(1 / levels)
        ctx.save_for_backward(z, threshold, inside, share)
        return share * threshold

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        z, threshold, inside, share = ctx.saved_tensors
        through = gradients[0] * inside
        of_threshold = torch.dot(gradients[0].reshape(-1), share.reshape(-1))
        of_threshold = of_threshold - torch.dot(through.reshape(-1), z.reshape(-1)) / threshold
        return through, of_threshold.reshape(threshold.shape), None


class QCFS(nn.Module):
    """Compute h(z) elementwise, one λ for the layer.

    λ = exp(log_threshold), so that it stays positive whatever the optimiser does. Start it well above the scale of
    the pre-activations: what exceeds λ gets no gradient.

    Args:
        levels: L, the number of steps above zero.
        initial_lambda: λ at the start of training, in the units of z.

    Raises:
        ValueError: fewer than one level, or a λ that is not positive and finite.
    """

    def __init__(self, levels: int = DEFAULT_LEVELS, initial_lambda: float = 8.0) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels {levels!r}: expected at least 1")
        if not (initial_lambda > 0 and math.isfinite(initial_lambda)):
            raise ValueError(f"initial_lambda {initial_lambda!r}: expected a positive number")
        self.levels = int(levels)
        self.log_threshold = nn.Parameter(torch.tensor(math.log(initial_lambda)))

    @property
    def threshold(self) -> float:
        """Return λ, the IF neurons' θ after conversion."""
        return self.log_threshold.exp().item()

    def forward(self, z: Tensor) -> Tensor:
        return _QuantisedClip.apply(z, self.log_threshold.exp(), self.levels)  # pyright: ignore[reportReturnType]

    def extra_repr(self) -> str:
        return f"levels={self.levels}, lambda={self.threshold:.4g}"
