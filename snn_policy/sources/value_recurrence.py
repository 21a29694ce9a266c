"""GRU, LSTM and plain recurrent layers on symbolic values, one step or a short sequence, as torch defines them.

Gates in torch's order, (r, u, n) and (i, f, g, o). A step that starts from a memory is one stage; one that starts from
anything else, as within a sequence, is spelled out in products. One that starts from constants forgets, and is refused.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.affine_values import Value, joined, only_term
from snn_policy.sources.graph_nodes import CellState, GruStep, LstmStep, Memory, Unfinished
from snn_policy.sources.value_functions import activated, is_constant, linear
from snn_policy.sources.value_products import multiplied

LONGEST, DEEPEST = 256, 16
NAMES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}


def from_memory(value: Value) -> bool:
    """Return whether it is what a memory holds, as it holds it."""
    term = only_term(value)
    if term is None or not isinstance(term.node, Memory):
        return False
    return bool((term.scale == 1).all()) and not value.bias.any()


def gru_step(given: Value, returning: Value, before: Value, path: str) -> Value:
    """Return h of both ports' (r, u, n), 3·width each, and the state before."""
    n = before.size
    if from_memory(before):
        return Value.of(GruStep(given.flat, returning.flat, before.flat, path=path, kind="GRU"))
    a, b, old = given.flat, returning.flat, before.flat
    reset, update = (_sigmoid(_part(a, k, n).plus(_part(b, k, n)), path) for k in (0, 1))
    fresh = activated(_part(a, 2, n).plus(multiplied(reset, _part(b, 2, n), path)), "tanh", 0.0, path, "GRU")
    return fresh.plus(multiplied(update, old.plus(fresh.scaled(-1.0)), path))


def lstm_step(gates: Value, before: Value, path: str) -> tuple[Value, Value]:
    """Return h and c of the gates (i, f, g, o), 4·width, and the cell state before."""
    n = before.size
    if from_memory(before):
        step = LstmStep(gates.flat, before.flat, path=path, kind="LSTM")
        return Value.of(step), Value.of(CellState(step, path=path, kind="LSTM"))
    z = gates.flat
    taken, kept, leaving = (_sigmoid(_part(z, k, n), path) for k in (0, 1, 3))
    fresh = activated(_part(z, 2, n), "tanh", 0.0, path, "LSTM")
    c = multiplied(kept, before.flat, path).plus(multiplied(taken, fresh, path))
    return multiplied(leaving, activated(c, "tanh", 0.0, path, "LSTM"), path), c


def _part(value: Value, k: int, n: int) -> Value:
    return value.moved(np.arange(k * n, (k + 1) * n))


def _sigmoid(value: Value, path: str) -> Value:
    return activated(value, "sigmoid", 0.0, path, "sigmoid")


def layer_step(
    kind: str, x: Value, state: Sequence[Value], weights: Sequence[Any], path: str
) -> list[Value]:  # fmt: skip
    """Return the state after one step of one layer, h or (h, c); weights (w_ih, w_hh[, b_ih, b_hh])."""
    w_ih, w_hh, *biases = weights
    b_ih, b_hh = (*biases, None, None)[:2]
    h = state[0].flat
    width = np.shape(w_hh)[1]
    if h.size != width or np.shape(w_hh)[0] != {"lstm": 4, "gru": 3}.get(kind, 1) * width:
        raise SourceError(f"{path}: a state of {h.size} does not fit weights of shape {np.shape(w_hh)}")
    given = linear(x.flat, np.asarray(w_ih), b_ih, path, NAMES[kind])
    returning = _returned(h, w_hh, b_hh, path, NAMES[kind])
    if kind == "gru":
        return [gru_step(given, returning, h, path)]
    if kind == "lstm":
        return list(lstm_step(given.plus(returning), state[1].flat, path))
    return [activated(given.plus(returning), kind.removeprefix("rnn_"), 0.0, path, "RNN")]


def _returned(h: Value, weight: Any, bias: Any, path: str, kind: str) -> Value:
    if is_constant(h):
        made = Value.constant(np.asarray(weight, np.float64) @ h.bias)
        return made if bias is None else made.shifted(np.asarray(bias, np.float64))
    return linear(h, np.asarray(weight), bias, path, kind)


def cell(kind: str, x: Value, state: Sequence[Value], weights: Sequence[Any], path: str) -> list[Value]:
    """Return the state after one step of a cell, in the state's shape."""
    if is_constant(state[0]):
        made = _forgotten(kind, x, state, weights, path)
    else:
        made = layer_step(kind, x, state, weights, path)
    return [value.reshaped(one.shape) for value, one in zip(made, state, strict=True)]


def _forgotten(kind: str, x: Value, state: Sequence[Value], weights: Sequence[Any], path: str) -> list[Value]:
    """Return a state that is refused if the action needs it: unless it turns out to be a memory."""
    if x.size != np.shape(weights[0])[1]:
        raise SourceError(f"{path} takes {np.shape(weights[0])[1]} inputs, but gets {x.size}")
    widths = [one.size for one in state]
    nodes = [Unfinished(x.flat, "forgetting", width, (NAMES[kind],), path=path, kind=NAMES[kind]) for width in widths]
    return [Value.of(node) for node in nodes]


def sequence(
    kind: str,
    x: Value,
    state: Sequence[Value],
    weights: Sequence[Any],
    path: str,
    *,
    biased: bool = True,
    layers: int = 1,
    bidirectional: bool = False,
    batch_first: bool = False,
) -> tuple[Value, list[Value]]:
    """Return the outputs of all steps, and the state (layers, [1,] width) each, as torch's LSTM, GRU and RNN do."""
    name, per_layer = NAMES[kind], 4 if biased else 2
    if bidirectional:
        raise UnsupportedLayerError(path, name, "it is bidirectional: it needs the future", "Use one direction")
    if len(weights) != layers * per_layer or not 1 <= layers <= DEEPEST:
        reason = f"it has projections, or {len(weights)} arrays of weights for {layers} layers"
        raise UnsupportedLayerError(path, name, reason, f"Use a plain {name}")
    steps = _steps(x, batch_first, path, name)
    forgets = len(steps) == 1 and is_constant(state[0])
    ends: list[list[Value]] = []
    for layer in range(layers):
        own = weights[layer * per_layer : (layer + 1) * per_layer]
        held = [one.moved(one.places[layer]) for one in state]
        outputs = []
        for step in steps:
            step_of = _forgotten if forgets else layer_step
            made = step_of(kind, step, held, own, path)
            held = [value.reshaped(old.shape) for value, old in zip(made, held, strict=True)]
            outputs.append(held[0].flat)
        ends.append(held)
        steps = outputs
    stacked = [joined([end[k].reshaped((1, *end[k].shape)) for end in ends], 0) for k in range(len(state))]
    whole = joined(steps, 0).reshaped((*x.shape[:-1], steps[0].size))
    return whole, stacked


def _steps(x: Value, batch_first: bool, path: str, name: str) -> list[Value]:
    time = 1 if batch_first and len(x.shape) == 3 else 0
    if len(x.shape) not in (2, 3) or x.size != x.shape[time] * x.shape[-1]:
        raise SourceError(f"{path} ({name}): takes one sequence at a time, but gets {x.shape}")
    if x.shape[time] > LONGEST:
        raise SourceError(f"{path} ({name}): a sequence of {x.shape[time]} steps, more than {LONGEST}; refused")
    return [x.flat.moved(places) for places in x.places.reshape(x.shape[time], -1)]
