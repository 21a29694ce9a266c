"""GRU and LSTM steps that a program spells out, known by their gates: exporters write cells so, and people do.

h = n + u·(h₋ − n) in any of its forms is a GRU, o·tanh(f·c₋ + i·g) an LSTM, where h₋ and c₋ are what memories hold.
"""

from collections.abc import Iterator

import numpy as np

from snn_policy.sources.affine_values import Term, Value, joined, only_term, uniform
from snn_policy.sources.graph_nodes import Activated, GruStep, LstmStep, Memory, Multiplied, Weighted

Factors = tuple[float, Value, Value]


def spelled_gru(total: Value, path: str) -> Value | None:
    """Return the step that a sum is; None for any other sum."""
    whole = total.opened.flat
    if len(whole.terms) != 2 or whole.bias.any() or any((term.index < 0).any() for term in whole.terms):
        return None
    for update, fresh, before in _gru_parts(whole):
        if not _from_memory(before):
            continue
        made = _gru(update, fresh, before, path)
        if made is not None:
            return made.reshaped(total.shape)
    return None


def _gru_parts(whole: Value) -> Iterator[tuple[Value, Value, Value]]:
    """Yield what u, n's argument and h₋ may be."""
    products = [factors for factors in map(_factors, whole.terms) if factors is not None]
    if len(products) == 2:
        for (one, *p), (other, *q) in (products, products[::-1]):
            for gate, before in (p, p[::-1]):
                for rest, fresh in (q, q[::-1]):
                    update, inner = _gate(gate), _tanh(fresh)
                    complement = gate.flat.scaled(-1.0).shifted(1.0).same_as(rest)
                    if one == other == 1 and update is not None and inner is not None and complement:
                        yield update, inner, before
    if len(products) == 1:
        scale, *factors = products[0]
        alone = next(term for term in whole.terms if not isinstance(term.node, Multiplied))
        other = Value((whole.size,), (alone,), np.zeros(whole.size))
        for gate, distance in (factors, factors[::-1]):
            update, far = _gate(gate), other.plus(distance.flat.scaled(scale)).opened
            inner = _tanh(other)
            if update is not None and inner is not None:  # n + u·(h₋ − n)
                yield update, inner, far
            inner = _tanh(far)
            if update is not None and inner is not None:  # h₋ + (1 − u)·(n − h₋)
                yield update.scaled(-1.0), inner, other


def _gru(update: Value, fresh: Value, before: Value, path: str) -> Value | None:
    inner = fresh.opened.flat
    for term in inner.terms:
        factors = _factors(term)
        if factors is None or factors[0] != 1 or (term.index < 0).any():
            continue
        rest = inner.plus(Value((inner.size,), (term,), np.zeros(inner.size)).scaled(-1.0))
        _, one, other = factors
        for gate, back in ((one, other), (other, one)):
            reset = _gate(gate)
            if reset is None or not _of_memory(back.opened):
                continue
            parts = [_parted(reset), _parted(update)]
            given = joined([parts[0][0], parts[1][0], rest], 0)
            returning = joined([parts[0][1], parts[1][1], back.flat], 0)
            return Value.of(GruStep(given, returning, before.opened.flat, path=path, kind="GRU"))
    return None


def spelled_lstm(first: Value, second: Value, path: str) -> Value | None:
    """Return the step that a product is; None for any other product."""
    for leaving, told in ((first, second), (second, first)):
        out, cell = _gate(leaving), _tanh(told)
        whole = None if cell is None else cell.opened.flat
        if out is None or whole is None or len(whole.terms) != 2 or whole.bias.any():
            continue
        products = [factors for factors in map(_factors, whole.terms) if factors is not None and factors[0] == 1]
        if len(products) != 2 or any((term.index < 0).any() for term in whole.terms):
            continue
        for (_, *p), (_, *q) in (products, products[::-1]):
            for gate, before in (p, p[::-1]):
                for taking, fresh in (q, q[::-1]):
                    kept, taken, inner = _gate(gate), _gate(taking), _tanh(fresh)
                    if kept is None or taken is None or inner is None or not _from_memory(before):
                        continue
                    gates = joined([part.flat for part in (taken, kept, inner, out)], 0)
                    step = LstmStep(gates, before.opened.flat, whole, path=path, kind="LSTM")
                    return Value.of(step, first.shape)
    return None


def _factors(term: Term) -> Factors | None:
    """Scale and factors of a term that is a product."""
    scale = uniform(term.scale)
    if not isinstance(term.node, Multiplied) or scale is None:
        return None
    return scale, term.node.first.moved(np.maximum(term.index, 0)), term.node.second.moved(np.maximum(term.index, 0))


def _gate(value: Value) -> Value | None:
    """Compute u of σ(u) = ½ ± ½·tanh(u/2)."""
    term = only_term(value)
    if term is None or not isinstance(term.node, Activated) or term.node.norm is not None:
        return None
    function, scale = term.node.activation, uniform(term.scale)
    if function is None or function.name != "tanh" or scale is None or not np.allclose(abs(scale), 0.5):
        return None
    if not np.allclose(value.opened.bias, 0.5):
        return None
    return term.node.operand.moved(term.index).scaled(2.0 * np.sign(scale))


def _tanh(value: Value) -> Value | None:
    """Compute v of tanh(v)."""
    term = only_term(value)
    if term is None or not isinstance(term.node, Activated) or term.node.norm is not None:
        return None
    function = term.node.activation
    plain = function is not None and function.name == "tanh" and np.allclose(term.scale, 1)
    return term.node.operand.moved(term.index) if plain and not value.opened.bias.any() else None


def _from_memory(value: Value) -> bool:
    term = only_term(value)
    plain = term is not None and isinstance(term.node, Memory) and np.allclose(term.scale, 1)
    return plain and not value.opened.bias.any()


def _of_memory(value: Value) -> bool:
    """Return whether a value is a linear map of memories."""
    nodes = [term.node for term in value.terms]
    return bool(nodes) and all(
        isinstance(node, Memory) or (isinstance(node, Weighted) and _of_memory(node.operand.opened)) for node in nodes
    )


def _parted(value: Value) -> tuple[Value, Value]:
    """Return a gate's argument, as what the input and what memories give."""
    whole = value.opened.flat
    late = [term for term in whole.terms if _of_memory(Value((whole.size,), (term,), np.zeros(whole.size)))]
    early = [term for term in whole.terms if not any(term is one for one in late)]
    return Value((whole.size,), tuple(early), whole.bias), Value((whole.size,), tuple(late), np.zeros(whole.size))
