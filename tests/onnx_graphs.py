"""ONNX graphs for the tests: small policies node by node, and what ONNX Runtime makes of them."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from snn_policy.actor import Actor

RNG = np.random.default_rng(7)
INPUTS, WIDTH, ACTIONS = 6, 8, 3
CONSTANTS: dict[str, Any] = {
    "W1": RNG.normal(size=(INPUTS, WIDTH)).astype(np.float32), "B1": RNG.normal(size=WIDTH).astype(np.float32),
    "W2": RNG.normal(size=(WIDTH, ACTIONS)).astype(np.float32), "W3": RNG.normal(size=(WIDTH, 1)).astype(np.float32),
    "WIDE": RNG.normal(size=(WIDTH, 2 * ACTIONS)).astype(np.float32), "LOGSTD": np.zeros(ACTIONS, np.float32),
    "ONE": np.ones((1, 1), np.float32),
}  # fmt: skip


def node(kind: str, *names: str, **attributes: Any) -> Any:
    """A node with the given inputs and, last, its output."""
    return helper.make_node(kind, list(names[:-1]), [names[-1]], name=f"the_{names[-1]}", **attributes)


HIDDEN = [node("Gemm", "obs", "W1", "B1", "h"), node("Relu", "h", "r")]
MEAN = [*HIDDEN, node("MatMul", "r", "W2", "mean")]


def graph(
    nodes: Sequence[Any],
    path: Path,
    outputs: Sequence[str | tuple[str, int]] = ("action",),
    inputs: dict[str, Any] | None = None,
    opset: int = 17,
    **constants: Any,
) -> Path:
    """A graph from `obs` (N, 6), and other inputs of the given shapes, with the constants that its nodes use."""
    named = {**CONSTANTS, **constants}
    used = {name for element in nodes for name in element.input}
    tensors = [numpy_helper.from_array(np.asarray(named[name]), name) for name in named if name in used]
    shapes = {"obs": ["N", INPUTS], **(inputs or {})}
    ends = [(output, TensorProto.FLOAT) if isinstance(output, str) else output for output in outputs]
    made = helper.make_graph(
        list(nodes),
        "policy",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in ends],
        tensors,
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


def runtime(path: Path, output: str, observations: Any) -> np.ndarray:
    """ONNX Runtime's output, an observation at a time; other inputs than the first are zeros."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    first, *others = session.get_inputs()
    zeros = {other.name: np.zeros([size if isinstance(size, int) else 1 for size in other.shape], np.float32)
             for other in others}  # fmt: skip
    rows = [session.run([output], {first.name: row[None], **zeros})[0] for row in observations]
    return np.stack([np.asarray(row) for row in rows])


def difference(actor: Actor, path: Path, output: str = "action") -> float:
    """The largest difference to ONNX Runtime on 200 observations."""
    observations = np.random.default_rng(0).normal(size=(200, *actor.observation_shape)).astype(np.float32)
    own = runtime(path, output, observations)
    actions = actor.act(observations)
    assert own.size == actions.size
    return float(np.abs(own.reshape(actions.shape) - actions).max())


def exported(module: torch.nn.Module, path: Path, example: tuple[Any, ...], dynamo: bool, **options: Any) -> Path:
    """torch's export of a module in evaluation mode, by either exporter, without its talk."""
    options = {"verbose": False, "external_data": False, **options} if dynamo else options
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(module.eval(), example, path, dynamo=dynamo, **options)
    return path
