"""How much a program may make while it is followed: a small file must not ask for much memory."""

from typing import Any

import numpy as np

from snn_policy.errors import SourceError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.symbolic import Symbolic, leaves
from snn_policy.untrusted_files import MEGABYTE

MOST_MADE = 256 * MEGABYTE
_PER_ENTRY = 16
"""Bytes of an entry's place and factor in a term."""


class Budget:
    """Count the bytes of what is made, views aside."""

    def __init__(self, most: int = MOST_MADE) -> None:
        self.most, self._spent = most, 0
        self._held = dict[int, np.ndarray[Any, Any]]()

    def spend(self, made: Any) -> None:
        """Count values, arrays, or lists of them.

        Raises:
            SourceError: it is too much.
        """
        for leaf in leaves(made):
            content = leaf.storage.content if isinstance(leaf, Symbolic) else leaf
            if isinstance(content, Value):
                self._spent += _PER_ENTRY * content.size * (len(content.terms) + 1)
            elif isinstance(content, np.ndarray):
                self._spent += self._new(content)
        if self._spent > self.most:
            raise SourceError(f"makes more than {self.most // MEGABYTE} MB of values while it is followed; refused")

    def _new(self, array: np.ndarray[Any, Any]) -> int:
        """Return the bytes of an array's memory, where it is neither a file's nor counted."""
        while isinstance(array.base, np.ndarray):
            array = array.base
        if array.base is not None or id(array) in self._held:
            return 0
        self._held[id(array)] = array
        return array.nbytes
