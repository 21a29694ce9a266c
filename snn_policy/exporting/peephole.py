"""What a traced graph computes, with fewer nodes: operators for activations, and nothing that changes no value.

The networks' array-API code spells activations out, keeps images flat between convolutions, and clips to infinite
bounds; ONNX has operators for the first and needs none of the rest. Numbers that follow or precede a product go into
its weights (`folding`). An activation is recognised by its own trace, so
that a rule cannot part from the function that it stands for. Results may differ in their last bit; the graphs of
spiking networks, which must not, are left as they were traced.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_policy.ann.activations import Activation
from snn_policy.ann.cells import sigmoid
from snn_policy.exporting.folding import copied, folded
from snn_policy.exporting.model import needed
from snn_policy.exporting.namespace import reshape
from snn_policy.exporting.tracing import Graph, Node, Shape, Traced, broadcast
from snn_policy.protocol import Array

ELEMENTWISE = (
    "Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Exp", "Floor", "Add", "Sub", "Mul", "Div", "Max", "Min", "Clip",
    "Greater", "Where", "Softplus", "Softsign", "Erf", "Log", "Abs", "Neg", "Less", "HardSigmoid",
)  # fmt: skip
"""Operators that commute with a change of shape."""


@dataclass(frozen=True)
class Gate:
    """Stand for σ, by which gates are open, as an `Activation` does for what a layer applies."""

    name: str = "sigmoid"
    parameter: float = 0.0

    def __call__(self, z: Traced) -> Traced:
        return sigmoid(z)


def simplified(outputs: Sequence[Traced], activations: Iterable[Activation | Gate]) -> list[Traced]:
    """Return the same values, computed in a new graph.

    Args:
        outputs: of nodes with one output each.
        activations: those that occur in the graph.
    """
    return folded(_with_operators(outputs, activations))


def _with_operators(outputs: Sequence[Traced], activations: Iterable[Activation | Gate]) -> list[Traced]:
    patterns = [
        (activation, *_pattern(activation)) for activation in dict.fromkeys(activations) if activation.name in OPERATORS
    ]
    graph, made = Graph(outputs[0].graph.batch), {}
    for node in needed(outputs):
        (value,) = node.outputs
        made[id(value)] = _by_operator(value, patterns, graph, made)
        if made[id(value)] is None:
            made[id(value)] = _rebuilt(node, [copied(operand, graph, made) for operand in node.inputs], graph)
    return [copied(output, graph, made) for output in outputs]


def _elementwise(graph: Graph, operator: str, operands: list[Traced], dtype: Any, **attributes: Any) -> Traced:
    """Add one operation, before rather than after a change of shape, so that the change can go or be the last."""
    shape: Shape = ()
    for operand in operands:
        shape = broadcast(shape, operand.shape)
    sources = {
        operand.node.inputs[0].shape for operand in operands if operand.node is not None and operand.made_by("Reshape")
    }
    if len(sources) == 1:
        (source,) = sources
        moved = [_before_reshape(operand, source) for operand in operands]
        if None not in moved:
            return reshape(graph.add(operator, moved, [source], dtype, **attributes)[0], shape)
    return graph.add(operator, operands, [shape], dtype, **attributes)[0]


def _before_reshape(operand: Traced, source: Shape) -> Traced | None:
    """Return the operand as it stands beside an array of the shape `source`, (N, channels, …); None where it cannot."""
    if operand.node is not None:
        return operand.node.inputs[0] if operand.made_by("Reshape") else None
    if operand.value is None:
        return None
    if operand.value.size == 1:
        return operand.graph.constant(operand.value.reshape(()))
    channels, *rest = (int(length) for length in source[1:])
    if operand.value.ndim != 1 or operand.value.size != np.prod([channels, *rest]):
        return None
    values = operand.value.reshape(channels, -1)
    if (values != values[:, :1]).any():
        return None
    return operand.graph.constant(values[:, 0].reshape(channels, *(1 for _ in rest)))


def _leaky_relu(z: Traced, slope: float) -> Traced:
    if slope == 1:
        return z
    if slope == 0:
        return _elementwise(z.graph, "Relu", [z], z.dtype)
    return _elementwise(z.graph, "LeakyRelu", [z], z.dtype, alpha=slope)


def _elu(z: Traced, scale: float) -> Traced:
    if scale == 0:
        return _elementwise(z.graph, "Relu", [z], z.dtype)
    return _elementwise(z.graph, "Elu", [z], z.dtype, alpha=scale)


def _silu(z: Traced, _: float) -> Traced:
    return _elementwise(z.graph, "Mul", [z, _sigmoid(z, 0.0)], z.dtype)


def _sigmoid(z: Traced, _: float) -> Traced:
    return _elementwise(z.graph, "Sigmoid", [z], z.dtype)


def _softplus(z: Traced, _: float) -> Traced:
    return _elementwise(z.graph, "Softplus", [z], z.dtype)


def _log_softplus(z: Traced, least: float) -> Traced:
    graph = z.graph
    if least:
        raised = [_softplus(z, 0.0), graph.constant(np.array(least, z.dtype))]
        return _elementwise(graph, "Log", [_elementwise(graph, "Add", raised, z.dtype)], z.dtype)
    bounded = _elementwise(graph, "Max", [z, graph.constant(np.array(-15, z.dtype))], z.dtype)
    logarithm = _elementwise(graph, "Log", [_softplus(bounded, 0.0)], z.dtype)
    return _elementwise(graph, "Add", [logarithm, _elementwise(graph, "Sub", [z, bounded], z.dtype)], z.dtype)


def _softsign(z: Traced, _: float) -> Traced:
    return _elementwise(z.graph, "Softsign", [z], z.dtype)


def _mish(z: Traced, _: float) -> Traced:
    return _elementwise(z.graph, "Mul", [z, _elementwise(z.graph, "Tanh", [_softplus(z, 0.0)], z.dtype)], z.dtype)


def _gelu(z: Traced, _: float) -> Traced:
    """Return z·(1 + erf(z/√2))/2: the operator Gelu is younger than the graphs' operator set."""
    scaled, half = (_elementwise(z.graph, "Mul", [z, z.graph.constant(np.array(number, z.dtype))], z.dtype)
                    for number in (math.sqrt(0.5), 0.5))  # fmt: skip
    erf = _elementwise(z.graph, "Erf", [scaled], z.dtype)
    one = z.graph.constant(np.array(1, z.dtype))
    return _elementwise(z.graph, "Mul", [half, _elementwise(z.graph, "Add", [erf, one], z.dtype)], z.dtype)


def _hardswish(z: Traced, _: float) -> Traced:
    gate = _elementwise(z.graph, "HardSigmoid", [z], z.dtype, alpha=1 / 6, beta=0.5)
    return _elementwise(z.graph, "Mul", [z, gate], z.dtype)


OPERATORS: dict[str, Callable[[Traced, float], Traced]] = {
    "leaky_relu": _leaky_relu, "elu": _elu, "silu": _silu, "softplus": _softplus, "softsign": _softsign, "mish": _mish,
    "gelu": _gelu, "sigmoid": _sigmoid, "log_softplus": _log_softplus,
    "hardswish": _hardswish,
}  # fmt: skip
"""Activations that take more nodes traced than written with ONNX's operators: f of (z, its parameter)."""


def _pattern(activation: Activation | Gate) -> tuple[Traced, Traced]:
    """Return an unknown z, and the activation's trace f(z)."""
    z = Graph().input("z", (1,))
    return z, activation(z)


def _by_operator(value: Traced, patterns: list[Any], graph: Graph, made: dict[int, Any]) -> Traced | None:
    for activation, z, traced in patterns:
        found: list[Traced] = []
        if traced is not z and _matches(traced, value, z, found):
            return OPERATORS[activation.name](copied(found[0], graph, made), activation.parameter)
    return None


def _matches(pattern: Array, value: Array, z: Traced, found: list[Traced]) -> bool:
    """Return whether the value is the pattern with one and the same array for z, which is then in `found`."""
    if pattern is z:
        found.append(value)
        return value is found[0] and isinstance(value, Traced) and value.value is None
    known = [np.ravel(operand.value if isinstance(operand, Traced) else operand) for operand in (pattern, value)]
    if any(values.dtype != object for values in known):  # object: None, not known
        return [len(values) for values in known] == [1, 1] and bool(known[0] == known[1])
    ours, theirs = pattern.node, value.node
    if theirs is None or (ours.operator, ours.attributes, len(ours.inputs)) != (
        theirs.operator, theirs.attributes, len(theirs.inputs)
    ):  # fmt: skip
        return False
    return all(_matches(one, other, z, found) for one, other in zip(ours.inputs, theirs.inputs, strict=True))


def _rebuilt(node: Node, operands: list[Traced], graph: Graph) -> Traced:
    """Return the node's value of its operands in the new graph."""
    first, shape, dtype = operands[0], node.outputs[0].shape, node.outputs[0].dtype
    if _bounds_nothing(node.operator, operands):
        return first
    match node.operator:
        case "MatMul" if first.ndim == 2:  # ONNX Runtime fuses a Gemm with what follows
            return graph.add("Gemm", operands, [shape], dtype)[0]
        case "Reshape":
            return reshape(first.node.inputs[0] if first.node and first.made_by("Reshape") else first, shape)
    if node.operator in ELEMENTWISE:
        return _elementwise(graph, node.operator, operands, dtype, **node.attributes)
    return graph.add(node.operator, operands, [shape], dtype, **node.attributes)[0]


def _bounds_nothing(operator: str, operands: list[Traced]) -> bool:
    limits = {"Max": (-np.inf,), "Min": (np.inf,), "Clip": (-np.inf, np.inf)}.get(operator)
    return limits is not None and all(operand.known(limit) for operand, limit in zip(operands[1:], limits, strict=True))
