"""Loads the compiled core, and calls it: plain functions on pointers, the interpreter lock released meanwhile."""

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from snn_policy.engines.core.build import LIBRARY, SOURCES, fingerprint
from snn_policy.engines.core.records import CONNECTION, HEADER, STAGE
from snn_policy.errors import warn
from snn_policy.protocol import FloatArray, IntArray

VARIANT_NAMES = ("plain", "avx2", "avx512")
REMEDY = (
    "install a C compiler (cc, gcc or clang; on Windows Microsoft's Build Tools) and then snn-policy anew (pip install "
    "--force-reinstall), or in a source tree run: python -m snn_policy.engines.core.build"
)


class NoCoreError(ImportError):
    """Say why the compiled core cannot be used; the message says why and what to do."""


class Program(ctypes.Structure):
    """Mirror `snn_program` of program.h."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("header", "stages", "connections", "parameters", "indices")]


class Call(ctypes.Structure):
    """Mirror `snn_call` of library.c."""

    _fields_ = [
        ("program", Program),
        *((name, ctypes.c_void_p) for name in ("obs", "state", "actions", "counts", "floats", "integers")),
        ("rows", ctypes.c_int32),
        ("block", ctypes.c_int32),
    ]


@dataclass(frozen=True)
class Core:
    """Hold the library's functions, in the copy for one instruction set.

    Attributes:
        variant: which copy: every one gives the same bits.
        run: the address of a `Call` → 1, or 0 where an observation is not finite.
        sequence: see `encode_sequence`.
        check: (Program, stages, connections, parameters, indices) → 0 where the program fits together.
        scratch: (header, rows, floats, integers): sizes of a block's scratch.
        elementary: (which, x, y, n): exp, expm1, tanh, erf, log1p, the square root.
    """

    variant: str
    run: Any
    sequence: Any
    check: Any
    scratch: Any
    elementary: Any


def load(path: Path, variant: str | None = None) -> Core:
    """Return the library at the path; its fastest copy that this processor runs, or the one named.

    Raises:
        NoCoreError: it is missing, does not load, is not built from the sources beside it, or lacks that copy.
    """
    try:
        library = ctypes.CDLL(str(path))
        built_from = library.snn_fingerprint
    except (OSError, AttributeError):
        reason = "is not built" if not path.exists() else "does not load here"
        raise NoCoreError(f"the compiled core {reason} ({path.name}); {REMEDY}") from None
    built_from.restype = ctypes.c_uint32
    if built_from() != fingerprint() or _record_sizes(library) != _own_sizes():
        raise NoCoreError(f"the compiled core is not built from the sources beside it; {REMEDY}")
    runs = VARIANT_NAMES[: library.snn_level() + 1]
    variant = runs[-1] if variant is None else variant
    if variant not in runs:
        raise NoCoreError(f"the compiled core has no {variant} copy for this processor: {', '.join(runs)}")
    return _bound(library, variant)


def _bound(library: Any, variant: str) -> Core:
    pointer, long, integer = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
    run, sequence, elementary = (getattr(library, f"snn_{name}_{variant}") for name in
                                 ("run", "sequence", "elementary"))  # fmt: skip
    run.argtypes = [pointer]
    sequence.argtypes = [pointer, long, long, pointer, pointer, pointer, integer, pointer, integer,
                         ctypes.c_float, pointer, pointer, pointer]  # fmt: skip
    elementary.argtypes = [integer, pointer, pointer, long]
    sequence.restype = elementary.restype = None
    library.snn_check_program.argtypes = [pointer, long, long, long, long]
    library.snn_scratch.argtypes = [pointer, integer, pointer, pointer]
    library.snn_scratch.restype = None
    return Core(variant, run, sequence, library.snn_check_program, library.snn_scratch, elementary)


def _record_sizes(library: Any) -> list[int]:
    sizes = (ctypes.c_int64 * 4)()
    library.snn_record_sizes(sizes)
    return list(sizes)


def _own_sizes() -> list[int]:
    return [HEADER.itemsize, STAGE.itemsize, CONNECTION.itemsize, ctypes.sizeof(Call)]


@cache
def core() -> Core:
    """Return the installed core.

    Raises:
        NoCoreError: see `load`.
    """
    return load(SOURCES / LIBRARY, os.environ.get("SNN_POLICY_CORE") or None)


@cache
def available() -> bool:
    """Return whether there is a core; where there is none, say so once, in one warning."""
    try:
        core()
    except NoCoreError as reason:
        warn(f"{reason}; until then decisions run on NumPy, several times slower")
        return False
    return True


def encode_sequence(
    h: FloatArray, quantum: FloatArray, predictor: FloatArray, memory: FloatArray, digits: int, powers: FloatArray,
    sent: FloatArray, spikes: IntArray, alpha: float = 0.0, residual: FloatArray | None = None,
) -> None:  # fmt: skip
    """Encode consecutive values of one sigma-delta stage; all arrays contiguous.

    Args:
        h: (decisions, neurons) the stage's values less its offset.
        quantum, predictor, memory: (neurons,); memory is updated in place.
        sent: (decisions, neurons), filled with the memory after each decision.
        spikes: (neurons,) int64, raised by the number of spikes.
        residual: (neurons,), where a share alpha of it is carried; it is updated in place.
    """
    rest = None if residual is None else residual.ctypes.data
    core().sequence(h.ctypes.data, *h.shape, quantum.ctypes.data, predictor.ctypes.data, memory.ctypes.data, digits,
                    powers.ctypes.data, len(powers), alpha, rest, sent.ctypes.data, spikes.ctypes.data)  # fmt: skip
