"""A stage's cell as fields of its record in the core's program."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.ann.activations import Activation
from snn_policy.ann.cells import LEAST_SIZE, Cell, Elementwise, Gru, Lstm, Norm, Product
from snn_policy.engines.core.records import ACTIVATIONS, CELLS, NONE, NORMS

Put = Callable[[npt.ArrayLike], int]
"""Append an array to the program's parameters, and return its offset."""


def cell_fields(cell: Cell, remembered: int, put: Put) -> dict[str, Any]:
    """Return what a stage makes of its ports.

    Args:
        remembered: where its memory begins in a row's state, if it has any.
    """
    kind = {"cell": CELLS.index(type(cell))}
    match cell:
        case Elementwise():
            return kind | _activation(cell.activation) | _norm(cell.norm, put)
        case Product():
            first, second = (_activation(activation) for activation in cell.activations)
            return kind | first | {"other_activation": second["activation"], "other_parameter": second["parameter"],
                                   "other_levels": second["activation_levels"]}  # fmt: skip
        case Gru() | Lstm():
            return kind | {"remembered": remembered, "cell_start": put(cell.start) if cell.start.any() else NONE}


def _activation(activation: Activation | None) -> dict[str, Any]:
    if activation is None:
        return {"activation": ACTIVATIONS.index(None), "parameter": 0, "activation_levels": 0}
    return {"activation": ACTIVATIONS.index(activation.name), "parameter": activation.parameter,
            "activation_levels": activation.levels}  # fmt: skip


def _norm(norm: Norm | None, put: Put) -> dict[str, Any]:
    if norm is None:
        return {}
    least = LEAST_SIZE if norm.kind == "l2" else LEAST_SIZE**2
    return {"norm": NORMS.index(norm.kind), "norm_weight": put(np.concatenate([norm.weight, norm.bias])),
            "epsilon": max(norm.epsilon, least)}  # fmt: skip
