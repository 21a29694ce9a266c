"""Functions of straight pieces, however spelled: read where they are continuous, refused by name where they jump."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

import torch.nn.functional as F  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import UnsupportedLayerError  # noqa: E402
from snn_policy.sources.value_pieces import Pieces  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def network(*activations: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(5, 16)]
    for activation in activations:
        layers += [activation, nn.Linear(16, 16)]
    return nn.Sequential(*layers, nn.Tanh(), nn.Linear(16, 3)).eval()


def exported(net: nn.Module, path: Path, opset: int, dynamo: bool) -> Path:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(net, (torch.zeros(1, 5),), str(path), dynamo=dynamo, opset_version=opset)
    return path


def sources(net: nn.Module, path: Path, onnx_too: bool = True) -> list[Any]:
    torch.jit.trace(net, torch.zeros(1, 5)).save(str(path / "p.pt"))  # pyright: ignore[reportAttributeAccessIssue]
    return [net, path / "p.pt", *([exported(net, path / "p.onnx", 17, False)] if onnx_too else [])]


def assert_acts_as(source: Any, net: nn.Module) -> None:
    obs = torch.randn(200, 5) * 3
    own = net(obs).detach().numpy()
    assert np.abs(load_actor(source).step(obs.numpy(), ())[0] - own).max() <= 1e-5 * np.abs(own).max()


WAYS = [*((opset, False) for opset in range(9, 21)), (18, True), (21, True), (23, True)]


@pytest.mark.parametrize(("opset", "dynamo"), WAYS, ids=str)
def test_softshrink_is_read_as_both_exporters_write_it(tmp_path: Path, opset: int, dynamo: bool) -> None:
    net = network(nn.Softshrink(0.1), nn.Softshrink(0.5), nn.Softshrink(1.7))
    assert_acts_as(exported(net, tmp_path / "p.onnx", opset, dynamo), net)


CONTINUOUS: dict[str, Callable[[Any], Any]] = {
    "leaky, where": lambda x: torch.where(x > 0, x, 0.3 * x), "leaky, maximum": lambda x: torch.maximum(x, 0.1 * x),
    "ReLU, mask": lambda x: x * (x > 0), "ReLU, filled": lambda x: x.masked_fill(x < 0, 0.0), "absolute": torch.abs,
    "hard tanh": lambda x: torch.where(x > 1, torch.ones_like(x), torch.where(x < -1, -torch.ones_like(x), x)),
    "three slopes": lambda x: torch.where(x > 1, x, torch.where(x < 0, 0.1 * x, 0.5 * x + 0.5 * (x > 0.0).float() *
                                          torch.minimum(x, torch.ones_like(x)))),
    "Softshrink, sign": lambda x: torch.sign(x) * F.relu(torch.abs(x) - 0.3),
    "masks that meet": lambda x: x * ((x > 0) & (x < 1)).float() + (x >= 1).float(),
    "inverted mask": lambda x: x * (~(x > 0.0)).float() - x * (x <= 0).float() * 0.5,
    "ELU, where": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
    "SELU, where": lambda x: 1.05 * torch.where(x <= 0, 1.67 * (torch.exp(x) - 1), x),
    "ELU, bounded": lambda x: F.relu(x) + torch.exp(torch.clamp(x, max=0)) - 1,
    "softplus, where": lambda x: torch.where(x > 20, x, torch.log1p(torch.exp(torch.clamp(x, max=20)))),
    "softplus, stable": lambda x: torch.clamp(x, min=0) + torch.log1p(torch.exp(-torch.abs(x))),
    "larger of two": lambda x: torch.maximum(x, torch.roll(x, 1, -1) if not torch.onnx.is_in_onnx_export() else
                                             torch.cat([x[:, -1:], x[:, :-1]], -1)),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CONTINUOUS if name != "larger of two"])
def test_continuous_functions_are_read_from_modules_traces_and_graphs(tmp_path: Path, name: str) -> None:
    net = network(Function(CONTINUOUS[name]), Function(CONTINUOUS[name]))
    for source in sources(net, tmp_path):
        assert_acts_as(source, net)


def test_the_larger_and_the_smaller_of_two_values_are_read(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.out = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.one(x), torch.tanh(self.two(x))
            return self.out(torch.maximum(a, b) - torch.min(b, a) + torch.max(a, 2 * a))

    torch.manual_seed(1)
    net = Two().eval()
    for source in sources(net, tmp_path):
        assert_acts_as(source, net)


JUMPS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "Hardshrink": (nn.Hardshrink(0.3), r"\(Hardshrink\).*jumps \(by 0.3 at -0.3\).*no tolerance.*Softshrink"),
    "Hardshrink, where": (lambda x: torch.where(torch.abs(x) > 0.5, x, torch.zeros_like(x)), r"\(Hardshrink\).*by 0.5"),
    "Threshold": (nn.Threshold(0.1, -0.2), r"\(Threshold\).*jumps \(by 0.3 at 0.1\).*no tolerance.*its own value"),
    "Threshold, mask": (lambda x: x * (x > 0.7), r"\(Threshold\).*jumps \(by 0.7 at 0.7\)"),
    "Sign": (torch.sign, r"\(Sign\).*jumps \(by 2 at 0\).*no tolerance.*tanh"),
    "Sign, where": (lambda x: torch.where(x > 1, 1.0, -1.0), r"\(Sign\).*jumps \(by 2 at 1\)"),
    "Heaviside": (lambda x: torch.heaviside(x, torch.zeros(())), r"\(Heaviside\).*jumps \(by 1 at 0\).*sigmoid"),
    "Heaviside, mask": (lambda x: (x > 0.2).float(), r"\(Heaviside\).*jumps \(by 1 at 0.2\)"),
    "floor": (torch.floor, r"(?i)\(floor\).*rounds.*jumps.*no tolerance.*outside"),
    "round": (torch.round, r"(?i)\(round\).*rounds.*jumps.*no tolerance"),
    "remainder": (lambda x: x % 0.5, r"(?i)\((remainder|mod|floor)\).*rounds.*no tolerance"),
    "whole": (lambda x: x.int().float(), r"(?i)\((int|to|cast)\).*rounds.*no tolerance"),
    "floor division": (lambda x: torch.div(x, 0.5, rounding_mode="floor"), r"(?i)\(floor.*rounds"),
}
UNEXPORTED = ("Threshold", "Heaviside")


@pytest.mark.parametrize("name", JUMPS)
def test_functions_that_jump_are_called_what_they_are(tmp_path: Path, name: str) -> None:
    function, message = JUMPS[name]
    net = network(Function(function))
    for source in sources(net, tmp_path, name not in UNEXPORTED):
        with pytest.raises(UnsupportedLayerError, match=message):
            load_actor(source)


@pytest.mark.parametrize("dynamo", [False, True])
def test_hardshrink_of_both_exporters_is_called_so(tmp_path: Path, dynamo: bool) -> None:
    net = network(nn.Hardshrink(0.4))
    with pytest.raises(UnsupportedLayerError, match=r"\(Hardshrink\).*jumps \(by 0.4.*no tolerance"):
        load_actor(exported(net, tmp_path / "p.onnx", 18, dynamo))


def graph_of(path: Path, kind: str, **options: Any) -> tuple[Path, Callable[[np.ndarray], np.ndarray]]:
    """Return Linear → one operator → Linear, and its first layer."""
    rng = np.random.default_rng(0)
    arrays = {"w": rng.standard_normal((5, 12)), "b": rng.standard_normal(12), "v": rng.standard_normal((12, 2))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
             helper.make_node(kind, ["h"], ["y"], name="f", **options),
             helper.make_node("MatMul", ["y", "v"], ["action"])]  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 5), ("action", 2))
    ]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(a, n) for n, a in arrays.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path, lambda x: x @ arrays["w"] + arrays["b"]


@pytest.mark.parametrize("lambd", [0.1, 0.5, 1.7])
def test_shrink_with_its_reach_as_bias_is_read(tmp_path: Path, lambd: float) -> None:
    path, first = graph_of(tmp_path / "p.onnx", "Shrink", lambd=lambd, bias=lambd)
    obs = np.random.default_rng(1).standard_normal((50, 5)).astype(np.float32)
    z = first(obs)
    v = numpy_helper.to_array(onnx.load(path).graph.initializer[2])
    own = (z - np.clip(z, -lambd, lambd)) @ v
    assert np.abs(load_actor(path).step(obs, ())[0] - own).max() <= 1e-5 * np.abs(own).max()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [("Shrink", {"lambd": 0.5}, r"\(Shrink\).*by 0.5"), ("Shrink", {"lambd": 0.5, "bias": 0.2}, r"\(Shrink\)"),
     ("ThresholdedRelu", {"alpha": 0.6}, r"\(Threshold\).*by 0.6 at 0.6"), ("Sign", {}, r"\(Sign\)"),
     ("Ceil", {}, r"\(Ceil\).*rounds")],
)  # fmt: skip
def test_operators_that_jump_are_called_what_they_are(tmp_path: Path, kind: str, options: Any, message: str) -> None:
    path, _ = graph_of(tmp_path / "p.onnx", kind, **options)
    with pytest.raises(UnsupportedLayerError, match=message + ".*no tolerance"):
        load_actor(path)


def test_compositions_of_straight_pieces_are_what_they_are_point_by_point() -> None:
    rng = np.random.default_rng(0)
    t = np.linspace(-4, 4, 801) + 1e-4

    def drawn() -> tuple[Pieces, Callable[[np.ndarray], np.ndarray]]:
        knots = np.sort(rng.uniform(-2, 2, 3))
        lines = rng.integers(-2, 3, (4, 2)).astype(float)
        at = lambda x: lines[:, 0][k := np.searchsorted(knots, x)] * x + lines[:, 1][k]  # noqa: E731
        return Pieces.alike(1, list(knots), [tuple(line) for line in lines]), at

    for _ in range(60):
        (f, at_f), (g, at_g) = drawn(), drawn()
        for made, true in ((f.of(g), at_f(at_g(t))), (f.plus(g), at_f(t) + at_g(t))):
            place = np.searchsorted(made.knots[0], t)
            assert np.mean(np.abs(made.slopes[0][place] * t + made.offsets[0][place] - true) < 1e-9) > 0.995
