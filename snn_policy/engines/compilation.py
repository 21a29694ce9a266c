"""Compiling with Numba, and keeping the result between processes wherever there is a place to keep it."""

from collections.abc import Callable
from typing import Any

import numba

OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a part of a larger compiled function; not cached by itself."""
    return numba.njit(**OPTIONS)(function)


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, cached beside its source or in the user's cache directory.

    Where neither can be written, as on a robot's read-only image, every process compiles it anew.
    """
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # Numba found no place for its cache
        return numba.njit(**OPTIONS)(function)
