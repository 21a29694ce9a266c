"""What cannot be read in an ONNX graph is called by its right name: recurrent, LayerNorm, a division by zero."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor
from tests.onnx_graphs import HIDDEN, MEAN, exported, graph, node

BOTH = pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])


class Stateful(nn.Module):
    """A recurrent policy that keeps its state in buffers, which exporters take for constants."""

    h: torch.Tensor
    c: torch.Tensor

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cell, self.last = kind(6, 8), nn.Linear(8, 3)
        one_step = kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell)
        self.register_buffer("h", torch.zeros(1, 8) if one_step else torch.zeros(1, 1, 8))
        self.register_buffer("c", self.h.clone())
        self.pair, self.sequence = kind in (nn.LSTM, nn.LSTMCell), not one_step

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        told = self.cell(obs.unsqueeze(0) if self.sequence else obs, (self.h, self.c) if self.pair else self.h)
        told = told[0] if isinstance(told, tuple) else told
        return self.last(told.squeeze(0) if self.sequence else told)


class Stateless(nn.Module):
    """A recurrent policy that takes its state and gives it back."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cell, self.last, self.pair = kind(6, 8), nn.Linear(8, 3), kind is nn.LSTM

    def forward(self, obs: torch.Tensor, h_in: torch.Tensor, c_in: torch.Tensor) -> Any:
        if isinstance(self.cell, nn.GRUCell):
            h = self.cell(obs, h_in[0])
            return self.last(h), h, c_in
        told, state = self.cell(obs.unsqueeze(0), (h_in, c_in) if self.pair else h_in)
        return self.last(told.squeeze(0)), *(state if self.pair else (state, c_in))


@BOTH
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_a_hidden_state_baked_into_the_file_is_refused_by_name(
    tmp_path: Path, kind: type[nn.Module], dynamo: bool
) -> None:
    options = {} if dynamo else {"opset_version": 17}
    path = exported(Stateful(kind), tmp_path / "policy.onnx", (torch.zeros(1, 6),), dynamo, **options)
    with pytest.raises(UnsupportedLayerError, match="it is recurrent, and its hidden state is baked into the file"):
        load_actor(path)


@BOTH
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.GRUCell])
def test_a_recurrent_policy_with_its_state_as_input_remembers(
    tmp_path: Path, kind: type[nn.Module], dynamo: bool
) -> None:
    example = torch.zeros(1, 6), torch.zeros(1, 1, 8), torch.zeros(1, 1, 8)
    names = {"input_names": ["obs", "h_in", "c_in"], "output_names": ["actions", "h_out", "c_out"]}
    options = names if dynamo else {**names, "opset_version": 17}
    path = exported(Stateless(kind), tmp_path / "policy.onnx", example, dynamo, **options)
    with pytest.warns(UserWarning, match="its state is h_in"):
        actor = load_actor(path)
    assert actor.recurrent
    assert {stage.cell.kind for stage in actor.graph.stages} == {"lstm" if kind is nn.LSTM else "gru", "linear"}


def test_loops_over_time_are_called_recurrent(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    state = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("s", "x", "t", "y")]
    step = helper.make_graph([node("Add", "s", "x", "t"), node("Tanh", "t", "y")], "step", state[:2], state[2:])
    scan = helper.make_node("Scan", ["S0", "mean"], ["last", "action"], name="scan", body=step, num_scan_inputs=1)
    path = graph([*MEAN, scan], tmp_path / "policy.onnx", S0=np.zeros(3, np.float32))
    with pytest.raises(UnsupportedLayerError, match=r"scan \(Scan\).*it is recurrent"):
        load_actor(path)


@pytest.mark.parametrize(("opset", "dynamo"), [(9, False), (11, False), (16, False), (17, False), (18, True)])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_is_read_in_every_operator_set(tmp_path: Path, opset: int, dynamo: bool, affine: bool) -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8, elementwise_affine=affine), nn.SiLU(), nn.Linear(8, 3))
    path = exported(module, tmp_path / "policy.onnx", (torch.zeros(1, 6),), dynamo, opset_version=opset)
    assert [stage.cell.kind for stage in load_actor(path).graph.stages] == ["layer norm silu", "linear"]


class RootMeanSquare(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt((x**2).mean(-1, keepdim=True) + 1e-6)


class UnitLength(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(x, dim=-1)


NAMED: dict[str, tuple[nn.Module, str]] = {
    "RMSNorm": (RootMeanSquare(), "rms norm"), "L2": (UnitLength(), "l2 norm"), "GELU": (nn.GELU(), "gelu"),
    "GELU, tanh": (nn.GELU("tanh"), "gelu_tanh"), "Mish": (nn.Mish(), "mish"), "Softplus": (nn.Softplus(), "softplus"),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", NAMED)
def test_layers_that_are_spelled_out_are_read_as_one(tmp_path: Path, name: str, dynamo: bool) -> None:
    module, kind = NAMED[name]
    path = exported(nn.Sequential(nn.Linear(6, 8), module, nn.Linear(8, 3)), tmp_path / "policy.onnx",
                    (torch.zeros(1, 6),), dynamo, **({} if dynamo else {"opset_version": 13}))  # fmt: skip
    assert [stage.cell.kind for stage in load_actor(path).graph.stages] == [kind, "linear"]


class Squareplus(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + torch.sqrt(x**2 + 4.0)) / 2


@BOTH
def test_a_layer_without_a_counterpart_is_called_by_its_name(tmp_path: Path, dynamo: bool) -> None:
    path = exported(nn.Sequential(nn.Linear(6, 8), Squareplus(), nn.Linear(8, 3)), tmp_path / "policy.onnx",
                    (torch.zeros(1, 6),), dynamo, **({} if dynamo else {"opset_version": 13}))  # fmt: skip
    with pytest.raises(UnsupportedLayerError) as caught:
        load_actor(path)
    assert caught.value.kind == "Squareplus"


def test_junctions_are_stages_with_several_connections(tmp_path: Path) -> None:
    junctions = {
        "sum": [node("Add", "r", "h", "z"), node("MatMul", "z", "W2", "action")],
        "concatenation": [node("Concat", "r", "h", "z", axis=1), node("MatMul", "z", "TALL", "action")],
        "two inputs": [node("Add", "r", "other", "z"), node("MatMul", "z", "W2", "action")],
    }
    for reason, nodes in junctions.items():
        inputs = {"other": ["N", 8]} if "inputs" in reason else {}
        path = graph([*HIDDEN, *nodes], tmp_path / "policy.onnx", inputs=inputs, TALL=np.ones((16, 3), np.float32))
        actor = load_actor(path)
        assert max(len(stage.connections) for stage in actor.graph.stages) == 2
        assert actor.observation_shape == ((14,) if inputs else (6,))


STD = np.array([1, 0, 1, 1, 1, 0], np.float32)
ZERO: dict[str, list[Any]] = {
    "divided": [node("Div", "obs", "STD", "x")],
    "reciprocal": [node("Reciprocal", "STD", "k"), node("Mul", "obs", "k", "x")],
    "one over it": [node("Div", "UNIT", "STD", "k"), node("Mul", "obs", "k", "x")],
    "root of a variance": [node("Sqrt", "STD", "s"), node("Sub", "obs", "STD", "d"), node("Div", "d", "s", "x")],
}  # fmt: skip


@pytest.mark.parametrize("name", ZERO)
def test_a_standard_deviation_of_zero_is_named_with_its_entries(tmp_path: Path, name: str) -> None:
    nodes = [*ZERO[name], node("Gemm", "x", "W1", "B1", "h"), *MEAN[1:-1], node("MatMul", "r", "W2", "action")]
    path = graph(nodes, tmp_path / "policy.onnx", STD=STD, UNIT=np.float32(1))
    with pytest.raises(UnsupportedLayerError, match=r"divides by zero: entries 1, 5 are 0 .*standard deviation"):
        load_actor(path)


def test_an_infinite_scale_is_named_with_its_entries(tmp_path: Path) -> None:
    with np.errstate(divide="ignore"):
        path = graph([node("Mul", "obs", "K", "x"), node("MatMul", "x", "W1", "h"), *MEAN[1:-1],
                      node("MatMul", "r", "W2", "action")], tmp_path / "policy.onnx", K=1 / STD)  # fmt: skip
    with pytest.raises(SourceError, match=r"NaN or infinity at entry 1, 5 \(.* standard deviation of zero"):
        load_actor(path)
