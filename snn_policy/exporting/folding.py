"""Constants beside a product, taken up by its weights: a·(W·x + b) + c is another product."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from snn_policy.exporting.model import needed
from snn_policy.exporting.namespace import reshape
from snn_policy.exporting.tracing import Graph, Node, Traced
from snn_policy.protocol import Array

PRODUCTS = ("Gemm", "Conv")


def folded(outputs: Sequence[Traced]) -> list[Traced]:
    """Return the same values, computed in a new graph; they are of nodes with one output each."""
    graph, made = Graph(outputs[0].graph.batch), {}
    nodes = needed(outputs)
    uses = Counter(id(operand) for operands in (outputs, *(node.inputs for node in nodes)) for operand in operands)
    for node in nodes:
        (value,) = node.outputs
        operands = [copied(operand, graph, made) for operand in node.inputs]
        alone = uses[id(node.inputs[0])] == 1
        made[id(value)] = (_after_product(node, operands) if alone else None) or _scaled_before(node, operands, graph)
        if made[id(value)] is None:
            made[id(value)] = graph.add(node.operator, operands, [value.shape], value.dtype, **node.attributes)[0]
    return [copied(output, graph, made) for output in outputs]


def copied(operand: Array, graph: Graph, made: dict[int, Any]) -> Traced:
    """Return the operand in the new graph, where `made` has the values of its nodes by the id of the old ones."""
    if not isinstance(operand, Traced):
        return graph.constant(operand)
    if operand.value is not None:
        return graph.constant(operand.value, operand.shape)
    if operand.node is None:
        return Traced(graph, operand.shape, operand.dtype, name=operand.name)
    return made[id(operand)]


def _after_product(node: Node, operands: list[Traced]) -> Traced | None:
    """Return a product followed by a known factor or summand, as one product."""
    if node.operator not in ("Add", "Sub", "Mul", "Div") or operands[1].value is None:
        return None
    product, known = operands[0].node, operands[1].value.astype(np.float64)
    if product is None or product.operator not in PRODUCTS:
        return None
    outputs = int(operands[0].shape[1])
    axes = (-1, *(1 for _ in operands[0].shape[2:]))
    if known.size != 1 and known.shape not in ((outputs, *axes[1:]), (1, outputs, *axes[1:])):
        return None
    channels = np.broadcast_to(known.reshape(-1), (outputs,))
    weight, bias = _weights(product, outputs)
    if node.operator in ("Add", "Sub"):
        bias = bias + channels if node.operator == "Add" else bias - channels
    else:
        factor = channels if node.operator == "Mul" else 1 / channels
        weight = weight * (factor if product.operator == "Gemm" else factor.reshape(-1, 1, 1, 1))
        bias = bias * factor
    return _product(product, product.inputs[0], weight, bias, operands[0])


def _scaled_before(node: Node, operands: list[Traced], graph: Graph) -> Traced | None:
    """Return a product of something times a known factor, as one product."""
    if node.operator not in PRODUCTS:
        return None
    x, factor = _unscaled(operands[0])
    if factor is None or (factor.size > 1 and node.operator == "Conv"):
        return None
    outputs = node.outputs[0].shape[1]
    new = Node(node.operator, tuple(operands), node.attributes, node.order)
    weight, bias = _weights(new, outputs)
    weight = weight * (factor.reshape(-1, 1) if node.operator == "Gemm" else factor.reshape(()))
    return _product(new, x, weight, bias, graph.constant(np.zeros(1, np.float32), node.outputs[0].shape))


def _unscaled(x: Traced) -> tuple[Traced, Array]:
    """Return what x is a known multiple of, and the factor, one number or one per column; None where there is none."""
    if x.node is None:
        return x, None
    if x.made_by("Reshape"):
        source, factor = _unscaled(x.node.inputs[0])
        return (reshape(source, x.shape), factor) if factor is not None and factor.size == 1 else (x, None)
    if x.node.operator not in ("Mul", "Div"):
        return x, None
    first, second = x.node.inputs
    if second.value is None or second.value.size not in (1, x.shape[-1]) or first.shape != x.shape:
        return x, None
    known = second.value.astype(np.float64).reshape(-1)
    return first, known if x.node.operator == "Mul" else 1 / known


def _weights(product: Node, outputs: Any) -> tuple[Array, Array]:
    weight, *bias = (np.asarray(operand.value, np.float64) for operand in product.inputs[1:])
    return weight, bias[0] if bias else np.zeros(outputs)


def _product(product: Node, x: Traced, weight: Array, bias: Array, like: Traced) -> Traced | None:
    """Return the product with other weights; None where float32 cannot hold them."""
    with np.errstate(over="ignore"):
        constants = [array.astype(np.float32) for array in (weight, bias)]
    if not all(np.isfinite(array).all() for array in constants):
        return None
    known = [like.graph.constant(array) for array in constants]
    return like.graph.add(product.operator, [x, *known], [like.shape], np.float32, **product.attributes)[0]
