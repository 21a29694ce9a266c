"""Vector-Jacobian products of cells: how derivatives of what a stage makes travel back to what it was given.

With a any number that depends on a stage's value h and on the memory m′ that its cell keeps, ∂a/∂h and ∂a/∂m′ become
∂a/∂z of every port and ∂a/∂m of the memory before. The forward equations stand in `snn_policy.ann.cells`; these are
NumPy, in the precision of their arguments.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.ann.activations import Activation
from snn_policy.ann.cells import LEAST_SIZE, Cell, Elementwise, Gru, Lstm, Norm, Product, sigmoid

Values = npt.NDArray[Any]
"""(rows, width); derivatives are (rows, outputs, width): of several numbers a at once."""


def backwards(
    cell: Cell, inputs: list[Values], memory: Values | None, of_h: Values, of_memory: Values | None
) -> tuple[list[Values], Values | None]:
    """Return the derivatives by every port's z, and by the memory before the decision, None of cells without one.

    Args:
        inputs: every port's z, (rows, port) each.
        memory: (rows, memory) before the decision.
        of_h: (rows, outputs, width) the derivatives by h.
        of_memory: (rows, outputs, memory) those by the memory after the decision; None for zeros.
    """
    match cell:
        case Elementwise():
            return [_elementwise(cell, inputs[0], of_h)], None
        case Product():
            return _product(cell, inputs, of_h), None
        case Gru():
            assert memory is not None
            return _gru(cell, inputs, memory, of_h, of_memory)
        case Lstm():
            assert memory is not None
            return _lstm(cell, inputs[0], memory, of_h, of_memory)


def slopes(cell: Elementwise, z: Values) -> Values:
    """Return f′ of the normalised z, (rows, width)."""
    return _slope(cell.activation, z if cell.norm is None else cell.norm(z))


def _slope(activation: Activation | None, z: Values) -> Values:
    return np.ones_like(z) if activation is None else activation.derivative(z)


def _elementwise(cell: Elementwise, z: Values, of_h: Values) -> Values:
    of_z = of_h if cell.activation is None else of_h * slopes(cell, z)[:, None]
    return of_z if cell.norm is None else _norm(cell.norm, z, of_z)


def _norm(norm: Norm, z: Values, of_normed: Values) -> Values:
    """Carry back through z/size·w + b: by z itself, and by its size; where an L2 size is ε, that is a constant."""
    if norm.kind == "layer":
        z = z - z.mean(axis=-1, keepdims=True)
    squares, terms = z * z, z.shape[-1]
    if norm.kind == "l2":
        least, terms = max(norm.epsilon, LEAST_SIZE), 1
        length = np.sqrt(squares.sum(axis=-1, keepdims=True))
        size, moves = np.maximum(length, least), length > least
    else:
        size = np.sqrt(squares.mean(axis=-1, keepdims=True) + max(norm.epsilon, LEAST_SIZE**2))
        moves = np.ones_like(size, np.bool_)
    unit, scaled = (z / size)[:, None], of_normed * norm.weight
    along = (scaled * unit).sum(axis=-1, keepdims=True) / terms
    of_z = (scaled - np.where(moves[:, None], unit * along, 0)) / size[:, None]
    return of_z - of_z.mean(axis=-1, keepdims=True) if norm.kind == "layer" else of_z


def _product(cell: Product, inputs: list[Values], of_h: Values) -> list[Values]:
    values = [z if f is None else f(z) for z, f in zip(inputs, cell.activations, strict=True)]
    steep = [_slope(f, z) for z, f in zip(inputs, cell.activations, strict=True)]
    return [of_h * (steep[port] * values[1 - port])[:, None] for port in (0, 1)]


def _gru(
    cell: Gru, inputs: list[Values], memory: Values, of_h: Values, of_memory: Values | None
) -> tuple[list[Values], Values]:
    a, b, n = inputs[0], inputs[1], cell.width
    reset, update = sigmoid(a[:, :n] + b[:, :n]), sigmoid(a[:, n : 2 * n] + b[:, n : 2 * n])
    fresh = np.tanh(a[:, 2 * n :] + reset * b[:, 2 * n :])
    of_all = of_h if of_memory is None else of_h + of_memory
    of_fresh = of_all * ((1 - update) * (1 - fresh**2))[:, None]
    of_update = of_all * ((memory + cell.start - fresh) * update * (1 - update))[:, None]
    of_reset = of_fresh * (b[:, 2 * n :] * reset * (1 - reset))[:, None]
    of_a = np.concatenate([of_reset, of_update, of_fresh], axis=-1)
    of_b = np.concatenate([of_reset, of_update, of_fresh * reset[:, None]], axis=-1)
    return [of_a, of_b], of_all * update[:, None]


def _lstm(cell: Lstm, z: Values, memory: Values, of_h: Values, of_memory: Values | None) -> tuple[list[Values], Values]:
    n = cell.width
    taken, kept, leaving = (sigmoid(z[:, k * n : (k + 1) * n]) for k in (0, 1, 3))
    fresh, before = np.tanh(z[:, 2 * n : 3 * n]), memory + cell.start
    out = np.tanh(kept * before + taken * fresh)
    of_c = of_h * (leaving * (1 - out**2))[:, None]
    if of_memory is not None:
        of_c = of_c + of_memory
    gates = [
        of_c * (fresh * taken * (1 - taken))[:, None],
        of_c * (before * kept * (1 - kept))[:, None],
        of_c * (taken * (1 - fresh**2))[:, None],
        of_h * (out * leaving * (1 - leaving))[:, None],
    ]
    return [np.concatenate(gates, axis=-1)], of_c * kept[:, None]
