"""torch.nn layers and torch functions, to primitive operations. A further kind of layer gets its case here."""

from typing import Any

import numpy as np
import torch
from torch import nn

from snn_policy.ann.activations import Activation
from snn_policy.ann.qcfs import QCFS
from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.images import average_pool, convolve, spatial_means
from snn_policy.sources.operations import (
    Activate,
    AdaptivePool,
    ArgMax,
    Flatten,
    Operation,
    Softmax,
    Unflatten,
    activate,
    affine,
    batch_norm,
    clip,
    entries,
)
from snn_policy.sources.refusals import refusal

MOST_EXACT = 15
"""From this threshold on, torch's softplus is its definition to within float32."""
_CONVOLUTION = (("weight", None), ("bias", None), ("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))
_POOLING = (("kernel_size", None), ("stride", None), ("padding", 0), ("ceil_mode", False))


def layer_operations(layer: nn.Module, path: str) -> list[Operation]:
    """Return what a torch.nn layer does in evaluation mode."""
    kind = type(layer).__name__
    match layer:
        case nn.Linear():
            return [affine(path, kind, _array(layer.weight), None if layer.bias is None else _array(layer.bias))]
        case nn.ReLU():
            return activate(path, kind, "relu")
        case nn.Tanh():
            return activate(path, kind, "tanh")
        case nn.Sigmoid():
            return activate(path, kind, "sigmoid")
        case nn.SiLU():
            return activate(path, kind, "silu")
        case nn.ELU():
            return activate(path, kind, "elu", layer.alpha)
        case nn.LeakyReLU():
            return activate(path, kind, "leaky_relu", layer.negative_slope)
        case nn.RReLU():
            return activate(path, kind, "leaky_relu", (layer.lower + layer.upper) / 2)
        case nn.Threshold() if layer.threshold == layer.value:
            return [clip(path, kind, low=layer.value)]
        case nn.SELU() | nn.Mish() | nn.Softsign() | nn.Hardswish() | nn.Hardsigmoid() | nn.LogSigmoid():
            return activate(path, kind, kind.lower())
        case nn.CELU() if layer.alpha > 0:
            return activate(path, kind, "celu", layer.alpha)
        case nn.Softplus() if layer.beta > 0 and layer.threshold >= MOST_EXACT:
            return activate(path, kind, "softplus", layer.beta)
        case nn.GELU():
            return activate(path, kind, "gelu" if layer.approximate == "none" else "gelu_tanh")
        case nn.PReLU() if layer.num_parameters == 1:
            return activate(path, kind, "leaky_relu", float(_array(layer.weight)[0]))
        case QCFS():
            return [Activate(Activation("qcfs", layer.threshold, levels=layer.levels), path=path, kind=kind)]
        case nn.Hardtanh():  # ReLU6 is one, too
            return [clip(path, kind, layer.min_val, layer.max_val)]
        case nn.Conv2d():
            return [_convolution(layer, path, kind)]
        case nn.AvgPool2d() if layer.divisor_override is None:
            return [average_pool(path, kind, layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)]
        case nn.AdaptiveAvgPool2d():
            return [_adaptive_pool(path, kind, layer.output_size)]
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return _batch_norm(layer, path, kind)
        case nn.Identity() | nn.Dropout() | nn.Dropout1d() | nn.Dropout2d() | nn.AlphaDropout():
            return []
        case nn.Unflatten() if layer.dim == 1 and len(tuple(layer.unflattened_size)) == 3:
            return [Unflatten(tuple(layer.unflattened_size), path=path, kind=kind)]  # pyright: ignore
        case nn.Flatten() if (layer.start_dim, layer.end_dim) == (1, -1):
            return [Flatten(path=path, kind=kind)]
        case nn.Softmax() | nn.LogSoftmax() if layer.dim in (-1, 1):
            return [Softmax(path=path, kind=kind)]
    raise refusal(path, kind)


def function_operations(kind: str, path: str, arguments: list[Any], keywords: dict[str, Any]) -> list[Operation]:
    """Return what a torch function or tensor method does, given its arguments after the tensor."""

    def option(index: int, name: str, default: Any) -> Any:
        return keywords.get(name, arguments[index] if index < len(arguments) else default)

    match kind:
        case "relu" | "tanh" | "sigmoid" | "silu" | "selu" | "mish" | "softsign" | "hardswish" | "hardsigmoid":
            return activate(path, kind, kind)
        case "logsigmoid" | "log_sigmoid":
            return activate(path, kind, "logsigmoid")
        case "rrelu" if not option(2, "training", False):
            return activate(path, kind, "leaky_relu", (option(0, "lower", 1 / 8) + option(1, "upper", 1 / 3)) / 2)
        case "threshold" if option(0, "threshold", None) == option(1, "value", 0.0):
            return [clip(path, kind, low=option(1, "value", 0.0))]
        case "celu" if option(0, "alpha", 1.0) > 0:
            return activate(path, kind, "celu", option(0, "alpha", 1.0))
        case "softplus" if option(0, "beta", 1.0) > 0 and option(1, "threshold", 20.0) >= MOST_EXACT:
            return activate(path, kind, "softplus", option(0, "beta", 1.0))
        case "gelu":
            return activate(path, kind, "gelu" if option(0, "approximate", "none") == "none" else "gelu_tanh")
        case "elu":
            return activate(path, kind, "elu", option(0, "alpha", 1.0))
        case "leaky_relu":
            return activate(path, kind, "leaky_relu", option(0, "negative_slope", 0.01))
        case "clamp":
            return [clip(path, kind, _array(option(0, "min", None)), _array(option(1, "max", None)))]
        case "hardtanh":
            return [clip(path, kind, option(0, "min_val", -1.0), option(1, "max_val", 1.0))]
        case "relu6":
            return [clip(path, kind, 0.0, 6.0)]
        case "dropout" | "dropout2d" | "alpha_dropout" if not option(1, "training", kind != "alpha_dropout"):
            return []
        case "conv2d":
            values = [option(i, key, default) for i, (key, default) in enumerate(_CONVOLUTION)]
            weight, bias, *geometry = values
            return [convolve(path, kind, _array(weight), _array(bias), *geometry)]
        case "avg_pool2d" if option(5, "divisor_override", None) is None:
            geometry = [option(i, key, default) for i, (key, default) in enumerate(_POOLING)]
            return [average_pool(path, kind, *geometry)]
        case "mean" if option(0, "dim", None) is not None:
            return spatial_means(path, kind, option(0, "dim", None), option(1, "keepdim", False))
        case "adaptive_avg_pool2d":
            return [_adaptive_pool(path, kind, option(0, "output_size", None))]
        case "softmax" | "log_softmax" if option(0, "dim", None) in (-1, 1):
            return [Softmax(path=path, kind=kind)]
        case "argmax" if option(0, "dim", None) in (-1, 1):
            return [ArgMax(path=path, kind=kind)]
        case "prelu" if torch.as_tensor(option(0, "weight", None)).numel() == 1:
            return activate(path, kind, "leaky_relu", float(_array(option(0, "weight", None)).reshape(())))
        case "batch_norm" if not option(4, "training", False) and option(0, "running_mean", None) is not None:
            mean, variance = _array(option(0, "running_mean", None)), _array(option(1, "running_var", None))
            factor, offset = _array(option(2, "weight", None)), _array(option(3, "bias", None))
            return [_normalised(path, kind, mean, variance, option(6, "eps", 1e-5), factor, offset)]
        case "argmax":
            raise UnsupportedLayerError(path, kind, "it does not take the last axis", "Use argmax(dim=-1)")
    raise refusal(path, kind)


def _convolution(layer: nn.Conv2d, path: str, kind: str) -> Operation:
    if layer.padding_mode != "zeros":
        remedy = "Retrain with padding_mode='zeros'"
        raise UnsupportedLayerError(path, kind, f"its padding is {layer.padding_mode!r}", remedy)
    weight, bias = _array(layer.weight), _array(layer.bias)
    return convolve(path, kind, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def _adaptive_pool(path: str, kind: str, size: Any) -> Operation:
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return AdaptivePool((height, width), path=path, kind=kind)


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, path: str, kind: str) -> list[Operation]:
    if layer.running_mean is None or layer.running_var is None:
        reason = "without running statistics it depends on the whole batch"
        raise UnsupportedLayerError(path, kind, reason, "Train it with track_running_stats=True")
    factor, offset = _array(layer.weight), _array(layer.bias)
    return [_normalised(path, kind, _array(layer.running_mean), _array(layer.running_var), layer.eps, factor, offset)]


def _normalised(path: str, kind: str, mean: Any, variance: Any, eps: float, factor: Any, offset: Any) -> Operation:
    if not (variance + eps > 0).all():
        which = entries(np.asarray(variance + eps) <= 0)
        reason = f"its variance is not positive at {which}"
        raise UnsupportedLayerError(path, kind, reason, "Retrain it, or leave it out")
    weight, bias = 1.0 if factor is None else factor, 0.0 if offset is None else offset
    return batch_norm(path, kind, mean, variance, eps, weight, bias)


def _array(values: Any) -> Any:
    return values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else values
