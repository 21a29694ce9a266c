"""RMSNorm: torch's own of the newer exporter, spelled out ones of both, act as their modules in every operator set."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Spelled(nn.Module):
    def __init__(self, width: int, divides: bool) -> None:
        super().__init__()
        self.weight, self.divides = nn.Parameter(torch.rand(width) + 0.5), divides

    def forward(self, x: Tensor) -> Tensor:
        if self.divides:
            return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * self.weight
        return self.weight * (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x)


def network(own: bool) -> nn.Module:
    torch.manual_seed(0)
    norms = [nn.RMSNorm(16), nn.RMSNorm(8, eps=1e-3)] if own else [Spelled(16, True), Spelled(8, False)]
    layers = nn.Linear(5, 16), norms[0], nn.SiLU(), nn.Linear(16, 8), norms[1], nn.Tanh(), nn.Linear(8, 3)
    return nn.Sequential(*layers).eval()


WAYS = [(False, opset, False) for opset in range(9, 19)] + [(True, 18, True), (True, 23, True), (False, 18, True)]


@pytest.mark.parametrize(("own", "opset", "dynamo"), WAYS, ids=str)
def test_it_acts_as_its_module(own: bool, opset: int, dynamo: bool, tmp_path: Path) -> None:
    net, path = network(own), tmp_path / "p.onnx"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(net, (torch.zeros(1, 5),), str(path), dynamo=dynamo, opset_version=opset)
    obs = torch.randn(100, 5) * 3
    own_actions = net(obs).detach().numpy()
    assert np.abs(load_actor(path).step(obs.numpy(), ())[0] - own_actions).max() <= 1e-5 * np.abs(own_actions).max()
