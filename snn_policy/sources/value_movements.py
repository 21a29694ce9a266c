"""Operations that only move values, by torch's names: each maps an array of places to the places of its result.

NumPy does the moving. A place of −1 is a zero. What torch makes a view of its argument is a view here, too.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.affine_values import MOST_ENTRIES

Places = npt.NDArray[np.int64]
_WHOLE = 2**31 - 1


class SizeWanted(SourceError):
    """Say that values are too few, or too many, for what takes them.

    Attributes:
        size: how many there must be at least, where that shows.
        missing: how many more there must be, negative for fewer.
    """

    def __init__(self, message: str, size: int | None, missing: int = 0) -> None:
        super().__init__(message)
        self.size, self.missing = size, missing


def _sizes(given: Sequence[Any]) -> list[int]:
    flat = given[0] if len(given) == 1 and isinstance(given[0], Sequence) else given
    return [int(size) for size in flat]


def _reshape(x: Places, *sizes: Any, shape: Any = None, size: Any = None) -> Places:
    wanted = _sizes(sizes or ((shape if size is None else size),))
    if math.prod(abs(size) for size in wanted) > MOST_ENTRIES:
        raise SourceError(f"a reshape to {wanted}; refused")
    return x.reshape(wanted)


def _flatten(x: Places, start_dim: int = 0, end_dim: int = -1) -> Places:
    axes = max(1, x.ndim)
    start, end = start_dim % axes, end_dim % axes
    return x.reshape((*x.shape[:start], -1, *x.shape[end + 1 :]))


def _squeeze(x: Places, dim: Any = None) -> Places:
    axes = range(x.ndim) if dim is None else [axis % x.ndim for axis in np.ravel(dim).tolist()]
    return x.reshape([size for axis, size in enumerate(x.shape) if axis not in axes or size != 1])


def _slice(x: Places, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Places:
    stop = None if end is None or end >= _WHOLE else int(end)
    begin = None if start is None else int(start)
    chosen = [slice(None)] * x.ndim
    chosen[dim] = slice(begin, stop, int(step))
    size = x.shape[dim]
    if (stop is not None and abs(stop) > size) or (begin is not None and abs(begin) > size):
        raise SizeWanted(f"it takes entries {begin} to {stop} of {size}", stop if (stop or 0) > size else None)
    return x[tuple(chosen)]


def _narrow(x: Places, dim: int, start: int, length: int) -> Places:
    return _slice(x, dim, start, start + length)


def _select(x: Places, dim: int, index: int) -> Places:
    return np.take(x, int(index), dim)


def _expand(x: Places, *sizes: Any, size: Any = None, implicit: bool = False) -> Places:
    wanted = _sizes(sizes or (size,))
    lead = len(wanted) - x.ndim
    shape = [x.shape[axis - lead] if wanted[axis] == -1 else wanted[axis] for axis in range(len(wanted))]
    return _broadcast(x, shape)


def _broadcast(x: Places, shape: Sequence[int]) -> Places:
    if math.prod(shape) > MOST_ENTRIES:
        raise SourceError(f"it repeats values to {list(shape)}; refused")
    return np.broadcast_to(x, tuple(shape))


def _split(x: Places, sizes: Any, dim: int = 0) -> list[Places]:
    length = x.shape[dim]
    if isinstance(sizes, int):
        ends = list(range(sizes, length, sizes))
    else:
        if sum(sizes) != length:
            raise SizeWanted(f"a split of {length} into {list(sizes)}", sum(sizes))
        ends = list(np.cumsum(sizes)[:-1])
    return np.split(x, ends, dim)


def _chunk(x: Places, chunks: int, dim: int = 0) -> list[Places]:
    return _split(x, -(-x.shape[dim] // int(chunks)), dim)


def _unbind(x: Places, dim: int = 0) -> list[Places]:
    return [np.take(x, index, dim) for index in range(x.shape[dim])]


def _permute(x: Places, *dims: Any) -> Places:
    return np.transpose(x, _sizes(dims))


def _index_select(x: Places, dim: int, index: Any) -> Places:
    return np.take(x, np.asarray(index, np.int64).reshape(-1), dim)


def _gather(x: Places, dim: int, index: Any, sparse_grad: bool = False) -> Places:
    return np.take_along_axis(x, np.asarray(index, np.int64), dim)


def _pad(x: Places, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Places:
    pairs = [(int(pad[k]), int(pad[k + 1])) for k in range(0, len(pad), 2)]
    if value or mode != "constant" or min(pad) < 0 or x.size * (1 + sum(pad)) > MOST_ENTRIES:
        raise UnsupportedLayerError("forward", "pad", "only padding with zeros is read", "Pad with zeros")
    around = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    return np.pad(x, around, constant_values=-1)


def _roll(x: Places, shifts: Any, dims: Any = None) -> Places:
    return np.roll(x, shifts, None if dims is None or dims == () else dims)


def _repeat(x: Places, *sizes: Any) -> Places:
    wanted = _sizes(sizes)
    if x.size * math.prod(wanted) > MOST_ENTRIES:
        raise SourceError(f"it repeats values {wanted} times; refused")
    return np.tile(x, wanted)


def indexed(x: Places, index: Any) -> Places:
    """Return x[index], the index made of numbers, slices, arrays, None and an ellipsis."""
    parts = index if isinstance(index, tuple) else (index,)
    plain = tuple(part.astype(np.int64) if isinstance(part, np.ndarray) and part.dtype.kind in "iu" else part
                  for part in parts)  # fmt: skip
    for axis, part in enumerate(plain):
        if part is None or part is Ellipsis or isinstance(part, np.ndarray | list):
            break
        if isinstance(part, slice):
            bounds = [abs(bound) for bound in (part.start, part.stop) if bound is not None and bound < _WHOLE]
            if axis < x.ndim and bounds and max(bounds) > x.shape[axis]:
                end = part.stop if (part.stop or 0) > x.shape[axis] else None
                raise SizeWanted(f"it takes entries {part.start} to {part.stop} of {x.shape[axis]}", end)
    try:
        return np.asarray(x[plain])
    except IndexError as problem:
        raise SourceError(f"an index that does not fit: {problem}") from None


MOVES: dict[str, Callable[..., Any]] = {
    "view": _reshape, "reshape": _reshape, "_unsafe_view": _reshape, "flatten": _flatten, "squeeze": _squeeze,
    "ravel": lambda x: x.reshape(-1), "unflatten": lambda x, dim, sizes: x.reshape(
        (*x.shape[: dim % x.ndim], *sizes, *x.shape[dim % x.ndim + 1 :])),
    "unsqueeze": lambda x, dim: np.expand_dims(x, dim), "slice": _slice, "select": _select, "narrow": _narrow,
    "expand": _expand, "expand_as": lambda x, other: _broadcast(x, np.shape(other) or other.shape),
    "broadcast_to": _expand, "view_as": lambda x, other: x.reshape(other.shape),
    "reshape_as": lambda x, other: x.reshape(other.shape), "repeat": _repeat, "tile": _repeat,
    "split": _split, "split_with_sizes": _split, "chunk": _chunk, "unsafe_chunk": _chunk, "unsafe_split": _split,
    "unsafe_split_with_sizes": _split, "unbind": _unbind, "tensor_split": _chunk,
    "permute": _permute, "t": lambda x: x.T, "T": lambda x: x.T, "mT": lambda x: np.swapaxes(x, -1, -2),
    "numpy_T": lambda x: x.T,
    "transpose": lambda x, dim0, dim1: np.swapaxes(x, dim0, dim1),
    "swapaxes": lambda x, one, other: np.swapaxes(x, one, other),
    "movedim": lambda x, one, other: np.moveaxis(x, one, other), "flip": lambda x, dims: np.flip(x, dims),
    "index_select": _index_select, "gather": _gather, "pad": _pad, "constant_pad_nd": _pad,
    "roll": _roll, "repeat_interleave": lambda x, repeats, dim=None, **_: np.repeat(x, repeats, dim),
    "atleast_2d": np.atleast_2d,
    "detach": lambda x: x, "alias": lambda x: x, "contiguous": lambda x, **_: x, "requires_grad": lambda x, *_: x,
    "lift_fresh": lambda x: x, "positive": lambda x: x,
}  # fmt: skip
VIEWS = frozenset(MOVES) - {"index_select", "gather", "pad", "constant_pad_nd", "roll", "repeat", "tile", "flip",
                            "repeat_interleave"}  # fmt: skip
"""What shares memory with its argument, so that writing to one writes to both."""
