"""One node of an ONNX graph, to primitive operations and the value that its input comes from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.images import spatial_means
from snn_policy.sources.onnx_branches import read_choices
from snn_policy.sources.onnx_casts import refuse_narrow_node
from snn_policy.sources.onnx_images import IMAGE_OPERATORS, image_operations
from snn_policy.sources.onnx_operators import activation_operations, arithmetic
from snn_policy.sources.onnx_outputs import comes_from_argmax, constant_action
from snn_policy.sources.onnx_patterns import joined_by_name
from snn_policy.sources.onnx_shapes import RESHAPES, along_row, gathered, moved, row_constant, selected
from snn_policy.sources.onnx_values import Values, is_float
from snn_policy.sources.operations import (
    ArgMax,
    Flatten,
    Operation,
    Select,
    Softmax,
    activate,
    affine,
    batch_norm,
    clip,
)
from snn_policy.sources.refusals import refusal, rounding

_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Min", "Max")
_LEFT = "the observation is not its plain left factor"


class OnnxNodeReader:
    """Read nodes, one at a time, from the action to the observation."""

    def __init__(self, values: Values) -> None:
        self.values, self.makers, self.observed = values, values.makers, values.observed

    def read(self, value: str) -> tuple[list[Operation], str]:
        """Return the operations of the node that makes `value`, in order, and the value they take."""
        node = self.makers.get(value)
        if node is None or value not in self.observed:
            raise constant_action(value)
        path, kind = node.name or value, node.op_type
        if node.domain not in ("", "ai.onnx"):
            raise refusal(path, f"{node.domain}.{kind}")
        if kind == "If":
            remedy = "Export it with fixed shapes, or with torch.onnx.export(..., dynamo=True)"
            raise UnsupportedLayerError(path, kind, "which branch it takes is not known before it runs", remedy)
        if kind == "Concat" and comes_from_argmax(self.makers, node.input[0]):
            return read_choices(self.values, self.read, node, path)
        sources = [name for name in node.input if name in self.observed]
        if len(sources) == 2:
            met = self._two(node, path, sources[0], sources[1])
            if met is not None:
                return met
        if len(sources) != 1 or (kind == "Concat" and len(node.input) > 1):
            raise joined_by_name(self.makers, self.observed, node)
        return self._operations(node, value, path), sources[0]

    def _two(self, node: NodeProto, path: str, one: str, other: str) -> tuple[list[Operation], str] | None:
        """Read two values of one source as one operation: x · σ(x), or x less its log-sum-exp, a log-softmax."""
        if node.op_type == "Mul":
            for gate, x in ((one, other), (other, one)):
                if self._made_of(gate, "Sigmoid", x):
                    return activate(path, "x * Sigmoid(x)", "silu"), x
        if node.op_type == "Sub" and self._made_of(other, "ReduceLogSumExp", one):
            maker = self.makers[other]
            axes = self._option(maker, 1, "axes")
            if np.size(axes) == 1 and self._options(maker).get("keepdims", 1):
                flat = along_row(self.values, one, int(np.ravel(axes)[0]), path, "Softmax")
                return [*flat, Softmax(path=path, kind="LogSoftmax")], one
        return None

    def _made_of(self, value: str, kind: str, source: str) -> bool:
        maker = self.makers.get(value)
        return maker is not None and maker.op_type == kind and maker.input[0] == source

    def _operations(self, node: NodeProto, value: str, path: str) -> list[Operation]:
        kind = node.op_type
        simple = activation_operations(kind, path, self._options(node), self._constants(node))
        if simple is not None:
            return simple
        if kind in IMAGE_OPERATORS:
            return image_operations(kind, path, self._options(node), self._constants(node))
        if kind in _ARITHMETIC:
            first = node.input[0] in self.observed
            others = [name for name in node.input if name not in self.observed]
            if len(others) == 1:
                constant = row_constant(self.values, node.input[not first], self.value(others[0]), path, kind)
                return [arithmetic(kind, path, constant, first)]
        if kind in RESHAPES:
            return self._moved(node, path)
        rules: dict[str, Callable[[NodeProto, str], list[Operation]]] = {
            "Gemm": self._gemm, "MatMul": self._matmul, "Clip": self._clip, "BatchNormalization": self._batch_norm,
            "Cast": self._cast, "Dropout": self._dropout, "Slice": self._slice, "Gather": self._gather,
            "ArgMax": self._argmax, "Softmax": self._softmax, "LogSoftmax": self._softmax, "ReduceMean": self._mean,
            "Concat": lambda node, path: [],
        }  # fmt: skip
        if kind == "Split":
            return self._split(node, value, path)
        if kind not in rules:
            raise refusal(path, kind)
        return rules[kind](node, path)

    def value(self, name: str) -> npt.NDArray[Any]:
        """Return a value that does not depend on the observation."""
        return self.values.constant(name)

    def _options(self, node: NodeProto) -> dict[str, Any]:
        return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}

    def _constants(self, node: NodeProto) -> dict[int, npt.NDArray[Any]]:
        """Return the constant inputs by position, of operators whose rules take them so."""
        if node.op_type not in ("PRelu", "Conv"):
            return {}
        constant = [(index, name) for index, name in enumerate(node.input) if name and name not in self.observed]
        return {index: self.value(name) for index, name in constant}

    def _option(self, node: NodeProto, index: int, name: str) -> Any:
        """Return an option that was an attribute in old operator sets and is an input in newer ones."""
        if len(node.input) > index and node.input[index]:
            return self.value(node.input[index])
        return self._options(node).get(name)

    def _gemm(self, node: NodeProto, path: str) -> list[Operation]:
        options = self._options(node)
        if node.input[0] not in self.observed or options.get("transA", 0):
            raise UnsupportedLayerError(path, "Gemm", _LEFT, "Export x @ W + b")
        weight = self.value(node.input[1]) * float(options.get("alpha", 1.0))
        weight = weight if options.get("transB", 0) else weight.T
        given = len(node.input) > 2 and node.input[2] != ""
        bias = self.value(node.input[2]) * float(options.get("beta", 1.0)) if given else np.zeros(())
        self._one_row(node, path)
        return [affine(path, "Gemm", weight, np.broadcast_to(bias.reshape(-1), weight.shape[:1]))]

    def _matmul(self, node: NodeProto, path: str) -> list[Operation]:
        weight = self.value(node.input[1]) if node.input[0] in self.observed else np.zeros(())
        weight = weight.reshape(weight.shape[-2:]) if np.prod(weight.shape[:-2]) == 1 else weight
        if weight.ndim != 2:
            raise UnsupportedLayerError(path, "MatMul", _LEFT, "Export x @ W")
        self._one_row(node, path)
        return [affine(path, "MatMul", weight.T)]

    def _clip(self, node: NodeProto, path: str) -> list[Operation]:
        return [clip(path, "Clip", self._option(node, 1, "min"), self._option(node, 2, "max"))]

    def _batch_norm(self, node: NodeProto, path: str) -> list[Operation]:
        options = self._options(node)
        if options.get("training_mode", 0):
            raise UnsupportedLayerError(path, "BatchNormalization", "it is in training mode", "Export with eval()")
        factor, offset, mean, variance = (self.value(name) for name in node.input[1:5])
        epsilon = float(options.get("epsilon", 1e-5))
        return [batch_norm(path, "BatchNormalization", mean, variance, epsilon, factor, offset)]

    def _one_row(self, node: NodeProto, path: str) -> None:
        """Refuse a linear layer that is applied to several parts of one observation."""
        shape = self.values.shape(node.input[0])
        if shape is not None and int(np.prod(shape[1:-1])) > 1:
            reason = f"it is applied to every part of an observation, {shape[1:]}"
            raise UnsupportedLayerError(path, node.op_type, reason, "Flatten the observation before the first layer")

    def _moved(self, node: NodeProto, path: str) -> list[Operation]:
        if comes_from_argmax(self.makers, node.input[0]):
            return [Flatten(path=path, kind=node.op_type)]
        return moved(self.values, node, path)

    def _mean(self, node: NodeProto, path: str) -> list[Operation]:
        shapes = [self.values.shape(name) for name in (node.input[0], node.output[0])]
        if shapes[0] is not None and len(shapes[0]) != 4:
            raise refusal(path, "ReduceMean")
        axes, keeps = self._option(node, 1, "axes"), bool(self._options(node).get("keepdims", 1))
        return spatial_means(path, "ReduceMean", () if axes is None else axes, keeps)

    def _cast(self, node: NodeProto, path: str) -> list[Operation]:
        refuse_narrow_node(self.values.model, node, (), path)
        discrete = comes_from_argmax(self.makers, node.input[0])
        if not is_float(self._options(node).get("to", 0)) and not discrete:
            raise rounding(path, "Cast")
        return [Flatten(path=path, kind="Cast")] if discrete else []

    def _dropout(self, node: NodeProto, path: str) -> list[Operation]:
        training = len(node.input) > 2 and node.input[2] and bool(self.value(node.input[2]))
        if training:
            raise refusal(path, "Dropout")
        return []

    def _along_row(self, node: NodeProto, default: int, path: str) -> list[Operation]:
        """See `along_row`; the axis is the node's attribute."""
        axis = int(self._options(node).get("axis", default))
        return along_row(self.values, node.input[0], axis, path, node.op_type)

    def _slice(self, node: NodeProto, path: str) -> list[Operation]:
        names = ("starts", "ends", "axes", "steps")
        options = {name: self._option(node, index, name) for index, name in enumerate(names, start=1)}
        return selected(self.values, node, options, path)

    def _gather(self, node: NodeProto, path: str) -> list[Operation]:
        return gathered(self.values, node, int(self._options(node).get("axis", 0)), path)

    def _split(self, node: NodeProto, value: str, path: str) -> list[Operation]:
        flat = self._along_row(node, 0, path)
        sizes, parts, index = self._option(node, 1, "split"), len(node.output), list(node.output).index(value)

        def indices(width: int) -> npt.NDArray[np.int64]:
            step = -(-width // parts)
            ends = np.arange(step, step * parts, step) if sizes is None else np.cumsum(sizes)[:-1]
            return np.split(np.arange(width), ends)[index]

        return [*flat, Select(indices, path=path, kind="Split")]

    def _argmax(self, node: NodeProto, path: str) -> list[Operation]:
        options = self._options(node)
        flat = self._along_row(node, 0, path)
        if options.get("select_last_index", 0):
            raise UnsupportedLayerError(path, "ArgMax", "it prefers the last of equals", "Prefer the first")
        shape, rows = self.values.shape(node.input[0]), self.values.rows
        vector = self.values.shape(self.values.action) == (rows, 1) and not options.get("keepdims", 1)
        choices = shape[-1:] if vector and shape else None
        return [*flat, ArgMax(choices, path=path, kind="ArgMax")]

    def _softmax(self, node: NodeProto, path: str) -> list[Operation]:
        flat = self._along_row(node, -1, path)
        return [*flat, Softmax(path=path, kind=node.op_type)]
