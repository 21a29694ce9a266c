"""Products of small float32 matrices, the time that TD3+BC takes: through oneDNN on a CPU.

torch multiplies matrices with MKL, which keeps to AVX2 on AMD's processors; oneDNN, which torch brings along for its
compiler, takes what the processor has. The numbers are float32's either way, summed in another order. Where torch has
no oneDNN, and on other devices, torch's own products are used.
"""

from typing import Any

import torch
from torch import Tensor, nn

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def by_onednn(x: Tensor) -> bool:
    """Say whether products with this matrix go through oneDNN, which takes one at a time."""
    return _ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 2


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a·b, (…, N, K) and (…, K, M) to (…, N, M)."""
    return _pointwise(a, b.mT, None, "none") if by_onednn(a) else torch.matmul(a, b)


def affine(x: Tensor, weight: Tensor, bias: Tensor, relu: bool = False) -> Tensor:
    """Return x·weight + bias, (…, N, K), (…, K, M) and (…, 1, M) or (M,) to (…, N, M); with `relu`, max(0, ·)."""
    if by_onednn(x):
        return _pointwise(x, weight.mT, bias.reshape(-1), "relu" if relu else "none")
    y = torch.matmul(x, weight).add_(bias)
    return y.relu_() if relu else y


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    if not (weight.is_contiguous() or weight.mT.is_contiguous()):
        weight = weight.contiguous()  # a view with gaps has no fast product: it takes 150 times as long
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "")


class _Affine(torch.autograd.Function):
    """Map x (N, K) by weight (M, K) and bias (M) to (N, M), as torch.nn.functional.linear does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return affine(x, weight.mT, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), g = ctx.saved_tensors, gradients[0]
        return product(g, weight) if ctx.needs_input_grad[0] else None, product(g.mT, x), g.sum(0)


class Linear(nn.Linear):
    """Map as a torch.nn.Linear with a bias does; its products, of matrices (N, inputs), are those of this module."""

    def forward(self, input: Tensor) -> Tensor:
        if by_onednn(input):
            return _Affine.apply(input, self.weight, self.bias)  # pyright: ignore[reportReturnType]
        return super().forward(input)


def multiplied_here(module: nn.Module) -> nn.Module:
    """Return a module, its torch.nn.Linear layers with a bias turned into `Linear`: names and parameters stay."""
    for layer in module.modules():
        if type(layer) is nn.Linear and layer.bias is not None:
            layer.__class__ = Linear
    return module
