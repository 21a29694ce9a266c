"""Sparse weights in a bundle: a bit per weight, and the values of those that are not zero.

    layers.N.weight.mask     uint8, ⌈weights / 8⌉: the weights in C order, the first in a byte's highest bit
    layers.N.weight.values   the weights whose bit is set, in that order
    layers.N.weight.minus    uint8, as the mask: the zeros with a minus, where there are any (a weight times a mask's 0)

and the layer's entry in `policy.json` has `weight_shape`; so it is with the maps of a graph, `graph.S.C.weight`. Only
where that takes fewer bytes than the dense array.
"""

import math
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np

from snn_policy.checks import require, whole

SPARE_BYTES = 256
"""Of some more entries in a safetensors header, at most."""
WORDS = {np.dtype(np.float32): np.uint32, np.dtype(np.float16): np.uint16}


def compact_weights(layers: Sequence[MutableMapping[str, Any]], arrays: MutableMapping[str, np.ndarray]) -> bool:
    """Replace dense weights by mask and values where that is smaller, and note their shapes; whether any was.

    Args:
        layers: the layers' entries in the document; arrays: by name. Both are changed in place.
    """
    return sum(compact_weight(f"layers.{index}.weight", entry, arrays) for index, entry in enumerate(layers)) > 0


def compact_weight(name: str, entry: MutableMapping[str, Any], arrays: MutableMapping[str, np.ndarray]) -> bool:
    """Replace one dense weight by mask and values where that is smaller, and note its shape; whether it was."""
    weight = np.ascontiguousarray(arrays[name])
    flat, shape = weight.ravel(), list(weight.shape)
    parts = {"mask": np.packbits(flat != 0), "values": flat[flat != 0]}
    minus = np.signbit(flat) & (flat == 0)
    if minus.any():
        parts["minus"] = np.packbits(minus)
    if sum(part.nbytes for part in parts.values()) + SPARE_BYTES >= weight.nbytes:
        return False
    restored = restored_weight(name, shape, most_bytes=weight.nbytes, **parts)
    require(restored.tobytes() == weight.tobytes(), f"{name}: its sparse form does not give it back")
    del arrays[name]
    arrays.update({f"{name}.{part}": values for part, values in parts.items()})
    entry["weight_shape"] = shape
    return True


def stored_weight(entry: Mapping[str, Any], name: str, arrays: Mapping[str, np.ndarray], most_bytes: int) -> np.ndarray:
    """Return a layer's weight as a bundle has it, dense or sparse.

    Raises:
        KeyError, ValueError: it is not there, or mask, values and shape do not belong together.
    """
    if "weight_shape" not in entry:
        return arrays[name]
    mask, values, minus = arrays[f"{name}.mask"], arrays[f"{name}.values"], arrays.get(f"{name}.minus")
    return restored_weight(name, entry["weight_shape"], mask, values, minus, most_bytes=most_bytes)


def restored_weight(
    name: str, shape: Any, mask: np.ndarray, values: np.ndarray, minus: np.ndarray | None = None, *, most_bytes: int
) -> np.ndarray:
    """Return the dense weight; its memory is bounded by `most_bytes`, checked before any is taken."""
    sizes = isinstance(shape, list) and 1 <= len(shape) <= 4 and all(whole(size, 1, 2**31) for size in shape)
    require(sizes, f"{name}: shape {shape!r} is none")
    size = math.prod(shape)
    require(values.dtype in WORDS and values.ndim == 1, f"{name}: expected float32 or float16 values in one row")
    require(size * values.itemsize <= most_bytes, f"{name}: shape {shape} takes more than {most_bytes} bytes")
    present = _bits(name, size, mask)
    count = int(np.count_nonzero(present))
    require(count == len(values), f"{name}: {count} bits are set, but there are {len(values)} values")
    weight = np.zeros(size, values.dtype)
    if minus is not None:
        weight[_bits(name, size, minus)] = -0.0
    weight[present] = values
    return weight.reshape(shape)


def _bits(name: str, size: int, mask: np.ndarray) -> np.ndarray:
    """Return (size,) booleans."""
    fits = mask.dtype == np.uint8 and mask.shape == (-(-size // 8),)
    require(fits, f"{name}: expected a mask of {-(-size // 8)} bytes, got {mask.dtype} {mask.shape}")
    present = np.unpackbits(mask)
    require(not present[size:].any(), f"{name}: bits beyond the last weight are set")
    return present[:size].view(np.bool_)
