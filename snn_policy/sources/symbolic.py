"""Tensors of a program that is followed symbolically: values that share memory, as torch's views do.

A tensor is a view of a `Storage`, which holds a symbolic value or constants; writing to it replaces what all its views
see. What outlives a decision is found by looking at the storages of a module before and after.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError
from snn_policy.sources.affine_values import MOST_ENTRIES, Value
from snn_policy.sources.value_arithmetic import as_value
from snn_policy.sources.value_movements import MOVES, VIEWS, indexed


class Storage:
    """Hold what several views show: constants, a flat array, or a value that depends on the observation."""

    def __init__(self, content: Value | npt.NDArray[Any]) -> None:
        self.content = content.flat if isinstance(content, Value) else np.asarray(content).reshape(-1)
        self.first = self.content


@dataclass(frozen=True, eq=False)
class Symbolic:
    """Hold a view of a storage: `places` are its entries there, in the tensor's shape."""

    storage: Storage
    places: npt.NDArray[np.int64]

    @classmethod
    def holding(cls, content: Any) -> "Symbolic":
        """Return a tensor of its own: of a `Value`, or of constants."""
        shape = content.shape if isinstance(content, Value) else np.shape(content)
        size = content.size if isinstance(content, Value) else int(np.size(content))
        return cls(Storage(content), np.arange(size).reshape(shape))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.places.shape

    @property
    def constant(self) -> npt.NDArray[Any] | None:
        """Return the array, where no observation enters it."""
        content = self.storage.content
        if isinstance(content, Value):
            return None
        return np.where(self.places < 0, np.zeros((), content.dtype), content[self.places]) if (
            self.places.size and self.places.min() < 0) else content[self.places]  # fmt: skip

    @property
    def original(self) -> npt.NDArray[Any] | None:
        """Return the constants that it was at first; None where it never was any."""
        first = self.storage.first
        return None if isinstance(first, Value) else first[self.places]

    @property
    def value(self) -> Value:
        """Return it as a symbolic value."""
        constant = self.constant
        return self.storage.content.moved(self.places) if constant is None else Value.constant(constant)  # pyright: ignore

    @property
    def given(self) -> Value | npt.NDArray[Any]:
        """Return what operators take: a value, or an array of constants."""
        constant = self.constant
        return self.value if constant is None else constant

    def moved(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Return a movement of `MOVES`, a view where torch's is one."""
        made = MOVES[name](self.places, *arguments, **keywords)
        return [self._at(one, name) for one in made] if isinstance(made, list) else self._at(made, name)

    def _at(self, places: npt.NDArray[np.int64], name: str) -> "Symbolic":
        view = Symbolic(self.storage, np.asarray(places))
        return view if name in VIEWS else Symbolic.holding(view.given)

    def entry(self, index: Any) -> "Symbolic":
        """Return x[index]."""
        return Symbolic(self.storage, indexed(self.places, index))

    def write(self, given: Any) -> None:
        """Set all of its entries: a value, or constants that broadcast."""
        content = self.storage.content
        if isinstance(content, Value) or isinstance(given, Value):
            self.storage.content = as_value(content).overwritten(self.places, as_value(given)).flat
            return
        changed = content.copy()
        changed[self.places.reshape(-1)] = np.broadcast_to(given, self.places.shape).reshape(-1)
        self.storage.content = changed


def plain(argument: Any) -> Any:
    """Return arguments with values and arrays in the place of tensors, lists included."""
    if isinstance(argument, Symbolic):
        return argument.given
    if isinstance(argument, list | tuple):
        return type(argument)(plain(one) for one in argument) if type(argument) in (list, tuple) else [
            plain(one) for one in argument]  # fmt: skip
    if isinstance(argument, dict):
        return {key: plain(one) for key, one in argument.items()}
    return argument


def observed(argument: Any) -> bool:
    """Return whether an observation enters any part of an argument."""
    return any(isinstance(one, Value) for one in leaves(plain(argument)))


def leaves(argument: Any) -> Iterator[Any]:
    """Yield what nested lists, tuples and dictionaries hold."""
    if isinstance(argument, list | tuple):
        for one in argument:
            yield from leaves(one)
    elif isinstance(argument, dict):
        yield from leaves(list(argument.values()))
    else:
        yield argument


def held(result: Any) -> Any:
    """Return results with tensors in the place of values and arrays."""
    if isinstance(result, Value | np.ndarray):
        return Symbolic.holding(result)
    if isinstance(result, list | tuple):
        return type(result)(held(one) for one in result)
    return result


def filled_like(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> npt.NDArray[Any] | None:
    """Return a new tensor of constants in the shape of another one's, or made by one; None for other functions.

    Raises:
        SourceError: it would be too large.
    """
    if name not in ("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full"):
        return None
    shape, rest = arguments[0].shape, list(arguments[1:])
    if name.startswith("new"):
        first = rest.pop(0) if rest else keywords["size"]
        shape = tuple(int(size) for size in (first if isinstance(first, list | tuple) else [first, *rest]))
    if math.prod(shape) > MOST_ENTRIES:
        raise SourceError(f"makes a tensor of shape {shape}; refused")
    number = keywords.get("fill_value", rest[0] if rest else 0.0) if "full" in name else float("ones" in name)
    return np.full(shape, float(number), np.float32)


def changed(first: Symbolic | None, last: Symbolic) -> bool:
    """Return whether a tensor that a module holds is another one now, or was written into."""
    if first is None or first.storage is not last.storage:
        before, after = None if first is None else first.constant, last.constant
        return not (before is not None and after is not None and np.array_equal(before, after))
    content, original = last.storage.content, last.storage.first
    if content is original:
        return False
    return isinstance(content, Value) or isinstance(original, Value) or not np.array_equal(content, original)
