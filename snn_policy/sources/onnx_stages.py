"""ONNX nodes on symbolic values: each is translated to the operators that all readers of graphs share.

Nodes that no observation enters are computed by `onnx_constants`; the others, in the graph's order, by the table here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper, numpy_helper

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.affine_values import MOST_ENTRIES, Value, only_term
from snn_policy.sources.graph_nodes import Activated, Unfinished
from snn_policy.sources.onnx_constants import constant_node, fold
from snn_policy.sources.onnx_images import image_operations
from snn_policy.sources.onnx_operators import activation_operations
from snn_policy.sources.onnx_recurrent import recurrent_layer
from snn_policy.sources.onnx_values import Graph, is_float
from snn_policy.sources.operations import Activate, Scale
from snn_policy.sources.refusals import refusal
from snn_policy.sources.value_functions import applied_activation, spatial, unfinished, unit_rows
from snn_policy.sources.value_movements import MOVES
from snn_policy.sources.value_operators import MOST_EXACT, applied, as_value

Given = Value | npt.NDArray[Any] | None
_WHOLE = 2**31 - 1
_PLAIN = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow", "Sqrt": "sqrt", "Exp": "exp", "Log": "log",
    "Erf": "erf", "Abs": "abs", "Reciprocal": "reciprocal", "MatMul": "matmul", "Max": "max", "Min": "min",
    "Neg": "neg",
}  # fmt: skip
_NAMED = {"MultiHeadAttention": "attention", "Attention": "attention", "Scan": "scan", "Loop": "loop",
          "TopK": "mixture of experts", "Einsum": "attention"}  # fmt: skip


class NodeFollower:
    """Follows nodes, one at a time, in order; `values` are those known so far, by name."""

    def __init__(self, graph: Graph, values: dict[str, Given]) -> None:
        self._graph, self.values = graph, values

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
        made = self._made(node, inputs, path)
        results = made if isinstance(made, list | tuple) else [made]
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
            if name:
                self.values[name] = fold(node, inputs, number, self._graph.opsets)  # pyright: ignore

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
        rule = _RULES.get(kind)
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


def _given(inputs: Sequence[Any], place: int, options: Mapping[str, Any], name: str) -> Any:
    """An option that was an attribute in old operator sets and is an input in newer ones."""
    held = inputs[place] if len(inputs) > place and inputs[place] is not None else options.get(name)
    return None if held is None else np.ravel(held).tolist()


def _moved(x: Any, name: str, *arguments: Any) -> Any:
    made = MOVES[name](as_value(x).places, *arguments)
    return [as_value(x).moved(places) for places in made] if isinstance(made, list) else as_value(x).moved(made)


def _gemm(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    x, y = inputs[:2]
    x = _moved(x, "t") if options.get("transA", 0) and isinstance(x, Value) else x.T if options.get("transA") else x
    y = _moved(y, "t") if options.get("transB", 0) and isinstance(y, Value) else y.T if options.get("transB") else y
    product = applied("matmul", [x, y], {}, path)
    alpha, beta = float(options.get("alpha", 1.0)), float(options.get("beta", 1.0))
    product = product if alpha == 1 else product.scaled(alpha)
    added = inputs[2] if len(inputs) > 2 else None
    if isinstance(x, Value) and isinstance(y, np.ndarray) and alpha == 1 and isinstance(added, np.ndarray):
        return applied("linear", [x, y.T, np.broadcast_to(added.reshape(-1) * beta, y.shape[1:])], {}, path)
    return product if added is None else applied("add", [product, added], {"alpha": beta}, path)


def _reshape(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    x, wanted = inputs[0], np.ravel(inputs[1]).tolist()
    sizes = [x.shape[place] if size == 0 and not options.get("allowzero") else int(size)
             for place, size in enumerate(wanted)]  # fmt: skip
    return _moved(x, "reshape", sizes)


def _flatten(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    axis = int(options.get("axis", 1)) % (len(inputs[0].shape) + 1)
    return inputs[0].reshaped((int(np.prod(inputs[0].shape[:axis])), int(np.prod(inputs[0].shape[axis:]))))


def _squeeze(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    return _moved(inputs[0], "squeeze", _given(inputs, 1, options, "axes"))


def _unsqueeze(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    axes = _given(inputs, 1, options, "axes")
    total = len(inputs[0].shape) + len(axes)
    places = np.expand_dims(inputs[0].places, tuple(axis % total for axis in axes))
    return inputs[0].moved(places)


def _transpose(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    order = options.get("perm", list(reversed(range(len(inputs[0].shape)))))
    return _moved(inputs[0], "permute", list(order))


def _slice(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    starts, ends = _given(inputs, 1, options, "starts"), _given(inputs, 2, options, "ends")
    axes = _given(inputs, 3, options, "axes") or list(range(len(starts)))
    steps = _given(inputs, 4, {}, "") or [1] * len(starts)
    chosen = [slice(None)] * len(inputs[0].shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen[axis] = slice(start, None if step < 0 and end < -_WHOLE else end, step)
    return inputs[0].moved(inputs[0].places[tuple(chosen)])


def _gather(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    x, index = inputs[:2]
    if not isinstance(x, Value) or isinstance(index, Value):
        raise UnsupportedLayerError(path, "Gather", "which entries it takes depends on the observation", "Take fixed")
    return x.moved(np.take(x.places, np.asarray(index, np.int64), int(options.get("axis", 0))))


def _gather_elements(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    axis = int(options.get("axis", 0))
    return inputs[0].moved(np.take_along_axis(inputs[0].places, np.asarray(inputs[1], np.int64), axis))


def _split(path: str, inputs: list[Any], options: dict[str, Any]) -> list[Value]:
    axis, sizes = int(options.get("axis", 0)), _given(inputs, 1, options, "split")
    if sizes is None:
        return _moved(inputs[0], "chunk", options["parts"], axis)
    return _moved(inputs[0], "split", sizes, axis)


def _expand(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    shape = np.broadcast_shapes(inputs[0].shape, tuple(int(size) for size in np.ravel(inputs[1])))
    return inputs[0].expanded(shape)


def _tile(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    return _moved(inputs[0], "repeat", np.ravel(inputs[1]).tolist())


def _pad(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    pads = _given(inputs, 1, options, "pads")
    number = _given(inputs, 2, options, "value") or [0]
    if options.get("mode", b"constant") != b"constant" or number[0] or min(pads) < 0 or max(pads) > MOST_ENTRIES:
        raise UnsupportedLayerError(path, "Pad", "only padding with zeros is read", "Pad with zeros")
    half = len(pads) // 2
    around = [(int(pads[k]), int(pads[half + k])) for k in range(half)]
    return inputs[0].moved(np.pad(inputs[0].places, around, constant_values=-1))


def _scatter_nd(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    if options.get("reduction", b"none") not in (b"none", "none"):
        raise refusal(path, "ScatterND")
    data, indices = as_value(inputs[0]), np.asarray(inputs[1], np.int64)
    places = data.places[tuple(np.moveaxis(indices, -1, 0))]
    return data.overwritten(places, as_value(inputs[2]).reshaped(places.shape))


def _scatter_elements(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    if options.get("reduction", b"none") not in (b"none", "none"):
        raise refusal(path, "ScatterElements")
    data, axis = as_value(inputs[0]), int(options.get("axis", 0))
    places = np.take_along_axis(data.places, np.asarray(inputs[1], np.int64), axis)
    return data.overwritten(places, as_value(inputs[2]))


def _where(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    if isinstance(inputs[0], Value):
        return _threshold(path, inputs)
    shape = np.broadcast_shapes(*(np.shape(given) if not isinstance(given, Value) else given.shape for given in inputs))
    chosen, x, y = np.broadcast_to(inputs[0], shape), as_value(inputs[1]).expanded(shape), as_value(inputs[2])
    return y.expanded(shape).overwritten(np.arange(chosen.size).reshape(shape)[chosen], x.moved(x.places[chosen]))


def _greater(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    if not isinstance(inputs[0], Value) or isinstance(inputs[1], Value) or np.size(inputs[1]) != 1:
        raise refusal(path, "Greater")
    return unfinished("greater", inputs[0], path, "Greater", (float(np.ravel(inputs[1])[0]),))


def _threshold(path: str, inputs: list[Any]) -> Value:
    """x > 20 ? x : softplus(x), which is the softplus."""
    condition, term = only_term(inputs[0]), None if not isinstance(inputs[2], Value) else only_term(inputs[2])
    node = None if term is None else term.node
    if condition is not None and isinstance(condition.node, Unfinished) and condition.node.function == "greater":
        soft = isinstance(node, Activated) and node.activation is not None and node.activation.name == "softplus"
        least = condition.node.numbers[0]
        same = soft and isinstance(node, Activated) and node.operand.same_as(as_value(inputs[1]))
        if same and least >= MOST_EXACT:
            return inputs[2]
    raise refusal(path, "Where")


def _reduction(name: str) -> Callable[..., Value]:
    def apply(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
        axes, keep = _given(inputs, 1, options, "axes"), bool(options.get("keepdims", 1))
        if axes == [] or (axes is None and options.get("noop_with_empty_axes", 0)):
            return inputs[0]
        if name == "squares":
            return applied("sum", [applied("square", inputs[:1], {}, path)], {"dim": axes, "keepdim": keep}, path)
        return applied(name, inputs[:1], {"dim": axes, "keepdim": keep}, path)

    return apply


def _layer_norm(kind: str) -> Callable[..., Value]:
    def apply(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
        x = inputs[0]
        shape = x.shape[int(options.get("axis", -1)) :]
        given = [*inputs[1:], None, None][:2]
        weight = None if given[0] is None else np.broadcast_to(given[0], shape)
        if kind == "rms":
            return applied("rms_norm", [x, shape, weight, float(options.get("epsilon", 1e-5))], {}, path)
        bias = None if given[1] is None else np.broadcast_to(given[1], shape)
        return applied("layer_norm", [x, shape, weight, bias, float(options.get("epsilon", 1e-5))], {}, path)

    return apply


def _group_norm(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    groups = int(options.get("num_groups", inputs[0].shape[1]))
    return applied("group_norm", [inputs[0], groups, *inputs[1:3], float(options.get("epsilon", 1e-5))], {}, path)


def _unit(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    if options.get("p", 2) != 2:
        raise refusal(path, "LpNormalization")
    return unit_rows(inputs[0], int(options.get("axis", -1)), 0.0, path, "L2 norm")


def _batch_norm(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    x, factor, offset, mean, variance = inputs[:5]
    training = bool(options.get("training_mode", 0))
    given = [x, mean, variance, factor, offset, training, 0.1, float(options.get("epsilon", 1e-5))]
    return applied("batch_norm", given, {}, path)


def _image(kind: str) -> Callable[..., Value]:
    def apply(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
        axes = len(inputs[0].shape) - 2
        if kind != "Conv":
            made: Any = image_operations(kind, path, options, {})[0]
            return spatial(inputs[0], made, axes)
        pads = list(options.get("pads", [0] * (2 * axes)))
        auto = options.get("auto_pad", b"NOTSET")
        if pads[:axes] != pads[axes:]:
            reason = "its padding differs between opposite borders"
            raise UnsupportedLayerError(path, kind, reason, "Pad both sides alike")
        padding: Any = "same" if auto in (b"SAME_UPPER", b"SAME_LOWER") else pads[:axes]
        bias = inputs[2] if len(inputs) > 2 else None
        strides, dilations = (options.get(name, [1] * axes) for name in ("strides", "dilations"))
        given = [inputs[0], inputs[1], bias, strides, padding, dilations, int(options.get("group", 1))]
        return applied(f"conv{axes}d", given, {}, path)

    return apply


def _argmax(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    keep = bool(options.get("keepdims", 1))
    return applied("argmax", [inputs[0], int(options.get("axis", 0)), keep], {}, path)


def _cast(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    from_index = any(getattr(term.node, "function", "") == "argmax" for term in inputs[0].terms)
    if not is_float(options.get("to", 0)) and not from_index:
        raise UnsupportedLayerError(path, "Cast", "it rounds to another type", "Keep floating point")
    return inputs[0]


def _dropout(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    if len(inputs) > 2 and inputs[2] is not None and bool(inputs[2]):
        raise refusal(path, "Dropout")
    return inputs[0]


def _concat(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    return applied("cat", [inputs, int(options["axis"])], {}, path)


def _clip(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    low, high = (given[0] if given else None for given in
                 (_given(inputs, 1, options, "min"), _given(inputs, 2, options, "max")))  # fmt: skip
    return applied("clamp", [inputs[0], low, high], {}, path)


_RULES: dict[str, Callable[..., Any]] = {
    "Gemm": _gemm, "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Transpose": _transpose, "Slice": _slice, "Gather": _gather, "GatherElements": _gather_elements, "Split": _split,
    "Expand": _expand, "Tile": _tile, "Pad": _pad, "ScatterND": _scatter_nd, "ScatterElements": _scatter_elements,
    "Where": _where, "Greater": _greater, "ReduceMean": _reduction("mean"),
    "ReduceSum": _reduction("sum"), "ReduceL2": _reduction("norm"),
    "ReduceSumSquare": _reduction("squares"), "LayerNormalization": _layer_norm("layer"),
    "RMSNormalization": _layer_norm("rms"), "SimplifiedLayerNormalization": _layer_norm("rms"),
    "GroupNormalization": _group_norm, "InstanceNormalization": _group_norm, "LpNormalization": _unit,
    "BatchNormalization": _batch_norm, "Conv": _image("Conv"), "AveragePool": _image("AveragePool"),
    "GlobalAveragePool": _image("GlobalAveragePool"), "ArgMax": _argmax, "Cast": _cast, "Dropout": _dropout,
    "Concat": _concat, "Clip": _clip, "Softmax": lambda path, inputs, options: applied("softmax", inputs[:1], {}, path),
    "LogSoftmax": lambda path, inputs, options: applied("softmax", inputs[:1], {}, path),
    "Sum": lambda path, inputs, options: _sum(path, inputs),
    "CastLike": lambda path, inputs, options: inputs[0],
}  # fmt: skip


def _sum(path: str, inputs: list[Any]) -> Any:
    value = inputs[0]
    for other in inputs[1:]:
        value = applied("add", [value, other], {}, path)
    return value
