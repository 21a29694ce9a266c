"""Primitive operations (`operations`) on symbolic values: what readers of chains know, for those of graphs."""

from collections.abc import Iterable

import numpy as np

from snn_policy.sources.affine_values import Value, joined
from snn_policy.sources.operations import (
    Activate,
    Affine,
    ArgMax,
    ChannelScale,
    Clip,
    Convolve,
    Flatten,
    Operation,
    Scale,
)
from snn_policy.sources.refusals import refusal
from snn_policy.sources.value_functions import applied_activation, argmax, clipped, linear, spatial


def chained(value: Value, operations: Iterable[Operation]) -> Value:
    """Return what operations, in order, make of a value (1, *shape).

    Raises:
        UnsupportedLayerError: one that has no counterpart.
    """
    for operation in operations:
        value = _after(value, operation)
    return value


def _after(value: Value, operation: Operation) -> Value:
    path, kind = operation.path, operation.kind
    match operation:
        case Affine(weight, bias):
            return linear(value, weight, bias, path, kind)
        case ChannelScale(factor, offset):
            shape = (-1, *[1] * (len(value.shape) - 2))
            return value.scaled(np.broadcast_to(factor, value.shape[1:2]).reshape(shape)).shifted(
                np.broadcast_to(offset, value.shape[1:2]).reshape(shape))  # fmt: skip
        case Scale(factor, offset):
            return value.scaled(factor).shifted(offset)
        case Clip(low, high):
            return clipped(value, low, high, path, kind)
        case Activate():
            return applied_activation(value, operation)
        case Convolve():
            return spatial(value, operation)
        case Flatten():
            return value.reshaped((value.shape[0], value.size // value.shape[0]))
        case ArgMax(None):
            return argmax(value, -1, False, path, kind)
        case ArgMax(choices) if choices is not None:
            parts = np.split(value.places, np.cumsum(choices)[:-1], axis=-1)
            return joined([argmax(value.moved(part), -1, True, path, kind) for part in parts], -1)
    raise refusal(path, kind)
