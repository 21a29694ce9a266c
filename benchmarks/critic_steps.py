"""Time the costliest part of TD3+BC's step, both critics' gradients, in the ways that might make it faster.

    python -m benchmarks.critic_steps

Interleaved, on one thread, in processor time; `compiled` needs a C++ compiler.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from snn_policy.offline import products
from snn_policy.offline.td3bc_networks import TwinCritics

INPUTS, HIDDEN, BATCH = 23, 256, 256
ROUNDS, STEPS = 15, 20


def written_plainly(x: Tensor, expected: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return the loss of both critics, as torch is usually written."""
    total = torch.zeros(())
    for w1, b1, w2, b2, w3, b3 in (parameters[:6], parameters[6:]):
        hidden = functional.relu(torch.addmm(b1, x, w1))
        hidden = functional.relu(torch.addmm(b2, hidden, w2))
        total = total + functional.mse_loss(torch.addmm(b3, hidden, w3)[:, 0], expected)
    return total


def ways() -> dict[str, Callable[[], object]]:
    """Return what is timed, by name; every one gives the gradients of both critics."""
    torch.manual_seed(0)
    critics, x, expected = TwinCritics(INPUTS, HIDDEN), torch.randn(BATCH, INPUTS), torch.randn(BATCH)
    parameters = [
        torch.nn.Parameter(value.detach().reshape(shape).clone())
        for index in range(2)
        for value, shape in zip(
            (layer[index] for layer in critics.layers),
            ((INPUTS, HIDDEN), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (HIDDEN, 1), (1,)),
            strict=True,
        )
    ]
    compiled = torch.compile(written_plainly)

    def gradients(loss: Callable[..., Tensor], bfloat16: bool = False) -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            value = loss(x, expected, parameters)
        return torch.autograd.grad(value, parameters)

    def here(by_onednn: bool) -> object:
        before, products._ONEDNN = products._ONEDNN, by_onednn and products._ONEDNN
        try:
            q = critics(x)
            q.backward((q.detach() - expected) * (2 / BATCH))
        finally:
            products._ONEDNN = before
        return [parameter.grad for parameter in critics.parameters()]

    return {
        "torch, float32": lambda: gradients(written_plainly),
        "torch.compile, float32": lambda: gradients(compiled),
        "torch, bfloat16 products (autocast)": lambda: gradients(written_plainly, True),
        "torch.compile, bfloat16 products": lambda: gradients(compiled, True),
        "here, torch's products": lambda: here(False),
        "here, oneDNN's products": lambda: here(True),
    }


def times() -> dict[str, list[float]]:
    """Return milliseconds of a step in every way, a figure per round."""
    spent: dict[str, list[float]] = {}
    found = ways()
    for way in found.values():
        way()
    for _ in range(ROUNDS):
        for name, way in found.items():
            begin = time.process_time()
            for _ in range(STEPS):
                way()
            spent.setdefault(name, []).append((time.process_time() - begin) / STEPS * 1e3)
    return spent


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    spent = times()
    base = spent["torch, float32"]
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {BATCH} × {HIDDEN} × {HIDDEN}")
    print("| both critics' gradients | ms | times as fast as torch |\n|---|---|---|")
    for name, values in spent.items():
        print(f"| {name} | {median(values):.2f} | {median(np.divide(base, values)):.2f} |")


if __name__ == "__main__":
    main()
