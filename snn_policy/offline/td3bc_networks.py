"""The networks of TD3+BC, laid out for speed: twin critics as one batch of two, all parameters in one flat array.

A flat array makes the optimiser step and the Polyak average one operation each, and a checkpoint one copy.
"""

import copy
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from snn_policy.ann.qcfs import QCFS
from snn_policy.offline.products import Linear, affine, by_onednn, product
from snn_policy.offline.spiking_actor import SpikingActor

ActorActivation = Literal["relu", "qcfs", "spiking"]
ACTOR_ACTIVATIONS: tuple[str, ...] = get_args(ActorActivation)
_ALIGNMENT = 16  # floats: 64 bytes, so that every view is aligned alike and sums round alike


class _StackedCritics(torch.autograd.Function):
    """Map x (N, inputs) by n ReLU networks to q (n, N); w1 (n, inputs, H), w2 (n, H, H), w3 (n, H), b likewise.

    Written out because autograd's batched matrix-vector products for w3 cost a quarter of a hidden layer each. The
    networks are worked through one by one where oneDNN multiplies, else together.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        kept, values = [], []
        for w1, b1, w2, b2, w3, b3 in _groups(x, parameters):
            h1 = affine(x, w1, b1, relu=True)
            h2 = affine(h1, w2, b2, relu=True)
            values.append(_by_rows(h2, w3).add_(b3))
            kept += [h1, h2]
        ctx.save_for_backward(x, *kept, *parameters)
        return _together(x, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        kept, parameters = saved[:-6], saved[-6:]
        groups, found, of_x = _groups(x, parameters), [], None
        for index, ((w1, _, w2, _, w3, _), g3) in enumerate(zip(groups, _groups(x, gradients), strict=True)):
            h1, h2 = kept[2 * index : 2 * index + 2]
            g2 = _through_relu(g3[0][..., :, None] * w3[..., None, :], h2)
            g1 = _through_relu(product(g2, w2.mT), h1)
            if ctx.needs_input_grad[0]:
                here = product(g1, w1.mT)
                here = here.sum(0) if here.dim() > 2 else here
                of_x = here if of_x is None else of_x.add_(here)
            if ctx.needs_input_grad[1]:
                of_biases = [g.sum(-2, keepdim=True) for g in (g1, g2)]
                of_w3, of_b3 = _by_rows(h2.mT, g3[0]), g3[0].sum(-1, keepdim=True)
                found.append((product(x.mT, g1), of_biases[0], product(h1.mT, g2), of_biases[1], of_w3, of_b3))
        if not found:
            return of_x, *[None] * 6
        return of_x, *(_together(x, parts) for parts in zip(*found, strict=True))


def _groups(x: Tensor, parameters: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Return what is worked through at a time: the arrays of one network after another, or all as they are."""
    if by_onednn(x):
        return [tuple(parameter[index] for parameter in parameters) for index in range(len(parameters[0]))]
    return [tuple(parameters)]


def _together(x: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Return the groups' results as one array of all networks."""
    return torch.stack(tuple(parts)) if by_onednn(x) else parts[0]


def _by_rows(h: Tensor, w: Tensor) -> Tensor:
    """Return h·w, (…, N, H) and (…, H) to (…, N)."""
    return torch.mv(h, w) if h.dim() == 2 else torch.matmul(h, w[..., None])[..., 0]


def _through_relu(gradient: Tensor, output: Tensor) -> Tensor:
    """Return the gradient where the output is positive, 0 elsewhere, in place."""
    return torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=gradient)


class TwinCritics(nn.Module):
    """Evaluate Q₁ and Q₂, two ReLU networks of two hidden layers, together: (N, inputs) → (2, N).

    Weights are stacked as (2, fan_in, fan_out): every layer is one batched matrix product for both critics.
    They start as torch.nn.Linear does: uniform within ±1/√fan_in.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        shapes = [(inputs, 2, inputs, hidden), (inputs, 2, 1, hidden), (hidden, 2, hidden, hidden),
                  (hidden, 2, 1, hidden), (hidden, 2, hidden), (hidden, 2, 1)]  # fmt: skip
        self.layers = nn.ParameterList(_uniform(*shape) for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        return _StackedCritics.apply(x, *self.layers)  # pyright: ignore[reportReturnType]

    def first(self, x: Tensor) -> Tensor:
        """Return Q₁ alone, (N, inputs) → (N,), with gradients for x only."""
        weights = (layer.detach()[:1] for layer in self.layers)
        return _StackedCritics.apply(x, *weights)[0]  # pyright: ignore[reportOptionalSubscript]


def _uniform(fan_in: int, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-1, 1) / math.sqrt(fan_in))


def make_actor(
    activation: str, inputs: int, hidden: int, outputs: int, levels: int, initial_lambda: float
) -> nn.Module:
    """Return an actor (N, inputs) → (N, outputs) in (−1, 1), with two hidden layers.

    Args:
        activation: "relu", "qcfs" (L = levels) or "spiking" (T = levels).
        initial_lambda: λ of QCFS, θ of IF neurons, at the start.
    """
    sizes = (inputs, hidden, hidden, outputs)
    if activation == "spiking":
        return SpikingActor(sizes, levels, initial_lambda)
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers.append(Linear(fan_in, fan_out))
        layers.append(QCFS(levels, initial_lambda) if activation == "qcfs" else nn.ReLU())
    return nn.Sequential(*layers[:-1], nn.Tanh())


class FlatParameters:
    """Hold a module's parameters and gradients as views of two flat arrays, in the module's own order.

    Attributes:
        values: every parameter, each padded to a multiple of 64 bytes.
        gradients: filled by `backward`, which adds to it: clear it first.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        parameters = list(module.parameters())
        lengths = [-(-parameter.numel() // _ALIGNMENT) * _ALIGNMENT for parameter in parameters]
        self.values, self.gradients = (torch.zeros(sum(lengths), device=parameters[0].device) for _ in range(2))
        start = 0
        for parameter, length in zip(parameters, lengths, strict=True):
            span = slice(start, start + parameter.numel())
            self.values[span] = parameter.detach().reshape(-1)
            parameter.data = self.values[span].view(parameter.shape)
            parameter.grad = self.gradients[span].view(parameter.shape)
            start += length

    def target(self) -> "FlatParameters":
        """Return a copy that does not learn: the target network."""
        twin = FlatParameters(copy.deepcopy(self.module))
        for parameter in twin.module.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None
        return twin


class FlatAdam:
    """Apply Adam (Kingma & Ba 2015) with its published constants to flat parameters.

    Attributes:
        mean, square: the running moments of the gradient, as long as the parameters.
        steps: taken so far.
    """

    def __init__(self, parameters: FlatParameters, learning_rate: float) -> None:
        self.parameters, self.learning_rate, self.steps = parameters, learning_rate, 0
        self.mean, self.square = torch.zeros_like(parameters.values), torch.zeros_like(parameters.values)
        self._scratch = torch.empty_like(parameters.values)

    def step(self) -> None:
        """Apply the gradients once and clear them."""
        self.steps += 1
        self.apply(*self.factors(self.steps))

    def factors(self, step: int) -> tuple[float, float]:
        """Return what corrects the moments of a step, counted from 1: 1/√(1 − β₂ⁿ) and −η/(1 − β₁ⁿ)."""
        return 1 / math.sqrt(1 - 0.999**step), -self.learning_rate / (1 - 0.9**step)

    def apply(self, of_square: float | Tensor, of_mean: float | Tensor) -> None:
        """Apply the gradients with the given factors, numbers or (), and clear them."""
        gradients = self.parameters.gradients
        self.mean.lerp_(gradients, 0.1)
        self.square.mul_(0.999).addcmul_(gradients, gradients, value=0.001)
        torch.sqrt(self.square, out=self._scratch).mul_(of_square).add_(1e-8)
        self.parameters.values.addcdiv_(self.mean * of_mean, self._scratch)
        gradients.zero_()
