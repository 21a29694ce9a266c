"""ONNX policies: the graph walked from the action back to the observation.

Only what lies on that way is read, so value networks and log-probabilities beside it do no harm. Nothing of the
graph is executed, and no file but the given one is opened.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.assemble import assemble
from snn_policy.sources.files import LARGEST_WEIGHTS, checked, needs_extra, reading
from snn_policy.sources.operations import Operation
from snn_policy.sources.vecnormalize import ObservationStatistics, normalised

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

_FLOATS = (1, 10, 11, 16)  # float32, float16, double, bfloat16 in onnx.TensorProto


def read_onnx(
    path: Path,
    *,
    observation_shape: Sequence[int] | None = None,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
    output: str | None = None,
    name: str | None = None,
    normaliser: Sequence[ObservationStatistics] = (),
) -> Actor:
    """Read a graph with one input; the action is the output so named, or the first of a float type.

    It is clipped to [low, high] where given. `normaliser` acts on observations before the graph does.

    Raises:
        SourceError: not an ONNX file, damaged, or with weights in other files.
        UnsupportedLayerError: an operator on the way from observation to action that no rule reads.
    """
    try:
        import onnx
    except ImportError as problem:
        raise needs_extra("onnx") from problem
    with reading(checked(path, LARGEST_WEIGHTS), "ONNX file"):
        model = onnx.load(str(path), load_external_data=False)
        _refuse_external(model, path)
        observation, action = _observation(model.graph, path), _action(model.graph, output, path)
        shape = observation_shape or _shape(observation)
        operations = _walk(model, observation.name, action)
    shape, before = normalised(normaliser, shape)
    operations = [*before, *operations]
    return assemble(operations, name=name or path.stem, observation_shape=shape, low=low, high=high, env_id=env_id)


def _refuse_external(model: "ModelProto", path: Path) -> None:
    tensors = list(model.graph.initializer)
    tensors += [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")]
    for tensor in tensors:
        if tensor.data_location == tensor.EXTERNAL or tensor.external_data:
            remedy = "save it in one file (torch.onnx.export(..., external_data=False))"
            raise SourceError(f"{path}: tensor {tensor.name} lies in another file, which is not read; {remedy}")


def _observation(graph: "GraphProto", path: Path) -> Any:
    constants = {each.name for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if not graph.node or not inputs:
        raise SourceError(f"{path}: holds no graph with an input; not an ONNX policy")
    if len(inputs) > 1:
        names = ", ".join(each.name for each in inputs)
        remedy = "Export the policy with the observation as its only input"
        raise UnsupportedLayerError("graph.input", names, "it takes several inputs", remedy)
    return inputs[0]


def _action(graph: "GraphProto", output: str | None, path: Path) -> str:
    names = [each.name for each in graph.output]
    if output is not None and output not in names:
        raise SourceError(f"{path}: no output {output!r}; it has {', '.join(names)}")
    floats = [each.name for each in graph.output if each.type.tensor_type.elem_type in _FLOATS]
    return output or (floats or names)[0]


def _shape(observation: Any) -> tuple[int, ...] | None:
    """One observation's shape, where the graph fixes it; the first axis is the batch's, if there are two."""
    sizes = [each.dim_value for each in observation.type.tensor_type.shape.dim]
    shape = tuple(sizes[1:] if len(sizes) > 1 else sizes)
    return shape if shape and all(size > 0 for size in shape) else None


def _walk(model: "ModelProto", observation: str, action: str) -> list[Operation]:
    from snn_policy.sources.onnx_nodes import Reader

    reader = Reader(model, observation)
    backwards: list[list[Operation]] = []
    value, steps = action, 0
    while value != observation:
        operations, value = reader.read(value)
        backwards.append(operations)
        steps += 1
        if steps > len(model.graph.node):
            raise SourceError("its graph runs in a circle")
    return [operation for operations in reversed(backwards) for operation in operations]
