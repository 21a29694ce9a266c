"""Layers on symbolic values, by torch's names and arguments: activations, norms, convolutions, recurrent cells."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from snn_policy.ann.activations import Activation
from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.images import average_pool
from snn_policy.sources.operations import SELU, Activate, AdaptivePool
from snn_policy.sources.refusals import refusal
from snn_policy.sources.value_arithmetic import as_value
from snn_policy.sources.value_choices import (
    MOST_EXACT,
    branched,
    chosen,
    compared,
    either_mask,
    exceeds,
    inverted,
    is_mask,
    shrunk,
    sign,
    thresholded,
)
from snn_policy.sources.value_functions import (
    activated,
    applied_activation,
    argmax,
    convolved,
    group_normalised,
    linear,
    normalised,
    spatial,
    sum_of_squares,
    unfinished,
    unit_rows,
)
from snn_policy.sources.value_products import multiplied
from snn_policy.sources.value_recurrence import cell, sequence


def _linear(path: str, x: Value, weight: Any, bias: Any = None) -> Value:
    if isinstance(weight, Value) or isinstance(bias, Value) or not isinstance(x, Value):
        raise refusal(path, "hypernetwork")
    return linear(x, weight, bias, path, "linear")


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
    if slopes.size == 1:
        return activated(x, "leaky_relu", float(slopes[0]), path, "prelu")
    return sloped(path, x, slopes.reshape(-1, *[1] * max(0, len(x.shape) - 2)))  # of channels


def sloped(path: str, x: Value, slopes: Any) -> Value:
    """Return a·z + (1 − a)·relu(z), of slopes a below zero as they broadcast."""
    return x.scaled(slopes).plus(activated(x, "relu", 0.0, path, "prelu").scaled(1 - slopes))


def _rrelu(path: str, x: Value, lower: Any = 1 / 8, upper: Any = 1 / 3, training: Any = False, *_: Any) -> Value:
    if training is True:
        raise refusal(path, "random leaky ReLU")
    return activated(x, "leaky_relu", (float(lower) + float(upper)) / 2, path, "rrelu")


def _threshold(path: str, x: Value, threshold: Any, value: Any, inplace: Any = False) -> Value:
    return thresholded(x, float(threshold), float(value), path)


def _softshrink(path: str, x: Value, lambd: Any = 0.5) -> Value:
    return shrunk(x, float(lambd), float(lambd), path)


def _hardshrink(path: str, x: Value, lambd: Any = 0.5) -> Value:
    return shrunk(x, float(lambd), 0.0, path)


def _compared(name: str) -> Callable[..., Value]:
    return lambda path, x, y: compared(name, as_value(x), as_value(y), path)


def _where(path: str, condition: Any, x: Any = None, y: Any = None) -> Value:
    if x is None or y is None:
        raise branched(path, "where")
    if isinstance(condition, Value):
        return chosen(condition, as_value(x), as_value(y), path, "where")
    shape = np.broadcast_shapes(np.shape(condition), as_value(x).shape, as_value(y).shape)
    taken = np.broadcast_to(np.asarray(condition, bool), shape)
    one, other = as_value(x).expanded(shape), as_value(y).expanded(shape)
    return other.overwritten(other.places[taken], one.moved(one.places[taken]))


def _filled(path: str, x: Any, mask: Any, value: Any) -> Value:
    return _where(path, mask, value, x)


def _both(true: bool) -> Callable[..., Value]:
    def apply(path: str, x: Any, y: Any) -> Value:
        if not all(isinstance(one, Value) and is_mask(one) for one in (x, y)):
            raise branched(path, "logical")
        return either_mask(x, y, true, path, "logical")

    return apply


def _inverted(path: str, x: Value) -> Value:
    if not is_mask(x):
        raise branched(path, "logical_not")
    return inverted(x)


def _tanhshrink(path: str, x: Value) -> Value:
    return x.plus(activated(x, "tanh", 0.0, path, "tanhshrink").scaled(-1.0))


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
    """Normalise with the arguments in the order of `torch.batch_norm`."""
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


def _softmax(path: str, x: Value, dim: Any = -1, *_: Any, **named: Any) -> Value:
    return unfinished("softmax", x, path, "softmax")


def _argmax(path: str, x: Value, dim: Any = None, keepdim: bool = False) -> Value:
    return argmax(x, dim, keepdim, path, "argmax")


def _glu(path: str, x: Value, dim: int = -1) -> Value:
    one, two = (x.moved(places) for places in np.split(x.places, 2, dim))
    return multiplied(one, activated(two, "sigmoid", 0.0, path, "glu"), path)


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


CHOICES: dict[str, Callable[..., Any]] = {
    **{name: _compared(name) for name in ("gt", "ge", "lt", "le")}, "greater": _compared("gt"), "less": _compared("lt"),
    "greater_equal": _compared("ge"), "less_equal": _compared("le"), "where": _where, "masked_fill": _filled,
    "logical_and": _both(True), "logical_or": _both(False), "logical_not": _inverted, "sign": lambda path, x: sign(
        x, path), "sgn": lambda path, x: sign(x, path), "heaviside": lambda path, x, values: exceeds(
        as_value(x), path, "Heaviside"),
}  # fmt: skip
LAYERS: dict[str, Callable[..., Any]] = {
    "linear": _linear, "relu": _activation("relu"), "tanh": _activation("tanh"), "sigmoid": _activation("sigmoid"),
    "silu": _activation("silu"), "mish": _activation("mish"), "softsign": _activation("softsign"),
    "selu": _activation("selu"), "hardswish": _activation("hardswish"), "hardsigmoid": _activation("hardsigmoid"),
    "logsigmoid": _activation("logsigmoid"), "log_sigmoid": _activation("logsigmoid"), "rrelu": _rrelu,
    "threshold": _threshold, "softshrink": _softshrink, "hardshrink": _hardshrink, "tanhshrink": _tanhshrink,
    "elu": _elu, "celu": _celu,
    "gelu": _gelu,
    "leaky_relu": _activation("leaky_relu", "negative_slope", 0.01), "softplus": _softplus, "prelu": _prelu,
    "scaled_elu": _selu_of, "qcfs": _qcfs, "glu": _glu, "norm": _norm, "layer_norm": _layer_norm, "rms_norm": _rms_norm,
    "group_norm": _group_norm, "normalize": _normalize, "batch_norm": _batch_norm,
    "script_batch_norm": _script_batch_norm, "conv1d": _convolution, "conv2d": _convolution,
    "convolution": _any_convolution, "avg_pool1d": _average_pool(1), "avg_pool2d": _average_pool(2),
    "adaptive_avg_pool1d": _adaptive_pool(1), "adaptive_avg_pool2d": _adaptive_pool(2),
    "softmax": _softmax, "log_softmax": _softmax, "argmax": _argmax,
    "lstm": _recurrent("lstm"), "gru": _recurrent("gru"), "rnn_tanh": _recurrent("rnn_tanh"),
    "rnn_relu": _recurrent("rnn_relu"), "lstm_cell": _recurrent_cell("lstm"), "gru_cell": _recurrent_cell("gru"),
    "rnn_tanh_cell": _recurrent_cell("rnn_tanh"), "rnn_relu_cell": _recurrent_cell("rnn_relu"),
}  # fmt: skip
