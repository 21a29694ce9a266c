"""Random small networks of the parts that robots' policies have act as their module in every container."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.utils.parametrizations import spectral_norm, weight_norm  # noqa: E402

from snn_policy import load_actor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
SEEDS = range(10)
ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ELU, nn.SiLU, nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Mish, nn.Softsign, nn.SELU, lambda: nn.CELU(0.7),
    nn.GELU, lambda: nn.GELU("tanh"), nn.Softplus, nn.Hardswish, nn.Hardtanh, nn.Softshrink, nn.Tanhshrink,
    nn.LogSigmoid, nn.ReLU6, nn.PReLU,
]  # fmt: skip


class Drawn(nn.Module):
    """Up to four blocks: a linear layer, a norm, an activation; joined as residuals, gates, slices."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.inputs, self.width = int(rng.integers(3, 12)), int(rng.integers(4, 20))
        self.register_buffer("mean", torch.randn(self.inputs))
        self.register_buffer("spread", torch.rand(self.inputs) + 0.5)
        self.first, self.blocks, self.joins = self._linear(rng, self.inputs), nn.ModuleList(), []
        for _ in range(int(rng.integers(1, 5))):
            norms = [nn.Identity, lambda: nn.LayerNorm(self.width), lambda: nn.BatchNorm1d(self.width)]
            activation = ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))]
            norm = norms[int(rng.integers(3))]()
            self.blocks.append(nn.Sequential(self._linear(rng, self.width), nn.Sequential(norm, activation())))
            self.joins.append(str(rng.choice(["plain", "residual", "gate", "slice", "shared"])))
        self.last = nn.Linear(self.width, int(rng.integers(1, 6)))
        for part in self.modules():
            if isinstance(part, nn.BatchNorm1d):
                part.running_mean, part.running_var = torch.randn(self.width), torch.rand(self.width) + 0.3

    def _linear(self, rng: np.random.Generator, inputs: int) -> nn.Module:
        layer = nn.Linear(inputs, self.width, bias=bool(rng.random() < 0.8))
        chosen = rng.random()
        return weight_norm(layer) if chosen < 0.15 else spectral_norm(layer) if chosen < 0.3 else layer

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.spread  # pyright: ignore
        y = self.first(x)
        for block, join in zip(self.blocks, self.joins, strict=True):
            made = block(y)
            if join == "residual":
                y = y + made
            elif join == "gate":
                y = made * torch.sigmoid(block[0](y))  # pyright: ignore
            elif join == "slice":
                y = torch.cat([made[:, 1:], F.elu(y[:, :1])], -1)
            else:
                y = block(made) if join == "shared" else made
        return torch.tanh(self.last(y))


def sources(net: Drawn, path: Path) -> list[Any]:
    example = torch.zeros(1, net.inputs)
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(net, example).save(str(path / "p.pt"))  # pyright: ignore[reportAttributeAccessIssue]
        if any("spectral" in type(part).__name__.lower() for part in net.modules()):  # no exporter writes its products
            return [path / "p.pt"]
        torch.onnx.export(net, (example,), str(path / "p.onnx"), dynamo=False, opset_version=int(9 + net.width % 9))
    return [path / "p.pt", path / "p.onnx"]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_network_acts_as_its_module(seed: int, tmp_path: Path) -> None:
    net = Drawn(seed).eval()
    obs = torch.randn(100, net.inputs) * 2
    with torch.no_grad():
        own = net(obs).numpy()
    for source in sources(net, tmp_path):
        actor = load_actor(source)
        assert np.abs(actor.step(obs.numpy(), actor.initial_state(100))[0] - own).max() <= 1e-5 * np.abs(own).max()
