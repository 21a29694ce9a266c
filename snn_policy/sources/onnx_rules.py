"""Rules for ONNX operators on symbolic values: each is translated to the operators that all readers of graphs share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.affine_values import MOST_ENTRIES, Value
from snn_policy.sources.onnx_images import image_operations
from snn_policy.sources.onnx_values import is_float
from snn_policy.sources.refusals import refusal, rounding
from snn_policy.sources.value_arithmetic import as_value
from snn_policy.sources.value_choices import is_mask, shrunk
from snn_policy.sources.value_functions import spatial, unit_rows
from snn_policy.sources.value_layers import sloped
from snn_policy.sources.value_movements import MOVES
from snn_policy.sources.value_operators import applied

_WHOLE = 2**31 - 1


def _given(inputs: Sequence[Any], place: int, options: Mapping[str, Any], name: str) -> Any:
    """Return an option that was an attribute in old operator sets and is an input in newer ones."""
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
    if not isinstance(inputs[0], Value) or isinstance(inputs[1], Value):
        raise refusal(path, "GatherElements")
    axis = int(options.get("axis", 0))
    return inputs[0].moved(np.take_along_axis(inputs[0].places, np.asarray(inputs[1], np.int64), axis))


def _gather_nd(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    """Take entries by constant indices, as torch's exporter writes x[:, list]: between two transpositions."""
    if not isinstance(inputs[0], Value) or isinstance(inputs[1], Value) or int(options.get("batch_dims", 0)):
        raise refusal(path, "GatherND")
    index = np.moveaxis(np.asarray(inputs[1], np.int64), -1, 0)
    return inputs[0].moved(inputs[0].places[tuple(index)])


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
    return applied("where", inputs[:3], {}, path)


def _plainly(name: str) -> Callable[..., Any]:
    return lambda path, inputs, options: applied(name, inputs, {}, path)


def _thresholded(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    return applied("threshold", [inputs[0], float(options.get("alpha", 1.0)), 0.0], {}, path)


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
    if not (is_float(options.get("to", 0)) or from_index or is_mask(inputs[0])):
        raise rounding(path, "Cast")
    return inputs[0]


def _cast_like(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    like = inputs[1]
    to = helper.np_dtype_to_tensor_dtype(like.dtype) if isinstance(like, np.ndarray) else TensorProto.FLOAT
    return _cast(path, inputs, {"to": to})


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


def _sum(path: str, inputs: list[Any]) -> Any:
    value = inputs[0]
    for other in inputs[1:]:
        value = applied("add", [value, other], {}, path)
    return value


def _prelu(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    if isinstance(inputs[1], Value):
        raise refusal(path, "PRelu")
    return sloped(path, inputs[0], np.asarray(inputs[1], np.float64))


def _einsum(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    return applied("einsum", [bytes(options["equation"]).decode("ascii", "replace"), *inputs], {}, path)


def _shrink(path: str, inputs: list[Any], options: dict[str, Any]) -> Value:
    return shrunk(inputs[0], float(options.get("lambd", 0.5)), float(options.get("bias", 0.0)), path, "Shrink")


RULES: dict[str, Callable[..., Any]] = {
    "Gemm": _gemm, "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Transpose": _transpose, "Slice": _slice, "Gather": _gather, "GatherElements": _gather_elements,
    "GatherND": _gather_nd, "Split": _split,
    "Expand": _expand, "Tile": _tile, "Pad": _pad, "ScatterND": _scatter_nd, "ScatterElements": _scatter_elements,
    "Where": _where, "Greater": _plainly("gt"), "Less": _plainly("lt"),
    "GreaterOrEqual": _plainly("ge"), "LessOrEqual": _plainly("le"), "Not": _plainly("logical_not"),
    "And": _plainly("logical_and"), "Or": _plainly("logical_or"), "Sign": _plainly("sign"), "Equal": _plainly("eq"),
    "ThresholdedRelu": _thresholded, "ReduceMean": _reduction("mean"),
    "ReduceSum": _reduction("sum"), "ReduceL2": _reduction("norm"),
    "ReduceSumSquare": _reduction("squares"), "LayerNormalization": _layer_norm("layer"),
    "RMSNormalization": _layer_norm("rms"), "SimplifiedLayerNormalization": _layer_norm("rms"),
    "GroupNormalization": _group_norm, "InstanceNormalization": _group_norm, "LpNormalization": _unit,
    "BatchNormalization": _batch_norm, "Conv": _image("Conv"), "AveragePool": _image("AveragePool"),
    "GlobalAveragePool": _image("GlobalAveragePool"), "ArgMax": _argmax, "Cast": _cast, "Dropout": _dropout,
    "PRelu": _prelu, "Shrink": _shrink, "Einsum": _einsum, "Concat": _concat, "Clip": _clip,
    "Softmax": lambda path, inputs, options: applied("softmax", inputs[:1], {}, path),
    "LogSoftmax": lambda path, inputs, options: applied("softmax", inputs[:1], {}, path),
    "Sum": lambda path, inputs, options: _sum(path, inputs),
    "CastLike": _cast_like,
}  # fmt: skip
