"""Traced values as an ONNX model: only what the outputs need, with names that depend on nothing but the graph."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from snn_policy.exporting.tracing import Node, Traced
from snn_policy.protocol import Array

OPSET, IR_VERSION = 18, 8


def model_bytes(
    name: str, inputs: Sequence[Traced], outputs: Mapping[str, Traced], metadata: Mapping[str, str]
) -> bytes:
    """Return the serialised model, checked; equal bytes for equal graphs.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
    """
    import onnx
    from onnx import helper

    writer = _Writer()
    nodes = writer.nodes(outputs, needed(outputs.values()))
    described = (
        [_tensor(str(value.name), value) for value in inputs],
        [_tensor(key, value) for key, value in outputs.items()],
    )
    graph = helper.make_graph(nodes, name, *described, list(writer.initializers.values()))
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="snn-policy",
    )
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def needed(outputs: Iterable[Traced], beyond: Iterable[Node] = ()) -> list[Node]:
    """Return the nodes that the values depend on, in the order of their making, those of `beyond` left out."""
    found: dict[int, Node] = {}
    known = {node.order for node in beyond}
    waiting = [value.node for value in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node.order in found or node.order in known:
            continue
        found[node.order] = node
        waiting += [operand.node for operand in node.inputs if isinstance(operand, Traced)]
    return [found[order] for order in sorted(found)]


def _tensor(name: str, value: Traced) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape))


class _Writer:
    """Give names, and collect the constants of all graphs in the outermost one."""

    def __init__(self) -> None:
        self.initializers: dict[Any, Any] = {}
        self._names: dict[int, str] = {}
        self._count = 0

    def nodes(self, outputs: Mapping[str, Traced], wanted: list[Node], outer: Sequence[Node] = ()) -> list[Any]:
        """Return the written nodes of one graph, whose outputs get the given names."""
        from onnx import helper

        own = {node.order for node in wanted}
        copies = []
        for name, value in outputs.items():
            if value.node is not None and value.node.order in own and id(value) not in self._names:
                self._names[id(value)] = name
            else:
                copies.append((name, value))
        written = [self._node(node, [*outer, *wanted]) for node in wanted]
        return written + [helper.make_node("Identity", [self._operand(value)], [name]) for name, value in copies]

    def _node(self, node: Node, known: list[Node]) -> Any:
        from onnx import helper

        inputs = [self._operand(operand) for operand in node.inputs]
        outputs = [self._value(node, output) for output in node.outputs]
        attributes = {key: _attribute(attribute) for key, attribute in node.attributes.items()}
        if node.branches is not None:
            for key, values in zip(("then_branch", "else_branch"), node.branches, strict=True):
                attributes[key] = self._branch(f"{outputs[0]}_{key}", values, known)
        return helper.make_node(node.operator, inputs, outputs, **attributes)

    def _branch(self, name: str, values: list[Traced], known: list[Node]) -> Any:
        from onnx import helper

        outer_names = dict(self._names)
        outputs = {f"{name}_{place}": value for place, value in enumerate(values)}
        nodes = self.nodes(outputs, needed(values, known), known)
        self._names = outer_names
        return helper.make_graph(nodes, name, [], [_tensor(key, value) for key, value in outputs.items()])

    def _value(self, node: Node, value: Traced) -> str:
        if id(value) not in self._names:
            self._names[id(value)] = f"{node.operator.lower()}_{self._count}"
            self._count += 1
        return self._names[id(value)]

    def _operand(self, operand: Array) -> str:
        if isinstance(operand, Traced) and operand.value is None:
            return operand.name or self._names[id(operand)]
        return self._constant(operand.value if isinstance(operand, Traced) else operand)

    def _constant(self, values: Array) -> str:
        from onnx import numpy_helper

        array = np.ascontiguousarray(values).reshape(np.shape(values))
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self.initializers:
            self.initializers[key] = numpy_helper.from_array(array, f"constant_{len(self.initializers)}")
        return self.initializers[key].name


def _attribute(value: Any) -> Any:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value
