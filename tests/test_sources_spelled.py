"""Logarithms and quotients of exponentials, spelled out: the actor is the function, where float32 loses it as well."""

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import UnsupportedLayerError  # noqa: E402


class Spelled(nn.Module):
    """Linear layers around a function, whose arguments are some `reach` wide."""

    def __init__(self, function: Callable[[Any], Any], reach: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.function = nn.Linear(5, 16), nn.Linear(16, 3), function
        self.first.weight.data *= reach

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


def exported(net: nn.Module, path: Path, dynamo: bool = False, opset: int = 17) -> Path:
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
    ):
        torch.onnx.export(net, (torch.zeros(1, 5),), str(path), dynamo=dynamo, opset_version=opset)
    return path


def distance(source: Any, net: nn.Module) -> float:
    """The largest difference to the module in float64, relative to its largest action."""
    obs = torch.randn(100, 5)
    with torch.no_grad():
        exact = net.double()(obs.double()).numpy()
    net.float()
    finite = np.isfinite(exact)
    assert finite.mean() > 0.9
    ours = load_actor(source).step(obs.numpy(), ())[0]
    return float(np.abs(ours - exact)[finite].max() / np.abs(exact[finite]).max())


LOGARITHMS: dict[str, Callable[[Any], Any]] = {
    "log σ": lambda x: torch.log(torch.sigmoid(x)), "LogSigmoid": F.logsigmoid,
    "−log(1 + e⁻ˣ)": lambda x: -torch.log(1 + torch.exp(-x)), "log(1 + eˣ)": lambda x: torch.log(1 + torch.exp(x)),
    "log(1/(1 + e⁻ˣ))": lambda x: torch.log(1 / (1 + torch.exp(-x))),
    "log(1 + e²ˣ)/2": lambda x: torch.log(torch.exp(2 * x) + 1) / 2,
    "Mish": lambda x: x * torch.tanh(torch.log(1 + torch.exp(x))), "SiLU": lambda x: x / (1 + torch.exp(-x)),
}  # fmt: skip


@pytest.mark.parametrize("reach", [1, 8, 40])
@pytest.mark.parametrize("name", LOGARITHMS)
@pytest.mark.filterwarnings("ignore")
def test_spelled_logarithms_are_exact_from_modules_traces_and_graphs(tmp_path: Path, name: str, reach: float) -> None:
    net = Spelled(LOGARITHMS[name], reach).eval()
    torch.jit.trace(net, torch.zeros(1, 5)).save(str(tmp_path / "p.pt"))  # pyright: ignore
    for source in (net, tmp_path / "p.pt", exported(net, tmp_path / "p.onnx")):
        assert distance(source, net) <= 1e-5


@pytest.mark.parametrize(("opset", "dynamo"), [(9, False), (13, False), (20, False), (18, True)])
def test_a_graph_whose_sigmoid_has_no_digits_left_for_a_logarithm_is_read_and_told(
    tmp_path: Path, opset: int, dynamo: bool
) -> None:
    net = Spelled(F.logsigmoid, 6).eval()
    path = exported(net, tmp_path / "p.onnx", dynamo, opset)
    with pytest.warns(UserWarning, match=r"where log\(sigmoid\(x\)\) loses digits .* the actor is exact"):
        assert distance(path, net) <= 1e-5


@pytest.mark.parametrize("name", ["log σ", "log(1 + eˣ)", "log(1 + e²ˣ)/2"])
def test_where_a_source_overflows_the_rest_is_compared_and_it_is_told(name: str) -> None:
    net = Spelled(LOGARITHMS[name], 60).eval()
    with pytest.warns(UserWarning, match=r"makes no numbers for \d+ of 24 random observations .*overflows"):
        assert distance(net, net) <= 1e-5


SIGMOIDS: dict[str, Callable[[Any], Any]] = {
    "σ": lambda x: torch.exp(x) / (1 + torch.exp(x)), "of 2x": lambda x: torch.exp(2 * x) / (torch.exp(2 * x) + 3),
    "tanh": lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
    "tanh, one": lambda x: (1 - torch.exp(-2 * x)) / (1 + torch.exp(-2 * x)),
    "unequal": lambda x: (3 * torch.exp(x) - 0.5) / (2 * torch.exp(x) + 0.7),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGMOIDS)
@pytest.mark.filterwarnings("ignore")
def test_quotients_of_exponentials_are_sigmoids(tmp_path: Path, name: str) -> None:
    net = Spelled(SIGMOIDS[name], 2).eval()
    torch.jit.trace(net, torch.zeros(1, 5)).save(str(tmp_path / "p.pt"))  # pyright: ignore
    for source in (net, tmp_path / "p.pt", exported(net, tmp_path / "p.onnx")):
        assert distance(source, net) <= 1e-5


@pytest.mark.parametrize(
    ("function", "message"),
    [(lambda x: torch.exp(-torch.exp(-x)), "an activation by its name"),
     (lambda x: x * ((1 + torch.exp(x)) ** 2 - 1) / ((1 + torch.exp(x)) ** 2 + 1),
      r"by their names \(sigmoid, tanh, mish"),
     (lambda x: (torch.exp(x) + 1) / (torch.exp(3 * x) + 1), "an activation by its name")],
)  # fmt: skip
def test_other_exponentials_are_told_to_be_called_by_their_names(function: Any, message: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=message):
        load_actor(Spelled(function).eval(), observation_shape=(5,))


class Swish(nn.Module):
    def __init__(self, beta: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.beta, self.first, self.last = nn.Parameter(torch.tensor(beta)), nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(y * torch.sigmoid(self.beta * y) + torch.exp(0 * y) - torch.tanh(self.beta * 0 * y))


@pytest.mark.parametrize("beta", [0.0, -0.7, 2.0])
@pytest.mark.filterwarnings("ignore")
def test_swish_of_any_factor_is_read_and_constants_among_activations_are(tmp_path: Path, beta: float) -> None:
    net = Swish(beta).eval()
    torch.jit.trace(net, torch.zeros(1, 5)).save(str(tmp_path / "p.pt"))  # pyright: ignore
    for source in (net, tmp_path / "p.pt", exported(net, tmp_path / "p.onnx")):
        assert distance(source, net) <= 1e-5
