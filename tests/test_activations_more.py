"""Softplus, softsign, Mish and both forms of GELU are torch's; SELU, CELU and βs fold; all readers know them."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snn_policy import convert
from snn_policy.ann.activations import Activation
from snn_policy.sources import load_actor
from tests.actors import random_actor, walk

TORCH: dict[str, Callable[[Any], Any]] = {
    "softplus": F.softplus, "softsign": F.softsign, "mish": F.mish, "gelu": F.gelu,
    "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"), "hardswish": F.hardswish,
}  # fmt: skip


@pytest.mark.parametrize("name", TORCH)
def test_function_and_derivative_are_torchs(name: str) -> None:
    z = np.concatenate([np.linspace(-12, 12, 4001), [-80, -30, 30, 80, 0]]).astype(np.float32)
    tensor = torch.tensor(z, dtype=torch.float64, requires_grad=True)
    exact = TORCH[name](tensor)
    (slope,) = torch.autograd.grad(exact.sum(), tensor)
    f = Activation(name)  # pyright: ignore[reportArgumentType]
    assert np.abs(f(z) - exact.detach().numpy()).max() <= 5e-7 * 12
    assert np.abs(f.derivative(z) - slope.numpy()).max() <= 2e-6
    assert np.abs(f(torch.tensor(z)).numpy() - f(z)).max() <= 5e-6
    with np.errstate(over="ignore"):
        assert np.isfinite(f(np.array([-1e30, 1e30], np.float32))).all()


@pytest.mark.parametrize("name", TORCH)
def test_the_compiled_core_decides_alike(name: str) -> None:
    actor = random_actor(activation=Activation(name))  # pyright: ignore[reportArgumentType]
    recording = walk(1500)
    compiled, plain = (convert(actor, recording, engine=engine) for engine in ("event", "numpy"))
    differences = [np.abs(compiled.act(obs) - plain.act(obs)).max() for obs in recording[:400]]
    assert np.mean(np.array(differences) < 1e-4) > 0.97


MODULES: dict[str, Callable[[], nn.Module]] = {
    "softplus": nn.Softplus, "softplus, β": lambda: nn.Softplus(beta=2.0), "softsign": nn.Softsign, "mish": nn.Mish,
    "gelu": nn.GELU, "gelu, tanh": lambda: nn.GELU("tanh"), "selu": nn.SELU, "celu": lambda: nn.CELU(0.7),
    "sigmoid": nn.Sigmoid, "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid, "logsigmoid": nn.LogSigmoid,
    "prelu": nn.PReLU, "rrelu": nn.RReLU, "threshold": lambda: nn.Threshold(0.2, 0.2),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_modules_scripts_and_onnx_graphs_are_read(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 16), MODULES[name](), nn.Linear(16, 8), MODULES[name](), nn.Linear(8, 2)).eval()
    obs = torch.randn(60, 5) * 3
    own = net(obs).detach().numpy()
    sources: list[Any] = [net, tmp_path / "p.pt"]
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(net).save(str(tmp_path / "p.pt"))  # pyright: ignore[reportAttributeAccessIssue]
        if name in ("softplus", "selu", "celu", "sigmoid", "hardswish", "hardsigmoid", "logsigmoid", "prelu"):
            torch.onnx.export(net, (obs[:1],), str(tmp_path / "p.onnx"), dynamo=False)
            sources.append(tmp_path / "p.onnx")
    for source in sources:
        assert np.abs(load_actor(source).step(obs.numpy(), ())[0] - own).max() <= 1e-5 * np.abs(own).max()
