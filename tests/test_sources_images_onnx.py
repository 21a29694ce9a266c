"""Convolutional ONNX policies: the actor computes what ONNX Runtime computes; other graphs are refused by name."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor
from tests.pixels import SHAPE, Pixels, images, norm


def exported(module: nn.Module, path: Path, dynamo: bool) -> Path:
    options: dict[str, Any] = {"external_data": False, "verbose": False, "dynamic_shapes": ({0: "N"},)}
    options = options if dynamo else {"opset_version": 17, "dynamic_axes": {"obs": {0: "N"}}}
    with warnings.catch_warnings(action="ignore"):
        example = torch.zeros(2, *SHAPE, dtype=torch.uint8)
        torch.onnx.export(module.eval(), (example,), path, dynamo=dynamo, input_names=["obs"], **options)
    return path


def runtime_difference(actor: Actor, path: Path) -> float:
    obs = images(20, actor.observation_shape)
    session = onnxruntime.InferenceSession(path)
    given = session.get_inputs()[0]
    own = session.run(None, {given.name: obs if "uint8" in given.type else obs.astype(np.float32)})[0]
    return float(np.abs(np.asarray(own) - actor.act(obs)).max())


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize("name", ["drq", "pools", "norms", "same"])
def test_what_torch_exports_is_read(tmp_path: Path, name: str, dynamo: bool) -> None:
    bodies: dict[str, list[Any]] = {
        "drq": [nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()],
        "pools": [nn.AvgPool2d(2), nn.Conv2d(3, 4, 3), nn.ELU(), nn.AvgPool2d(2, 1), nn.Dropout2d()],
        "norms": [nn.Conv2d(3, 4, 3, padding=1), norm(nn.BatchNorm2d(4)), nn.SiLU(), norm(nn.BatchNorm2d(4)),
                  nn.AdaptiveAvgPool2d(1), nn.Flatten()],
        "same": [nn.Conv2d(3, 4, 3, padding="same"), nn.Tanh(), nn.Conv2d(4, 2, (1, 3), padding="valid"), nn.ReLU()],
    }  # fmt: skip
    torch.manual_seed(0)

    class Bytes(Pixels):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.float())

    path = exported(Bytes(*bodies[name]), tmp_path / "policy.onnx", dynamo)
    actor = load_actor(path)
    assert actor.observation_shape == SHAPE
    assert runtime_difference(actor, path) <= 1e-5


RNG = np.random.default_rng(5)
CONSTANTS: dict[str, Any] = {
    "W": (RNG.standard_normal((4, 3, 3, 3)) / 5).astype(np.float32), "B": RNG.standard_normal(4).astype(np.float32),
    "G": np.abs(RNG.standard_normal(4)).astype(np.float32), "W1": np.zeros((4, 3, 3), np.float32),
    "L": (RNG.standard_normal((480, 2)) / 9).astype(np.float32), "A": np.ones((4, 2), np.float32),
    "WIDE": (RNG.standard_normal((672, 2)) / 9).astype(np.float32), "S": np.float32(255),
    "IMAGE": np.array([-1, 3, 14, 12]), "ROWS": np.array([0, -1]),
}  # fmt: skip


def graph(nodes: list[Any], path: Path, shape: tuple[Any, ...] = ("N", *SHAPE), kind: int = TensorProto.FLOAT) -> Path:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items()]
    inputs = [helper.make_tensor_value_info("obs", kind, shape)]
    outputs = [helper.make_tensor_value_info("action", TensorProto.FLOAT, None)]
    made = helper.make_graph(nodes, "policy", inputs, outputs, tensors)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def node(kind: str, *names: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(names[:-1]), [names[-1]], name=f"the_{names[-1]}", **attributes)


FLAT = [node("Relu", "h", "r"), node("Flatten", "r", "f"), node("MatMul", "f", "L", "action")]
WIDE = [node("Relu", "h", "r"), node("Reshape", "r", "ROWS", "f"), node("MatMul", "f", "WIDE", "action")]
READ: dict[str, list[Any]] = {
    "bias": [node("Conv", "obs", "W", "B", "h"), *FLAT],
    "valid": [node("Div", "obs", "S", "x"), node("Conv", "x", "W", "h", auto_pad="VALID"), *FLAT],
    "same": [node("Conv", "obs", "W", "h", auto_pad="SAME_UPPER"), *WIDE],
    "pads": [node("Conv", "obs", "W", "B", "h", pads=[1, 1, 1, 1], strides=[1, 1]), *WIDE],
    "norm": [node("Conv", "obs", "W", "c"), node("BatchNormalization", "c", "G", "B", "B", "G", "h"), *FLAT],
    "pool": [node("Conv", "obs", "W", "c"), node("AveragePool", "c", "h", kernel_shape=[1, 1]), *FLAT],
    "global": [node("Conv", "obs", "W", "c"), node("Relu", "c", "r"), node("GlobalAveragePool", "r", "g"),
               node("Flatten", "g", "f"), node("MatMul", "f", "A", "action")],
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_operators_on_images_are_read_as_onnx_runtime_runs_them(tmp_path: Path, name: str) -> None:
    path = graph(READ[name], tmp_path / "policy.onnx")
    actor = load_actor(path)
    reach = float(np.abs(actor.act(images(20))).max())
    assert runtime_difference(actor, path) <= 1e-5 * (1 + reach)


def test_bytes_are_cast_and_flat_rows_reshaped(tmp_path: Path) -> None:
    nodes = [node("Cast", "obs", "x", to=1), node("Div", "x", "S", "d"), node("Conv", "d", "W", "B", "h"), *FLAT]
    path = graph(nodes, tmp_path / "bytes.onnx", kind=TensorProto.UINT8)
    assert runtime_difference(load_actor(path), path) <= 1e-5
    nodes = [node("Reshape", "obs", "IMAGE", "x"), node("Div", "x", "S", "d"), node("Conv", "d", "W", "h"), *FLAT]
    path = graph(nodes, tmp_path / "rows.onnx", ("N", 504))
    assert load_actor(path).observation_shape == (504,)
    assert runtime_difference(load_actor(path), path) <= 1e-5


def test_images_of_open_size_need_an_observation_shape(tmp_path: Path) -> None:
    path = graph(READ["bias"], tmp_path / "policy.onnx", ("N", 3, "H", "W"))
    with pytest.raises(SourceError, match=r"pass observation_shape=\(3, height, width\)"):
        load_actor(path)
    assert load_actor(path, observation_shape=SHAPE).widths == (504, 480)


REFUSED: dict[str, tuple[list[Any], str]] = {
    "Conv": ([node("Conv", "obs", "W", "h", dilations=[2, 2]), *FLAT], "dilation=1"),
    "Conv groups": ([node("Conv", "obs", "W", "h", group=3), *FLAT], "groups=1"),
    "Conv pads": ([node("Conv", "obs", "W", "h", pads=[0, 0, 1, 1]), *FLAT], "opposite borders"),
    "Conv same": ([node("Conv", "obs", "W", "h", auto_pad="SAME_LOWER", strides=[2, 2]), *FLAT], "opposite borders"),
    "Conv 1d": ([node("Conv", "obs", "W1", "h"), *FLAT], "two-dimensional"),
    "MaxPool": ([node("MaxPool", "obs", "h", kernel_shape=[2, 2]), *FLAT], "average pooling"),
    "AveragePool": ([node("AveragePool", "obs", "h", kernel_shape=[2, 2], ceil_mode=1), *FLAT], "ceil_mode"),
    "AveragePool pads": ([node("AveragePool", "obs", "h", kernel_shape=[2, 2], pads=[1] * 4), *FLAT], "padding=0"),
    "Transpose": ([node("Transpose", "obs", "h", perm=[0, 2, 3, 1]), *FLAT], "channel-first"),
    "ReduceMean": ([node("ReduceMean", "obs", "h", axes=[1]), *FLAT], "height and width"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_operator_on_images_without_a_rule_is_refused_by_name(tmp_path: Path, name: str) -> None:
    nodes, reason = REFUSED[name]
    path = graph(nodes, tmp_path / "policy.onnx")
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        load_actor(path)
    assert caught.value.kind == name.split()[0]
    assert caught.value.path == "the_h"


@pytest.mark.parametrize(
    ("nodes", "shape", "message"),
    [
        ([node("Conv", "obs", "W", "h", strides=[0, 1]), *FLAT], SHAPE, "of no convolution"),
        ([node("Conv", "obs", "W", "h", pads=[-1, 0, -1, 0]), *FLAT], SHAPE, "of no convolution"),
        ([node("Conv", "obs", "W", "h", pads=[2**30] * 4), *FLAT], SHAPE, "values allowed"),
        ([node("Conv", "obs", "W", "h"), *FLAT], (3, 2**20, 2**20), "values allowed"),
        ([node("AveragePool", "obs", "h", kernel_shape=[2**15, 2**15]), *FLAT], SHAPE, "too large for images"),
        ([node("AveragePool", "obs", "h", kernel_shape=[0, 2]), *FLAT], SHAPE, "of no convolution"),
        ([node("AveragePool", "obs", "h"), *FLAT], SHAPE, "lacks 'kernel_shape'"),
        ([node("Conv", "obs", "W", "A", "h"), *FLAT], SHAPE, "its shapes do not fit"),
    ],
)
def test_impossible_geometries_are_one_clear_error(tmp_path: Path, nodes: Any, shape: Any, message: str) -> None:
    path = graph(nodes, tmp_path / "policy.onnx", ("N", *shape))
    with pytest.raises(SourceError, match=message) as caught:
        load_actor(path)
    assert "\n" not in str(caught.value)
