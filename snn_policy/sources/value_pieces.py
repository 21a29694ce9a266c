"""Functions of one value in straight pieces, however programs spell them: comparisons, masks, `where`, signs, maxima.

Of every entry, a function keeps its knots and the lines between them. One without jumps is made of ReLUs: a leaky ReLU
or a clip where that is enough. One that jumps stays unfinished, since another may mask the jump, and is refused by name
if the action needs it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.protocol import IntArray
from snn_policy.sources.affine_values import Node, Term, Value, only_term, uniform
from snn_policy.sources.graph_nodes import Activated, Summed, Unfinished
from snn_policy.sources.operations import Float64
from snn_policy.sources.refusals import jumping
from snn_policy.sources.value_functions import activated, clipped

MOST_KNOTS = 24
_SAME = 1e-6
"""Knots, and values, that are closer than this share of their size are one: constants are float32."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Hold a function of t for each of n entries: slope · t + offset between two knots.

    Attributes:
        knots: (n, k), ascending.
        slopes, offsets: (n, k + 1), left to right.
    """

    knots: Float64
    slopes: Float64
    offsets: Float64

    @classmethod
    def line(cls, slope: Float64, offset: Float64) -> "Pieces":
        return cls(np.zeros((len(slope), 0)), slope[:, None], offset[:, None])

    @classmethod
    def alike(cls, n: int, knots: list[float], lines: list[tuple[float, float]]) -> "Pieces":
        """Return the same function for every entry."""
        slopes, offsets = np.array(lines, np.float64).T
        return cls(*(np.tile(np.asarray(row, np.float64), (n, 1)) for row in (knots, slopes, offsets)))

    def moved(self, index: IntArray) -> "Pieces":
        return Pieces(self.knots[index], self.slopes[index], self.offsets[index])

    def scaled(self, factor: Float64) -> "Pieces":
        return Pieces(self.knots, self.slopes * factor[:, None], self.offsets * factor[:, None])

    def split(self, knots: Float64) -> tuple[Float64, Float64]:
        """Return slopes and offsets between other knots, of which its own are some."""
        place = (self.knots[:, None, :] < _within(knots)[:, :, None]).sum(-1)
        return np.take_along_axis(self.slopes, place, 1), np.take_along_axis(self.offsets, place, 1)

    def plus(self, other: "Pieces") -> "Pieces":
        knots = np.sort(np.concatenate([self.knots, other.knots], 1), 1)
        (slope, offset), (slope2, offset2) = self.split(knots), other.split(knots)
        return Pieces(knots, slope + slope2, offset + offset2)

    def times(self, other: "Pieces") -> "Pieces | None":
        """Return the product; None where neither factor is constant on a piece."""
        knots = np.sort(np.concatenate([self.knots, other.knots], 1), 1)
        (slope, offset), (slope2, offset2) = self.split(knots), other.split(knots)
        if np.any((slope != 0) & (slope2 != 0)):
            return None
        return Pieces(knots, slope * offset2 + slope2 * offset, offset * offset2)

    def of(self, inner: "Pieces") -> "Pieces":
        """Return this function of another's values."""
        with np.errstate(divide="ignore", invalid="ignore"):
            crossed = (self.knots[:, None, :] - inner.offsets[:, :, None]) / inner.slopes[:, :, None]
        edges = np.pad(inner.knots, ((0, 0), (1, 1)), constant_values=(-np.inf, np.inf))
        within = (crossed > edges[:, :-1, None]) & (crossed < edges[:, 1:, None]) & np.isfinite(crossed)
        found = np.where(within, crossed, np.nan).reshape(len(crossed), -1)
        found = found[:, ~np.isnan(found).all(0)]
        knots = np.sort(np.concatenate([inner.knots, found], 1), 1)
        last = np.where(np.isnan(knots), -np.inf, knots).max(1, initial=-np.inf)
        knots = np.where(np.isnan(knots), np.where(np.isfinite(last), last, 0.0)[:, None], knots)
        slope, offset = inner.split(knots)
        place = (self.knots[:, None, :] < (slope * _within(knots) + offset)[:, :, None]).sum(-1)
        outer = np.take_along_axis(self.slopes, place, 1)
        return Pieces(knots, outer * slope, outer * offset + np.take_along_axis(self.offsets, place, 1))

    def at_knots(self) -> tuple[Float64, Float64]:
        """Return the values on the left and on the right of every knot."""
        return (self.slopes[:, :-1] * self.knots + self.offsets[:, :-1],
                self.slopes[:, 1:] * self.knots + self.offsets[:, 1:])  # fmt: skip


def _within(knots: Float64) -> Float64:
    """Return a place on every piece, (n, k + 1)."""
    if not knots.shape[1]:
        return np.zeros((len(knots), 1))
    return np.concatenate([knots[:, :1] - 1, (knots[:, :-1] + knots[:, 1:]) / 2, knots[:, -1:] + 1], 1)


STEP = [0.0], [(0.0, 0.0), (0.0, 1.0)]
SIGN = [0.0], [(0.0, -1.0), (0.0, 1.0)]
RELU = [0.0], [(0.0, 0.0), (1.0, 0.0)]
"""Knots, and lines between them (slope, offset)."""


def piecewise(
    x: Value, knots: list[float], lines: list[tuple[float, float]], path: str, kind: str
) -> Value:  # fmt: skip
    """Return a function of straight pieces, the same for all entries of x."""
    made = Pieces.alike(x.size, knots, lines).of(Pieces.line(np.ones(x.size), np.zeros(x.size)))
    return _finished(x.flat, made, path, kind).reshaped(x.shape)


def exceeds(x: Value, path: str, kind: str) -> Value:
    """Return 1 where x > 0, else 0."""
    return piecewise(x, *STEP, path, kind)


def is_mask(value: Value) -> bool:
    """Return whether functions that jump are part of it."""
    return any(isinstance(term.node, Unfinished) and term.node.function == "pieces" for term in value.opened.terms)


def combined(values: list[Value], rule: Callable[..., Pieces | None], path: str, kind: str) -> Value | None:
    """Return what a rule makes of functions of one value; None where they are of several, or the rule gives none."""
    shape = np.broadcast_shapes(*(value.shape for value in values))
    flat = [value.expanded(shape).flat for value in values]
    found = common(flat)
    if found is None:
        return None
    made = rule(*found[1])
    if made is None or made.knots.shape[1] > MOST_KNOTS:
        return None
    return _finished(found[0], made, path, kind).reshaped(shape)


def common(values: list[Value]) -> tuple[Value, list[Pieces]] | None:
    """Return the one value that all are functions of in straight pieces, and those functions."""
    for whole in (True, False):
        leaves = [leaf for value in values for leaf in _leaves(value, whole)]
        if not leaves or any(leaf.node is not leaves[0].node for leaf in leaves):
            continue
        index = leaves[0].index
        for leaf in leaves[1:]:
            index = np.where(index < 0, leaf.index, index)
        if any((leaf.index[leaf.index >= 0] != index[leaf.index >= 0]).any() for leaf in leaves):
            continue
        made = [_pieces(value, leaves[0].node, whole) for value in values]
        if max(one.knots.shape[1] for one in made) <= MOST_KNOTS:
            return Value.of(leaves[0].node).moved(index), made
    return None


def _leaves(value: Value, whole: bool) -> list[Term]:
    """Return the terms that a value is made of in straight pieces; sums are terms of their own where `whole`."""
    found = []
    for term in value.terms:
        if isinstance(term.node, Summed) and not whole:
            found += _leaves(term.node.operand.moved(term.index), whole)
        elif _own(term.node, term.index) is not None:
            found += _leaves(term.node.operands[0].moved(term.index), whole)
        else:
            found.append(term)
    return found


def _pieces(value: Value, leaf: Node, whole: bool) -> Pieces:
    """Return a value as a function of a leaf's entries."""
    made = Pieces.line(np.zeros(value.size), value.bias)
    for term in value.terms:
        if term.node is leaf:
            part = Pieces.line(np.ones(value.size), np.zeros(value.size))
        else:
            part = _pieces(term.node.operands[0].moved(term.index), leaf, whole)
            own = None if isinstance(term.node, Summed) else _own(term.node, term.index)
            part = part if own is None else own.of(part)
        made = made.plus(part.scaled(term.scale))
    return made


def _own(node: Node, index: IntArray) -> Pieces | None:
    """Return what a node computes of its operand, entry by entry; None if that is not of straight pieces."""
    n = len(index)
    if isinstance(node, Activated) and node.norm is None and node.activation is not None:
        number = node.activation.parameter
        match node.activation.name:
            case "relu":
                return Pieces.alike(n, *RELU)
            case "leaky_relu":
                return Pieces.alike(n, [0.0], [(number, 0.0), (1.0, 0.0)])
            case "clip":
                return Pieces.alike(n, [0.0, number], [(0.0, 0.0), (1.0, 0.0), (0.0, number)])
        return None
    if not isinstance(node, Unfinished) or node.operand.size != node.width:
        return None
    match node.function:
        case "abs":
            return Pieces.alike(n, [0.0], [(-1.0, 0.0), (1.0, 0.0)])
        case "pieces":
            return node.numbers[0].moved(np.maximum(index, 0))
        case "clip":
            low, high = (np.asarray(bound, np.float64)[np.maximum(index, 0)] for bound in node.numbers)
            below, above = np.isfinite(low), np.isfinite(high)
            first = np.where(below, low, np.where(above, high, 0.0))
            knots = np.stack([first, np.where(above, high, first)], 1)
            slopes = np.stack([~below, np.ones(n), ~above], 1).astype(np.float64)
            offsets = np.stack([np.where(below, low, 0.0), np.zeros(n), np.where(above, high, 0.0)], 1)
            return Pieces(knots, slopes, offsets)
    return None


def _finished(x: Value, function: Pieces, path: str, kind: str) -> Value:
    """Return a function of x, (n,): of ReLUs, or unfinished where it jumps."""
    knots = function.knots.copy()
    for place in range(1, knots.shape[1]):
        near = knots[:, place] - knots[:, place - 1] <= _SAME * (1 + abs(knots[:, place]))
        knots[:, place] = np.where(near, knots[:, place - 1], knots[:, place])
    function = Pieces(knots, function.slopes, function.offsets)
    left, right = function.at_knots()
    size = 1 + abs(left) + abs(right) + abs(knots) * abs(function.slopes).max(1, initial=0.0, keepdims=True)
    if (abs(right - left) > _SAME * size).any():
        return Value.of(Unfinished(x, "pieces", x.size, (function,), path=path, kind=kind))
    bends = np.diff(function.slopes, axis=1)
    bends[abs(bends) <= _SAME * abs(function.slopes).max(1, initial=0.0, keepdims=True)] = 0.0
    for place in range(bends.shape[1] - 1):  # bends at one knot are one
        same = knots[:, place] == knots[:, place + 1]
        bends[:, place + 1] += np.where(same, bends[:, place], 0.0)
        bends[:, place] = np.where(same, 0.0, bends[:, place])
    order = np.argsort(bends == 0, axis=1, kind="stable")
    bends, knots = (np.take_along_axis(array, order, 1) for array in (bends, knots))
    count = int((bends != 0).sum(1).max(initial=0))
    return _bent(x, function, knots[:, :count], bends[:, :count], path, kind)


def _bent(x: Value, function: Pieces, knots: Float64, bends: Float64, path: str, kind: str) -> Value:
    slope, offset = function.slopes[:, 0], function.offsets[:, 0]
    line = x.scaled(slope).shifted(offset)
    if not bends.shape[1]:
        return line
    if bends.shape[1] == 1 and bends.all():
        made = _leaky(x, slope, slope + bends[:, 0], knots[:, 0], path, kind)
        if made is not None:
            return made.shifted(slope * knots[:, 0] + offset)
    if bends.shape[1] == 2 and np.allclose(bends[:, 0], -bends[:, 1], _SAME, 0.0) and bends.all():
        clip = clipped(x, knots[:, 0], knots[:, 1], path, kind)
        return line.plus(clip.shifted(-knots[:, 0]).scaled(bends[:, 0]))
    for knot, bend in zip(knots.T, bends.T, strict=True):
        line = line.plus(activated(x.shifted(-knot), "relu", 0.0, path, kind).scaled(bend))
    return line


def _leaky(x: Value, left: Float64, right: Float64, knot: Float64, path: str, kind: str) -> Value | None:
    """Return left · (x − knot) below a knot and right · (x − knot) above it, as one leaky ReLU; None if it is none."""
    for one, other, sign in ((right, left, 1.0), (left, right, -1.0)):
        share = uniform(other / one) if one.all() else None
        if share is not None:
            turned = x.shifted(-knot).scaled(sign)
            name = "leaky_relu" if share else "relu"
            return activated(turned, name, share, path, kind).scaled(sign * one)
    return None


def refuse_jump(node: Unfinished) -> UnsupportedLayerError:
    """Return the error for a function that jumps, by its name."""
    function: Pieces = node.numbers[0]
    left, right = (array[0] for array in function.at_knots())
    highest = int(np.argmax(abs(right - left)))
    knots, slopes, offsets = (array[0] for array in (function.knots, function.slopes, function.offsets))
    jumps = abs(right - left) > _SAME
    name = node.kind
    if name.lower() not in ("shrink", "hardshrink", "threshold", "heaviside", "sign", "thresholdedrelu"):
        flat = not slopes.any()
        if jumps.sum() == 1:
            negative = flat and np.isclose(offsets[0], -offsets[-1])
            name = ("Sign" if negative else "Heaviside") if flat else "Threshold" if not slopes.all() else node.kind
        elif jumps.sum() == 2 and slopes[0] == slopes[-1] == 1 and not offsets[[0, -1]].any():
            name = "Hardshrink"
    term, bias = only_term(node.operand), node.operand.opened.bias[0]
    place = (knots[highest] - bias) / (1.0 if term is None else term.scale[0])
    return jumping(node.path, name, float(abs(right - left)[highest]), float(place))
