"""Quotients of exponentials that are sigmoids: eˣ/(1 + eˣ), tanh as (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ), and their like."""

import numpy as np

from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_nodes import Unfinished
from snn_policy.sources.operations import Float64
from snn_policy.sources.value_functions import activated


def quotient_of_exponentials(above: Value, below: Value, path: str) -> Value | None:
    """Return (a + b·eᵛ)/(c + d·eᵛ) with c, d > 0 as a sigmoid of v; a, c may stand before e⁻ᵛ as well.

    With k = log(d/c) it is a/c + (b/d − a/c)·σ(v + k).
    """
    top, bottom = _exponentials(above), _exponentials(below)
    if bottom is None or top is None or not bottom[0]:
        return None
    v = bottom[0][0][0]
    over, under = _coefficients(*top, v), _coefficients(*bottom, v)
    if over is None or under is None:
        return None
    (plus, none, minus), (plus2, none2, minus2) = over, under
    if not (minus.any() or minus2.any()):
        a, b, c, d, factor = none, plus, none2, plus2, 1.0
    elif not (none.any() or none2.any()):
        a, b, c, d, factor = minus, plus, minus2, plus2, 2.0
    else:
        return None
    if not ((c > 0).all() and (d > 0).all()):
        return None
    gate = activated(v.scaled(factor).shifted(np.log(d / c)), "sigmoid", 0.0, path, "sigmoid")
    return gate.scaled(b / d - a / c).shifted(a / c)


def _exponentials(value: Value) -> tuple[list[tuple[Value, Float64]], Float64] | None:
    """Return the exponents and factors of a sum of exponentials, and what else is added; None for other sums."""
    opened, found = value.flat.opened, list[tuple[Value, Float64]]()
    for term in opened.terms:
        if not isinstance(term.node, Unfinished) or term.node.function != "exp" or (term.index < 0).any():
            return None
        found.append((term.node.operand.moved(term.index), term.scale))
    return found, opened.bias


def _coefficients(
    terms: list[tuple[Value, Float64]], bias: Float64, v: Value
) -> tuple[Float64, Float64, Float64] | None:
    """Return the factors of eᵛ, 1 and e⁻ᵛ; None where another exponent occurs."""
    plus, minus = np.zeros(v.size), np.zeros(v.size)
    for exponent, factor in terms:
        if exponent.same_as(v):
            plus = plus + factor
        elif exponent.scaled(-1.0).same_as(v):
            minus = minus + factor
        else:
            return None
    return plus, bias, minus
