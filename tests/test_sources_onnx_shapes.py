"""Right graphs are read whatever their exporter wrapped around one row, and act as ONNX Runtime runs them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor
from tests.onnx_graphs import CONSTANTS, HIDDEN, MEAN, difference, exported, graph, node

END = np.iinfo(np.int64).max
FIRST = node("Gemm", "obs", "W1", "B1", "h")
REST = [node("Relu", "h", "r"), node("MatMul", "r", "W2", "action")]
BETWEEN = [node("Relu", "h", "r0")]
ACTION = node("MatMul", "r", "W2", "action")
WIDE = [*HIDDEN, node("MatMul", "r", "WIDE", "all")]


def whole(name: str, start: list[int], end: list[int], axes: list[int], source: str, out: str) -> list[Any]:
    """A Slice with its constants."""
    numbers = {"s": start, "e": end, "a": axes}
    made = [helper.make_node("Constant", [], [f"{name}_{key}"], value_ints=value) for key, value in numbers.items()]
    return [*made, node("Slice", source, f"{name}_s", f"{name}_e", f"{name}_a", out)]


READ: dict[str, list[Any]] = {
    # constants
    "transposed weight": [node("Transpose", "W1T", "W1_", perm=[1, 0]), node("Gemm", "obs", "W1_", "B1", "h"), *REST],
    "transposed without order": [node("Transpose", "W1T", "W1_"), node("MatMul", "obs", "W1_", "h"), *REST],
    "variance": [node("Pow", "STD", "TWO", "v"), node("Add", "v", "EPS", "w"), node("Sqrt", "w", "s"),
                 node("Sub", "obs", "M", "d"), node("Div", "d", "s", "x"), node("Gemm", "x", "W1", "B1", "h"), *REST],
    "reciprocal": [node("Reciprocal", "STD", "k"), node("Mul", "obs", "k", "x"), node("MatMul", "x", "W1", "h"), *REST],
    "exponential": [node("Exp", "M", "s"), node("Div", "obs", "s", "x"), node("MatMul", "x", "W1", "h"), *REST],
    "weight from slices": [*whole("k", [0], [6], [0], "TALL", "W1_"), node("MatMul", "obs", "W1_", "h"), *REST],
    "weight joined": [node("Concat", "TOP", "BOTTOM", "W1_", axis=0), node("MatMul", "obs", "W1_", "h"), *REST],
    "weight gathered": [node("Gather", "TALL", "ORDER", "W1_", axis=0), node("MatMul", "obs", "W1_", "h"), *REST],
    "where": [node("Greater", "STD", "TWO", "big"), node("Where", "big", "STD", "TWO", "s"),
              node("Div", "obs", "s", "x"), node("MatMul", "x", "W1", "h"), *REST],
    "fused weights": [node("MatMul", "W1", "SQUARE", "W1_"), node("MatMul", "obs", "W1_", "h"), *REST],
    # left out and in vain
    "empty bias": [node("Gemm", "obs", "W1", "", "h"), *REST],
    "no bias": [node("Gemm", "obs", "W1", "h", alpha=2.0), *REST],
    "scalar bias": [node("Gemm", "obs", "W1", "TWO", "h", beta=0.5), *REST],
    "row bias": [node("Gemm", "obs", "W1", "B1ROW", "h"), *REST],
    "one joined": [FIRST, *BETWEEN, helper.make_node("Concat", ["r0"], ["r"], axis=1), ACTION],
    "observation joined alone": [helper.make_node("Concat", ["obs"], ["x"], axis=-1),
                                 node("MatMul", "x", "W1", "h"), *REST],
    # slices
    "both axes": [*WIDE, *whole("k", [0, 1], [END, 4], [0, 1], "all", "action")],
    "all axes whole": [*whole("k", [0, 0], [END, END], [0, 1], "obs", "x"), node("MatMul", "x", "W1", "h"), *REST],
    "rows whole": [*whole("k", [0], [END], [0], "obs", "x"), node("MatMul", "x", "W1", "h"), *REST],
    "columns whole": [*whole("k", [0], [6], [1], "obs", "x"), node("MatMul", "x", "W1", "h"), *REST],
    "axes left out": [*WIDE, node("Slice", "all", "ZEROS", "CORNER", "action")],
    "negative axis": [*WIDE, *whole("k", [-3], [END], [-1], "all", "action")],
    # around one row
    "unsqueezed": [node("Unsqueeze", "obs", "A0", "x"), node("MatMul", "x", "W1", "h"), node("Relu", "h", "r"),
                   node("MatMul", "r", "W2", "y"), node("Squeeze", "y", "A0", "action")],
    "squeezed": [node("Squeeze", "obs", "A0", "x"), node("MatMul", "x", "W1", "h"), *REST],
    "squeezed at the end": [*MEAN, node("Squeeze", "mean", "action")],
    "middle axis": [node("Unsqueeze", "obs", "A1", "x"), node("MatMul", "x", "W1", "h"),
                    node("Squeeze", "h", "A1", "z"), node("Relu", "z", "r"), ACTION],
    "first row": [node("Gather", "obs", "FIRST", "x", axis=0), node("MatMul", "x", "W1", "h"), *REST],
    "row transposed twice": [node("Unsqueeze", "obs", "A0", "u"), node("Transpose", "u", "x", perm=[1, 0, 2]),
                             node("MatMul", "x", "W1", "h"), *REST],
    "flat at the end": [*MEAN, node("Reshape", "mean", "FLAT", "action")],
    "kept by expand": [*HIDDEN, node("Shape", "r", "shape"), node("Expand", "r", "shape", "q"),
                       node("MatMul", "q", "W2", "action")],
    "kept by open expand": [*HIDDEN, node("MatMul", "r", "W2", "y"), node("Shape", "y", "n"),
                            node("ConstantOfShape", "n", "zeros"), node("Add", "zeros", "LOGSTD", "spread"),
                            node("Shape", "spread", "to"), node("Expand", "y", "to", "action")],
    "size at run time": [FIRST, *BETWEEN, node("Shape", "r0", "shape"), node("Gather", "shape", "A0", "n"),
                         node("Concat", "n", "FLAT", "to", axis=0), node("Reshape", "r0", "to", "r"), ACTION],
    "log-softmax is no joint": [*WIDE, *whole("k", [0], [3], [1], "all", "action")],
}  # fmt: skip
MORE: dict[str, Any] = {
    "W1T": CONSTANTS["W1"].T.copy(), "STD": np.abs(CONSTANTS["W1"][:, 0]) + 0.5, "M": CONSTANTS["W1"][:, 1],
    "EPS": np.float32(1e-5), "TWO": np.float32(2), "TALL": np.tile(CONSTANTS["W1"], (2, 1)),
    "TOP": CONSTANTS["W1"][:2], "BOTTOM": CONSTANTS["W1"][2:], "ORDER": np.array([5, 4, 3, 2, 1, 0]),
    "SQUARE": np.eye(8, dtype=np.float32)[::-1] * 2, "B1ROW": CONSTANTS["B1"][None], "A0": np.array([0]),
    "A1": np.array([1]), "FIRST": np.array(0), "FLAT": np.array([-1]), "ZEROS": np.array([0, 0]),
    "CORNER": np.array([END, 3]),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_right_graphs_are_read(tmp_path: Path, name: str) -> None:
    path = graph(READ[name], tmp_path / "policy.onnx", **MORE)
    actor = load_actor(path)
    assert (actor.observation_shape, actor.action_shape) == ((6,), (3,))
    assert difference(actor, path) <= 1e-5


def test_attributes_of_old_operator_sets_are_read(tmp_path: Path) -> None:
    nodes = [
        node("Unsqueeze", "W1", "W1_", axes=[0]), node("Squeeze", "W1_", "V", axes=[0]),
        node("MatMul", "obs", "V", "h"), node("Clip", "h", "r", min=0.0), node("MatMul", "r", "WIDE", "all"),
        node("Slice", "all", "s", starts=[0, 1], ends=[END, 5], axes=[0, 1]), node("Unsqueeze", "s", "u", axes=[1]),
        node("Squeeze", "u", "t", axes=[1]), helper.make_node("Split", ["t"], ["action", "rest"], axis=1, split=[3, 1]),
    ]  # fmt: skip
    path = graph(nodes, tmp_path / "policy.onnx", opset=9)
    assert difference(load_actor(path), path) <= 1e-5


# further inputs, what they feed, and the outputs
IGNORED: dict[str, tuple[dict[str, Any], list[Any], list[str]]] = {
    "recurrent state passed through": ({"state_ins": ["N", 1]}, [node("Identity", "state_ins", "state_outs")],
                                       ["action", "state_outs"]),
    "time step": ({"time_step": ["N", 1]}, [node("Neg", "time_step", "joint_pos")], ["action", "joint_pos"]),
    "mask": ({"action_masks": ["N", 3]}, [node("Mul", "action_masks", "LOGSTD", "masked")], ["action", "masked"]),
    "unused": ({"seq_lens": ["N"], "unused": ["N", 2]}, [], ["action"]),
}  # fmt: skip


@pytest.mark.parametrize("name", IGNORED)
def test_inputs_that_do_not_reach_the_action_do_not_count(tmp_path: Path, name: str) -> None:
    inputs, nodes, outputs = IGNORED[name]
    path = graph([*MEAN, node("Identity", "mean", "action"), *nodes], tmp_path / "policy.onnx", outputs, inputs)
    actor = load_actor(path, output="action")
    assert actor.action_shape == (3,)
    assert difference(actor, path) <= 1e-5


def test_a_graph_without_a_batch_axis_is_read(tmp_path: Path) -> None:
    path = graph(READ["squeezed"][1:], tmp_path / "policy.onnx", x=CONSTANTS["B1"])
    model = onnx.load(path)
    for element in model.graph.node:
        element.input[:] = ["obs" if name == "x" else name for name in element.input]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("obs", TensorProto.FLOAT, [6]))
    del model.graph.initializer[[tensor.name for tensor in model.graph.initializer].index("x")]
    onnx.save(model, path)
    actor = load_actor(path)
    assert (actor.observation_shape, actor.action_shape) == ((6,), (3,))


class Squeezing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ELU(), nn.Linear(8, 3))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.net(obs.unsqueeze(0).squeeze(0).flatten(1)).squeeze(0)


@pytest.mark.parametrize("opset", [9, 11, 13, 16, 20])
@pytest.mark.parametrize("dynamic", [True, False], ids=["dynamic", "fixed"])
def test_squeezes_of_open_size_are_read_with_their_branches(tmp_path: Path, opset: int, dynamic: bool) -> None:
    axes = {"obs": {0: "batch"}} if dynamic else None
    path = exported(Squeezing(), tmp_path / "policy.onnx", (torch.zeros(1, 6),), False, opset_version=opset,
                    input_names=["obs"], output_names=["action"], dynamic_axes=axes)  # fmt: skip
    branches = [node.op_type for node in onnx.load(path).graph.node].count("If")
    assert branches == (1 if dynamic and opset > 9 else 0)
    assert difference(load_actor(path), path) <= 1e-5


class Normalised(nn.Module):
    """As legged robots' policies are exported: normaliser, multilayer perceptron, scale."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, 8), nn.ELU(), nn.Linear(8, 3))
        self.register_buffer("mean", torch.randn(1, 6))
        self.register_buffer("variance", torch.rand(1, 6) + 0.1)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        x = (obs[:, :] - self.mean) / torch.sqrt(self.variance + 1e-5)
        return self.net(x.clamp(-5, 5).view(-1, 2, 3).flatten(1)) * 0.25


@pytest.mark.parametrize(("opset", "dynamo"), [(9, 0), (11, 0), (13, 0), (15, 0), (17, 0), (20, 0), (18, 1), (21, 1)])
def test_robot_policies_of_every_operator_set_are_read(tmp_path: Path, opset: int, dynamo: bool) -> None:
    torch.manual_seed(0)
    path = exported(Normalised(), tmp_path / "policy.onnx", (torch.zeros(1, 6),), bool(dynamo), opset_version=opset,
                    input_names=["obs"], output_names=["action"])  # fmt: skip
    actor = load_actor(path)
    assert actor.normaliser is not None
    assert difference(actor, path) <= 1e-5


SHARED = np.array([2, 3])
TENSORS: dict[str, Any] = {
    "SHARED": SHARED, "W3x": np.ones((3, 3), np.float32), "A2": np.array([2]), "ROW36": np.array([1, 36]),
    "W36": np.random.default_rng(0).normal(size=(36, 2)).astype(np.float32), "IMAGE": np.array([1, 2, 3]),
    "TO5": np.array([5, 3]),
}  # fmt: skip
NO_CHAIN: dict[str, list[Any]] = {
    "values repeated": [node("Unsqueeze", "obs", "A2", "u"), node("Add", "u", "M", "x"),
                        node("Reshape", "x", "ROW36", "f"), node("MatMul", "f", "W36", "action")],
    "order changed": [node("Reshape", "obs", "IMAGE", "x"), node("Transpose", "x", "t", perm=[0, 2, 1]),
                      node("Flatten", "t", "f"), node("MatMul", "f", "W1", "action")],
    "every part": [node("Reshape", "obs", "IMAGE", "x"), node("MatMul", "x", "W3x", "y"),
                   node("Flatten", "y", "action")],
}  # fmt: skip
WRONG: dict[str, tuple[list[Any], str]] = {
    "rows mixed": ([node("Reshape", "obs", "SHARED", "x"), node("Gemm", "x", "W3x", "action")], "rows of 3"),
    "rows repeated": ([*MEAN, node("Expand", "mean", "TO5", "action")], "repeats values"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_one_row_cannot_be_is_refused_by_name(tmp_path: Path, name: str) -> None:
    nodes, reason = WRONG[name]
    path = graph(nodes, tmp_path / "policy.onnx", **TENSORS, **MORE)
    with pytest.raises(UnsupportedLayerError, match=reason):
        load_actor(path)


@pytest.mark.parametrize("name", NO_CHAIN)
def test_what_is_no_chain_of_one_row_is_read_as_a_graph(tmp_path: Path, name: str) -> None:
    path = graph(NO_CHAIN[name], tmp_path / "policy.onnx", **TENSORS, **MORE)
    assert difference(load_actor(path), path) <= 1e-5


def _scaled(affine: Any, factor: float) -> Any:
    return lambda path, kind, weight, *bias: affine(path, kind, factor * weight, *bias)


def test_a_reading_that_differs_from_the_runtime_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snn_policy.sources import onnx_nodes
    from snn_policy.sources.operations import affine

    path = graph(READ["no bias"], tmp_path / "policy.onnx")
    for wrong in (1.01, -1.0, 0.0):
        monkeypatch.setattr(onnx_nodes, "affine", _scaled(affine, wrong))
        with pytest.raises(UnsupportedLayerError, match="ONNX Runtime's output differs"):
            load_actor(path)
    monkeypatch.undo()
    assert difference(load_actor(path), path) <= 1e-5


def test_bounds_given_by_the_user_are_no_difference(tmp_path: Path) -> None:
    path = graph(READ["no bias"], tmp_path / "policy.onnx")
    actor = load_actor(path, low=[-0.1, -0.2, -0.3], high=0.1)
    assert actor.low.tolist() == pytest.approx([-0.1, -0.2, -0.3])


@pytest.mark.parametrize("precision", ["half", "double", "float"])
def test_every_precision_is_read_and_compared_in_its_own(tmp_path: Path, precision: str) -> None:
    torch.manual_seed(0)
    module = getattr(nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)), precision)()
    example = getattr(torch.zeros(1, 6), precision)()
    path = exported(module, tmp_path / "policy.onnx", (example,), False, opset_version=17)
    actor = load_actor(path)
    observations = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    with torch.no_grad():
        wanted = module(getattr(torch.as_tensor(observations), precision)()).float().numpy()
    assert np.abs(actor.act(observations) - wanted).max() <= (5e-3 if precision == "half" else 1e-5)


def test_statistics_can_be_put_in_front_of_a_graph(tmp_path: Path) -> None:
    path = graph(READ["no bias"], tmp_path / "policy.onnx")
    plain, normalised = load_actor(path), load_actor(path, normaliser=(np.full(6, 2.0), np.full(6, 4.0)))
    observations = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    assert np.abs(normalised.act(observations) - plain.act((observations - 2) / 2)).max() <= 1e-5


class Mirrored(nn.Module):
    """The mean of a network and its mirror image, as symmetric gaits have them: entries in another order, by lists."""

    order: torch.Tensor

    def __init__(self, how: str) -> None:
        super().__init__()
        self.net, self.how = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), how
        self.register_buffer("order", torch.tensor([2, 0, 1, 5, 4, 3]))
        self.register_buffer("signs", torch.tensor([1.0, -1.0, 1.0, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "a list":
            return self.net(x) + self.net(x[:, self.order])[:, [3, 2, 1, 0]] * self.signs
        if self.how == "of a history":
            return self.net(x.reshape(-1, 2, 3)[:, :, [2, 0, 1]].flatten(1))
        return self.net(x[..., [-1, 0, -2, 1, 2, 3]])


@pytest.mark.parametrize("how", ["a list", "of a history", "from the end"])
def test_entries_in_another_order_are_read_as_torchs_newer_exporter_writes_them(how: str, tmp_path: Path) -> None:
    net = Mirrored(how).eval()
    torch.onnx.export(net, (torch.zeros(1, 6),), str(tmp_path / "p.onnx"), dynamo=True, verbose=False)
    assert "GatherND" in {node.op_type for node in onnx.load(tmp_path / "p.onnx").graph.node}
    obs = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    wanted = net(torch.from_numpy(obs)).detach().numpy()
    assert np.allclose([load_actor(tmp_path / "p.onnx").act(row) for row in obs], wanted, atol=1e-6)


@pytest.mark.parametrize("index", [[[6]], [[-7]], [[2**40]]])
def test_entries_that_are_not_there_are_refused_in_one_line(index: list[list[int]], tmp_path: Path) -> None:
    nodes = [helper.make_node("Constant", [], ["index"], value=onnx.numpy_helper.from_array(np.array(index))),
             node("Transpose", "obs", "t"), node("GatherND", "t", "index", "g"), node("Transpose", "g", "x"),
             node("MatMul", "x", "ONE", "action")]  # fmt: skip
    with pytest.raises((SourceError, UnsupportedLayerError)) as refused:
        load_actor(graph(nodes, tmp_path / "p.onnx", ONE=np.ones((1, 2), np.float32)))
    assert "\n" not in str(refused.value)
