"""The inputs of a program that is no chain: several that are joined to one observation, in their order."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError
from snn_policy.protocol import KeyedShape
from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_nodes import Observation
from snn_policy.sources.operations import Clip, Scale
from snn_policy.sources.value_functions import clipped
from snn_policy.sources.vecnormalize import ObservationStatistics

LARGEST = 2**24


@dataclass(frozen=True)
class Inputs:
    """Name the inputs, with their shapes without the batch axis; `shape` is the observation's."""

    parts: Mapping[str, tuple[int, ...]]
    shape: tuple[int, ...]

    def split(self, row: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return every input, (1, *shape), of one observation."""
        sizes = [math.prod(shape) for shape in self.parts.values()]
        pieces = np.split(np.ravel(row), np.cumsum(sizes)[:-1])
        return [piece.reshape(1, *shape) for piece, shape in zip(pieces, self.parts.values(), strict=True)]


def inputs_of(parts: Mapping[str, tuple[int, ...]], given: Any = None) -> Inputs:
    """Return the inputs: of one, the observation has its shape; of several, it is flat, or keyed where asked so.

    Raises:
        SourceError: they are too large, or `given` is another shape.
    """
    total = sum(math.prod(shape) for shape in parts.values())
    if not 0 < total <= LARGEST:
        raise SourceError(f"observations of {total} values; refused")
    shape: tuple[int, ...] = next(iter(parts.values())) if len(parts) == 1 else (total,)
    if isinstance(given, Mapping):
        shape = KeyedShape({key: tuple(np.atleast_1d(value)) for key, value in given.items()})
    elif given is not None:
        shape = given if isinstance(given, KeyedShape) else tuple(int(size) for size in given)
    if math.prod(shape) != total:
        raise SourceError(f"observation_shape {tuple(shape)}: the program takes {total} values, {dict(parts)}")
    return Inputs(dict(parts), shape or (1,))


def joined_inputs(
    parts: Mapping[str, tuple[int, ...]], normaliser: Sequence[ObservationStatistics] = ()
) -> tuple[Observation, list[Value]]:  # fmt: skip
    """Return the observation, and every input's value, (1, *shape)."""
    sizes = [math.prod(shape) for shape in parts.values()]
    observation = Observation(sum(sizes), path="obs", kind="observation")
    whole = Value.of(observation)
    for statistics in normaliser:
        for operation in statistics.fitted((whole.size,)).operations():
            if isinstance(operation, Scale):
                whole = whole.scaled(operation.scale.reshape(-1)).shifted(operation.offset.reshape(-1))
            elif isinstance(operation, Clip):
                whole = clipped(whole, operation.low, operation.high, "normaliser", "Clip")
    values, start = [], 0
    for shape, size in zip(parts.values(), sizes, strict=True):
        values.append(whole.moved(np.arange(start, start + size)).reshaped((1, *shape)))
        start += size
    return observation, values
