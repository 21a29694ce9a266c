"""What a module's forward changes of plain Python and NumPy values that it holds: state that no actor can follow."""

import copy
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from snn_policy.errors import UnsupportedLayerError, warn
from snn_policy.sources.random_streams import frozen

Place = tuple[str, str]
"""A module's path and its attribute."""
Decide = Callable[[nn.Module], npt.NDArray[Any]]
"""What a module makes of one observation that stays the same, with whatever else it holds."""

CALLS = 3
_NUMBERS = (0, 1, 2, 3, 10, 31, 100, 101, 500, 1000, 10_000, 100_000, 10**6, 10**9)
"""Values that are tried in the place of a number that counts."""
_PLAIN = (bool, int, float, complex, str, np.ndarray, np.generic)
_INNER = ("_parameters", "_buffers", "_modules", "training")


def refuse_hidden_state(module: nn.Module, decide: Decide, title: str) -> None:
    """Call a copy of a module several times, and refuse plain values that it changes and that change its action.

    What changes at every call without an influence that shows, as a counter of calls, is warned of.

    Raises:
        UnsupportedLayerError: an action depends on an attribute that forward changes.
    """
    called = _shared(module)
    before = _plain_values(called)
    first = decide(called)
    once = _plain_values(called)
    for _ in range(CALLS - 1):
        decide(called)
    last = _plain_values(called)
    changed = [place for place in {**before, **last} if len({_told(one, place) for one in (before, once, last)}) > 1]
    for place in changed:
        held = [one[place] for one in (once, last) if place in one]
        for value in (*held, *_others(last.get(place))):
            if not _same(first, _decided(module, place, value, decide)):
                name = ".".join(filter(None, place))
                reason = f"{title} changes it whenever it is called, and its action depends on it"
                remedy = "Keep state in a buffer (a tensor), or leave it out of forward"
                raise UnsupportedLayerError(name, "hidden state", reason, remedy)
    counting = [".".join(filter(None, place)) for place in changed if _told(once, place) != _told(last, place)]
    if counting:
        warn(f"{title}: forward changes {', '.join(counting)}, which no action was found to depend on; it is left out")


def _shared(module: nn.Module) -> nn.Module:
    """Return a copy that shares the module's weights."""
    return copy.deepcopy(module, {id(weight): weight for weight in module.parameters()})


def _plain_values(module: nn.Module) -> dict[Place, Any]:
    found: dict[Place, Any] = {}
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name not in _INNER and not name.endswith("_hooks") and _tells(value):
                found[path, name] = copy.deepcopy(value)
    return found


def _tells(value: Any) -> bool:
    """Return whether a value can be compared: tensors are memories, which are read elsewhere."""
    if isinstance(value, dict):
        return all(_tells(one) for one in value.values())
    if isinstance(value, list | tuple | deque | set):
        return all(_tells(one) for one in value)
    return value is None or isinstance(value, _PLAIN)


def _told(values: dict[Place, Any], place: Place) -> Any:
    return frozen(values[place]) if place in values else ("missing",)


def _others(value: Any) -> tuple[Any, ...]:
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, int | float):
        return tuple(type(value)(number) for number in _NUMBERS)
    return ()


def _decided(module: nn.Module, place: Place, value: Any, decide: Decide) -> Any:
    """Return what a fresh copy decides with another value there; None where that fails."""
    tried = _shared(module)
    vars(tried.get_submodule(place[0]))[place[1]] = copy.deepcopy(value)
    try:
        return decide(tried)
    except Exception:
        return None


def _same(one: npt.NDArray[Any], other: Any) -> bool:
    return other is not None and one.shape == other.shape and np.allclose(one, other, 1e-5, 1e-6, equal_nan=True)
