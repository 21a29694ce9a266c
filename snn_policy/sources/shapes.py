"""The shapes of values along a source's chain of operations: the observation's, and what each operation makes of it.

What follows needs none of them: constants are stretched to flat rows, reshapes vanish, convolutions know their images,
and selections of outputs move into the linear layer before them.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.protocol import KeyedShape
from snn_policy.sources.elementwise import stretched
from snn_policy.sources.images import MOST_VALUES, Filter, placed
from snn_policy.sources.operations import (
    Activate,
    AdaptivePool,
    Affine,
    ArgMax,
    AveragePool,
    ChannelScale,
    Clip,
    Convolve,
    Flatten,
    Float64,
    KeepWidth,
    Operation,
    Scale,
    Select,
    Unflatten,
)
from snn_policy.sources.refusals import refusal

_SPATIAL = (Convolve, AveragePool, AdaptivePool)


def observation_shape(operations: Sequence[Operation], given: Sequence[int] | None, name: str) -> tuple[int, ...]:
    """Return one observation's shape: as given, or as the first linear layer has it.

    Raises:
        SourceError: it is too large; or the first layer works on images, whose size it does not tell.
        UnsupportedLayerError: there is no such layer, or a selection of observations before it.
    """
    if given is not None:
        shape = given if isinstance(given, KeyedShape) else tuple(int(size) for size in given)
        if math.prod(shape) > MOST_VALUES:
            raise SourceError(f"{name}: observations of shape {shape} have more than the {MOST_VALUES} values allowed")
        return shape
    first = next(
        (operation for operation in operations if isinstance(operation, (Affine, Select, Unflatten, *_SPATIAL))), None
    )
    match first:
        case None:
            raise UnsupportedLayerError(name, "policy", "it has no linear layer", "Nothing is left to convert")
        case Affine(weight):
            return (weight.shape[1],)
        case Unflatten(shape):
            return (int(np.prod(shape)),)
        case Select():
            remedy = "Pass observation_shape=(n,), or select from the observation outside the policy"
            raise UnsupportedLayerError(first.path, first.kind, "the observation's size is not known here", remedy)
    channels = first.weight.shape[1] if isinstance(first, Convolve) else "channels"
    example = f"observation_shape=({channels}, height, width)"
    raise SourceError(f"{name}: the images' size is not known ({first.path} takes any); pass {example}")


def on_flat_rows(operations: Sequence[Operation], shape: tuple[int, ...]) -> list[Operation]:
    """Return what remains once all shapes are known: `Affine`, `Filter` and elementwise operations on flat rows.

    Raises:
        UnsupportedLayerError: an operation that does not fit its values' shape.
        ValueError: weights that do not fit each other.
    """
    row, chain = shape, list[Operation]()
    for operation in operations:
        discrete = any(isinstance(other, ArgMax) for other in chain)
        match operation:
            case Flatten() | KeepWidth() if discrete:
                pass
            case Flatten(width):
                row = _flat(operation, width, row)
            case Unflatten(image):
                _flat(operation, int(np.prod(image)), row)
                row = image
            case KeepWidth(width):
                if width not in (None, row[-1]):
                    raise UnsupportedLayerError(
                        operation.path, operation.kind, f"it repeats values of {row}", "Leave it out"
                    )
            case Convolve() | AveragePool() | AdaptivePool():
                filtered = placed(operation, row)
                chain.append(filtered)
                row = filtered.output_shape
            case Affine():
                _check_inputs(operation, row, chain, shape)
                chain.append(operation)
                row = operation.bias.shape
            case Select():
                row = _select(operation, row, chain)
            case _:
                chain.append(operation if discrete else _stretched(operation, row))
    return chain


def _flat(operation: Operation, width: int | None, row: tuple[int, ...]) -> tuple[int]:
    size = int(np.prod(row))
    if width not in (None, size):
        reason = f"it reshapes {size} values, of shape {row}, to rows of {width}"
        raise UnsupportedLayerError(operation.path, operation.kind, reason, "Keep one row per observation")
    return (size,)


def _check_inputs(operation: Affine, row: tuple[int, ...], before: list[Operation], shape: tuple[int, ...]) -> None:
    size, first = int(np.prod(row)), not any(isinstance(other, Affine | Filter) for other in before)
    if not first and len(row) > 1:
        raise UnsupportedLayerError(
            operation.path, operation.kind, f"it acts on images {row}", "Flatten them before it"
        )
    if first and size != operation.inputs:
        told = "of the shape that observation_shape or normaliser gives"
        raise ValueError(
            f"its first layer takes {operation.inputs} inputs, which do not fit observations {shape}, {told}"
        )
    if size != operation.inputs:
        raise ValueError(f"{operation.path} takes {operation.inputs} inputs, but gets {size}")


def _stretched(operation: Operation, row: tuple[int, ...]) -> Operation:
    """Return constants as flat rows."""
    match operation:
        case ChannelScale(scale, offset):
            columns = (-1, *[1] * (len(row) - 1))
            factor, shift = (stretched(operation, values.reshape(columns), *row) for values in (scale, offset))
            return Scale(factor, shift, path=operation.path, kind=operation.kind)
        case Scale(scale, offset):
            return replace(
                operation, scale=stretched(operation, scale, *row), offset=stretched(operation, offset, *row)
            )
        case Clip(low, high):
            return replace(operation, low=stretched(operation, low, *row), high=stretched(operation, high, *row))
    return operation


def _select(operation: Select, row: tuple[int, ...], chain: list[Operation]) -> tuple[int]:
    """Move the selection into the linear layer before it, or make it one, on the observation; the new row's shape."""
    if len(row) > 1:
        reason, remedy = f"it selects from values of shape {row}", "Crop images and choose frames outside the policy"
        raise UnsupportedLayerError(operation.path, operation.kind, reason, remedy)
    width = int(np.prod(row))
    chosen = operation.indices(width)
    start = next((i for i in reversed(range(len(chain))) if isinstance(chain[i], Affine | Filter)), None)
    if start is None:
        identity = np.eye(width)[chosen]
        chain.append(Affine(identity, np.zeros(len(identity)), path=operation.path, kind=operation.kind))
    else:
        chain[start:] = [_selected(operation, chosen) for operation in chain[start:]]
    return (len(chosen),)


def _selected(operation: Operation, chosen: npt.NDArray[np.int64]) -> Operation:
    def of(values: Float64) -> Float64:
        return values[chosen]

    match operation:
        case Affine(weight, bias):
            return replace(operation, weight=of(weight), bias=of(bias))
        case Scale(scale, offset):
            return replace(operation, scale=of(scale), offset=of(offset))
        case Clip(low, high):
            return replace(operation, low=of(low), high=of(high))
        case Activate():
            return operation
    raise refusal(operation.path, operation.kind)
