"""Casts to floats narrower than float32 are refused in modules, TorchScript and ONNX; narrow weights are read."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import UnsupportedLayerError  # noqa: E402


class Policy(nn.Module):
    """A small policy, whose observation, features and action `cast` changes."""

    def __init__(self, cast: Any, place: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.last, self.cast, self.place = nn.Linear(4, 16), nn.Linear(16, 2), cast, place
        self.register_buffer("narrow", torch.full((2,), 0.3).half())

    def forward(self, x: Tensor) -> Tensor:
        x = self.cast(self, x) if self.place == 0 else x
        y = torch.relu(self.body(x))
        y = self.cast(self, y) if self.place == 1 else y
        action = torch.tanh(self.last(y))
        return self.cast(self, action) if self.place == 2 else action


def autocast(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x + 1e-3 * torch.nn.functional.linear(x, torch.eye(x.shape[-1]))


CASTS = {
    "half": lambda self, x: x.half().float(),
    "bfloat16": lambda self, x: x.bfloat16().float(),
    "to": lambda self, x: x.to(torch.float16).to(torch.float32),
    "to dtype=": lambda self, x: x.to(dtype=torch.bfloat16).float(),
    "type": lambda self, x: x.type(torch.float16).float(),
    "type_as": lambda self, x: x.type_as(self.narrow).float(),
    "float8": lambda self, x: x.to(torch.float8_e4m3fn).float(),
    "joined": lambda self, x: x + 0 * x.abs().half().float(),
}


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("cast", [*CASTS, "autocast"])
def test_a_cast_is_refused_in_a_module(cast: str, place: int) -> None:
    with pytest.raises(UnsupportedLayerError, match=r"b?float(16|8\w*).*: it rounds|it rounds"):
        load_actor(Policy(CASTS.get(cast, autocast), place).eval())


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("cast", ["half", "to", "bfloat16", "type_as", "joined"])
def test_a_cast_is_refused_in_torchscript(cast: str, place: int, tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(Policy(CASTS[cast], place).eval(), torch.zeros(1, 4)).save(str(tmp_path / "p.pt"))  # pyright: ignore
    with pytest.raises(UnsupportedLayerError, match="it rounds"):
        load_actor(tmp_path / "p.pt")


def graph(path: Path, to: int, weights: Any = np.float32, like: bool = False) -> Path:
    """Save tanh(W cast(x)) with weights of a type."""
    rng = np.random.default_rng(0)
    matrix = numpy_helper.from_array(rng.standard_normal((4, 2)).astype(weights), "w")
    constants = [matrix, numpy_helper.from_array(np.zeros(1, helper.tensor_dtype_to_np_dtype(to)), "like")]
    first = (
        helper.make_node("CastLike", ["obs", "like"], ["a"])
        if like
        else helper.make_node("Cast", ["obs"], ["a"], to=to)
    )
    back = helper.np_dtype_to_tensor_dtype(np.dtype(weights))
    nodes = [first, helper.make_node("Cast", ["a"], ["b"], to=back), helper.make_node("MatMul", ["b", "w"], ["c"]),
             helper.make_node("Cast", ["c"], ["d"], to=TensorProto.FLOAT),
             helper.make_node("Tanh", ["d"], ["action"])]  # fmt: skip
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("obs", 4), ("action", 2))
    ]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants if like else [matrix])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    return path


@pytest.mark.parametrize("like", [False, True])
@pytest.mark.parametrize("to", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN])
def test_a_cast_is_refused_in_onnx(to: int, like: bool, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLayerError, match="it rounds"):
        load_actor(graph(tmp_path / "p.onnx", to, like=like))


@pytest.mark.parametrize("to", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_wide_casts_are_read_in_onnx(to: int, tmp_path: Path) -> None:
    assert load_actor(graph(tmp_path / "p.onnx", to)).action_shape == (2,)


def test_a_graph_of_half_weights_is_read(tmp_path: Path) -> None:
    assert load_actor(graph(tmp_path / "p.onnx", TensorProto.FLOAT16, np.float16)).action_shape == (2,)


@pytest.mark.parametrize(
    "cast",
    [
        lambda self, x: x.double().float(),
        lambda self, x: x * torch.full((2,), 0.3).half().float(),
        lambda self, x: x * self.narrow.float(),
    ],
)
def test_wide_casts_and_those_of_constants_are_read(cast: Any) -> None:
    module = Policy(cast, 2).eval()
    obs = torch.randn(50, 4)
    with torch.no_grad():
        own = module(obs).numpy()
    assert np.abs(load_actor(module).act(obs.numpy()) - own).max() <= 1e-5


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_module_all_of_whose_weights_are_narrow_is_read_as_ever(kind: Any) -> None:
    module = Policy(lambda self, x: x.to(kind), 0).to(kind).eval()
    assert load_actor(module).action_shape == (2,)
