"""Values weighed by others of the observation: attention, mixtures of experts, networks that make weights.

None of them is read. Which one it is, follows from what the weights are made of: a softmax of products, or of scores
that one map gives every row, is attention; a softmax of a layer's outputs is the gate of a mixture of experts.
`einsum` with one such value is a linear map, and is read.
"""

import math
from typing import Any

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.affine_values import Node, Value
from snn_policy.sources.graph_nodes import Filtered, Multiplied, Unfinished, Weighted
from snn_policy.sources.refusals import refusal
from snn_policy.sources.value_functions import MOST_WEIGHTS, linear

_REASON = "it weighs values by others of the observation (attention, a mixture of experts)"
_REMEDY = "Use a feed-forward policy of linear layers"
_MOST_NODES = 64


def weighing(path: str, node: Unfinished) -> UnsupportedLayerError:
    """Return the error for a softmax that weighs values."""
    kind = "attention" if _of_rows(node.operand) else "mixture of experts"
    return UnsupportedLayerError(path, kind, _REASON, _REMEDY)


def _of_rows(scores: Value) -> bool:
    """Return whether scores are products, or come from a map that every row shares; back to the first activation."""
    waiting: list[Node] = [term.node for term in scores.terms]
    for _ in range(_MOST_NODES):
        if not waiting:
            return False
        node = waiting.pop()
        if isinstance(node, Multiplied | Filtered):
            return True
        if isinstance(node, Weighted | Unfinished):
            waiting += [term.node for value in node.operands for term in value.terms]
    return False


def product(path: str, first: Value, second: Value, kind: str = "matmul") -> UnsupportedLayerError:
    """Return the error for a product of two matrices of the observation."""
    nodes = [term.node for value in (first, second) for term in value.terms]
    gates = [node for node in nodes if isinstance(node, Unfinished) and node.function == "softmax"]
    if gates:
        return weighing(path, gates[0])
    blended = [node for node in nodes if isinstance(node, Weighted) and _gated(node)]
    if blended:
        return UnsupportedLayerError(path, "mixture of experts", _REASON, _REMEDY)
    if kind == "outer product":
        reason = "it multiplies two values of the observation, as attention, state spaces and made weights do"
        return UnsupportedLayerError(path, kind, reason, _REMEDY)
    if kind != "einsum" and 1 in (*first.shape[-2:], *second.shape[-2:]):
        reason = "it multiplies two values of the observation, as attention and networks that make weights do"
        return UnsupportedLayerError(path, kind, reason, _REMEDY)
    return refusal(path, "attention")


def _gated(node: Weighted) -> bool:
    """Return whether it is a linear map of a softmax: weights blended from those of experts."""
    return any(isinstance(term.node, Unfinished) and term.node.function == "softmax" for term in node.operand.terms)


def einsum(path: str, equation: str, *operands: Any, **_: Any) -> Value:
    """Return a sum of products of which one factor is a value of the observation: a linear map of it.

    Raises:
        UnsupportedLayerError: more than one such factor, or an equation with dots or without an arrow.
    """
    factors = list(operands[0]) if isinstance(operands[0], list | tuple) else list(operands)
    values = [factor for factor in factors if isinstance(factor, Value)]
    given, arrow, made = equation.replace(" ", "").partition("->")
    names = given.split(",")
    summed_over = set(given) - set(made) - {","}
    if len(values) > 1:
        raise product(path, values[0], values[1], "einsum" if summed_over else "outer product")
    plain = arrow and all(name.isalpha() and name.isascii() for name in (*names, made or "a"))
    if not plain or len(names) != len(factors):
        raise refusal(path, "einsum")
    sizes: dict[str, int] = {}
    for name, factor in zip(names, factors, strict=True):
        shape = factor.shape if isinstance(factor, Value) else np.shape(factor)
        if len(shape) != len(name) or any(
            sizes.setdefault(one, size) != size for one, size in zip(name, shape, strict=False)
        ):
            raise UnsupportedLayerError(path, "einsum", f"{equation} does not fit its factors", "Use a linear layer")
    x, fresh = values[0], next(one for one in map(chr, range(65, 123)) if one.isalpha() and one not in equation)
    if x.size * math.prod(sizes.values()) > MOST_WEIGHTS:
        raise UnsupportedLayerError(path, "einsum", "its matrix is too large", "Use a linear layer")
    spread = [np.eye(x.size).reshape(x.size, *x.shape) if factor is x else np.asarray(factor, np.float64)
              for factor in factors]  # fmt: skip
    marked = ",".join(fresh + name if factor is x else name for name, factor in zip(names, factors, strict=True))
    matrix = np.einsum(f"{marked}->{fresh}{made}", *spread)
    shape = tuple(sizes[one] for one in made)
    return linear(x.flat.reshaped((1, x.size)), matrix.reshape(x.size, -1).T, None, path, "einsum").reshaped(shape)
