"""Values of a program that is no chain: every entry is an affine function of what the nodes of a graph give.

Moving values about (slices, transposes, concatenations, residual sums) is arithmetic on lists of entries, and costs
nothing; what computes is a node (`graph_nodes` has all kinds). `stage_builder` makes stages of those that the action
needs.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from snn_policy.errors import SourceError
from snn_policy.protocol import IntArray
from snn_policy.sources.operations import Float64

MOST_ENTRIES, MOST_TERMS = 2**21, 256
"""Entries of one value, and nodes that one value is a sum of; more are no policy's."""


_numbers = itertools.count()


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """Give `width` numbers; `path` and `kind` name it in messages. Nodes are numbered as they are made."""

    path: str
    kind: str
    number: int = field(default_factory=lambda: next(_numbers))

    is_sum = False

    @cached_property
    def opened(self) -> "Value":
        """Return its own value."""
        return Value.of(self)

    @property
    def width(self) -> int:
        raise NotImplementedError

    @property
    def operands(self) -> "tuple[Value, ...]":
        """Return the values of this decision that it needs."""
        return ()

    def alike(self, other: "Node") -> bool:
        """Return whether both are the same function of the same values, as far as that shows at once."""
        return self is other


@dataclass(frozen=True, eq=False)
class Term:
    """Add scale · (entries of what a node gives).

    Attributes:
        index: (size,) which of the node's entries; −1 where it adds nothing.
        scale: (size,) float64.
    """

    node: Node
    index: IntArray
    scale: Float64


@dataclass(frozen=True, eq=False)
class Value:
    """Hold Σ terms + bias, for one observation (a batch of one).

    Attributes:
        shape: with the batch axis, as the source has it.
        bias: (size,) float64, the entries in the order of the shape.
    """

    shape: tuple[int, ...]
    terms: tuple[Term, ...]
    bias: Float64

    @classmethod
    def of(cls, node: Node, shape: Sequence[int] | None = None) -> "Value":
        """Return all entries of a node, in order."""
        term = Term(node, np.arange(node.width), np.ones(node.width))
        return cls(tuple(shape or (node.width,)), (term,), np.zeros(node.width))

    @classmethod
    def constant(cls, array: Any) -> "Value":
        """Return a value of no terms."""
        values = np.asarray(array, np.float64)
        return cls(values.shape, (), values.reshape(-1))

    @property
    def size(self) -> int:
        return len(self.bias)

    @property
    def places(self) -> IntArray:
        """Return the entries' numbers, in the value's shape: what movements move."""
        return np.arange(self.size).reshape(self.shape)

    def moved(self, places: IntArray) -> "Value":
        """Return the entries at the given places, in their shape; zeros where a place is −1."""
        flat = np.asarray(places, np.int64).reshape(-1)
        _bounded(flat.size)
        none = flat < 0
        terms = []
        for term in self.terms:
            index = np.where(none, -1, term.index[flat])
            if (index >= 0).any():
                terms.append(Term(term.node, index, np.where(index < 0, 0.0, term.scale[flat])))
        return Value(tuple(np.shape(places)), tuple(terms), np.where(none, 0.0, self.bias[flat]))

    def reshaped(self, shape: Sequence[int]) -> "Value":
        return Value(tuple(int(size) for size in shape), self.terms, self.bias)

    @property
    def flat(self) -> "Value":
        return self.reshaped((self.size,))

    def expanded(self, shape: Sequence[int]) -> "Value":
        """Return it broadcast to a shape."""
        if tuple(shape) == self.shape:
            return self
        _bounded(math.prod(shape))
        return self.moved(np.broadcast_to(self.places, tuple(shape)))

    def scaled(self, factor: Any) -> "Value":
        """Return the product with constants that broadcast against it."""
        value, number = _together(self, factor)
        if not number.any():
            return Value(value.shape, (), value.bias * number)
        terms = (Term(term.node, *_kept(term.index, term.scale * number)) for term in value.terms)
        return Value(value.shape, tuple(terms), value.bias * number)

    def shifted(self, offset: Any) -> "Value":
        """Return the sum with constants that broadcast against it."""
        value, number = _together(self, offset)
        return Value(value.shape, value.terms, value.bias + number)

    def plus(self, other: "Value") -> "Value":
        """Return the sum; entries of one node that meet become one."""
        shape = np.broadcast_shapes(self.shape, other.shape)
        one, two = self.expanded(shape), other.expanded(shape)
        terms = list(one.terms)
        for term in two.terms:
            for place, held in enumerate(terms):
                apart = (held.index < 0) | (term.index < 0) | (held.index == term.index)
                if held.node is term.node and apart.all():
                    index = np.where(held.index < 0, term.index, held.index)
                    terms[place] = Term(held.node, *_kept(index, held.scale + term.scale))
                    break
            else:
                terms.append(term)
        if len(terms) > MOST_TERMS:
            raise SourceError(f"adds up more than {MOST_TERMS} values; refused")
        return Value(shape, tuple(term for term in terms if (term.index >= 0).any()), one.bias + two.bias)

    def overwritten(self, places: IntArray, other: "Value") -> "Value":
        """Return it with the entries at the given places replaced by another value's."""
        target = np.asarray(places).reshape(-1)
        new = other.expanded(np.shape(places)).flat
        source = np.full(self.size, -1)
        source[target] = np.arange(target.size)
        own = np.where(source < 0, np.arange(self.size), -1)
        return self.flat.moved(own).plus(new.moved(source)).reshaped(self.shape)

    @property
    def opened(self) -> "Value":
        """Return it with sums that are nodes of their own written out."""
        if not any(term.node.is_sum for term in self.terms):
            return self
        whole = Value(self.shape, (), self.bias)
        for term in self.terms:
            inner = term.node.opened.moved(term.index) if term.node.is_sum else None
            alone = Value((self.size,), (term,), np.zeros(self.size)) if inner is None else inner.scaled(term.scale)
            whole = whole.plus(alone.reshaped(self.shape))
        return whole

    def same_as(self, other: "Value", tolerance: float = 1e-9) -> bool:
        """Return whether both are the same function of the same nodes, their shapes aside."""
        mine, theirs = self.opened, other.opened
        if self.size != other.size or len(mine.terms) != len(theirs.terms):
            return False
        if not np.allclose(mine.bias, theirs.bias, tolerance, tolerance):
            return False
        left = list(theirs.terms)
        for one in mine.terms:
            found = next(
                (
                    two
                    for two in left
                    if np.array_equal(one.index, two.index)
                    and np.allclose(one.scale, two.scale, tolerance, 0.0)
                    and one.node.alike(two.node)
                ),
                None,
            )
            if found is None:
                return False
            left.remove(found)
        return True


def joined(values: Sequence[Value], axis: int) -> Value:
    """Return the concatenation along an axis."""
    sizes = np.cumsum([0, *(value.size for value in values)])
    _bounded(int(sizes[-1]))
    places = np.concatenate([value.places + start for value, start in zip(values, sizes, strict=False)], axis=axis)
    whole = Value((int(sizes[-1]),), (), np.zeros(int(sizes[-1])))
    for value, start in zip(values, sizes, strict=False):
        target = np.full(whole.size, -1)
        target[start : start + value.size] = np.arange(value.size)
        whole = whole.plus(value.flat.moved(target))
    return whole.moved(places)


def only_term(value: Value) -> Term | None:
    """Return the term of a value that is an affine function of one node, entry by entry."""
    value = value.opened
    if len(value.terms) != 1 or (value.terms[0].index < 0).any():
        return None
    return value.terms[0]


def whole_of(value: Value) -> Term | None:
    """Return the term of a value that has every entry of one node, in order."""
    term = only_term(value)
    if term is None or not np.array_equal(term.index, np.arange(term.node.width)):
        return None
    return term


def uniform(array: Float64) -> float | None:
    """Return the number that all entries are, to rounding; None where they differ."""
    first = float(array.flat[0]) if array.size else 0.0
    return first if np.allclose(array, first, 1e-6, 1e-12) else None


def _together(value: Value, constant: Any) -> tuple[Value, Float64]:
    number = np.asarray(constant, np.float64)
    shape = np.broadcast_shapes(value.shape, number.shape)
    return value.expanded(shape), np.broadcast_to(number, shape).reshape(-1)


def _kept(index: IntArray, scale: Float64) -> tuple[IntArray, Float64]:
    """Leave out entries whose scale is zero: they add nothing."""
    return np.where(scale == 0, -1, index), np.where(index < 0, 0.0, scale)


def _bounded(size: int) -> None:
    if size > MOST_ENTRIES:
        raise SourceError(f"makes a value of {size} entries, more than the {MOST_ENTRIES} allowed")
