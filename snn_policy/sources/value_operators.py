"""The table of operators on symbolic values: torch's names and arguments, for every reader of programs.

TorchScript calls them so, torch modules through functions and methods of these names, and ONNX nodes are translated. In
arguments, `Value`s depend on the observation; arrays and numbers are constants. Pure movements are `value_movements`'.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from snn_policy.ann.activations import Activation
from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.affine_values import Value, joined
from snn_policy.sources.images import average_pool
from snn_policy.sources.operations import SELU, Activate, AdaptivePool
from snn_policy.sources.refusals import refusal
from snn_policy.sources.value_functions import (
    activated,
    applied_activation,
    argmax,
    clipped,
    convolved,
    group_normalised,
    linear,
    logarithm,
    normalised,
    power,
    reduced,
    spatial,
    sum_of_squares,
    summed,
    unfinished,
    unit_rows,
)
from snn_policy.sources.value_gates import spelled_gru
from snn_policy.sources.value_products import divided, multiplied
from snn_policy.sources.value_recurrence import cell, sequence

MOST_EXACT = 15
"""From this threshold on, torch's softplus is its definition to within float32."""
ALIASES = {
    "iadd": "add", "isub": "sub", "subtract": "sub", "imul": "mul", "multiply": "mul", "truediv": "div",
    "itruediv": "div", "divide": "div", "true_divide": "div", "radd": "add", "rmul": "mul", "rtruediv": "rdiv",
    "clip": "clamp", "maximum": "clamp_min", "minimum": "clamp_max",
    "mm": "matmul", "bmm": "matmul", "rmatmul": "rmatmul", "negative": "neg", "concat": "cat", "concatenate": "cat",
    "swish": "silu", "absolute": "abs", "linalg_vector_norm": "norm", "linalg_norm": "norm", "vector_norm": "norm",
    "frobenius_norm": "norm", "square": "square", "special_expit": "sigmoid", "special_softmax": "softmax",
    "_convolution": "convolution", "norm_except_dim": "norm",
}  # fmt: skip
UNCHANGED = ("float", "double", "to", "clone", "cpu", "type", "type_as", "half", "bfloat16", "_to_copy", "dropout",
              "dropout1d", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout",
              "nan_to_num")  # fmt: skip
_NAMED = {"scaled_dot_product_attention": "attention", "multi_head_attention_forward": "attention",
          "_native_multi_head_attention": "attention", "topk": "mixture of experts", "sort": "sorting",
          "where": "where", "scatter": "scatter", "index_put": "scatter"}  # fmt: skip


def applied(name: str, arguments: Sequence[Any], keywords: dict[str, Any], path: str) -> Any:
    """Return what an operator makes of its arguments, at least one of which is a `Value`.

    Raises:
        UnsupportedLayerError: no rule reads it.
        SourceError: its arguments do not fit it.
    """
    name = ALIASES.get(name, name)
    if name in UNCHANGED:
        return _unchanged(name, arguments, keywords, path)
    rule = _RULES.get(name)
    if name in ("gt", "lt", "ge", "le", "eq", "ne", "greater", "less"):
        reason = "it branches on values of the observation"
        raise UnsupportedLayerError(path, name, reason, "Keep forward free of branches")
    if rule is None:
        raise refusal(path, _NAMED.get(name, name))
    given = {key: value for key, value in keywords.items() if key not in ("out", "inplace", "dtype")}
    try:
        return rule(path, *arguments, **given)
    except (TypeError, IndexError, AttributeError) as problem:
        raise UnsupportedLayerError(path, name, f"its arguments are not read ({problem})", "Write it plainly") from None


def as_value(given: Any) -> Value:
    return given if isinstance(given, Value) else Value.constant(given)


def _unchanged(name: str, arguments: Sequence[Any], keywords: dict[str, Any], path: str) -> Value:
    if "dropout" in name and bool(arguments[2] if len(arguments) > 2 else keywords.get("train", False)):
        raise refusal(path, name)
    kinds = [str(given) for given in (*arguments[1:], *keywords.values())]
    if any("int" in kind or kind.endswith(("bool", "long")) for kind in kinds):
        raise UnsupportedLayerError(path, name, "it rounds to whole numbers", "Keep floating point")
    return arguments[0]


def _add(path: str, x: Any, y: Any, alpha: Any = 1) -> Value:
    y = y.scaled(alpha) if isinstance(y, Value) else np.asarray(y, np.float64) * alpha
    if isinstance(x, Value) and isinstance(y, Value):
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
        raise refusal(path, "div")
    if not isinstance(y, Value):
        return divided(x, Value.constant(y), path)
    return divided(as_value(x), y, path)


def _pow(path: str, x: Any, exponent: Any) -> Value:
    if isinstance(exponent, Value) or np.size(exponent) != 1:
        raise refusal(path, "pow")
    return power(x, float(np.ravel(exponent)[0]), path, "pow")


def _linear(path: str, x: Value, weight: Any, bias: Any = None) -> Value:
    if isinstance(weight, Value) or isinstance(bias, Value) or not isinstance(x, Value):
        raise refusal(path, "hypernetwork")
    return linear(x, weight, bias, path, "linear")


def _matmul(path: str, x: Any, y: Any) -> Value:
    if isinstance(x, Value) and isinstance(y, Value):
        raise refusal(path, "attention")
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


def _clamp(path: str, x: Value, min: Any = None, max: Any = None) -> Value:
    if isinstance(min, Value) or isinstance(max, Value):
        raise refusal(path, "maximum")
    return clipped(x, min, max, path, "clamp")


def _bounded(low: bool) -> Callable[..., Value]:
    def apply(path: str, x: Any, other: Any = None, **named: Any) -> Value:
        other = next(iter(named.values()), other)
        if isinstance(other, Value):
            x, other = other, x
        if other is None or isinstance(other, Value):
            raise refusal(path, "maximum")
        return clipped(x, other if low else None, None if low else other, path, "clamp")

    return apply


def _of_two(low: bool) -> Callable[..., Value]:
    """max or min of two tensors; of one, along an axis, it is refused."""

    def apply(path: str, x: Any, other: Any = None, *_: Any, **named: Any) -> Value:
        if named or not isinstance(other, Value | np.ndarray):
            raise refusal(path, "maximum")
        return _bounded(low)(path, x, other)

    return apply


def _activation(name: str, parameter: str = "", default: float = 0.0) -> Callable[..., Value]:
    def apply(path: str, x: Value, given: Any = None, *_: Any, **named: Any) -> Value:
        number = named.get(parameter, default if given is None or isinstance(given, bool) else given)
        return activated(x, name, float(np.ravel(number)[0]), path, name)

    return apply


def _elu(path: str, x: Value, alpha: Any = 1.0, scale: Any = 1, input_scale: Any = 1, inplace: Any = False) -> Value:
    if scale != 1 or input_scale != 1:
        raise UnsupportedLayerError(path, "elu", "its factors are not read", "Use ELU or SELU")
    return activated(x, "elu", float(alpha), path, "elu")


def _softplus(path: str, x: Value, beta: Any = 1.0, threshold: Any = 20.0) -> Value:
    if threshold < MOST_EXACT or beta <= 0:
        raise refusal(path, "softplus")
    return activated(x, "softplus", float(beta), path, "softplus")


def _celu(path: str, x: Value, alpha: Any = 1.0, inplace: Any = False) -> Value:
    if not alpha > 0:
        raise refusal(path, "celu")
    return activated(x, "celu", float(alpha), path, "celu")


def _gelu(path: str, x: Value, approximate: str = "none") -> Value:
    return activated(x, "gelu" if approximate == "none" else "gelu_tanh", 0.0, path, "gelu")


def _prelu(path: str, x: Value, weight: Any) -> Value:
    slopes = np.ravel(weight)
    if slopes.size != 1:
        raise refusal(path, "PReLU")
    return activated(x, "leaky_relu", float(slopes[0]), path, "prelu")


def _selu_of(path: str, x: Value, alpha: float = SELU[0], gamma: float = SELU[1]) -> Value:
    return activated(x, "elu", float(alpha), path, "selu").scaled(gamma)


def _qcfs(path: str, x: Value, threshold: float, levels: int) -> Value:
    operation = Activate(Activation("qcfs", threshold, levels=levels), path=path, kind="QCFS")
    return applied_activation(x, operation)


def _norm(path: str, x: Value, p: Any = 2, dim: Any = None, keepdim: bool = False, **named: Any) -> Value:
    order = named.get("ord", p)
    if order not in (2, 2.0, None, "fro"):
        raise UnsupportedLayerError(path, "norm", f"it is a norm of order {order}", "Use the Euclidean norm")
    axes = None if dim is None else np.ravel(dim).tolist()
    return unfinished("root", sum_of_squares(x, axes, keepdim, False, path, "norm"), path, "norm")


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


def _layer_norm(
    path: str, x: Value, shape: Any, weight: Any = None, bias: Any = None, eps: Any = 1e-5, *_: Any
) -> Value:  # fmt: skip
    return normalised(x, len(tuple(shape)), "layer", float(eps), weight, bias, path, "LayerNorm")


def _rms_norm(path: str, x: Value, shape: Any, weight: Any = None, eps: Any = None) -> Value:
    least = float(np.finfo(np.float32).eps) if eps is None else float(eps)
    return normalised(x, len(tuple(shape)), "rms", least, weight, None, path, "RMSNorm")


def _group_norm(path: str, x: Value, groups: int, weight: Any = None, bias: Any = None, eps: Any = 1e-5,
                *_: Any) -> Value:  # fmt: skip
    return group_normalised(x, groups, float(eps), weight, bias, path)


def _normalize(path: str, x: Value, p: Any = 2.0, dim: Any = 1, eps: Any = 1e-12, out: Any = None) -> Value:
    if p != 2:
        raise UnsupportedLayerError(path, "normalize", f"it is a norm of order {p}", "Use the Euclidean norm")
    return unit_rows(x, int(np.ravel(dim)[0]), float(eps), path, "L2 norm")


def _batch_norm(path: str, x: Value, *arguments: Any, **named: Any) -> Value:
    keys = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = dict(zip(keys, arguments, strict=False)) | named
    mean, variance = given.get("running_mean"), given.get("running_var")
    if given.get("training", False) or mean is None or variance is None:
        reason = "without running statistics it depends on the whole batch"
        raise UnsupportedLayerError(path, "BatchNorm", reason, "Use evaluation mode and running statistics")
    spread = np.asarray(variance, np.float64) + float(given.get("eps", 1e-5))
    if not (spread > 0).all():
        raise UnsupportedLayerError(path, "BatchNorm", "its variance is not positive", "Retrain it, or leave it out")
    slope = (1.0 if given.get("weight") is None else np.asarray(given["weight"], np.float64)) / np.sqrt(spread)
    offset = (0.0 if given.get("bias") is None else np.asarray(given["bias"], np.float64)) - mean * slope
    shape = (-1, *[1] * (len(x.shape) - 2)) if len(x.shape) > 1 else (-1,)
    return x.scaled(slope.reshape(shape)).shifted(offset.reshape(shape))


def _script_batch_norm(path: str, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, training: Any = False,
                       momentum: Any = 0.1, eps: Any = 1e-5, *_: Any) -> Value:  # fmt: skip
    """As `torch.batch_norm` orders its arguments."""
    return _batch_norm(path, x, mean, variance, weight, bias, bool(training), momentum, eps)


def _convolution(path: str, x: Value, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
                 dilation: Any = 1, groups: int = 1) -> Value:  # fmt: skip
    return convolved(x, weight, bias, stride, padding, dilation, groups, path, f"conv{np.ndim(weight) - 2}d")


def _any_convolution(path: str, x: Value, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
                     transposed: bool, output_padding: Any, groups: int, *_: Any) -> Value:  # fmt: skip
    if transposed or np.any(output_padding):
        raise refusal(path, "ConvTranspose2d")
    return _convolution(path, x, weight, bias, stride, padding, dilation, groups)


def _average_pool(axes: int) -> Callable[..., Value]:
    def apply(path: str, x: Value, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
              count_include_pad: bool = True, divisor_override: Any = None) -> Value:  # fmt: skip
        if divisor_override is not None:
            raise refusal(path, "avg_pool")
        window = (1, int(np.ravel(kernel_size)[0])) if axes == 1 else kernel_size
        step = None if stride is None or np.size(stride) == 0 else stride
        step = (1, int(np.ravel(step)[0])) if axes == 1 and step is not None else step
        return spatial(x, average_pool(path, "avg_pool", window, step, padding, ceil_mode), axes=axes)

    return apply


def _adaptive_pool(axes: int) -> Callable[..., Value]:
    def apply(path: str, x: Value, output_size: Any) -> Value:
        sizes = np.broadcast_to(np.ravel(output_size), axes).tolist()
        pool = AdaptivePool((*[1] * (2 - axes), *sizes), path=path, kind="avg_pool")  # pyright: ignore
        return spatial(x, pool, axes=axes)

    return apply


def _cat(path: str, tensors: Any, dim: Any = 0, **named: Any) -> Value:
    values = [as_value(one) for one in tensors]
    kept = [value for value in values if value.shape != (0,)]
    return joined(kept, int(named.get("axis", dim)))


def _stack(path: str, tensors: Any, dim: int = 0) -> Value:
    values = [as_value(one) for one in tensors]
    axis = dim % (len(values[0].shape) + 1)
    return joined([value.reshaped((*value.shape[:axis], 1, *value.shape[axis:])) for value in values], axis)


def _softmax(path: str, x: Value, dim: Any = -1, *_: Any, **named: Any) -> Value:
    return unfinished("softmax", x, path, "softmax")


def _argmax(path: str, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    return argmax(x, dim, keepdim, path, "argmax")


def _glu(path: str, x: Value, dim: int = -1) -> Value:
    one, two = (x.moved(places) for places in np.split(x.places, 2, dim))
    return multiplied(one, activated(two, "sigmoid", 0.0, path, "glu"), path)


def _exp(path: str, x: Value) -> Value:
    return unfinished("exp", x, path, "exp")


def _unread(function: str) -> Callable[..., Value]:
    return lambda path, x: unfinished(function, x, path, function)


def _reciprocal(path: str, x: Value) -> Value:
    return divided(Value.constant(np.ones(x.shape)), x, path, "reciprocal")


def _rsqrt(path: str, x: Value) -> Value:
    return _reciprocal(path, unfinished("root", x, path, "sqrt"))


def _recurrent(kind: str) -> Callable[..., Any]:
    def apply(path: str, x: Any, state: Any, weights: Any, biased: bool = True, layers: int = 1, dropout: Any = 0.0,
              train: bool = False, bidirectional: bool = False, batch_first: bool = False) -> Any:  # fmt: skip
        if not isinstance(weights, Sequence):
            raise refusal(path, f"packed {kind}")
        states = [as_value(one) for one in (state if isinstance(state, Sequence) else [state])]
        whole, ends = sequence(kind, as_value(x), states, weights, path, biased=bool(biased), layers=int(layers),
                               bidirectional=bool(bidirectional), batch_first=bool(batch_first))  # fmt: skip
        return (whole, *ends)

    return apply


def _recurrent_cell(kind: str) -> Callable[..., Any]:
    def apply(path: str, x: Any, state: Any, *weights: Any, **named: Any) -> Any:
        states = [as_value(one) for one in (state if isinstance(state, Sequence) else [state])]
        given = [*weights, *named.values()]
        made = cell(kind, as_value(x), states, given, path)
        return tuple(made) if len(made) > 1 else made[0]

    return apply


_RULES: dict[str, Callable[..., Any]] = {
    "add": _add, "sub": _sub, "rsub": lambda path, x, y, alpha=1: _sub(path, y, x, alpha), "mul": _mul, "div": _div,
    "rdiv": lambda path, x, y: _div(path, y, x), "neg": lambda path, x: x.scaled(-1.0), "pow": _pow,
    "rpow": lambda path, x, y: _pow(path, y, x), "addcmul": lambda path, x, one, two, value=1: _add(
        path, x, _mul(path, one, two), value),
    "lerp": lambda path, x, end, weight: _add(path, x, _mul(path, weight, _sub(path, end, x))),
    "square": lambda path, x: power(x, 2.0, path, "square"), "sqrt": lambda path, x: power(x, 0.5, path, "sqrt"),
    "rsqrt": _rsqrt, "reciprocal": _reciprocal, "exp": _exp, "log": lambda path, x: logarithm(x, path, "log"),
    "log1p": lambda path, x: logarithm(x.shifted(1.0), path, "log1p"), "erf": _unread("erf"), "abs": _unread("abs"),
    "expm1": lambda path, x: _exp(path, x).shifted(-1.0),
    "linear": _linear, "matmul": _matmul, "rmatmul": lambda path, x, y: _matmul(path, y, x), "addmm": _addmm,
    "addmv": _addmm, "mv": _matmul, "clamp": _clamp, "clamp_min": _bounded(True), "clamp_max": _bounded(False),
    "hardtanh": lambda path, x, min_val=-1.0, max_val=1.0, inplace=False: _clamp(path, x, min_val, max_val),
    "max": _of_two(True), "min": _of_two(False),
    "relu6": lambda path, x, inplace=False: _clamp(path, x, 0.0, 6.0),
    "relu": _activation("relu"), "tanh": _activation("tanh"), "sigmoid": _activation("sigmoid"),
    "silu": _activation("silu"), "mish": _activation("mish"), "softsign": _activation("softsign"),
    "selu": _activation("selu"), "logsigmoid": _unread("logsigmoid"), "elu": _elu, "celu": _celu, "gelu": _gelu,
    "leaky_relu": _activation("leaky_relu", "negative_slope", 0.01), "softplus": _softplus, "prelu": _prelu,
    "scaled_elu": _selu_of, "qcfs": _qcfs, "glu": _glu, "norm": _norm, "mean": _reduction(True),
    "sum": _reduction(False), "var": _var, "std": _std, "layer_norm": _layer_norm, "rms_norm": _rms_norm,
    "group_norm": _group_norm, "normalize": _normalize, "batch_norm": _batch_norm,
    "script_batch_norm": _script_batch_norm, "conv1d": _convolution, "conv2d": _convolution,
    "convolution": _any_convolution, "avg_pool1d": _average_pool(1), "avg_pool2d": _average_pool(2),
    "adaptive_avg_pool1d": _adaptive_pool(1), "adaptive_avg_pool2d": _adaptive_pool(2), "cat": _cat,
    "hstack": lambda path, tensors: _cat(path, tensors, -1 if len(np.shape(tensors[0]) or tensors[0].shape) > 1 else 0),
    "stack": _stack, "softmax": _softmax, "log_softmax": _softmax, "argmax": _argmax,
    "lstm": _recurrent("lstm"), "gru": _recurrent("gru"), "rnn_tanh": _recurrent("rnn_tanh"),
    "rnn_relu": _recurrent("rnn_relu"), "lstm_cell": _recurrent_cell("lstm"), "gru_cell": _recurrent_cell("gru"),
    "rnn_tanh_cell": _recurrent_cell("rnn_tanh"), "rnn_relu_cell": _recurrent_cell("rnn_relu"),
}  # fmt: skip
READ = frozenset((*_RULES, *ALIASES, "batch_norm"))
"""Names that are read, for whoever may call no others."""
