"""Arithmetic on symbolic values, by torch's names and arguments: sums, products, powers, limits, joins.

In arguments, `Value`s depend on the observation; arrays and numbers are constants.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from snn_policy.sources.affine_values import Value, joined
from snn_policy.sources.refusals import refusal, rounding
from snn_policy.sources.value_choices import bounded_exponential, masks_together, of_two
from snn_policy.sources.value_functions import (
    clipped,
    linear,
    logarithm,
    power,
    reduced,
    sum_of_squares,
    summed,
    unfinished,
)
from snn_policy.sources.value_gates import spelled_gru
from snn_policy.sources.value_products import divided, multiplied
from snn_policy.sources.value_weighing import einsum, product


def as_value(given: Any) -> Value:
    return given if isinstance(given, Value) else Value.constant(given)


def _add(path: str, x: Any, y: Any, alpha: Any = 1) -> Value:
    y = y.scaled(alpha) if isinstance(y, Value) else np.asarray(y, np.float64) * alpha
    if isinstance(x, Value) and isinstance(y, Value):
        straight = masks_together(x, y, path)
        if straight is not None:
            return straight
        whole = summed(x, y, path)
        return spelled_gru(whole, path) or whole
    return x.shifted(y) if isinstance(x, Value) else y.shifted(x)  # pyright: ignore


def _sub(path: str, x: Any, y: Any, alpha: Any = 1) -> Value:
    return _add(path, x, y, -alpha)


def _mul(path: str, x: Any, y: Any) -> Value:
    if isinstance(x, Value) and isinstance(y, Value):
        return multiplied(x, y, path)
    return x.scaled(y) if isinstance(x, Value) else y.scaled(x)


def _div(path: str, x: Any, y: Any, rounding_mode: Any = None) -> Value:
    if rounding_mode is not None:
        raise rounding(path, "floor division")
    if not isinstance(y, Value):
        return divided(x, Value.constant(y), path)
    return divided(as_value(x), y, path)


def _pow(path: str, x: Any, exponent: Any) -> Value:
    if isinstance(exponent, Value) or np.size(exponent) != 1:
        raise refusal(path, "pow")
    return power(x, float(np.ravel(exponent)[0]), path, "pow")


def _matmul(path: str, x: Any, y: Any) -> Value:
    if isinstance(x, Value) and isinstance(y, Value):
        raise product(path, x, y)
    if isinstance(x, Value):
        matrix = np.asarray(y, np.float64)
        if matrix.ndim == 1:
            return linear(x, matrix[None], None, path, "matmul").reshaped(x.shape[:-1])
        matrix = matrix.reshape(matrix.shape[-2:]) if np.prod(matrix.shape[:-2]) == 1 else matrix
        return linear(x, matrix.T, None, path, "matmul")
    matrix = np.asarray(x, np.float64)
    matrix = matrix.reshape(matrix.shape[-2:]) if np.prod(matrix.shape[:-2]) == 1 else matrix
    if len(y.shape) == 1:
        return linear(y, matrix, None, path, "matmul")
    turned = linear(y.moved(np.swapaxes(y.places, -1, -2)), matrix, None, path, "matmul")
    return turned.moved(np.swapaxes(turned.places, -1, -2))


def _addmm(path: str, bias: Any, x: Any, y: Any, beta: Any = 1, alpha: Any = 1) -> Value:
    return _add(path, _matmul(path, x, y).scaled(alpha), bias.scaled(beta) if isinstance(bias, Value) else
                np.asarray(bias) * beta)  # fmt: skip


def _clamp(path: str, x: Any, min: Any = None, max: Any = None) -> Value:
    if not isinstance(x, Value) or isinstance(min, Value) or isinstance(max, Value):
        x = as_value(x) if min is None else of_two(as_value(x), as_value(min), True, path)
        return x if max is None else of_two(x, as_value(max), False, path)
    return clipped(x, min, max, path, "clamp")


def _bounded(low: bool) -> Callable[..., Value]:
    def apply(path: str, x: Any, other: Any = None, **named: Any) -> Value:
        other = next(iter(named.values()), other)
        if isinstance(other, Value):
            x, other = other, x
        if other is None:
            raise refusal(path, "maximum")
        if isinstance(other, Value):
            return of_two(x, other, low, path)
        return clipped(x, other if low else None, None if low else other, path, "clamp")

    return apply


def _of_two(low: bool) -> Callable[..., Value]:
    """Return what takes the larger or smaller of two tensors; of one, along an axis, it is refused."""

    def apply(path: str, x: Any, other: Any = None, *_: Any, **named: Any) -> Value:
        if named or not isinstance(other, Value | np.ndarray):
            raise refusal(path, "maximum")
        return _bounded(low)(path, x, other)

    return apply


def _reduction(mean: bool) -> Callable[..., Value]:
    def apply(path: str, x: Value, dim: Any = None, keepdim: bool = False, **named: Any) -> Value:
        axes = named.get("axis", dim)
        axes = None if axes is None or np.size(axes) == 0 else np.ravel(axes).tolist()
        return reduced(x, axes, bool(keepdim), mean, path, "mean" if mean else "sum")

    return apply


def _var(path: str, x: Value, dim: Any = None, unbiased: Any = None, keepdim: bool = False, **named: Any) -> Value:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    axes = list(range(len(x.shape))) if dim is None else np.ravel(dim).tolist()
    n = int(np.prod([x.shape[axis] for axis in axes]))
    correction = named.get("correction", 1 if unbiased is None else int(unbiased))
    mean = reduced(x, axes, True, True, path, "mean")
    squares = sum_of_squares(x.plus(mean.scaled(-1.0)), axes, bool(keepdim), True, path, "var")
    return squares.scaled(n / max(1, n - int(correction)))


def _std(path: str, x: Value, *arguments: Any, **named: Any) -> Value:
    return unfinished("root", _var(path, x, *arguments, **named), path, "std")


def _cat(path: str, tensors: Any, dim: Any = 0, **named: Any) -> Value:
    values = [as_value(one) for one in tensors]
    kept = [value for value in values if value.shape != (0,)]
    return joined(kept, int(named.get("axis", dim)))


def _stack(path: str, tensors: Any, dim: int = 0) -> Value:
    values = [as_value(one) for one in tensors]
    axis = dim % (len(values[0].shape) + 1)
    return joined([value.reshaped((*value.shape[:axis], 1, *value.shape[axis:])) for value in values], axis)


def _exp(path: str, x: Value) -> Value:
    made = bounded_exponential(x, path)
    return unfinished("exp", x, path, "exp") if made is None else made


def _unread(function: str) -> Callable[..., Value]:
    return lambda path, x: unfinished(function, x, path, function)


def _reciprocal(path: str, x: Value) -> Value:
    return divided(Value.constant(np.ones(x.shape)), x, path, "reciprocal")


def _rsqrt(path: str, x: Value) -> Value:
    return _reciprocal(path, unfinished("root", x, path, "sqrt"))


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": _add, "sub": _sub, "rsub": lambda path, x, y, alpha=1: _sub(path, y, x, alpha), "mul": _mul, "div": _div,
    "rdiv": lambda path, x, y: _div(path, y, x), "neg": lambda path, x: x.scaled(-1.0), "pow": _pow,
    "rpow": lambda path, x, y: _pow(path, y, x), "addcmul": lambda path, x, one, two, value=1: _add(
        path, x, _mul(path, one, two), value),
    "lerp": lambda path, x, end, weight: _add(path, x, _mul(path, weight, _sub(path, end, x))),
    "square": lambda path, x: power(x, 2.0, path, "square"), "sqrt": lambda path, x: power(x, 0.5, path, "sqrt"),
    "rsqrt": _rsqrt, "reciprocal": _reciprocal, "exp": _exp, "log": lambda path, x: logarithm(x, path, "log"),
    "log1p": lambda path, x: logarithm(x.shifted(1.0), path, "log1p"), "erf": _unread("erf"), "abs": _unread("abs"),
    "expm1": lambda path, x: _exp(path, x).shifted(-1.0),
    "matmul": _matmul, "rmatmul": lambda path, x, y: _matmul(path, y, x), "addmm": _addmm, "addmv": _addmm,
    "mv": _matmul, "einsum": einsum,
    "clamp": _clamp, "clamp_min": _bounded(True), "clamp_max": _bounded(False),
    "hardtanh": lambda path, x, min_val=-1.0, max_val=1.0, inplace=False: _clamp(path, x, min_val, max_val),
    "relu6": lambda path, x, inplace=False: _clamp(path, x, 0.0, 6.0), "max": _of_two(True), "min": _of_two(False),
    "mean": _reduction(True), "sum": _reduction(False), "var": _var, "std": _std, "cat": _cat,
    "hstack": lambda path, tensors: _cat(path, tensors, -1 if len(np.shape(tensors[0]) or tensors[0].shape) > 1 else 0),
    "stack": _stack,
}  # fmt: skip
