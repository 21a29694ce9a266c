"""Sizes of the core's buffers: aligned to cache lines, padded to whole vectors."""

from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.engines.core.records import DECISIONS, LANES, SUMS


def aligned(size: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Return zeros (size,), beginning on a cache line."""
    kind = np.dtype(dtype)
    room = np.zeros(size + 64 // kind.itemsize, kind)
    return room[-room.ctypes.data % 64 // kind.itemsize :][:size]


def padded(outputs: int, lanes: int = LANES) -> int:
    """Return outputs rounded up to whole vectors."""
    return -(-outputs // lanes) * lanes


def count_size(spiking: int) -> int:
    """Return numbers in a row of counts, of so many spiking stages: see `snn_count` in program.h."""
    return 3 * spiking + SUMS + DECISIONS


def weight_stride(outputs: int, lanes: int = LANES) -> int:
    """Return floats from one neuron's weights to the next one's: whole vectors, and an odd number of cache lines where
    rows are long, so that a tile of columns fills all of the cache's sets and not each fourth one."""
    whole = padded(outputs, lanes)
    return whole + LANES if lanes == LANES and whole >= 128 and whole // LANES % 2 == 0 else whole


def row_size(widest: int, lanes: int = LANES) -> int:
    """Return floats of a buffer for up to `widest` values and a list's end; not a multiple of the caches' stride, so
    that neighbouring rows do not displace each other. Where memory is short (fewer lanes), no more than that."""
    if lanes < LANES:
        return padded(widest) + LANES
    return -(-(widest + LANES) // 64) * 64 + LANES
