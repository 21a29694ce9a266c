"""ONNX nodes on symbolic values: each is translated to the operators that all readers of graphs share.

Nodes that no observation enters are computed by `onnx_constants`; the others, in the graph's order, by the table of
`onnx_rules`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper, numpy_helper

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.budget import Budget
from snn_policy.sources.onnx_casts import refuse_narrow_node
from snn_policy.sources.onnx_constants import constant_node, fold
from snn_policy.sources.onnx_operators import activation_operations
from snn_policy.sources.onnx_recurrent import recurrent_layer
from snn_policy.sources.onnx_rules import RULES
from snn_policy.sources.onnx_values import Graph
from snn_policy.sources.operations import Activate, Scale
from snn_policy.sources.refusals import refusal
from snn_policy.sources.value_functions import applied_activation
from snn_policy.sources.value_operators import applied

Given = Value | npt.NDArray[Any] | None
_PLAIN = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Sqrt": "sqrt", "Exp": "exp", "Log": "log",
    "Erf": "erf", "Abs": "abs", "Reciprocal": "reciprocal", "MatMul": "matmul", "Max": "max", "Min": "min",
    "Neg": "neg",
}  # fmt: skip
_NAMED = {"MultiHeadAttention": "attention", "Attention": "attention", "Scan": "scan", "Loop": "loop",
          "TopK": "mixture of experts", "OneHot": "mixture of experts"}  # fmt: skip


class NodeFollower:
    """Follow nodes, one at a time, in order; `values` are those known so far, by name."""

    def __init__(self, graph: Graph, values: dict[str, Given]) -> None:
        self._graph, self.values, self._budget = graph, values, Budget()

    def value(self, name: str) -> Given:
        """Return a value by its name; None for an input that is left out."""
        if not name:
            return None
        if name not in self.values:
            tensor = self._graph.tensors.get(name)
            if tensor is None:
                raise SourceError(f"value {name!r} is used, but nothing in the graph makes it")
            self.values[name] = np.asarray(numpy_helper.to_array(tensor))
        return self.values[name]

    def follow(self, node: NodeProto) -> None:
        """Compute a node's outputs."""
        path, kind = node.name or node.output[0], node.op_type
        if node.domain not in ("", "ai.onnx"):
            raise refusal(path, f"{node.domain}.{kind}")
        if kind == "Constant":
            self.values[node.output[0]] = constant_node(node)
            return
        inputs = [self.value(name) for name in node.input]
        if kind == "If":
            self._branch(node, inputs[0], path)
            return
        if kind in ("Shape", "Size") and isinstance(inputs[0], Value):
            options = _options(node)
            shape = np.array(inputs[0].shape[options.get("start", 0) : options.get("end")], np.int64)
            self.values[node.output[0]] = shape if kind == "Shape" else np.array(inputs[0].size, np.int64)
            return
        if not any(isinstance(given, Value) for given in inputs):
            self._fold(node, inputs)
            return
        if kind in ("Cast", "CastLike"):
            refuse_narrow_node(lambda: self._graph.model, node, inputs[1:], path)
        made = self._made(node, inputs, path)
        results = made if isinstance(made, list | tuple) else [made]
        self._budget.spend(results)
        for name, result in zip(node.output, results, strict=False):
            if name:
                self.values[name] = result

    def _fold(self, node: NodeProto, inputs: Sequence[Given]) -> None:
        if node.op_type in ("Shape", "Size"):
            array = np.asarray(inputs[0])
            options = _options(node)
            shape = np.array(array.shape[options.get("start", 0) : options.get("end")], np.int64)
            self.values[node.output[0]] = shape if node.op_type == "Shape" else np.array(array.size, np.int64)
            return
        for number, name in enumerate(node.output):
            self._budget.spend(())
            if name:
                self.values[name] = fold(node, inputs, number, self._graph.opsets)  # pyright: ignore
                self._budget.spend(self.values[name])

    def _branch(self, node: NodeProto, condition: Given, path: str) -> None:
        if condition is None or isinstance(condition, Value):
            remedy = "Export it with fixed shapes, or with torch.onnx.export(..., dynamo=True)"
            raise UnsupportedLayerError(path, "If", "which branch it takes is not known before it runs", remedy)
        name = "then_branch" if bool(condition) else "else_branch"
        branch = next(attribute.g for attribute in node.attribute if attribute.name == name)
        for tensor in branch.initializer:
            self.values[tensor.name] = np.asarray(numpy_helper.to_array(tensor))
        for inner in branch.node:
            self.follow(inner)
        for inner, outer in zip(branch.output, node.output, strict=True):
            self.values[outer] = self.value(inner.name)

    def _made(self, node: NodeProto, inputs: list[Any], path: str) -> Any:
        kind, options = node.op_type, {"parts": len(node.output)} | _options(node)
        if kind in ("LSTM", "GRU", "RNN"):
            return recurrent_layer(kind, inputs, options, path)
        constants = {place: given for place, given in enumerate(inputs) if isinstance(given, np.ndarray)}
        simple = activation_operations(kind, path, options, constants) if isinstance(inputs[0], Value) else None
        if simple is not None:
            value = inputs[0]
            for operation in simple:
                if isinstance(operation, Scale):
                    value = value.scaled(operation.scale).shifted(operation.offset)
                elif isinstance(operation, Activate):
                    value = applied_activation(value, operation)
            return value
        if kind in _PLAIN:
            return self._arithmetic(_PLAIN[kind], inputs, path)
        rule = RULES.get(kind)
        if rule is None:
            raise refusal(path, _NAMED.get(kind, kind))
        try:
            return rule(path, inputs, options)
        except (TypeError, IndexError, KeyError, AttributeError) as problem:
            raise SourceError(f"{path} ({kind}): its inputs do not fit it ({problem})") from None

    def _arithmetic(self, name: str, inputs: list[Any], path: str) -> Any:
        value = inputs[0]
        for other in inputs[1:]:
            value = applied(name, [value, other], {}, path)
        return value if len(inputs) > 1 else applied(name, inputs, {}, path)


def _options(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
