"""Observations that are dictionaries, as inputs of a graph: one per key, `obs.KEY`, or all joined as `obs`.

Joined, they stand flattened side by side in the order of `observation_keys` in the metadata.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from snn_policy.exporting import namespace as xp
from snn_policy.exporting.tracing import Dimension, Graph, Traced
from snn_policy.protocol import FloatArray, KeyedShape

Inputs = Literal["joined", "by-key"]
KINDS = ("joined", "by-key")
JOINED = "obs"
Keys = tuple[tuple[str, tuple[int, ...]], ...]
"""(key, shape) of the observation's parts, in the order in which they are joined."""


def keys_of(shape: tuple[int, ...]) -> Keys | None:
    """Return the keys of a shape that has some."""
    return tuple(shape.parts.items()) if isinstance(shape, KeyedShape) else None


def check_inputs(inputs: str, shape: tuple[int, ...]) -> None:
    """Refuse inputs of another kind, or by key where observations are one array.

    Raises:
        ValueError: naming what is expected.
    """
    if inputs not in KINDS:
        raise ValueError(f"inputs {inputs!r}: expected {' or '.join(KINDS)}")
    if inputs == "by-key" and keys_of(shape) is None:
        raise ValueError("inputs 'by-key': this policy's observations are one array, not a dictionary; leave it out")


class ObservedGraph(Graph):
    """Hold a graph whose input `obs` is, where asked for by key, the inputs of all keys joined.

    Attributes:
        observed: the inputs that it has for observations.
    """

    def __init__(self, batch: Dimension, shape: tuple[int, ...], inputs: Inputs) -> None:
        super().__init__(batch)
        self._keys = keys_of(shape) if inputs == "by-key" else None
        self.observed: list[Traced] = []

    def input(self, name: str, shape: tuple[int, ...]) -> Traced:
        """Return a float32 input (batch, *shape)."""
        if name != JOINED:
            return super().input(name, shape)
        if self._keys is None:
            self.observed = [super().input(name, tuple(shape))]
            return self.observed[0]
        self.observed = [super(ObservedGraph, self).input(input_name(key), part) for key, part in self._keys]
        sizes = [math.prod(part) for _, part in self._keys]
        flat = [xp.reshape(part, (self.batch, size)) for part, size in zip(self.observed, sizes, strict=True)]
        return xp.concat(flat, axis=1)


def input_name(key: str) -> str:
    """Return the name of the input for a key."""
    return f"{JOINED}.{key}"


def split(obs: FloatArray, keys: Keys) -> list[FloatArray]:
    """Return joined observations (rows, n) as one contiguous array (rows, *shape) per key."""
    ends = np.cumsum([math.prod(shape) for _, shape in keys])
    columns = [np.ascontiguousarray(part) for part in np.split(obs, ends[:-1], axis=1)]
    return [part.reshape(len(obs), *shape) for part, (_, shape) in zip(columns, keys, strict=True)]


def checked_keys(given: Sequence[object], size: int, most: int) -> Keys:
    """Return the keys that a file tells, checked: distinct texts, with shapes that add up to `size` values.

    Raises:
        ValueError: they are not.
    """
    keys: list[tuple[str, tuple[int, ...]]] = []
    if not 1 <= len(given) <= most:
        raise ValueError("observation_keys")
    for entry in given:
        key, shape = entry  # pyright: ignore[reportGeneralTypeIssues]
        lengths = isinstance(shape, list | tuple) and len(shape) <= 8
        if not (isinstance(key, str) and len(key) <= 256 and lengths):
            raise ValueError(f"observation_keys: {key!r}")
        if not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= size for n in shape):
            raise ValueError(f"observation_keys: {key!r} of shape {shape!r}")
        keys.append((key, tuple(shape)))
    if len({key for key, _ in keys}) < len(keys) or sum(math.prod(shape) for _, shape in keys) != size:
        raise ValueError(f"observation_keys: not {size} values under distinct keys")
    return tuple(keys)
