"""Choices between values by the observation: comparisons, masks, `where`, the larger of two values.

What they make is read where it has straight pieces (`value_pieces`), is an ELU or a softplus, or is the larger of two.
"""

import math
from typing import Any

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.affine_values import Value, only_term, uniform
from snn_policy.sources.graph_nodes import Activated, Unfinished
from snn_policy.sources.operations import Float64
from snn_policy.sources.refusals import jumping, refusal
from snn_policy.sources.value_functions import activated, clipped
from snn_policy.sources.value_pieces import RELU, SIGN, Pieces, combined, common, exceeds, is_mask, piecewise

MOST_EXACT = 15
"""From this threshold on, torch's softplus is its definition to within float32."""
_MOST_EXPONENT = 1.0
"""Of bounded exponentials: one less another loses no digits that matter."""
_SAME = 1e-5


def compared(name: str, x: Value, y: Value, path: str) -> Value:
    """Return 1 where x is greater (`gt`, `ge`) or less (`lt`, `le`) than y, else 0."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    difference = x.expanded(shape).plus(y.expanded(shape).scaled(-1.0))
    if name in ("gt", "le"):
        above = exceeds(difference, path, name)
        return above if name == "gt" else inverted(above)
    below = exceeds(difference.scaled(-1.0), path, name)
    return below if name == "lt" else inverted(below)


def inverted(mask: Value) -> Value:
    return mask.scaled(-1.0).shifted(1.0)


def masked(x: Value, y: Value, path: str, kind: str) -> Value | None:
    """Return a product of which one factor is made of masks; None for others, and for what is not straight."""
    return combined([x, y], Pieces.times, path, kind) if is_mask(x) or is_mask(y) else None


def masks_together(x: Value, y: Value, path: str) -> Value | None:
    """Return a sum of two functions that jump, in which one jump may mask another; None for others."""
    return combined([x, y], Pieces.plus, path, "add") if is_mask(x) and is_mask(y) else None


def either_mask(x: Value, y: Value, both: bool, path: str, kind: str) -> Value:
    """Return the product of two masks, or what is true of either."""
    product = masked(x, y, path, kind)
    if product is None:
        raise refusal(path, "where")
    return product if both else x.plus(y).plus(product.scaled(-1.0))


def chosen(condition: Value, x: Value, y: Value, path: str, kind: str) -> Value:
    """Return x where the condition is 1, else y.

    Raises:
        UnsupportedLayerError: neither of straight pieces, nor an ELU or a softplus.
    """
    shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
    condition, x, y = (value.expanded(shape).flat for value in (condition, x, y))
    made = combined([condition, x, y], _chosen, path, kind)
    if made is None:
        made = _softplus(condition, x, y) or _elu(condition, x, y, path)
    if made is None:
        raise refusal(path, "where")
    return made.reshaped(shape)


def _chosen(condition: Pieces, x: Pieces, y: Pieces) -> Pieces | None:
    taken = x.plus(y.scaled(-np.ones(len(y.slopes)))).times(condition)
    return None if taken is None else y.plus(taken)


def _threshold(condition: Value, value: Value) -> tuple[Value, Float64, bool] | None:
    """Return of a condition that changes once: what it is of, where it changes, and if it is 1 above that.

    `value` is a function of the same.
    """
    found = common([condition, value])
    if found is None:
        return None
    pieces = found[1][0]
    if pieces.knots.shape[1] != 1 or pieces.slopes.any():
        return None
    ends = uniform(pieces.offsets[:, 0]), uniform(pieces.offsets[:, 1])
    return None if ends not in ((0.0, 1.0), (1.0, 0.0)) else (found[0], pieces.knots[:, 0], ends == (0.0, 1.0))


def _lines(values: list[Value]) -> list[tuple[Float64, Float64]] | None:
    """Return slopes and offsets of values that are lines of one value."""
    found = common(values)
    if found is None or any(pieces.knots.shape[1] for pieces in found[1]):
        return None
    return [(pieces.slopes[:, 0], pieces.offsets[:, 0]) for pieces in found[1]]


def _softplus(condition: Value, x: Value, y: Value) -> Value | None:
    """Return the softplus of βv > 20 ? v : softplus(βv)/β."""
    for soft, plain, above in ((y, x, True), (x, y, False)):
        term = only_term(soft)
        node = None if term is None else term.node
        if term is None or not isinstance(node, Activated) or node.norm is not None or node.activation is None:
            continue
        inner = node.operand.moved(term.index)
        bounded = _clip_below(inner, MOST_EXACT)
        inner = inner if bounded is None else bounded
        split = _threshold(condition, inner)
        if node.activation.name != "softplus" or split is None or split[2] is not above or soft.bias.any():
            continue
        lines = _lines([inner, plain])
        if lines is None:
            continue
        (steep, below), (straight, start) = lines
        exact = (steep * split[1] + below >= MOST_EXACT).all() and (steep > 0).all()
        same = np.allclose(straight, steep * term.scale, _SAME) and np.allclose(start, below * term.scale, _SAME, 1e-6)
        if exact and same:
            return Value.of(Activated(inner, node.activation, path=node.path, kind=node.kind)).scaled(term.scale)
    return None


def _clip_below(value: Value, least: float) -> Value | None:
    """Return v of min(v, bound), where the bound is no less than `least`; None for anything else."""
    term = only_term(value)
    node = None if term is None else term.node
    if term is None or not isinstance(node, Unfinished) or node.function != "clip" or value.bias.any():
        return None
    low, high = (np.asarray(bound)[term.index] for bound in node.numbers)
    open_below = (low == -np.inf).all() and (high >= least).all() and np.allclose(term.scale, 1)
    return node.operand.moved(term.index) if open_below else None


def _elu(condition: Value, x: Value, y: Value, path: str) -> Value | None:
    """Return r·elu(w) + q of w > 0 ? r·w + q : a·eʷ + b, where both are the same at 0."""
    for bent, plain, above in ((y, x, True), (x, y, False)):
        term = only_term(bent)
        node = None if term is None else term.node
        if term is None or not isinstance(node, Unfinished) or node.function != "exp":
            continue
        w = node.operand.moved(term.index)
        bounded = _clip_below(w, 0.0)
        w = w if bounded is None else bounded
        split = _threshold(condition, w)
        lines = None if split is None else _lines([w, plain])
        if split is None or lines is None:
            continue
        (steep, below), (straight, start) = lines
        if not steep.all() or not straight.all() or ((steep > 0) != (above == split[2])).any():
            continue
        factor = straight / steep
        at_zero = start - factor * below
        zero = abs(steep * split[1] + below) <= _SAME * (1 + abs(below))
        meets = np.isclose(term.scale + bent.opened.bias, at_zero, _SAME, _SAME)
        share = uniform(term.scale / factor)
        if zero.all() and meets.all() and share is not None:
            return activated(w, "elu", share, path, "elu").scaled(factor).shifted(at_zero)
    return None


def bounded_exponential(x: Value, path: str) -> Value | None:
    """Return e^min(v, h) = eʰ·(1 + elu(v − h) − relu(v − h)); None for exponentials of anything else."""
    term = only_term(x)
    node = None if term is None else term.node
    if term is None or not isinstance(node, Unfinished) or node.function != "clip":
        return None
    low, high = (uniform(np.asarray(bound)[term.index]) for bound in node.numbers)
    if low != -math.inf or high is None or not np.allclose(term.scale, 1) or (high + x.bias > _MOST_EXPONENT).any():
        return None
    v = node.operand.moved(term.index).shifted(-high).reshaped(x.shape)
    parts = activated(v, "elu", 1.0, path, "exp").plus(activated(v, "relu", 0.0, path, "exp").scaled(-1.0))
    return parts.shifted(1.0).scaled(np.exp(high + x.bias).reshape(x.shape))


def of_two(x: Value, y: Value, larger: bool, path: str) -> Value:
    """Return the larger or smaller of two values: y + relu(x − y), or y − relu(y − x)."""
    sign = 1.0 if larger else -1.0
    shape = np.broadcast_shapes(x.shape, y.shape)
    x, y = x.expanded(shape), y.expanded(shape)
    made = combined([x, y], lambda one, other: _larger(one, other, sign), path, "maximum" if larger else "minimum")
    if made is not None:
        return made
    over = activated(x.plus(y.scaled(-1.0)).scaled(sign), "relu", 0.0, path, "maximum" if larger else "minimum")
    return y.plus(over.scaled(sign))


def _larger(one: Pieces, other: Pieces, sign: float) -> Pieces:
    count = len(one.slopes)
    over = Pieces.alike(count, *RELU).of(one.plus(other.scaled(-np.ones(count))).scaled(np.full(count, sign)))
    return other.plus(over.scaled(np.full(count, sign)))


def sign(x: Value, path: str) -> Value:
    return piecewise(x, *SIGN, path, "Sign")


def shrunk(x: Value, reach: float, bias: float, path: str, kind: str = "Hardshrink") -> Value:
    """Return x + bias below −reach, x − bias above reach, zero between."""
    if reach < 0:
        raise jumping(path, kind)
    return piecewise(x, [-reach, reach], [(1.0, bias), (0.0, 0.0), (1.0, -bias)], path, kind)


def thresholded(x: Value, threshold: float, value: float, path: str) -> Value:
    """Return x above the threshold, else the value."""
    if threshold == value:
        return clipped(x, value, None, path, "threshold")
    return piecewise(x, [threshold], [(0.0, value), (1.0, 0.0)], path, "Threshold")


def branched(path: str, kind: str) -> UnsupportedLayerError:
    """Return the error where a program branches on values, or counts them."""
    reason = "it branches on values of the observation"
    return UnsupportedLayerError(path, kind, reason, "Keep forward free of branches on values")


def as_mask(value: Any) -> Any:
    """Return constants that are true or false as numbers."""
    return np.asarray(value, np.float64) if isinstance(value, np.ndarray) and value.dtype == bool else value
