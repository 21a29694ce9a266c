"""Compiling with Numba, and keeping the result between processes wherever there is a place to keep it.

A cache that cannot be read or written (a full disk, a truncated or empty file) never stops a start: the code is
compiled as if there were none, and a warning names the folder. Whatever compiles says so on stderr.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numba

OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}
_said: set[str] = set()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a part of a larger compiled function; not cached by itself."""
    return numba.njit(**OPTIONS)(function)


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, cached beside its source or in the user's cache directory.

    Where neither can be written, as on a robot's read-only image, every process compiles it anew.
    """
    try:
        compiled: Any = numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # Numba found no place for its cache
        compiled = numba.njit(**OPTIONS)(function)
    compiled._cache = SafeCache(compiled._cache)
    return compiled


class SafeCache:
    """Numba's cache of one function, whose faults are warnings, and which says when something must be compiled."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *signature: Any) -> Any:
        """Return what is cached for the signature; None, and a line on stderr, where it has to be compiled."""
        found = None
        try:
            found = self._cache.load_overload(*signature)
        except Exception as fault:  # whatever Numba, pickle or the disk makes of a damaged file
            self._warn("read", fault)
        if found is None:
            _announce()
        return found

    def save_overload(self, *compiled: Any) -> None:
        """Keep what was compiled, if that is possible."""
        try:
            self._cache.save_overload(*compiled)
        except Exception as fault:
            self._warn("written", fault)

    def _warn(self, verb: str, fault: Exception) -> None:
        folder = str(self._cache.cache_path)
        if folder in _said:
            return
        _said.add(folder)
        warnings.warn(
            f"{folder}: the compiled code kept here cannot be {verb} ({type(fault).__name__}: {fault}); compiling "
            "without it, about a minute at every start. Make room, or delete the *.nbi and *.nbc files in it.",
            stacklevel=2,
        )


def _announce() -> None:
    """Say once per process that it is compiling."""
    if "compiling" not in _said:
        _said.add("compiling")
        print("snn-policy: compiling the event engine, about a minute, once per machine", file=sys.stderr, flush=True)
