"""Casts to floats narrower than float32: they round what the observation makes, which no stage does.

Weights may be narrow: constants are what they are. A policy all of whose matrices are narrow computes so by nature, and
is read as if it computed in float32.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from snn_policy.errors import UnsupportedLayerError

CASTS = frozenset(("to", "type", "type_as", "half", "bfloat16", "_to_copy", "copy", "setitem", "index_put", "fill"))
"""Names of functions that give a value another type, or write it into a tensor of another."""
_CODES = {5: "float16", 15: "bfloat16", 23: "float8_e5m2", 24: "float8_e4m3fn", 25: "float8_e5m2fnuz",
          26: "float8_e4m3fnuz", 44: "float8_e8m0fnu"}  # fmt: skip
"""Numbers of narrow types in TorchScript."""
_TYPES = {"float16", "bfloat16", "half", "HalfTensor", "BFloat16Tensor"}


def narrowing(path: str, kind: str, dtype: str) -> UnsupportedLayerError:
    """Return the error for a cast to `dtype`."""
    reason = f"a cast to {dtype}: it rounds what the observation makes, which a spiking network does not"
    return UnsupportedLayerError(path, kind, reason, "Export the policy in float32, without casts and autocast")


def refuse_narrow(name: str, arguments: Iterable[Any], path: str) -> None:
    """Raise where a function of torch's casts to a narrow type, by its name or by an argument beside its value."""
    if name in ("half", "bfloat16"):
        raise narrowing(path, name, "float16" if name == "half" else name)
    for argument in arguments:
        found = narrow_type(argument if name in CASTS or _is_dtype(argument) else None)
        if found:
            raise narrowing(path, name, found)


def refuse_narrow_script(
    narrow: bool, name: str, arguments: list[Any], keywords: dict[str, Any], path: str
) -> None:  # fmt: skip
    """Raise where a TorchScript program with wide weights casts to a narrow type; types are numbers there."""
    if narrow:
        return
    places = {"to": arguments[1:2], "_to_copy": [], "softmax": arguments[2:3], "log_softmax": arguments[2:3]}
    codes = [*places.get(name, []), keywords.get("dtype")]
    found = [_CODES[code] for code in codes if type(code) is int and code in _CODES]
    refuse_narrow(name, [*found, *(arguments[1:] if name in ("to", "type_as") else [])], path)
    if found:
        raise narrowing(path, name, found[0])


def narrow_type(argument: Any) -> str:
    """Return the narrow type that an argument names or is of; empty where there is none."""
    if isinstance(argument, str) or _is_dtype(argument):
        told = str(argument).rpartition(".")[2]
    else:
        told = str(getattr(argument, "dtype", "")).rpartition(".")[2]
    told = told.rpartition("'")[0] if told.endswith("'>") else told
    return told if told in _TYPES or told.startswith("float8") else ""


def narrow_weights(module: Any) -> bool:
    """Return whether all matrices of a torch module are narrow."""
    found = [one.dtype.itemsize < 4 for one in module.parameters() if one.ndim > 1 and one.is_floating_point()]
    return bool(found) and all(found)


def refuse_autocast(path: str, kind: str) -> None:
    """Raise inside a region that casts by itself."""
    import torch

    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            raise narrowing(path, kind, str(torch.get_autocast_dtype(device)).removeprefix("torch.") + " (autocast)")


def _is_dtype(argument: Any) -> bool:
    return type(argument).__name__ == "dtype" or (isinstance(argument, type) and issubclass(argument, np.generic))
