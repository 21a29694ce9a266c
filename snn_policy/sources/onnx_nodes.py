"""One node of an ONNX graph, to primitive operations and the value that its input comes from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, helper, numpy_helper

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.images import spatial_means
from snn_policy.sources.onnx_images import IMAGE_OPERATORS, image_operations
from snn_policy.sources.onnx_operators import FOLDED, activation_operations, arithmetic
from snn_policy.sources.onnx_shapes import expanded_width, row_shape, width
from snn_policy.sources.operations import (
    ArgMax,
    Flatten,
    KeepWidth,
    Operation,
    Select,
    Softmax,
    Unflatten,
    activate,
    affine,
    batch_norm,
    clip,
)
from snn_policy.sources.refusals import joined, refusal

_FLOATS = (1, 10, 11, 16)
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Min", "Max")
_DEEPEST = 64
_LEFT = "the observation is not its plain left factor"


class Reader:
    """Knows which node makes which value, and folds values that do not depend on the observation."""

    def __init__(self, model: ModelProto, observation: str) -> None:
        self.observation = observation
        self.makers = {output: node for node in model.graph.node for output in node.output if output}
        self.tensors = {each.name: each for each in model.graph.initializer}
        self.observed = {observation}
        for node in model.graph.node:
            if node.op_type != "Shape" and self.observed.intersection(node.input):
                self.observed.update(node.output)

    def read(self, value: str) -> tuple[list[Operation], str]:
        """The operations of the node that makes `value`, in order, and the value they take."""
        node = self.makers.get(value)
        if node is None or value not in self.observed:
            raise UnsupportedLayerError(value, "constant", "the action does not depend on the observation", "")
        path, kind = node.name or value, node.op_type
        if node.domain not in ("", "ai.onnx"):
            raise refusal(path, f"{node.domain}.{kind}")
        sources = [each for each in node.input if each in self.observed]
        if kind == "Mul" and len(sources) == 2:
            gated = self._gated(*sources)
            if gated is None:
                raise joined(path, kind)
            return activate(path, "x * Sigmoid(x)", "silu"), gated
        if len(sources) != 1:
            raise refusal(path, kind) if kind == "Concat" else joined(path, kind)
        return self._operations(node, value, path), sources[0]

    def _operations(self, node: NodeProto, value: str, path: str) -> list[Operation]:
        kind = node.op_type
        simple = activation_operations(kind, path, self._options(node), self._constants(node))
        if simple is not None:
            return simple
        if kind in IMAGE_OPERATORS:
            return image_operations(kind, path, self._options(node), self._constants(node))
        if kind in _ARITHMETIC:
            first = node.input[0] in self.observed
            others = [each for each in node.input if each not in self.observed]
            if len(others) == 1:
                return [arithmetic(kind, path, self.value(others[0]), first)]
        rules: dict[str, Callable[[NodeProto, str], list[Operation]]] = {
            "Gemm": self._gemm, "MatMul": self._matmul, "Clip": self._clip, "BatchNormalization": self._batch_norm,
            "Reshape": self._reshape, "Flatten": self._flatten, "Cast": self._cast, "Dropout": self._dropout,
            "Slice": self._slice, "Gather": self._gather, "ArgMax": self._argmax, "Softmax": self._softmax,
            "LogSoftmax": self._softmax, "Squeeze": self._squeeze, "Expand": self._expand, "ReduceMean": self._mean,
        }  # fmt: skip
        if kind == "Split":
            return self._split(node, value, path)
        if kind not in rules:
            raise refusal(path, kind)
        return rules[kind](node, path)

    def value(self, name: str, depth: int = 0) -> npt.NDArray[Any]:
        """A value that does not depend on the observation."""
        if name in self.tensors:
            return np.asarray(numpy_helper.to_array(self.tensors[name]))
        node = self.makers.get(name)
        if node is None or depth > _DEEPEST:
            raise SourceError(f"value {name!r} is used, but nothing in the graph makes it")
        if node.op_type == "Constant":
            attribute = node.attribute[0]
            found = helper.get_attribute_value(attribute)
            return np.asarray(numpy_helper.to_array(found) if attribute.name == "value" else found)
        shape = self.makers.get(node.input[0]) if node.op_type == "Gather" else None
        if shape is not None and shape.op_type == "Shape" and self.value(node.input[1]).tolist() in (1, -1, [1], [-1]):
            return np.full_like(self.value(node.input[1]), width(self, shape.input[0], node.name or name))
        if node.op_type not in FOLDED or node.domain not in ("", "ai.onnx"):
            raise refusal(node.name or name, node.op_type)
        return FOLDED[node.op_type](*(self.value(each, depth + 1) for each in node.input if each))

    def _options(self, node: NodeProto) -> dict[str, Any]:
        return {each.name: helper.get_attribute_value(each) for each in node.attribute}

    def _constants(self, node: NodeProto) -> dict[int, npt.NDArray[Any]]:
        """The constant inputs by position, of operators whose rules take them so."""
        if node.op_type not in ("PRelu", "Conv"):
            return {}
        constant = [(index, each) for index, each in enumerate(node.input) if each and each not in self.observed]
        return {index: self.value(each) for index, each in constant}

    def _option(self, node: NodeProto, index: int, name: str) -> Any:
        """An option that was an attribute in old operator sets and is an input in newer ones."""
        if len(node.input) > index and node.input[index]:
            return self.value(node.input[index])
        return self._options(node).get(name)

    def _gated(self, one: str, other: str) -> str | None:
        """x, if the two factors are x and σ(x)."""
        for gate, x in ((one, other), (other, one)):
            maker = self.makers.get(gate)
            if maker is not None and maker.op_type == "Sigmoid" and list(maker.input) == [x]:
                return x
        return None

    def _gemm(self, node: NodeProto, path: str) -> list[Operation]:
        options = self._options(node)
        if node.input[0] not in self.observed or options.get("transA", 0):
            raise UnsupportedLayerError(path, "Gemm", _LEFT, "Export x @ W + b")
        weight = self.value(node.input[1]) * float(options.get("alpha", 1.0))
        weight = weight if options.get("transB", 0) else weight.T
        bias = np.zeros(()) if len(node.input) < 3 else self.value(node.input[2]) * float(options.get("beta", 1.0))
        return [affine(path, "Gemm", weight, np.broadcast_to(bias.reshape(-1), weight.shape[:1]))]

    def _matmul(self, node: NodeProto, path: str) -> list[Operation]:
        weight = self.value(node.input[1]) if node.input[0] in self.observed else np.zeros(())
        if weight.ndim != 2:
            raise UnsupportedLayerError(path, "MatMul", _LEFT, "Export x @ W")
        return [affine(path, "MatMul", weight.T)]

    def _clip(self, node: NodeProto, path: str) -> list[Operation]:
        return [clip(path, "Clip", self._option(node, 1, "min"), self._option(node, 2, "max"))]

    def _batch_norm(self, node: NodeProto, path: str) -> list[Operation]:
        options = self._options(node)
        if options.get("training_mode", 0):
            raise UnsupportedLayerError(path, "BatchNormalization", "it is in training mode", "Export with eval()")
        factor, offset, mean, variance = (self.value(each) for each in node.input[1:5])
        epsilon = float(options.get("epsilon", 1e-5))
        return [batch_norm(path, "BatchNormalization", mean, variance, epsilon, factor, offset)]

    def _reshape(self, node: NodeProto, path: str) -> list[Operation]:
        shape = row_shape(self, node.input[1], path)
        if len(shape) == 3 and -1 not in shape:
            return [Unflatten((shape[0], shape[1], shape[2]), path=path, kind="Reshape")]
        return [Flatten(None if -1 in shape else int(np.prod(shape)), path=path, kind="Reshape")]

    def _expand(self, node: NodeProto, path: str) -> list[Operation]:
        return [KeepWidth(expanded_width(self, node.input[0], node.input[1], path), path=path, kind="Expand")]

    def _flatten(self, node: NodeProto, path: str) -> list[Operation]:
        if self._options(node).get("axis", 1) != 1:
            raise UnsupportedLayerError(path, "Flatten", "it flattens the batch", "Use axis=1")
        return [Flatten(path=path, kind="Flatten")]

    def _mean(self, node: NodeProto, path: str) -> list[Operation]:
        axes, keeps = self._option(node, 1, "axes"), bool(self._options(node).get("keepdims", 1))
        return spatial_means(path, "ReduceMean", () if axes is None else axes, keeps)

    def _squeeze(self, node: NodeProto, path: str) -> list[Operation]:
        maker = self.makers.get(node.input[0])
        if maker is None or maker.op_type != "ArgMax":
            raise refusal(path, "Squeeze")
        return [Flatten(path=path, kind="Squeeze")]

    def _cast(self, node: NodeProto, path: str) -> list[Operation]:
        maker = self.makers.get(node.input[0])
        discrete = maker is not None and maker.op_type in ("ArgMax", "Squeeze")
        if self._options(node).get("to") not in _FLOATS and not discrete:
            raise UnsupportedLayerError(path, "Cast", "it rounds to another type", "Keep floating point")
        return [Flatten(path=path, kind="Cast")] if discrete else []

    def _dropout(self, node: NodeProto, path: str) -> list[Operation]:
        training = len(node.input) > 2 and node.input[2] and bool(self.value(node.input[2]))
        if training:
            raise refusal(path, "Dropout")
        return []

    def _last_axis(self, node: NodeProto, axis: Any, path: str) -> None:
        if axis not in (-1, 1):
            raise UnsupportedLayerError(path, node.op_type, f"it works along axis {axis}", "Use the last axis")

    def _slice(self, node: NodeProto, path: str) -> list[Operation]:
        starts, ends, axes, steps = (
            self._option(node, index, name) for index, name in enumerate(("starts", "ends", "axes", "steps"), start=1)
        )
        if axes is None or np.size(starts) != 1:
            raise UnsupportedLayerError(path, "Slice", "it slices more than the last axis", "Slice the last axis only")
        self._last_axis(node, int(np.ravel(axes)[0]), path)
        begin, end, step = (int(np.ravel(each)[0]) for each in (starts, ends, 1 if steps is None else steps))
        chosen = slice(begin, None if step < 0 and end < -(2**31) else end, step)
        return [Select(lambda width: np.arange(width)[chosen], path=path, kind="Slice")]

    def _gather(self, node: NodeProto, path: str) -> list[Operation]:
        self._last_axis(node, self._options(node).get("axis", 0), path)
        chosen = self.value(node.input[1])
        if chosen.ndim != 1:
            raise UnsupportedLayerError(path, "Gather", "it drops an axis", "Gather a list of indices")
        return [Select(lambda width: np.arange(width)[chosen], path=path, kind="Gather")]

    def _split(self, node: NodeProto, value: str, path: str) -> list[Operation]:
        self._last_axis(node, self._options(node).get("axis", 0), path)
        sizes, parts, index = self._option(node, 1, "split"), len(node.output), list(node.output).index(value)

        def indices(width: int) -> npt.NDArray[np.int64]:
            step = -(-width // parts)
            ends = np.arange(step, step * parts, step) if sizes is None else np.cumsum(sizes)[:-1]
            return np.split(np.arange(width), ends)[index]

        return [Select(indices, path=path, kind="Split")]

    def _argmax(self, node: NodeProto, path: str) -> list[Operation]:
        options = self._options(node)
        self._last_axis(node, options.get("axis", 0), path)
        if options.get("select_last_index", 0):
            raise UnsupportedLayerError(path, "ArgMax", "it prefers the last of equals", "Prefer the first")
        return [ArgMax(path=path, kind="ArgMax")]

    def _softmax(self, node: NodeProto, path: str) -> list[Operation]:
        self._last_axis(node, self._options(node).get("axis", -1), path)
        return [Softmax(path=path, kind=node.op_type)]
