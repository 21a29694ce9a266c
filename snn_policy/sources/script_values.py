"""What the reader of TorchScript computes with: values that depend on the observation, and those that cannot be read.

Everything else is a constant: NumPy arrays, numbers, texts, lists, and modules.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_policy.sources.operations import Operation

MOST_VALUES = 2**24
"""Entries of the largest constant that is computed."""


@dataclass(frozen=True, eq=False)
class Call:
    """Record one call of torch, as the program makes it; `arguments` hold constants and `Observed` values."""

    name: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Observed:
    """Stand for a value that depends on one observation (a batch of one).

    Attributes:
        root: the name of the input that it depends on.
        shape: None stands for the input's size where that is not known yet.
        operations: from the input to it.
        call: what made it, for the check; None for the input itself.
    """

    root: str
    shape: tuple[int | None, ...]
    operations: tuple[Operation, ...] = ()
    call: Call | None = None


@dataclass(frozen=True, eq=False)
class Unread:
    """Stand for a value that cannot be read; the error is raised if the action depends on it."""

    error: ValueError

    def __post_init__(self) -> None:
        self.error.__traceback__ = None  # its frames hold all that the program has made


@dataclass(frozen=True, eq=False)
class UnknownSize(Unread):
    """Stand for the size of an input that is not known yet; a comparison with a number says it."""

    root: str


class ScriptModule:
    """Hold an object of a TorchScript class: its attributes, as they were saved.

    Attributes:
        kind: the class's full name in the archive.
        path: where it stands in the policy (`actor.2`).
    """

    kind = ""
    path = ""

    def __new__(cls, *_: Any) -> "ScriptModule":
        made = super().__new__(cls)
        made.fields = {}
        return made

    fields: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        self.fields = state if isinstance(state, dict) else {}

    @property
    def name(self) -> str:
        return self.kind.rpartition(".")[2]


class SizeFound(Exception):
    """Report the size of an input, found at the first layer that says it: the program is read again with it."""

    def __init__(self, root: str, size: int) -> None:
        super().__init__(root, size)
        self.root, self.size = root, size


def values_in(argument: Any) -> Iterator[Any]:
    """Yield the values in nested lists, tuples and dictionaries."""
    if isinstance(argument, list | tuple):
        for entry in argument:
            yield from values_in(entry)
    elif isinstance(argument, dict):
        yield from values_in(list(argument.values()))
    else:
        yield argument


def storage_of(array: Any) -> int:
    """Return the identity of the memory that an array is a view of."""
    while isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
        array = array.base
    return id(array)
