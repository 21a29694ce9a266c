"""What a TorchScript program computes of constants alone: its functions by name, on NumPy arrays and plain numbers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from snn_policy.errors import SourceError
from snn_policy.sources.script_values import MOST_VALUES

NO_RESULT = object()
_FLOATS = {5: np.float16, 6: np.float32, 7: np.float64, 15: np.float32}
_DTYPES = {0: np.uint8, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.int64, 11: np.bool_, **_FLOATS}


def constant_result(name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """Return what a function makes of constants; `NO_RESULT` where no rule computes it.

    Raises:
        SourceError: the result would be too large.
    """
    rule = _RULES.get(name)
    if rule is None:
        return NO_RESULT
    with np.errstate(all="ignore"):
        return rule(*arguments, **keywords)


def _bounded(*shapes: Any) -> None:
    if math.prod(np.broadcast_shapes(*shapes)) > MOST_VALUES:
        raise SourceError(f"computes a constant of more than {MOST_VALUES} values; refused")


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(first: Any, second: Any, alpha: Any = 1, rounding_mode: Any = None, **_: Any) -> Any:
        if isinstance(first, str) or isinstance(second, str) or rounding_mode is not None:
            return NO_RESULT
        if isinstance(first, list) or isinstance(second, list):
            return first + second if function is np.add and isinstance(first, list) and len(first) < 1000 else NO_RESULT
        _bounded(np.shape(first), np.shape(second))
        if isinstance(first, int) and isinstance(second, int) and max(abs(first), abs(second)) > 2**63:
            return NO_RESULT
        if function is np.power and not any(isinstance(operand, np.ndarray | float) for operand in (first, second)):
            return NO_RESULT
        return _plain(function(first, second if isinstance(alpha, int) and alpha == 1 else second * alpha))

    return apply


def _plain(value: Any) -> Any:
    """Return numbers as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _unary(function: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda value, **_: NO_RESULT if isinstance(value, str | list) else _plain(function(value))


def _compared(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def apply(first: Any, second: Any) -> Any:
        if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
            _bounded(np.shape(first), np.shape(second))
        return _plain(function(first, second))

    return apply


def _filled(value: float) -> Callable[..., Any]:
    def apply(shape: Any, dtype: Any = 6, **_: Any) -> Any:
        _bounded(tuple(shape))
        return np.full(tuple(shape), value, _DTYPES.get(6 if dtype is None else dtype, np.float32))

    return apply


def _like(value: float) -> Callable[..., Any]:
    return lambda array, **_: np.full_like(array, value)


def _full(shape: Any, value: Any, **_: Any) -> Any:
    _bounded(tuple(shape))
    return np.full(tuple(shape), value)


def _clamp(value: Any, low: Any = None, high: Any = None, **named: Any) -> Any:
    return np.clip(value, named.get("min", low), named.get("max", high))


def _slice(array: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    chosen = slice(start, end, step)
    return array[chosen] if isinstance(array, list) else array[(slice(None),) * (dim % array.ndim) + (chosen,)]


def _size(array: Any, dim: Any = None) -> Any:
    shape = list(np.shape(array))
    return shape if dim is None else shape[dim]


def _cast(array: Any, *arguments: Any, dtype: Any = None, **_: Any) -> Any:
    kinds = [
        argument for argument in (*arguments, dtype) if isinstance(argument, int) and not isinstance(argument, bool)
    ]
    return np.asarray(array).astype(_DTYPES[kinds[0]]) if kinds and kinds[0] in _DTYPES else array


def _joined(arrays: Any, dim: int = 0) -> Any:
    if sum(array.size for array in arrays) > MOST_VALUES:
        raise SourceError(f"computes a constant of more than {MOST_VALUES} values; refused")
    return np.concatenate(arrays, dim)


def _expanded(array: Any, shape: Any, **_: Any) -> Any:
    wanted = [own if size == -1 else size for size, own in zip(shape[::-1], [*array.shape[::-1], *shape], strict=False)]
    _bounded(tuple(wanted))
    return np.broadcast_to(array, wanted[::-1])


def _weight_norm(v: Any, g: Any, dim: int = 0) -> Any:
    """Return g · v/‖v‖, the norm of all axes but one; of all where that is −1."""
    axes = None if dim == -1 else tuple(axis for axis in range(v.ndim) if axis != dim)
    return v * (g / np.sqrt(np.square(v).sum(axes, keepdims=True)))


def _permuted(array: Any, order: Any) -> Any:
    return np.transpose(array, tuple(order))


_RULES: dict[str, Callable[..., Any]] = {
    "add": _elementwise(np.add), "sub": _elementwise(np.subtract), "mul": _elementwise(np.multiply),
    "div": _elementwise(np.true_divide), "pow": _elementwise(np.power), "minimum": _elementwise(np.minimum),
    "maximum": _elementwise(np.maximum), "rsub": _elementwise(lambda first, second: second - first),
    "floordiv": _elementwise(np.floor_divide), "floor_divide": _elementwise(np.floor_divide),
    "remainder": _elementwise(np.remainder),
    "neg": _unary(np.negative), "sqrt": _unary(np.sqrt), "rsqrt": _unary(lambda x: 1 / np.sqrt(x)),
    "exp": _unary(np.exp), "log": _unary(np.log), "abs": _unary(np.abs), "square": _unary(np.square),
    "tanh": _unary(np.tanh), "reciprocal": _unary(lambda x: 1.0 / x), "sigmoid": _unary(lambda x: 1 / (1 + np.exp(-x))),
    "softplus": lambda x, *_: np.logaddexp(0, x),
    "clamp": _clamp, "clip": _clamp, "clamp_min": _clamp, "clamp_max": lambda x, high: np.minimum(x, high),
    "_weight_norm": _weight_norm, "vdot": lambda x, y: np.dot(x, y), "dot": lambda x, y: np.dot(x, y),
    "t": lambda x: x.T, "transpose": lambda x, one, other: np.swapaxes(x, one, other), "permute": _permuted,
    "numpy_T": lambda x: x.T,
    "view": lambda x, shape: x.reshape(shape), "reshape": lambda x, shape: x.reshape(shape),
    "flatten": lambda x, start=0, end=-1: x.reshape((*x.shape[:start], -1)) if end == -1 else NO_RESULT,
    "unsqueeze": lambda x, dim: np.expand_dims(x, dim),
    "squeeze": lambda x, dim=None: np.squeeze(x, dim) if dim is None or x.shape[dim] == 1 else x,
    "slice": _slice, "select": lambda x, dim, index: x.take(index, dim), "expand": _expanded,
    "index_select": lambda x, dim, index: x.take(index, dim), "cat": _joined, "list": lambda x: list(x),
    "expand_as": lambda x, other: _expanded(x, other.shape),
    "detach": lambda x: x, "contiguous": lambda x, **_: x, "clone": lambda x, **_: np.array(x), "to": _cast,
    "alias": lambda x: x, "type_as": lambda x, other: x, "float": _cast, "item": lambda x: x.item(),
    "tensor": lambda x, dtype=None, **_: _cast(np.float32(x) if isinstance(x, float) else np.asarray(x), dtype=dtype),
    "scalar_tensor": lambda x, **_: np.float32(x), "NumToTensor": lambda x: x, "ScalarImplicit": lambda x: x.item(),
    "zeros": _filled(0.0), "ones": _filled(1.0), "full": _full, "zeros_like": _like(0.0), "ones_like": _like(1.0),
    "size": _size, "dim": np.ndim, "numel": np.size, "len": len, "dtype": lambda _: 6, "device": lambda _: "cpu",
    "eq": _compared(lambda a, b: a == b), "ne": _compared(lambda a, b: a != b), "lt": _compared(lambda a, b: a < b),
    "gt": _compared(lambda a, b: a > b), "le": _compared(lambda a, b: a <= b), "ge": _compared(lambda a, b: a >= b),
    "__is__": lambda a, b: a is b, "__isnot__": lambda a, b: a is not b, "__not__": lambda a: not a,
    "__contains__": lambda a, b: b in a, "format": lambda *_: "", "warn": lambda *_, **__: None,
    "min": lambda *x: min(*x) if all(isinstance(number, int | float) for number in x) else NO_RESULT,
    "max": lambda *x: max(*x) if all(isinstance(number, int | float) for number in x) else NO_RESULT,
    "__and__": lambda a, b: np.logical_and(a, b) if np.ndim(a) or np.ndim(b) else a and b,
    "__or__": lambda a, b: np.logical_or(a, b) if np.ndim(a) or np.ndim(b) else a or b, "is_scripting": lambda: True,
    "get_default_dtype": lambda: 6, "is_grad_enabled": lambda: False, "device_with_index": lambda *_: "cpu",
}  # fmt: skip
