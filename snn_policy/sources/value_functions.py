"""Functions of one value: linear maps, convolutions, activations, norms, reductions, clips."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np

from snn_policy.ann.activations import Activation
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.protocol import IntArray
from snn_policy.sources.affine_values import Node, Value, joined, only_term, whole_of
from snn_policy.sources.graph_nodes import Activated, Filtered, NormPart, Summed, Unfinished, Weighted, bare
from snn_policy.sources.images import Filter, convolve, placed
from snn_policy.sources.operations import Activate, AdaptivePool, AveragePool, Convolve, Float64, Scale, activate
from snn_policy.sources.refusals import CROSSED, refusal
from snn_policy.sources.value_movements import SizeWanted

MOST_WEIGHTS = 2**26
_OF_CONSTANTS: dict[str, Callable[[Any], Any]] = {"exp": np.exp, "abs": np.abs, "log": np.log, "root": np.sqrt,
                                                  "reciprocal": np.reciprocal}  # fmt: skip


def is_constant(value: Value) -> bool:
    """Return whether no observation enters it."""
    return not value.terms


def summed(x: Value, y: Value, path: str) -> Value:
    """Return x + y; a sum of several nodes is one of its own, so that those who share it may share a stage."""
    whole = x.plus(y)
    return whole if len(whole.terms) < 2 else Value.of(Summed(whole.flat, path=path, kind="add"), whole.shape)


def linear(x: Value, weight: Float64, bias: Any, path: str, kind: str) -> Value:
    """Return weight · x + bias of the last axis; weight (outputs, inputs). Several rows share the weights."""
    matrix = np.asarray(weight, np.float64)
    if matrix.ndim != 2:
        raise UnsupportedLayerError(path, kind, f"its weight has the shape {matrix.shape}", "Use a linear layer")
    if not x.shape or x.shape[-1] != matrix.shape[1]:
        width = x.shape[-1] if x.shape else 1
        message = f"{path} takes {matrix.shape[1]} inputs, but gets {width}"
        raise SizeWanted(message, None, matrix.shape[1] - width)
    rows, outputs = x.size // matrix.shape[1], len(matrix)
    if not rows:
        raise SourceError(f"{path} is applied to nothing, values of shape {x.shape}")
    offset = np.zeros(outputs) if bias is None else np.asarray(bias, np.float64).reshape(-1)
    require_finite(path, kind, matrix, offset)
    if offset.size not in (1, outputs):
        raise SourceError(f"{path} ({kind}): its shapes do not fit: weight {matrix.shape}, bias {offset.shape}")
    offset = np.broadcast_to(offset, outputs)
    if rows == 1:
        return Value.of(Weighted(x.flat, matrix, offset, path=path, kind=kind), (*x.shape[:-1], outputs))
    kernel, image = matrix[:, None, None, :], (1, rows, matrix.shape[1])
    filtered = Filter(kernel, offset, (1, matrix.shape[1]), (0, 0), image, path=path, kind=kind)
    made = Value.of(Filtered(x.flat, filtered, path=path, kind=kind), (outputs, rows))
    return made.moved(made.places.T).reshaped((*x.shape[:-1], outputs))


def require_finite(path: str, kind: str, *arrays: Float64) -> None:
    """Raise where weights are not numbers."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise SourceError(f"{path} ({kind}) holds NaN or infinity; this file is of no use")


def convolved(
    x: Value, weight: Float64, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int, path: str, kind: str
) -> Value:
    """Return a convolution of (1, channels, length) or (1, channels, height, width), or of either without batch."""
    kernels = np.asarray(weight, np.float64)
    axes = kernels.ndim - 2
    if axes not in (1, 2) or len(x.shape) not in (axes + 1, axes + 2):
        raise refusal(path, kind)
    kernels = _with_groups(_dilated(kernels, dilation), groups)
    if kernels.size > MOST_WEIGHTS:
        raise SourceError(f"{path}: more than {MOST_WEIGHTS} weights; refused")
    if axes == 1:
        kernels = kernels[:, :, None, :]
        stride, padding = (1, _one(stride)), (padding if isinstance(padding, str) else (0, _one(padding)))
    offset = None if bias is None else np.asarray(bias, np.float64).reshape(-1)
    require_finite(path, kind, kernels, np.zeros(1) if offset is None else offset)
    return spatial(x, convolve(path, kind, kernels, offset, stride, padding), axes)


def spatial(x: Value, operation: Convolve | AveragePool | AdaptivePool, axes: int = 2) -> Value:
    """Return an operation on images; its result has as many axes as x."""
    channels, *sizes = x.shape[-axes - 1 :]
    try:
        filtered = placed(operation, (channels, *([1] * (2 - axes)), *sizes))
    except ValueError as problem:
        if isinstance(problem, UnsupportedLayerError):
            raise
        raise SourceError(str(problem)) from None
    shape = filtered.output_shape
    node = Filtered(x.flat, filtered, path=operation.path, kind=operation.kind)
    return Value.of(node, (*x.shape[: -axes - 1], shape[0], *shape[3 - axes :]))


def _one(number: Any) -> int:
    return int(np.ravel(number)[0])


def _dilated(kernels: Float64, dilation: Any) -> Float64:
    """Return the kernels with zeros between their weights."""
    axes = kernels.ndim - 2
    steps = np.broadcast_to(np.ravel(dilation), axes)
    if (steps == 1).all():
        return kernels
    if (steps < 1).any() or (steps > 64).any():
        raise SourceError(f"a convolution dilated by {steps.tolist()}; refused")
    sizes = [(size - 1) * step + 1 for size, step in zip(kernels.shape[2:], steps, strict=True)]
    spread = np.zeros((*kernels.shape[:2], *sizes))
    spread[(slice(None), slice(None), *(slice(None, None, int(step)) for step in steps))] = kernels
    return spread


def _with_groups(kernels: Float64, groups: int) -> Float64:
    """Return kernels of all channels, with zeros for those of other groups."""
    if groups == 1:
        return kernels
    outputs, inputs = kernels.shape[:2]
    if groups < 1 or outputs % groups or outputs * inputs * groups > MOST_WEIGHTS:
        raise SourceError(f"a convolution of {outputs} channels in {groups} groups; refused")
    whole = np.zeros((outputs, inputs * groups, *kernels.shape[2:]))
    own = outputs // groups
    for group in range(groups):
        rows, columns = slice(group * own, (group + 1) * own), slice(group * inputs, (group + 1) * inputs)
        whole[rows, columns] = kernels[rows]
    return whole


def activated(x: Value, name: str, parameter: float, path: str, kind: str) -> Value:
    """Return an activation by the name that `operations.activate` takes."""
    value = x
    for operation in activate(path, kind, name, parameter):
        if isinstance(operation, Scale):
            value = value.scaled(operation.scale).shifted(operation.offset)
        else:
            assert isinstance(operation, Activate)
            value = applied_activation(value, operation)
    return value


def applied_activation(x: Value, operation: Activate) -> Value:
    """Apply an activation; after a norm it is one stage with it, and of constants it is one."""
    if is_constant(x) and operation.activation is not None:
        return Value.constant(operation.activation(x.bias)).reshaped(x.shape)
    term = whole_of(x.flat)
    node = None if term is None else term.node
    if term is not None and isinstance(node, Activated) and node.norm is not None and node.activation is None:
        norm = node.norm
        part = NormPart(norm.kind, norm.epsilon, norm.weight * term.scale, norm.bias * term.scale + x.bias)
        made = Activated(node.operand, operation.activation, part, path=operation.path, kind=operation.kind)
    else:
        made = Activated(x.flat, operation.activation, path=operation.path, kind=operation.kind)
    return Value.of(made, x.shape)


def unfinished(function: str, x: Value, path: str, kind: str, numbers: tuple[Any, ...] = ()) -> Value:
    """Return an elementwise function that is none of a stage's; of constants it is one."""
    if is_constant(x) and function in _OF_CONSTANTS:
        return Value.constant(_OF_CONSTANTS[function](x.bias)).reshaped(x.shape)
    return Value.of(Unfinished(x.flat, function, x.size, numbers, path=path, kind=kind), x.shape)


def normalised(
    x: Value, axes: int, norm: str, epsilon: float, weight: Any, bias: Any, path: str, kind: str
) -> Value:  # fmt: skip
    """Return the layer norm, RMS norm or L2 norm of every row, the last `axes` axes."""
    shape = x.shape[len(x.shape) - axes :]
    n = math.prod(shape)
    rows = [x.flat.moved(places) for places in x.places.reshape(-1, n)]
    made = [
        Value.of(Activated(row, None, bare(norm, epsilon, n), path=path, kind=kind))  # pyright: ignore
        for row in rows
    ]
    whole = joined(made, 0).reshaped(x.shape)
    whole = whole if weight is None else whole.scaled(np.asarray(weight).reshape(shape))
    return whole if bias is None else whole.shifted(np.asarray(bias).reshape(shape))


def unit_rows(x: Value, axis: int, epsilon: float, path: str, kind: str) -> Value:
    """Return x / max(‖x‖₂, ε) along an axis."""
    order = np.moveaxis(x.places, axis, -1)
    rows = x.flat.moved(order)
    back = np.moveaxis(rows.places, -1, axis)
    return normalised(rows, 1, "l2", epsilon, None, None, path, kind).moved(back)


def group_normalised(x: Value, groups: int, epsilon: float, weight: Any, bias: Any, path: str) -> Value:
    """Return the group norm of (1, channels, …)."""
    channels = x.shape[1]
    if groups < 1 or channels % groups:
        raise SourceError(f"{path}: {channels} channels in {groups} groups; refused")
    made = normalised(x.reshaped((groups, x.size // groups)), 1, "layer", epsilon, None, None, path, "GroupNorm")
    made, shape = made.reshaped(x.shape), (channels, *[1] * (len(x.shape) - 2))
    made = made if weight is None else made.scaled(np.reshape(weight, shape))
    return made if bias is None else made.shifted(np.reshape(bias, shape))


def reduced(x: Value, axes: Sequence[int] | None, keep: bool, mean: bool, path: str, kind: str) -> Value:
    """Return the sum or mean over axes; of squares, what norms are made of."""
    count = len(x.shape)
    chosen = sorted({axis % count for axis in (range(count) if axes is None else axes)}) if count else []
    rest = [axis for axis in range(count) if axis not in chosen]
    n = math.prod(x.shape[axis] for axis in chosen)
    rows = x.flat.moved(np.transpose(x.places, [*rest, *chosen]).reshape(-1, max(1, n)))
    kept = tuple(1 if axis in chosen else size for axis, size in enumerate(x.shape))
    shape = kept if keep else tuple(x.shape[axis] for axis in rest)
    share = 1 / n if mean else 1.0
    squares = _squares(rows, path, kind)
    if squares is not None:
        return squares.scaled(share).reshaped(shape)
    if n == 1:
        return rows.reshaped(shape)
    if rows.size * len(rows.places) > MOST_WEIGHTS:
        raise SourceError(f"{path}: a sum over values of shape {x.shape} is too large; refused")
    weight = np.asarray(np.kron(np.eye(len(rows.places)), np.full((1, n), share)), np.float64)
    zeros = np.zeros(len(weight))
    return Value.of(Weighted(rows.flat, weight, zeros, path=path, kind="mean" if mean else kind), shape)


def _squares(rows: Value, path: str, kind: str) -> Value | None:
    """Compute Σ v² of every row, where rows are squares."""
    term = only_term(rows)
    if term is None or not isinstance(term.node, Unfinished) or term.node.function != "power" or rows.bias.any():
        return None
    if term.node.numbers != (2.0,) or (term.scale <= 0).any():
        return None
    operand = term.node.operand.moved(term.index).scaled(np.sqrt(term.scale))
    node = Unfinished(operand, "squares", len(rows.places), path=path, kind=kind)
    return Value.of(node)


def sum_of_squares(x: Value, axes: Sequence[int] | None, keep: bool, mean: bool, path: str, kind: str) -> Value:
    return reduced(power(x, 2.0, path, kind), axes, keep, mean, path, kind)


def power(x: Value, exponent: float, path: str, kind: str) -> Value:
    """Return x to the power of a constant."""
    if exponent == 1:
        return x
    if exponent == 0.5:
        return unfinished("root", x, path, kind)
    if exponent == -0.5:
        return unfinished("reciprocal", unfinished("root", x, path, kind), path, kind)
    if exponent == -1:
        return unfinished("reciprocal", x, path, kind)
    term = only_term(x)
    if exponent == 2 and term is not None and isinstance(term.node, Unfinished) and not x.bias.any():
        inner = term.node.operand
        if term.node.function == "abs":
            square = unfinished("power", inner.moved(term.index).reshaped(x.shape), path, kind, (2.0,))
            return square.scaled((term.scale**2).reshape(x.shape))
        if term.node.function == "root":
            return inner.moved(term.index).reshaped(x.shape).scaled((term.scale**2).reshape(x.shape))
    if exponent not in (2, 3):
        raise UnsupportedLayerError(path, kind, f"it raises values to the power of {exponent}", "Use an activation")
    return unfinished("power", x, path, kind, (float(exponent),))


def _is_plain_tanh(node: Node) -> TypeGuard[Activated]:
    return isinstance(node, Activated) and node.norm is None and node.activation == Activation("tanh")


def logarithm(x: Value, path: str, kind: str) -> Value:
    """Return log x; log(1 + eᵛ) is the softplus, log σ(v) its mirror image."""
    term = only_term(x)
    one_more = np.allclose(x.bias, 1) and term is not None and np.allclose(term.scale, 1)
    if term is not None and one_more and isinstance(term.node, Unfinished) and term.node.function == "exp":
        return activated(term.node.operand.moved(term.index).reshaped(x.shape), "softplus", 0.0, path, kind)
    halves = term is not None and np.allclose(term.scale, 0.5) and np.allclose(x.bias, 0.5)
    if term is not None and halves and _is_plain_tanh(node := term.node):
        half = node.operand.moved(term.index).reshaped(x.shape)
        return activated(half.scaled(2.0), "logsigmoid", 0.0, path, kind)
    return unfinished("log", x, path, kind)


def clipped(x: Value, low: Any, high: Any, path: str, kind: str) -> Value:
    """Return min(max(x, low), high); from zero on it is a ReLU."""
    bottom = np.broadcast_to(np.asarray(-np.inf if low is None else low, np.float64), x.shape).reshape(-1)
    top = np.broadcast_to(np.asarray(np.inf if high is None else high, np.float64), x.shape).reshape(-1)
    if (bottom == -np.inf).all() and (top == np.inf).all():
        return x
    if not (bottom <= top).all():
        raise SourceError(f"{path} ({kind}): {CROSSED}")
    if (bottom == 0).all() and (top == np.inf).all():
        return activated(x, "relu", 0.0, path, kind)
    return unfinished("clip", x, path, kind, (bottom, top))


def argmax(x: Value, axis: int | None, keep: bool, path: str, kind: str) -> Value:
    """Return the index of the largest entry along an axis."""
    if axis is None or not x.shape:
        raise UnsupportedLayerError(path, kind, "it does not take the last axis", "Use argmax(dim=-1)")
    order: IntArray = np.moveaxis(x.places, axis, -1)
    outputs = x.size // max(1, order.shape[-1])
    shape = tuple(1 if place == axis % len(x.shape) else size for place, size in enumerate(x.shape))
    node = Unfinished(x.flat.moved(order.reshape(-1)), "argmax", outputs, path=path, kind=kind)
    return Value.of(node, shape if keep else order.shape[:-1])
