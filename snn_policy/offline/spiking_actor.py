"""The directly trained baseline: a rate-coded IF network with a surrogate gradient (Wu et al. 2018), as torch modules.

Neurons as in docs/methods.md §1: v[0] = θ/2; v ← v + x; o = θ·1[v > θ]; v ← v − o. The observation is a constant input
current, the readout the mean over T. θ is trained, one per layer. `SpikingPolicy` runs the same network.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from snn_policy.spiking.firing import fire_if


class _Fire(torch.autograd.Function):
    """Fire o = θ·1[v > θ]; backwards the step is a triangle: ∂1[u > 0]/∂u = max(0, 1 − |u|) with u = v/θ − 1."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, threshold: Tensor) -> Tensor:
        o = fire_if(v, threshold)
        ctx.save_for_backward(v, threshold, (o != 0).to(v.dtype))
        return o

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        v, threshold, fired = ctx.saved_tensors
        ratio = v / threshold
        through = (1 - (ratio - 1).abs_()).clamp_(min=0).mul_(gradients[0])
        of_threshold = torch.dot(gradients[0].reshape(-1), fired.reshape(-1))
        of_threshold = of_threshold - torch.dot(through.reshape(-1), ratio.reshape(-1))
        return through, of_threshold.reshape(threshold.shape)


class IntegrateAndFire(nn.Module):
    """Run IF neurons over T timesteps: inputs (T or 1, N, n) → outputs o (T, N, n); 1 is a constant current.

    Args:
        timesteps: T.
        initial_threshold: θ at the start of training; θ = exp(log_threshold) stays positive.
    """

    def __init__(self, timesteps: int, initial_threshold: float = 1.0) -> None:
        super().__init__()
        if timesteps < 1 or not initial_threshold > 0:
            raise ValueError(f"timesteps {timesteps!r}, threshold {initial_threshold!r}: expected positive numbers")
        self.timesteps = int(timesteps)
        self.log_threshold = nn.Parameter(torch.tensor(math.log(initial_threshold)))

    @property
    def threshold(self) -> float:
        """Return θ."""
        return self.log_threshold.exp().item()

    def forward(self, x: Tensor) -> Tensor:
        """Run `step_rate` with a gradient: M is not kept, and `_Fire` puts a triangle in place of the step's slope."""
        threshold, outputs = self.log_threshold.exp(), []
        v = threshold * 0.5
        for t in range(self.timesteps):
            v = v + x[t if len(x) > 1 else 0]
            o = _Fire.apply(v, threshold)
            v = v - o  # pyright: ignore[reportOperatorIssue]
            outputs.append(o)
        return torch.stack(outputs)


class SpikingActor(nn.Module):
    """Map observations (N, inputs) to tanh of the readout, (N, outputs): hidden IF layers between linear ones.

    Args:
        sizes: inputs, hidden widths, outputs.
        timesteps: T.
    """

    def __init__(self, sizes: tuple[int, ...], timesteps: int, initial_threshold: float = 1.0) -> None:
        super().__init__()
        pairs = list(pairwise(sizes))
        self.linears = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairs)
        self.neurons = nn.ModuleList(IntegrateAndFire(timesteps, initial_threshold) for _ in pairs[:-1])
        self.timesteps = timesteps

    def forward(self, obs: Tensor) -> Tensor:
        x = obs[None]
        for linear, neurons in zip(self.linears, self.neurons, strict=False):
            x = neurons(linear(x))
        return torch.tanh(self.linears[-1](x.sum(0) / self.timesteps))
