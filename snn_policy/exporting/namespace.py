"""The array-API namespace of traced arrays: the functions that the networks' code calls. See `tracing`."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import int64

from snn_policy.exporting.tracing import BATCH, Dimension, Traced, binary, broadcast, expand_dims, index, lift, unary
from snn_policy.protocol import Array

__all__ = [
    "argmax", "asarray", "astype", "beyond", "ceil", "clip", "concat", "conv2d", "exp", "expm1", "floor",
    "full_like", "gemm", "int64", "largest", "log", "log1p", "matmul", "maximum", "mean", "minimum", "ones_like",
    "reshape", "round", "sign", "split", "sqrt", "stack", "sum", "take", "tanh", "where", "zeros_like",
]  # fmt: skip


def _first_traced(*operands: Array) -> Traced | None:
    return next((operand for operand in operands if isinstance(operand, Traced)), None)


def where(condition: Array, first: Array, second: Array) -> Array:
    traced = _first_traced(first, second)
    if traced is None:
        like = _first_traced(condition)
        if like is None:
            return np.where(condition, first, second)
        traced = like.graph.constant(np.asarray(first if isinstance(first, np.ndarray) else second))
    a, b, c = lift(first, traced), lift(second, traced), lift(condition, traced)
    shape = broadcast(broadcast(a.shape, b.shape), c.shape)
    if c.value is not None:
        if a.value is not None and b.value is not None:
            return traced.graph.constant(np.where(c.value, a.value, b.value), shape)
        for number, chosen in ((1, a), (0, b)):
            if c.known(number) and chosen.shape == shape:
                return chosen
    return traced.graph.add("Where", [c, a, b], [shape], a.dtype)[0]


def maximum(first: Array, second: Array) -> Array:
    traced = _first_traced(first, second)
    if traced is None:
        return np.maximum(first, second)
    a, b = lift(first, traced), lift(second, traced)
    if a.value is None and b.known(0) and a.dtype.kind == "f" and broadcast(a.shape, b.shape) == a.shape:
        return unary("Relu", None, a)
    return binary("Max", a, b, traced)


def minimum(first: Array, second: Array) -> Array:
    """Return min; of a max with the other bound, one Clip where both bounds are single numbers."""
    traced = _first_traced(first, second)
    if traced is None:
        return np.minimum(first, second)
    a, b = lift(first, traced), lift(second, traced)
    if a.made_by("Max") and a.node is not None and b.value is not None and _uniform(b):
        x, low = a.node.inputs
        if _uniform(low) and x.shape == a.shape:
            return clip(x, low.value.flat[0], b.value.flat[0])
    return binary("Min", a, b, traced)


def _uniform(x: Traced) -> Any:
    return x.value is not None and x.value.size > 0 and x.known(x.value.flat[0])


def clip(x: Traced, low: Array, high: Array) -> Traced:
    if x.value is not None:
        return x.graph.constant(np.clip(x.value, low, high), x.shape)
    bounds = [np.asarray(bound, x.dtype) for bound in (low, high)]
    return x.graph.add("Clip", [x, *bounds], [x.shape], x.dtype)[0]


def tanh(x: Traced) -> Traced:
    return unary("Tanh", np.tanh, x)


def exp(x: Traced) -> Traced:
    return unary("Exp", np.exp, x)


def expm1(x: Traced) -> Traced:
    """Return eˣ − 1, with the rounding of eˣ: 6e-8 near 0."""
    return exp(x) - 1


def log(x: Array) -> Array:
    return unary("Log", np.log, x) if isinstance(x, Traced) else np.log(x)


def log1p(x: Traced) -> Traced:
    """Return log(1 + x), with the rounding of 1 + x."""
    return log(x + 1)


def floor(x: Traced) -> Traced:
    return unary("Floor", np.floor, x)


def ceil(x: Traced) -> Traced:
    return unary("Ceil", np.ceil, x)


def round(x: Traced) -> Traced:
    """Round to the nearest whole number, halves to the even one."""
    return unary("Round", np.round, x)


def beyond(x: Traced, limit: float) -> Traced:
    """Return x where |x| ≥ limit > 0, else 0: one node, where a comparison and a choice are four slow ones."""
    least = np.nextafter(np.float32(limit), np.float32(0))
    return x.graph.add("Shrink", [x], [x.shape], x.dtype, lambd=float(least), bias=0.0)[0]


def sqrt(x: Traced) -> Traced:
    return unary("Sqrt", np.sqrt, x)


def sign(x: Traced) -> Traced:
    return unary("Sign", np.sign, x)


def full_like(x: Array, number: float) -> Array:
    if not isinstance(x, Traced):
        return np.full_like(x, number)
    return x.graph.constant(np.full((1,) * x.ndim, number, x.dtype), x.shape)


def zeros_like(x: Array) -> Array:
    return full_like(x, 0)


def ones_like(x: Array) -> Array:
    return full_like(x, 1)


def astype(x: Traced, dtype: Any) -> Traced:
    kind = np.dtype(dtype)
    if kind == x.dtype:
        return x
    if x.value is not None:
        return x.graph.constant(x.value.astype(kind), x.shape)
    if x.made_by("Not") and x.node is not None:
        equal = x.node.inputs[0].node
        if equal is not None and equal.operator == "Equal" and equal.inputs[1].known(0):
            x = x.graph.add("Cast", [equal.inputs[0]], [x.shape], np.bool_, to=np.dtype(np.bool_))[0]
    return x.graph.add("Cast", [x], [x.shape], kind, to=kind)[0]


def asarray(x: Array) -> Array:
    """Return what is an array already."""
    return x


def sum(x: Traced, axis: int | tuple[int, ...], keepdims: bool = False) -> Traced:
    return _reduced("ReduceSum", x, axis, keepdims)


def mean(x: Traced, axis: int | tuple[int, ...], keepdims: bool = False) -> Traced:
    return _reduced("ReduceMean", x, axis, keepdims)


def _reduced(operator: str, x: Traced, axis: int | tuple[int, ...], keepdims: bool) -> Traced:
    axes = tuple(place % x.ndim for place in ((axis,) if isinstance(axis, int) else axis))
    kept = [1 if place in axes else length for place, length in enumerate(x.shape)]
    shape = tuple(length for place, length in enumerate(kept) if keepdims or place not in axes)
    return x.graph.add(operator, [materialised(x), np.array(axes)], [shape], x.dtype, keepdims=int(keepdims))[0]


def largest(x: Traced) -> Traced:
    """Return the largest value of all, a scalar."""
    return x.graph.add("ReduceMax", [x], [()], x.dtype, keepdims=0)[0]


def split(x: Traced, sizes: Sequence[int]) -> list[Traced]:
    """Return x (batch, Σ sizes) cut apart along its second axis."""
    if len(sizes) < 2:
        return [x][: len(sizes)]
    if x.value is not None:
        ends = np.cumsum(sizes).tolist()
        return [index(x, (slice(None), slice(end - size, end))) for size, end in zip(sizes, ends, strict=True)]
    return x.graph.add("Split", [x, np.array(sizes)], [(x.shape[0], size) for size in sizes], x.dtype, axis=1)


def argmax(x: Traced, axis: int) -> Traced:
    place = axis % x.ndim
    shape = (*x.shape[:place], *x.shape[place + 1 :])
    return x.graph.add("ArgMax", [materialised(x)], [shape], np.int64, axis=place, keepdims=0)[0]


def reshape(x: Traced, shape: Sequence[Any]) -> Traced:
    """Return x in another shape; one length may be −1, and the batch axis may stand first."""
    target: list[Dimension] = list(shape)
    if -1 in target:
        target[target.index(-1)] = _remaining(x.shape, target)
    if tuple(target) == x.shape:
        return x
    if x.value is not None:
        x = materialised(x)
    symbols = [length for length in target if not isinstance(length, int)]
    sizes = [-1 if not isinstance(length, int) else length for length in target]
    if len(symbols) > 1:
        raise ValueError(f"shape {tuple(target)}: more than one length is unknown")
    return x.graph.add("Reshape", [x, np.array(sizes)], [tuple(target)], x.dtype)[0]


def _remaining(given: Sequence[Dimension], target: list[Dimension]) -> Dimension:
    """Return the length that −1 stands for: a number, `BATCH`, or another unknown."""
    left, right = list(given), [length for length in target if length != -1]
    symbols = [length for length in left if not isinstance(length, int)]
    for length in [length for length in right if not isinstance(length, int)]:
        if length not in symbols:
            raise ValueError(f"shape {tuple(target)}: {length} is not a length of {tuple(given)}")
        symbols.remove(length)
    have = int(np.prod([length for length in left if isinstance(length, int)], dtype=np.int64))
    need = int(np.prod([length for length in right if isinstance(length, int)], dtype=np.int64))
    factor = have // need if need else 0
    if not symbols:
        return factor
    return symbols[0] if factor == 1 else f"{factor}·{symbols[0]}" if symbols[0] == BATCH else "unknown"


def materialised(x: Traced) -> Traced:
    """Return a known array in its full shape, as a node where that depends on the batch."""
    if x.value is None:
        return x
    numbers = [length for length in x.shape if isinstance(length, int)]
    if len(numbers) == x.ndim:
        return x.graph.constant(np.ascontiguousarray(np.broadcast_to(x.value, numbers)))
    obs = Traced(x.graph, (BATCH,), np.dtype(np.float32), name="obs")
    rows = x.graph.add("Shape", [obs], [(1,)], np.int64, start=0, end=1)[0]
    sizes = x.graph.add("Concat", [rows, np.array(numbers)], [(x.ndim,)], np.int64, axis=0)[0]
    return x.graph.add("Expand", [x.value, sizes], [x.shape], x.dtype)[0]


def concat(arrays: Sequence[Array], axis: int) -> Array:
    traced = _first_traced(*arrays)
    if traced is None:
        return np.concatenate(arrays, axis)
    lifted = [lift(array, traced) for array in arrays]
    parts = [materialised(part) for part in lifted if part.shape[axis] != 0] or lifted[:1]
    if len(parts) == 1:
        return parts[0]
    length: Any = np.sum([part.shape[axis] for part in parts])
    shape = (*parts[0].shape[:axis], int(length), *parts[0].shape[axis + 1 :])
    return traced.graph.add("Concat", parts, [shape], parts[0].dtype, axis=axis)[0]


def stack(arrays: Sequence[Traced], axis: int) -> Traced:
    """Stack along a new axis 1: arrays (batch, n) side by side, then cut apart; (batch,) one by one."""
    if arrays[0].ndim == 1:
        return concat([expand_dims(materialised(array), 1) for array in arrays], axis)
    rows, width = arrays[0].shape
    return reshape(concat(arrays, axis), (rows, len(arrays), width))


def take(x: Array, indices: Array, axis: int | None = None) -> Traced:
    """Return x[indices] of a known vector; negative indices count from its end. (Gather takes five times as long.)

    With an axis: known entries along it of any array.
    """
    if isinstance(x, Traced):
        return _chosen(x, np.asarray(indices), 0 if axis is None else axis)
    values = np.asarray(x)
    if indices.value is not None:
        return indices.graph.constant(values[indices.value], indices.shape)
    if indices.shape[0] == 1 and indices.ndim == 2:
        return indices.graph.add("GatherElements", [values[None], indices], [indices.shape], values.dtype, axis=1)[0]
    flat = reshape(indices, (-1,))
    taken = indices.graph.add("GatherElements", [values, flat], [flat.shape], values.dtype, axis=0)[0]
    return reshape(taken, indices.shape)


def _chosen(x: Traced, indices: Any, axis: int) -> Traced:
    first, last = int(indices[0]), int(indices[-1])
    if np.array_equal(indices, np.arange(first, last + 1)):
        return index(x, (*(slice(None),) * axis, slice(first, last + 1)))
    shape = (*x.shape[:axis], len(indices), *x.shape[axis + 1 :])
    return x.graph.add("Gather", [materialised(x), indices], [shape], x.dtype, axis=axis)[0]


def matmul(x: Traced, weight: Array) -> Traced:
    """Return x · weight, (…, inputs) · (inputs, outputs); a row with an axis of its own is multiplied without it."""
    if x.made_by("Unsqueeze") and x.node is not None and x.ndim == 3 and x.shape[1] == 1:
        return expand_dims(matmul(x.node.inputs[0], weight), 1)
    matrix = np.ascontiguousarray(weight)
    return x.graph.add("MatMul", [materialised(x), matrix], [(*x.shape[:-1], matrix.shape[1])], x.dtype)[0]


def gemm(x: Traced, weight: Array, summand: Traced) -> Traced:
    """Return x · weight + summand as one node, (rows, inputs) · (inputs, outputs) + (rows, outputs)."""
    return x.graph.add("Gemm", [materialised(x), np.ascontiguousarray(weight), summand], [summand.shape], x.dtype)[0]


def conv2d(images: Traced, weight: Array, *, stride: tuple[int, int], padding: tuple[int, int]) -> Traced:
    """Return a cross-correlation of (N, channels, height, width), without bias."""
    kernel = weight.shape[2:]
    sizes = zip(images.shape[2:], kernel, stride, padding, strict=True)
    maps = [(int(size) + 2 * pad - length) // step + 1 for size, length, step, pad in sizes]
    shape = (images.shape[0], weight.shape[0], *maps)
    return images.graph.add("Conv", [images, np.asarray(weight)], [shape], images.dtype, strides=list(stride),
                            pads=[*padding, *padding], kernel_shape=list(kernel))[0]  # fmt: skip


Traced.namespace = sys.modules[__name__]
