"""Products and quotients of two values, and the functions that programs spell out with them.

x·σ(x), GELU, Mish, softsign, and norms of a row are recognised by what their factors are, in whatever order they were
written; any other product of two values is a stage of its own, and any other quotient is refused.
"""

import math
from dataclasses import dataclass

import numpy as np

from snn_policy.ann.activations import Activation
from snn_policy.ann.cells import NormKind
from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.affine_values import Term, Value, joined, only_term, uniform
from snn_policy.sources.graph_nodes import Activated, Multiplied, Node, Unfinished, Weighted, bare
from snn_policy.sources.operations import Float64
from snn_policy.sources.refusals import divided_by_zero
from snn_policy.sources.value_choices import masked
from snn_policy.sources.value_exponentials import quotient_of_exponentials
from snn_policy.sources.value_functions import activated, is_constant, unfinished
from snn_policy.sources.value_gates import spelled_lstm

MOST_SUMMAND = 1e-7
"""What is added to a length, instead of within its root, may be so much: it means nothing but not to divide by zero."""
_GELU_LINEAR = math.sqrt(2 / math.pi)


def multiplied(first: Value, second: Value, path: str, kind: str = "mul") -> Value:
    """Return x · y."""
    for one, other in ((first, second), (second, first)):
        if is_constant(other):
            return one.scaled(other.bias.reshape(other.shape))
    shape = np.broadcast_shapes(first.shape, second.shape)
    one, two = first.expanded(shape), second.expanded(shape)
    straight = masked(one, two, path, kind)
    if straight is not None:
        return straight
    for x, gate in ((one, two), (two, one)):
        made = _gated(x, gate, path) or _divided_by_root(x, gate, "reciprocal", path)
        if made is not None:
            return made
    step = spelled_lstm(one, two, path)
    if step is not None:
        return step
    if one.same_as(two):
        return unfinished("power", one, path, kind, (2.0,))
    for x, square in ((one, two), (two, one)):
        term = only_term(square)
        node = None if term is None else term.node
        if isinstance(node, Unfinished) and (node.function, node.numbers) == ("power", (2.0,)) and term is not None:
            factor = _ratio(x, node.operand.moved(term.index))
            if factor is not None and not square.bias.any():
                cube = unfinished("power", node.operand.moved(term.index), path, kind, (3.0,))
                return cube.scaled(factor * term.scale).reshaped(shape)
    return Value.of(Multiplied(one.flat, two.flat, path=path, kind=kind), shape)


def divided(first: Value, second: Value, path: str, kind: str = "div") -> Value:
    """Return x / y.

    Raises:
        UnsupportedLayerError: a quotient of two values that is no normalisation.
    """
    if is_constant(second):
        constant = second.bias.reshape(second.shape)
        if (constant == 0).any():
            raise divided_by_zero(path, kind, constant)
        return first.scaled(1 / constant)
    shape = np.broadcast_shapes(first.shape, second.shape)
    one, two = first.expanded(shape), second.expanded(shape)
    sigmoid = None if is_constant(one) else quotient_of_exponentials(one, two, path)
    if sigmoid is not None:
        return sigmoid.reshaped(shape)
    term = only_term(two)
    if term is not None and isinstance(term.node, Unfinished):
        node, operand = term.node, term.node.operand
        at_one = np.allclose(two.bias, 1) and np.allclose(term.scale, 1)
        if node.function == "exp" and at_one:  # 1/(1 + eᵘ) = σ(−u)
            gate = activated(operand.moved(term.index).scaled(-1.0).reshaped(shape), "sigmoid", 0.0, path, "sigmoid")
            return multiplied(one, gate, path, kind)
        factor = _ratio(one, operand.moved(term.index)) if node.function == "abs" and at_one else None
        if factor is not None:
            return activated(operand.moved(term.index), "softsign", 0.0, path, kind).scaled(factor).reshaped(shape)
        if is_constant(one) and _root_of(two) is not None:
            value = unfinished("reciprocal", second, path, kind)
            return value.expanded(shape).scaled(one.bias.reshape(shape))
        made = _divided_by_root(one, two, "root", path)
        if made is not None:
            return made
    mean = _beta_mean(one, two, path)
    if mean is not None:
        return mean.reshaped(shape)
    parts, whole = one.opened.terms, two.opened.terms
    if len(parts) < len(whole) and all(any(part.node.alike(term.node) for term in whole) for part in parts):
        reason = "it joins two values in a quotient α/(α + β), the mean of a Beta distribution"
        raise UnsupportedLayerError(path, "Beta head", reason, "Train with a Gaussian head")
    reason = "it joins two values: it divides by one that depends on the observation"
    remedy = (
        "Divide by norms of whole rows only; call activations by their names (sigmoid, tanh, mish), not spelled out"
    )
    raise UnsupportedLayerError(path, kind, reason, remedy)


def _beta_mean(one: Value, two: Value, path: str) -> Value | None:
    """Return α/(α + β) of two softplus, each with a constant added: σ(log α − log β)."""
    alpha, whole = one.flat.opened, two.flat.opened
    term = only_term(alpha)
    partners = [
        other
        for other in whole.terms
        if term is not None
        and other.node.alike(term.node)
        and np.array_equal(other.index, term.index)
        and np.allclose(other.scale, term.scale)
    ]
    if not partners:
        return None
    partner = partners[0]
    rest = tuple(other for other in whole.terms if other is not partner)
    beta = Value(whole.shape, rest, whole.bias - alpha.bias)
    logarithms = [_log_of_softplus(value, path) for value in (alpha, beta)]
    if logarithms[0] is None or logarithms[1] is None:
        return None
    return activated(logarithms[0].plus(logarithms[1].scaled(-1.0)), "sigmoid", 0.0, path, "Beta head")


def _log_of_softplus(value: Value, path: str) -> Value | None:
    """Return log(k·softplus(v) + b), where the value is that; None for any other."""
    term = only_term(value)
    node = None if term is None else term.node
    if term is None or not isinstance(node, Activated) or node.norm is not None or node.activation is None:
        return None
    scale, offset = uniform(term.scale), uniform(value.bias)
    if node.activation.name != "softplus" or scale is None or offset is None or scale <= 0 or offset < -1e-9:
        return None
    least = max(0.0, offset / scale) if offset > 1e-12 else 0.0
    made = Activated(node.operand.moved(term.index), Activation("log_softplus", least), path=path, kind="Beta head")
    return Value.of(made).shifted(math.log(scale))


def _gated(x: Value, gate: Value, path: str) -> Value | None:
    """Compute x · gate, where the gate is a function of x itself: SiLU, Mish, GELU."""
    term = only_term(gate)
    scale, offset = (None, None) if term is None else (uniform(term.scale), uniform(gate.bias))
    if term is None or scale is None or offset is None or not scale:
        return None
    inner = _inside(term.node, x)
    inner = None if inner is None else inner.moved(term.index)
    half = math.isclose(scale, offset, rel_tol=1e-5)
    match term.node:
        case Unfinished(function="clip") | Activated(activation=Activation(name="clip")) if inner is not None:
            return _hard_swish(x, inner, term, scale, offset, path)
        case Unfinished(function="erf") if half and inner is not None:
            return _of(x, inner.scaled(math.sqrt(2)), "gelu", 2 * scale, path)
        case Activated(activation=function) if inner is not None and function is not None and function.name == "tanh":
            if half:
                silu = _of(x, inner.scaled(2.0), "silu", 2 * scale, path)
                return silu or _tanh_gelu(x, inner, scale, path)
            below = only_term(inner)
            if offset == 0 and below is not None and isinstance(below.node, Activated) and not inner.bias.any():
                soft, v = below.node.activation, _inside(below.node, x)
                if v is not None and soft is not None and soft.name == "softplus" and np.allclose(below.scale, 1):
                    return _of(x, v.moved(below.index), "mish", scale, path)
    return None


def _hard_swish(x: Value, inner: Value, gate: Term, scale: float, offset: float, path: str) -> Value | None:
    """Compute x · (scale · clip(inner, low, high) + offset), where the gate opens from −reach to reach of x."""
    node = gate.node
    if isinstance(node, Unfinished):
        low, high = (uniform(np.asarray(bound)[gate.index]) for bound in node.numbers)
    else:
        low, high = 0.0, node.activation.parameter  # pyright: ignore
    if low is None or high is None or not math.isfinite(high - low) or scale <= 0:
        return None
    factor = _ratio(x, inner.shifted(-(low + high) / 2))
    slope = None if factor is None else uniform(factor)
    if slope is None or slope <= 0 or not math.isclose(scale * low, -offset, abs_tol=1e-6 * scale * (high - low)):
        return None
    return _of(x, x.flat.scaled(6 / (slope * (high - low))), "hardswish", scale * (high - low), path)


def _inside(node: Node, x: Value) -> Value | None:
    """Return what a node's activation acts on, in terms of the norm that x is made of where there is one."""
    if not isinstance(node, Activated) or node.norm is None:
        elementwise = isinstance(node, Activated | Unfinished) and node.operands[0].size == node.width
        return node.operands[0] if elementwise else None
    term = only_term(x)
    other = None if term is None else term.node
    if not isinstance(other, Activated) or other.activation is not None or other.norm is None:
        return None
    alike = (other.norm.kind, other.norm.epsilon) == (node.norm.kind, node.norm.epsilon)
    if not alike or not other.operand.same_as(node.operand):
        return None
    slope = node.norm.weight / other.norm.weight
    return Value.of(other).scaled(slope).shifted(node.norm.bias - other.norm.bias * slope)


def _tanh_gelu(x: Value, inner: Value, scale: float, path: str) -> Value | None:
    inner = inner.opened
    cubes = [term for term in inner.terms if isinstance(term.node, Unfinished) and term.node.function == "power"]
    if len(cubes) != 1 or (cubes[0].index < 0).any() or cubes[0].node.numbers != (3.0,):  # pyright: ignore
        return None
    v = cubes[0].node.operands[0].moved(cubes[0].index)
    cube = Value((inner.size,), (cubes[0],), np.zeros(inner.size))
    linear = v.scaled(_GELU_LINEAR)
    weight = uniform(cubes[0].scale)
    if weight is None or not math.isclose(weight, 0.044715 * _GELU_LINEAR, rel_tol=1e-4):
        return None
    if not inner.flat.plus(cube.scaled(-1.0)).same_as(linear, 1e-5):
        return None
    return _of(x, v, "gelu_tanh", 2 * scale, path)


def _of(x: Value, v: Value, name: str, scale: float, path: str) -> Value | None:
    """Compute scale · f(v) for x · gate, where x is a multiple of v."""
    factor = _ratio(x, v)
    if factor is None:
        return None
    return activated(v, name, 0.0, path, name).scaled(factor * scale).reshaped(x.shape)


def _ratio(x: Value, v: Value) -> Float64 | None:
    """Return the factors (size,) that make v to x, entry by entry; None where there are none."""
    x, v = x.opened, v.opened
    if x.size != v.size or not v.terms or len(x.terms) != len(v.terms):
        return None
    partner = next((term for term in x.terms if term.node.alike(v.terms[0].node)), None)
    if partner is None or not np.array_equal(partner.index, v.terms[0].index) or (partner.index < 0).any():
        return None
    factor = partner.scale / v.terms[0].scale
    return factor if v.flat.scaled(factor).same_as(x, 1e-6) else None


@dataclass(frozen=True, eq=False)
class _Root:
    """Compute √(mean² + ε) or max(‖row‖, ε) of rows (rows, n), times a factor."""

    rows: Value
    kind: NormKind
    epsilon: float
    factor: float


def _divided_by_root(x: Value, divisor: Value, function: str, path: str) -> Value | None:
    """Compute x / divisor, or x times the reciprocal of one: rows that are normalised by their size."""
    term = only_term(divisor)
    if term is None:
        return None
    root = None
    if function == "reciprocal" and isinstance(term.node, Unfinished) and term.node.function == "reciprocal":
        root = _root_of(term.node.operand)
        outer = term.scale if not divisor.bias.any() else None
    else:
        root, outer = (_root_of(divisor), np.ones(1)) if function == "root" else (None, None)
    if root is None or outer is None:
        return None
    count, n = root.rows.shape
    if x.size != count * n or not np.array_equal(term.index, np.repeat(np.arange(count), n)):
        return None
    factor = _ratio(x, root.rows.flat)
    if factor is None:
        return None
    rows = [root.rows.moved(places) for places in root.rows.places]
    normed = joined([_normed(row, root, path) for row in rows], 0)
    return normed.scaled(factor * outer / root.factor).reshaped(x.shape)


def _normed(row: Value, root: _Root, path: str) -> Value:
    centred = _before_centring(row) if root.kind == "rms" else None
    kind: NormKind = root.kind if centred is None else "layer"
    names = {"layer": "LayerNorm", "rms": "RMSNorm", "l2": "L2 norm"}
    operand = row if centred is None else centred
    return Value.of(Activated(operand, None, bare(kind, root.epsilon, row.size), path=path, kind=names[kind]))


def _before_centring(row: Value) -> Value | None:
    """Compute u of u − mean(u)."""
    row = row.opened
    for term in row.terms:
        if isinstance(term.node, Weighted) and term.node.kind == "mean" and term.node.width == 1:
            mean = Value((row.size,), (term,), np.zeros(row.size))
            rest = row.flat.plus(mean.scaled(-1.0))
            if uniform(term.scale) == -1.0 and rest.same_as(term.node.operand):
                return rest
    return None


def _root_of(divisor: Value) -> _Root | None:
    term = only_term(divisor)
    if term is None or not isinstance(term.node, Unfinished):
        return None
    scale, offset = uniform(term.scale), uniform(divisor.bias)
    if scale is None or offset is None or scale <= 0:
        return None
    node, least = term.node, 0.0
    if node.function == "clip" and offset == 0 and (np.asarray(node.numbers[1]) == np.inf).all():
        inner = only_term(node.operand)
        bound = uniform(np.asarray(node.numbers[0]))
        if inner is None or bound is None or not np.allclose(inner.scale, 1) or node.operand.bias.any():
            return None
        least, node = bound, inner.node
        if isinstance(node, Unfinished) and node.function == "squares":
            return None
    if not isinstance(node, Unfinished) or node.function != "root":
        return None
    return _size_of(node.operand, scale, offset, least)


def _size_of(radicand: Value, scale: float, offset: float, least: float) -> _Root | None:
    """Compute scale · √(a·Σv² + b) + offset, or scale · max(√…, least), where a norm does as much."""
    term = only_term(radicand)
    node = None if term is None else term.node
    if term is None or not isinstance(node, Unfinished) or node.function != "squares":
        if isinstance(node, Unfinished) and node.function == "clip" and term is not None:
            below = only_term(node.operand)  # √max(Σv², ε²)
            bound = uniform(np.asarray(node.numbers[0]))
            if below is None or bound is None or bound < 0 or radicand.bias.any() or least:
                return None
            return _size_of(node.operand, scale, offset, math.sqrt(bound))
        return None
    a, b = uniform(term.scale), uniform(radicand.bias)
    rows = node.operand.reshaped((node.outputs, node.operand.size // node.outputs))
    n = rows.shape[1]
    if a is None or b is None or a <= 0 or b < 0:
        return None
    if b > 0 and least == 0 and offset == 0:  # √a·n · √(Σv²/n + b/(a·n))
        return _Root(rows, "rms", b / (a * n), scale * math.sqrt(a * n))
    if b == 0 and 0 <= offset <= MOST_SUMMAND:
        return _Root(rows, "l2", max(least, offset / scale) / math.sqrt(a), scale * math.sqrt(a))
    return None
