"""ONNX policies: the actor computes what ONNX Runtime computes; other graphs and files are refused by name."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from stable_baselines3 import PPO, SAC
from torch import nn

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor

RNG = np.random.default_rng(5)


def difference(actor: Actor, path: Path, spread: Any = 1.0, centre: Any = 0.0, batched: bool = True) -> float:
    """The largest difference to ONNX Runtime's first output on 1,000 observations."""
    noise = np.random.default_rng(0).standard_normal((1000, *actor.observation_shape))
    obs = (noise * spread + centre).astype(np.float32)
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    rows = [obs] if batched else [row[None] for row in obs]
    own = np.concatenate([np.asarray(session.run(None, {name: row})[0]) for row in rows])
    return float(np.abs(own.reshape(actor.act(obs).shape) - actor.act(obs)).max())


def test_the_deployed_go1_policy_acts_as_onnx_runtime_runs_it(reference_dir: Path) -> None:
    path = reference_dir / "ppo-go1.onnx"
    actor = load_actor(path)
    assert actor.normaliser is not None
    assert difference(actor, path, actor.normaliser.scale * 1.5, actor.normaliser.mean, batched=False) <= 1e-5
    assert actor.widths == (48, 512, 256, 128)
    assert (actor.head.kind, actor.name, actor.env_id) == ("tanh", "ppo-go1", None)
    other = load_actor(reference_dir / "ppo-go1.safetensors")
    obs = np.random.default_rng(0).standard_normal((1000, 48)) * actor.normaliser.scale + actor.normaliser.mean
    assert np.abs(actor.act(obs) - other.act(obs)).max() <= 1e-5


def exported(module: nn.Module, path: Path, size: int, dynamo: bool) -> Path:
    options: dict[str, Any] = {"external_data": False, "verbose": False} if dynamo else {"opset_version": 17}
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(module.eval(), (torch.ones(1, size),), path, dynamo=dynamo, input_names=["obs"], **options)
    return path


class Rescaled(nn.Module):
    mean: torch.Tensor
    std: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm1d(8)
        assert norm.running_mean is not None
        norm.running_mean.normal_()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(4, 8), norm, nn.ELU(), nn.Dropout(), nn.Linear(8, 8), nn.LeakyReLU(0.2),
            nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 6),
        )  # fmt: skip
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("std", torch.rand(4) + 0.5)
        self.register_buffer("scale", torch.tensor([2.0, -1.0, 0.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.net(torch.clamp((x - self.mean) / self.std, -3, 3))
        return torch.tanh(y.chunk(2, dim=-1)[0].clamp(-2, 2)) * self.scale + 0.25


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
def test_what_torch_exports_is_read(tmp_path: Path, dynamo: bool) -> None:
    torch.manual_seed(0)
    path = exported(Rescaled(), tmp_path / "rescaled.onnx", 4, dynamo)
    actor = load_actor(path)
    assert difference(actor, path, batched=False) <= 1e-5
    assert actor.head.pre_clip == 2
    assert actor.observation_shape == (4,)


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
def test_the_export_recipe_of_stable_baselines3_is_read(
    tmp_path: Path, dynamo: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)  # dynamo cannot export the checks

    class OnPolicy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy: Any = PPO("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8, 8]}).policy

        def forward(self, observation: torch.Tensor) -> Any:
            return self.policy(observation, deterministic=True)

    class OffPolicy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            model = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [8]}, buffer_size=1, use_sde=True)
            self.actor: Any = nn.Sequential(model.actor.latent_pi, model.actor.mu, nn.Tanh())

        def forward(self, observation: torch.Tensor) -> torch.Tensor:
            return self.actor(observation)

    for recipe in (OnPolicy(), OffPolicy()):
        path = exported(recipe, tmp_path / f"{type(recipe).__name__}.onnx", 3, dynamo)
        assert difference(load_actor(path), path, batched=False) <= 1e-5


def graph(nodes: list[Any], path: Path, outputs: Any = (("action", TensorProto.FLOAT),), **constants: Any) -> Path:
    """A graph from `obs` (N, 4), with the given constants."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "policy",
            [helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["N", 4])],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
            tensors,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, path)
    return path


def node(kind: str, *names: str, **attributes: Any) -> Any:
    """A node with the given inputs and, last, its output."""
    return helper.make_node(kind, list(names[:-1]), [names[-1]], name=f"the_{names[-1]}", **attributes)


W1, B1 = RNG.standard_normal((4, 8)).astype(np.float32), RNG.standard_normal(8).astype(np.float32)
W2, TWO = RNG.standard_normal((8, 4)).astype(np.float32), np.float32(2)
FIRST = [node("MatMul", "obs", "W1", "a"), node("Add", "B1", "a", "h")]
LAST = node("MatMul", "r", "W2", "y")
HIDDEN = [*FIRST, node("Relu", "h", "r"), LAST]
AXIS = np.array([1])

TAILS: dict[str, list[Any]] = {
    "gemm": [node("Gemm", "obs", "W1", "B1", "h", alpha=0.5, beta=2.0), node("Relu", "h", "r"),
             node("Gemm", "r", "W2T", "action", transB=1)],
    "swish": [*FIRST, node("Sigmoid", "h", "s"), node("Mul", "s", "h", "r"), LAST, node("Tanh", "y", "action")],
    "constant node": [*FIRST, helper.make_node("Constant", [], ["c"], value_float=3.0), node("Mul", "h", "c", "z"),
                      node("Elu", "z", "r", alpha=0.5), node("MatMul", "r", "W2", "action")],
    "division": [node("Sub", "obs", "M", "d"), node("Div", "d", "TWO", "x"), node("MatMul", "x", "W1", "h"),
                 node("Neg", "h", "n"), node("Softplus", "W1", "unused"), node("Relu", "n", "r"),
                 node("Sub", "TWO", "r", "q"), node("MatMul", "q", "W2", "action")],
    "slice": [*HIDDEN, node("Slice", "y", "ONE", "THREE", "AXIS", "action")],
    "slice backwards": [*HIDDEN, node("Slice", "y", "THREE", "LOWEST", "AXIS", "MINUS", "action")],
    "gather": [*HIDDEN, node("Gather", "y", "PICK", "action", axis=-1)],
    "split": [*HIDDEN, helper.make_node("Split", ["y", "PARTS"], ["action", "rest"], axis=1)],
    "split rest": [*HIDDEN, helper.make_node("Split", ["y", "PARTS"], ["rest", "action"], axis=-1)],
    "clip": [*HIDDEN, node("Clip", "y", "MINUS_F", "", "c"), node("Min", "c", "TWO", "action")],
    "reshape": [node("Reshape", "obs", "ROWS", "x"), node("Flatten", "x", "f"), node("Gemm", "f", "W1", "h"),
                node("Shape", "obs", "shape"), node("Gather", "shape", "ZERO", "n"), node("Relu", "h", "r"),
                node("Concat", "n", "EIGHT", "to", axis=0), node("Reshape", "r", "to", "q"),
                node("Gemm", "q", "W2", "action")],
    "folded constants": [node("Sqrt", "V", "std"), node("Add", "std", "TWO", "s"), node("Cast", "s", "t", to=1),
                         node("Div", "obs", "t", "x"), node("Gemm", "x", "W1", "action")],
    "casts": [node("Cast", "obs", "c", to=11), node("Cast", "c", "x", to=1), node("Gemm", "x", "W1", "i"),
              node("Identity", "i", "d"), node("Dropout", "d", "action")],
    "prelu": [*FIRST, node("PRelu", "h", "SLOPE", "r"), node("MatMul", "r", "W2", "action")],
    "norm": [*FIRST, node("BatchNormalization", "h", "G", "B1", "B1", "G", "n"), node("Relu", "n", "r"),
             node("MatMul", "r", "W2", "action")],
}  # fmt: skip
CONSTANTS: dict[str, Any] = {
    "W1": W1, "B1": B1, "W2": W2, "W2T": W2.T.copy(), "TWO": TWO, "M": W1[:, 0], "AXIS": AXIS, "ONE": np.array([1]),
    "THREE": np.array([3]), "LOWEST": np.array([-(2**63)]), "MINUS": np.array([-1]), "PICK": np.array([3, 0]),
    "PARTS": np.array([3, 1]), "MINUS_F": np.float32(-1), "ROWS": np.array([-1, 4]), "ZERO": np.array([0]),
    "EIGHT": np.array([8]), "V": np.abs(W1[:, 1]), "SLOPE": np.array([0.1], np.float32), "G": np.abs(B1) + 0.5,
}  # fmt: skip


@pytest.mark.parametrize("name", TAILS)
def test_operators_are_read_as_onnx_runtime_runs_them(tmp_path: Path, name: str) -> None:
    path = graph(TAILS[name], tmp_path / "policy.onnx", **CONSTANTS)
    assert difference(load_actor(path), path) <= 1e-5


def test_an_argmax_is_a_discrete_head(tmp_path: Path) -> None:
    tail = [node("Softmax", "y", "p", axis=-1), node("ArgMax", "p", "i", axis=1, keepdims=1)]
    nodes = [*HIDDEN, *tail, node("Squeeze", "i", "AXIS", "s"), node("Cast", "s", "action", to=6)]
    path = graph(nodes, tmp_path / "discrete.onnx", [("action", TensorProto.INT32)], **CONSTANTS)
    actor = load_actor(path)
    assert actor.discrete
    assert difference(actor, path) == 0


def test_the_index_of_an_argmax_is_the_action_unless_another_is_named(tmp_path: Path) -> None:
    nodes = [*HIDDEN, node("ArgMax", "y", "index", axis=1), node("Tanh", "y", "action"), node("Neg", "y", "other")]
    outputs = [("index", TensorProto.INT64), ("action", TensorProto.FLOAT), ("other", TensorProto.FLOAT)]
    path = graph(nodes, tmp_path / "policy.onnx", outputs, **CONSTANTS)
    with pytest.warns(UserWarning, match="output 'index' is read as the action, not action, other"):
        assert load_actor(path).head.kind == "argmax"
    kinds = [load_actor(path, output=name).head.kind for name in ("action", "other", "index")]
    assert kinds == ["tanh", "clip", "argmax"]
    with pytest.raises(SourceError, match="no output 'absent'; it has index, action, other"):
        load_actor(path, output="absent")


REFUSED: dict[str, tuple[list[Any], str]] = {
    "Conv": ([node("Conv", "obs", "W1", "action")], "convolutions"),
    "MaxPool": ([node("MaxPool", "obs", "action", kernel_shape=[2])], "average pooling"),
    "LSTM": ([node("LSTM", "obs", "W1", "W1", "action")], "recurrent"),
    "Gemm": ([node("Gemm", "obs", "W1", "action", transA=1)], "left factor"),
    "MatMul": ([node("MatMul", "W1", "obs", "action")], "left factor"),
    "ConstantOfShape": ([node("Shape", "obs", "s"), node("ConstantOfShape", "s", "action")], "does not depend"),
    "Cast": ([*FIRST, node("Cast", "h", "action", to=7)], "rounds"),
    "Reshape": ([*FIRST, node("Reshape", "h", "ROWS", "x"), node("Gemm", "x", "W1", "action")], "rows of 4"),
    "Shrink": ([*FIRST, node("Shrink", "h", "r"), node("Gemm", "r", "W2", "action")], "Retrain with ReLU"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_operator_without_a_rule_is_refused_by_name(tmp_path: Path, name: str) -> None:
    nodes, reason = REFUSED[name]
    path = graph(nodes, tmp_path / "policy.onnx", **CONSTANTS)
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        load_actor(path)
    assert name == "ConstantOfShape" or caught.value.kind == name
    assert name == "ConstantOfShape" or caught.value.path in {node.name for node in nodes}


def test_operators_of_other_domains_are_refused(tmp_path: Path) -> None:
    path = graph([node("Relu", "obs", "action", domain="my.ops")], tmp_path / "policy.onnx")
    with pytest.raises(UnsupportedLayerError, match=r"my\.ops\.Relu"):
        load_actor(path)


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    path = graph([node("Add", "obs", "state", "action")], tmp_path / "policy.onnx")
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", 4]))
    onnx.save(model, path)
    with pytest.raises(UnsupportedLayerError, match=r"obs, state.*several inputs"):
        load_actor(path)


def test_weights_in_other_files_are_never_opened(tmp_path: Path) -> None:
    path = graph(HIDDEN, tmp_path / "policy.onnx", [("y", TensorProto.FLOAT)], **CONSTANTS)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(SourceError, match=r"lies in another file, which is not read; .*external_data=False"):
        load_actor(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 50, b"PK\x03\x04zip", b"{}"])
def test_files_that_are_no_onnx_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"policy\.onnx") as caught:
        load_actor(path)
    assert "\n" not in str(caught.value)


def test_truncated_or_dangling_graphs_and_bad_weights_are_refused(tmp_path: Path) -> None:
    path = graph(TAILS["gemm"], tmp_path / "policy.onnx", **CONSTANTS)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(SourceError, match=r"not a readable ONNX file|holds no graph"):
            load_actor(path)
    graph(TAILS["gemm"], path, **{key: value for key, value in CONSTANTS.items() if key != "W1"})
    with pytest.raises(SourceError, match="'W1' is used, but nothing in the graph makes it"):
        load_actor(path)
    graph(TAILS["gemm"], path, **CONSTANTS | {"W1": np.full_like(W1, np.inf)})
    with pytest.raises(SourceError, match="NaN or infinity"):
        load_actor(path)
    graph(TAILS["gemm"], path, **CONSTANTS | {"W1": W1[:3]})
    with pytest.raises(SourceError, match="3 inputs, which do not fit"):
        load_actor(path)


def test_a_graph_that_runs_in_a_circle_is_refused(tmp_path: Path) -> None:
    nodes = [node("Relu", "obs", "x"), node("Sum", "x", "b", "a"), node("Identity", "a", "b")]
    path = graph(nodes, tmp_path / "circle.onnx", [("b", TensorProto.FLOAT)])
    with pytest.raises((SourceError, UnsupportedLayerError)):
        load_actor(path)
