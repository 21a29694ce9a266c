"""Random generators that loading may not disturb, and a forward that moves one: it draws, so it has no one action.

Torch's, NumPy's legacy and Python's own are watched, and those that a module holds, or its methods know by name.
"""

import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from snn_policy.errors import UnsupportedLayerError

MOST_OBJECTS, DEEPEST = 20_000, 4
_SKIPPED = ("_parameters", "_buffers", "_modules")
_REMEDY = "Put it in evaluation mode, or pass the part that makes the deterministic action (the mean)"


@dataclass(frozen=True)
class Stream:
    """Hold how a generator is called in messages, and how its state is read and put back."""

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], Any]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put the generators that belong to nobody back into the states they were found in."""
    held = [(stream, stream.get()) for stream in _global_streams()]
    try:
        yield
    finally:
        for stream, state in held:
            stream.put(state)


@contextmanager
def drawing_nothing(module: Any) -> Iterator[None]:
    """Raise where what runs inside draws from a generator, and put all of them back.

    Args:
        module: a `torch.nn.Module`, whose own generators are watched, too.

    Raises:
        UnsupportedLayerError: a generator has moved.
    """
    held = [(stream, stream.get()) for stream in (*_global_streams(), *_own_streams(module))]
    moved: list[str] = []
    try:
        yield
    finally:
        for stream, state in held:
            if frozen(stream.get()) != frozen(state):
                moved.append(stream.name)
                stream.put(state)
    if moved:
        streams = ", ".join(dict.fromkeys(moved))
        reason = f"it is random: it draws from {streams} whenever it is called, as diffusion and Gaussian policies do"
        raise UnsupportedLayerError("forward", type(module).__name__, reason, _REMEDY)


def frozen(value: Any) -> Any:
    """Return plain values, arrays and containers of them as what can be compared; others as their type only."""
    if isinstance(value, dict):
        return "dict", tuple((str(key), frozen(one)) for key, one in value.items())
    if isinstance(value, list | tuple | deque):
        return type(value).__name__, tuple(frozen(one) for one in value)
    if isinstance(value, set | frozenset):
        return "set", tuple(sorted(map(repr, value)))
    if isinstance(value, np.ndarray) and value.dtype != object:
        return "array", value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, bool | int | float | complex | str | bytes | np.generic | None):
        return type(value).__name__, repr(value)
    if type(value).__module__ == "torch" and type(value).__name__ == "Tensor":
        state: Any = value  # a generator's
        return "tensor", state.numpy().tobytes()
    return ("other", type(value).__name__)


def _global_streams() -> list[Stream]:
    streams = [
        Stream("Python's random", random.getstate, random.setstate),
        Stream("numpy.random", lambda: np.random.get_state(legacy=False), np.random.set_state),  # noqa: NPY002
    ]
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        streams.append(Stream("torch's generator", torch.get_rng_state, torch.set_rng_state))
    return streams


def _own_streams(module: Any) -> Iterator[Stream]:
    """Yield the generators that modules hold in attributes, and that their methods reach by a name."""
    seen = set[int]()
    for path, part in module.named_modules():
        held = {name: value for name, value in vars(part).items() if name not in _SKIPPED}
        for name, value in held.items():
            yield from _streams_in(value, f"{path}.{name}".lstrip("."), seen, 0)
        for owner in type(part).__mro__:
            if not owner.__module__.startswith("torch.") and owner is not object:
                for name, value in vars(owner).items():
                    yield from _streams_in(value, f"{owner.__name__}.{name}", seen, 0)


def _streams_in(value: Any, name: str, seen: set[int], depth: int) -> Iterator[Stream]:
    if depth > DEEPEST or id(value) in seen or len(seen) > MOST_OBJECTS:
        return
    if isinstance(value, str | bytes | int | float | np.ndarray | type | None):
        return
    seen.add(id(value))
    stream = _stream(value, name)
    if stream is not None:
        yield stream
        return
    for one in _held_by(value):
        yield from _streams_in(one, name, seen, depth + 1)


def _stream(value: Any, name: str) -> Stream | None:
    if isinstance(value, random.SystemRandom):
        return None
    if isinstance(value, random.Random):
        return Stream(name, value.getstate, value.setstate)
    if isinstance(value, np.random.RandomState):
        return Stream(name, lambda: value.get_state(legacy=False), value.set_state)
    bits = value.bit_generator if isinstance(value, np.random.Generator) else value
    if isinstance(bits, np.random.BitGenerator):
        return Stream(name, lambda: bits.state, lambda state: setattr(bits, "state", state))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Generator):
        generator: Any = value
        return Stream(name, generator.get_state, generator.set_state)
    return None


def _held_by(value: Any) -> list[Any]:
    """Return what containers, functions and plain objects hold; nothing of modules and tensors."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return list(value)
    if isinstance(value, staticmethod | classmethod | MethodType):
        return [value.__func__]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        known = (value.__globals__.get(name) for name in value.__code__.co_names)
        return [*cells, *(one for one in known if _stream(one, "") is not None or isinstance(one, FunctionType))]
    if type(value).__module__.partition(".")[0] in ("torch", "numpy", "builtins"):
        return []
    if any(base.__module__.startswith("torch.") for base in type(value).__mro__):
        return []
    return list(getattr(value, "__dict__", {}).values())


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
