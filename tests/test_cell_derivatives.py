"""Derivatives of cells equal finite differences in float64, port by port and through the memory."""

from typing import Any

import numpy as np
import pytest

from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.cell_derivatives import backwards
from snn_policy.ann.cells import Cell, Elementwise, Gru, Lstm, Norm, Product, at_rest

WIDTH, ROWS = 5, 4
RNG = np.random.default_rng(3)
TANH, SILU = Activation("tanh"), Activation("silu")


def norm(kind: Any, epsilon: float = 1e-5) -> Norm:
    weight, bias = (RNG.normal(mean, 0.3, WIDTH).astype(np.float32) for mean in (1, 0))
    return Norm(kind, weight, bias, epsilon)


START = RNG.normal(size=WIDTH).astype(np.float32)
CELLS: dict[str, Cell] = {
    "linear": Elementwise(WIDTH), "tanh": Elementwise(WIDTH, TANH), "relu": Elementwise(WIDTH, RELU),
    "layer norm": Elementwise(WIDTH, SILU, norm("layer")), "rms norm": Elementwise(WIDTH, None, norm("rms")),
    "large epsilon": Elementwise(WIDTH, TANH, norm("layer", 2.0)), "l2": Elementwise(WIDTH, TANH, norm("l2", 1e-12)),
    "l2 within epsilon": Elementwise(WIDTH, None, norm("l2", 1e3)), "product": Product(WIDTH, (SILU, None)),
    "product of two": Product(WIDTH, (TANH, Activation("elu", 1.0))), "gru": Gru(at_rest(WIDTH)),
    "gru with a start": Gru(START), "lstm": Lstm(at_rest(WIDTH)), "lstm with a start": Lstm(START),
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_they_equal_finite_differences(name: str) -> None:
    cell, rng = CELLS[name], np.random.default_rng(1)
    inputs = [rng.normal(size=(ROWS, port)) for port in cell.ports]
    memory = rng.normal(size=(ROWS, cell.memory_width)) if cell.memory_width else None
    of_h = rng.normal(size=(ROWS, 3, WIDTH))
    of_memory = rng.normal(size=(ROWS, 3, cell.memory_width)) if cell.memory_width else None

    def number() -> Any:
        """(rows, 3) numbers with these derivatives by h and the memory."""
        h, after = cell.advance(inputs, memory)
        total = np.einsum("row,rw->ro", of_h, h)
        if after is None or of_memory is None:
            return total
        return total + np.einsum("row,rw->ro", of_memory, after)

    found, through = backwards(cell, inputs, memory, of_h, of_memory)
    given = [*inputs, *([] if memory is None else [memory])]
    derivatives = [*found, *([] if through is None else [through])]
    assert len(given) == len(derivatives)
    for values, derivative in zip(given, derivatives, strict=True):
        assert derivative.shape == (ROWS, 3, values.shape[1])
        for place in range(values.shape[1]):
            kept, delta = values[:, place].copy(), 1e-6
            values[:, place] = kept + delta
            above = number()
            values[:, place] = kept - delta
            wanted = (above - number()) / (2 * delta)
            values[:, place] = kept
            np.testing.assert_allclose(derivative[:, :, place], wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["gru", "lstm", "lstm with a start"])
def test_nothing_said_of_the_memory_is_zeros(name: str) -> None:
    cell, rng = CELLS[name], np.random.default_rng(2)
    inputs, memory = [rng.normal(size=(ROWS, port)) for port in cell.ports], rng.normal(size=(ROWS, WIDTH))
    of_h = rng.normal(size=(ROWS, 2, WIDTH))
    said, silent = (backwards(cell, inputs, memory, of_h, of_memory) for of_memory in (np.zeros_like(of_h), None))
    for one, other in zip([*said[0], said[1]], [*silent[0], silent[1]], strict=True):
        np.testing.assert_array_equal(one, other)
