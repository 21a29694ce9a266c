"""Indexing and shapes of traced arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from snn_policy.exporting.tracing import BATCH, Dimension, Traced


def index(x: Traced, key: tuple[Any, ...]) -> Traced:
    """x[key] of whole numbers, None and slices without steps, axis by axis."""
    axis = 0
    for each in key:
        if each is None:
            x = expand_dims(x, axis)
            axis += 1
        elif isinstance(each, slice):
            x = _slice(x, axis, each)
            axis += 1
        else:
            x = _pick(x, axis, int(each))
    return x


def expand_dims(x: Traced, axis: int) -> Traced:
    """A new axis of length 1."""
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    if x.value is not None:
        return x.graph.constant(np.expand_dims(_full_rank(x), axis), shape)
    return x.graph.add("Unsqueeze", [x, np.array([axis])], [shape], x.dtype)[0]


def _full_rank(x: Traced) -> Any:
    assert x.value is not None
    return x.value.reshape((1,) * (x.ndim - x.value.ndim) + x.value.shape)


def _slice(x: Traced, axis: int, wanted: slice) -> Traced:
    length = x.shape[axis]
    if wanted == slice(None) or not isinstance(length, int):
        return x
    start, stop, _ = wanted.indices(length)
    if (start, stop) == (0, length):
        return x
    shape = (*x.shape[:axis], max(stop - start, 0), *x.shape[axis + 1 :])
    if x.value is not None:
        values = _full_rank(x)
        kept = values if values.shape[axis] == 1 else values.take(range(start, stop), axis)
        return x.graph.constant(kept, shape)
    bounds = [np.array([each]) for each in (start, stop, axis)]
    return x.graph.add("Slice", [x, *bounds], [shape], x.dtype)[0]


def _pick(x: Traced, axis: int, place: int) -> Traced:
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    if x.value is not None:
        values = _full_rank(x)
        return x.graph.constant(values.take(min(place, values.shape[axis] - 1), axis), shape)
    if x.made_by("Unsqueeze") and x.node is not None and int(x.node.inputs[1][0]) == axis:
        return x.node.inputs[0]
    return x.graph.add("Gather", [x, np.array(place)], [shape], x.dtype, axis=axis)[0]


def reshape(x: Traced, shape: Sequence[Any]) -> Traced:
    """x in another shape; one length may be −1, and the batch axis may stand first."""
    target: list[Dimension] = list(shape)
    if -1 in target:
        target[target.index(-1)] = _remaining(x.shape, target)
    if tuple(target) == x.shape:
        return x
    if x.value is not None:
        x = materialised(x)
    symbols = [each for each in target if not isinstance(each, int)]
    sizes = [-1 if not isinstance(each, int) else each for each in target]
    if len(symbols) > 1:
        raise ValueError(f"shape {tuple(target)}: more than one length is unknown")
    return x.graph.add("Reshape", [x, np.array(sizes)], [tuple(target)], x.dtype)[0]


def _remaining(given: Sequence[Dimension], target: list[Dimension]) -> Dimension:
    """The length that −1 stands for: a number, `BATCH`, or another unknown."""
    left, right = list(given), [each for each in target if each != -1]
    symbols = [each for each in left if not isinstance(each, int)]
    for each in [each for each in right if not isinstance(each, int)]:
        if each not in symbols:
            raise ValueError(f"shape {tuple(target)}: {each} is not a length of {tuple(given)}")
        symbols.remove(each)
    have = int(np.prod([each for each in left if isinstance(each, int)], dtype=np.int64))
    need = int(np.prod([each for each in right if isinstance(each, int)], dtype=np.int64))
    factor = have // need if need else 0
    if not symbols:
        return factor
    return symbols[0] if factor == 1 else f"{factor}·{symbols[0]}" if symbols[0] == BATCH else "unknown"


def materialised(x: Traced) -> Traced:
    """A known array in its full shape, as a node where that depends on the batch."""
    if x.value is None:
        return x
    numbers = [each for each in x.shape if isinstance(each, int)]
    if len(numbers) == x.ndim:
        return x.graph.constant(np.ascontiguousarray(np.broadcast_to(x.value, numbers)))
    obs = Traced(x.graph, (BATCH,), np.dtype(np.float32), name="obs")
    rows = x.graph.add("Shape", [obs], [(1,)], np.int64, start=0, end=1)[0]
    sizes = x.graph.add("Concat", [rows, np.array(numbers)], [(x.ndim,)], np.int64, axis=0)[0]
    return x.graph.add("Expand", [x.value, sizes], [x.shape], x.dtype)[0]
