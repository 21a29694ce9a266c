"""What is known of the values in an ONNX graph: who makes them, which of them observations enter, constants, shapes.

Shapes are those for one row of observations (or for as many as the graph insists on): exporters compute many of them at
run time, and what a policy does with one row is all that an `Actor` needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.budget import Budget
from snn_policy.sources.onnx_constants import constant_node, fold
from snn_policy.sources.refusals import refusal

Shape = tuple[int, ...]

ABOUT_SHAPES = ("Shape", "Size")
_DEEPEST = 64
_ROUNDS = 16
_SMALL = 64
_KEEPS_WIDTH = ("Add", "Cast", "Clip", "Div", "Flatten", "Identity", "Max", "Min", "Mul", "Sub")


class Graph:
    """Hold the nodes of an ONNX graph by what they make, and what lies between its inputs and its outputs."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.opsets = {opset.domain: opset.version for opset in model.opset_import}
        self.makers = {output: node for node in model.graph.node for output in node.output if output}
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.inputs = [value for value in model.graph.input if value.name not in self.tensors]

    def nodes_before(self, value: str) -> list[NodeProto]:
        """Return the nodes that `value` needs, in the graph's order."""
        needed = {id(self.makers[name]) for name in self._before(value, ()) if name in self.makers}
        return [node for node in self.model.graph.node if id(node) in needed]

    def inputs_before(self, value: str) -> list[Any]:
        """Return the inputs whose values, not only shapes, `value` depends on."""
        before = set(self._before(value, ABOUT_SHAPES))
        return [given for given in self.inputs if given.name in before]

    def names_before(self, value: str) -> set[str]:
        """Return the names of all values that `value` needs, its own included."""
        return set(self._before(value, ()))

    def _before(self, value: str, stops: Sequence[str]) -> Iterator[str]:
        """Return `value` and all that it is made of; what nodes of the kinds `stops` take is left out."""
        seen, waiting = {value}, [value]
        while waiting:
            name = waiting.pop()
            yield name
            node = self.makers.get(name)
            taken = () if node is None or node.op_type in stops else (*node.input, *_captured(node))
            for operand in taken:
                if operand and operand not in seen:
                    seen.add(operand)
                    waiting.append(operand)


def _captured(node: NodeProto) -> Iterator[str]:
    """Return the names that the node's subgraphs use, those of their own values included."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from inner.input
                yield from _captured(inner)
            yield from (output.name for output in graph.output)


class Values:
    """Hold the values between the observation and the action."""

    def __init__(self, graph: Graph, observation: Any, action: str, shape: Shape | None) -> None:
        """Take the observation's `shape`, with its batch axis; None if it is not known."""
        self.makers, self._tensors, self._opsets = dict(graph.makers), dict(graph.tensors), graph.opsets
        self._whole, self.nodes = graph.model, graph.nodes_before(action)
        self._budget = Budget()
        self._constants: dict[str, npt.NDArray[Any]] = {}
        self.observed = self._entered(observation.name)
        self._shapes: dict[str, Shape] = {}
        self.observation, self.action = observation, action
        shape = shape or self._first_layer_inputs()
        if shape is not None:
            self._infer(shape)
        self.rows = shape[0] if shape is not None and len(shape) > 1 else 1

    def model(self) -> ModelProto:
        """Return what lies between observation and action, as a graph of its own."""
        used = {name for node in self.nodes for name in node.input}
        outputs = [output for output in self._whole.graph.output if output.name == self.action]
        constants = [tensor for name, tensor in self._tensors.items() if name in used]
        graph = helper.make_graph(self.nodes, "policy", [self.observation], outputs, constants)
        made = helper.make_model(graph, opset_imports=self._whole.opset_import)
        made.ir_version = self._whole.ir_version
        return made

    def _entered(self, observation: str) -> set[str]:
        """Return the values that the observation enters, by more than its shape."""
        entered = {observation}
        for node in self.nodes:
            if node.op_type not in ABOUT_SHAPES and not entered.isdisjoint((*node.input, *_captured(node))):
                entered.update(node.output)
        return entered

    def shape(self, name: str) -> Shape | None:
        """Return the value's shape for one row of observations, where it is known."""
        if name in self._tensors:
            return tuple(self._tensors[name].dims)
        return self._shapes.get(name)

    def constant(self, name: str, depth: int = 0) -> npt.NDArray[Any]:
        """Return a value that no observation enters.

        Raises:
            SourceError: nothing makes it, or it is too large.
            UnsupportedLayerError: an operator that is not computed, or a shape that is not known.
        """
        if name not in self._constants:
            self._constants[name] = self._made(name, depth)
        return self._constants[name]

    def _made(self, name: str, depth: int) -> npt.NDArray[Any]:
        if name in self._tensors:
            return np.asarray(numpy_helper.to_array(self._tensors[name]))
        node = self.makers.get(name)
        if node is None or depth > _DEEPEST:
            raise SourceError(f"value {name!r} is used, but nothing in the graph makes it")
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            return constant_node(node)
        if node.op_type in ABOUT_SHAPES:
            return self._about_shape(node)
        if self.observed.intersection(node.input):
            raise refusal(node.name or name, node.op_type)
        inputs = [self.constant(operand, depth + 1) if operand else None for operand in node.input]
        self._budget.spend(())
        made = fold(node, inputs, list(node.output).index(name), self._opsets)
        self._budget.spend(made)
        return made

    def _about_shape(self, node: NodeProto) -> npt.NDArray[np.int64]:
        shape = self.shape(node.input[0])
        if shape is None:
            remedy = "Pass observation_shape=, or export it with fixed sizes"
            raise UnsupportedLayerError(node.name or node.output[0], node.op_type, "the shape is not known", remedy)
        if node.op_type == "Size":
            return np.array(int(np.prod(shape)), np.int64)
        ends = {attribute.name: attribute.i for attribute in node.attribute}
        return np.array(shape[ends.get("start", 0) : ends.get("end", len(shape))], np.int64)

    def _first_layer_inputs(self) -> Shape | None:
        """Return (1, inputs) of the linear layer that the observation enters, itself or scaled."""
        names = {self.observation.name}
        for node in self.nodes:
            if not names.intersection(node.input):
                continue
            if node.op_type in ("Gemm", "MatMul") and node.input[0] in names and node.input[1] not in self.observed:
                weight = self.constant(node.input[1])
                transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
                return (1, weight.shape[-1 if transposed else 0]) if weight.ndim == 2 else None
            if node.op_type in _KEEPS_WIDTH:
                names.update(node.output)
        return None

    def _infer(self, shape: Shape) -> None:
        """Infer all shapes; those computed at run time become constants, from which more can be inferred."""
        known: dict[str, npt.NDArray[Any]] = {}
        for _ in range(_ROUNDS):
            self._shapes = _inferred(self._skeleton(shape, known))
            found = dict(self._small_constants(known))
            if not self._take_branches() and not found:
                return
            known |= found

    def _small_constants(self, known: Mapping[str, Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        for node in self.nodes:
            for name in node.output:
                if name and name not in known and name not in self.observed and node.op_type != "Constant":
                    try:
                        value = self.constant(name)
                    except (ValueError, TypeError, RuntimeError):  # not yet known; whoever needs it will say so
                        continue
                    if value.size <= _SMALL:
                        yield name, value

    def _take_branches(self) -> bool:
        """Put the nodes of the branch that is taken in the place of every `If` whose condition is a constant.

        The exporter writes them for a squeeze of an axis of open size, which here is that of one row.
        """
        taken, nodes = False, list[NodeProto]()
        for node in self.nodes:
            condition = self._condition(node)
            if condition is None:
                nodes.append(node)
                continue
            name = "then_branch" if condition else "else_branch"
            branch = next(attribute.g for attribute in node.attribute if attribute.name == name)
            same = [
                helper.make_node("Identity", [inner.name], [outer], name=node.name)
                for inner, outer in zip(branch.output, node.output, strict=True)
            ]
            nodes += [*branch.node, *same]
            self._tensors |= {tensor.name: tensor for tensor in branch.initializer}
            taken = True
        if taken:
            self.nodes = nodes
            self.makers |= {output: node for node in nodes for output in node.output if output}
            self.observed.update(self._entered(self.observation.name))
        return taken

    def _condition(self, node: NodeProto) -> bool | None:
        """Return the condition of an `If`, where it is known."""
        if node.op_type != "If" or node.domain not in ("", "ai.onnx") or node.input[0] in self.observed:
            return None
        try:
            return bool(self.constant(node.input[0]))
        except (ValueError, TypeError, RuntimeError):
            return None

    def _skeleton(self, shape: Shape, known: Mapping[str, npt.NDArray[Any]]) -> ModelProto:
        """Return the graph with a fixed observation, with `known` values as constants and without its large weights."""
        nodes = [node for node in self.nodes if not set(node.output) <= known.keys()]
        used = {name for node in nodes for name in node.input}
        kind = self.observation.type.tensor_type.elem_type
        inputs = [helper.make_tensor_value_info(self.observation.name, kind, shape)]
        constants = [numpy_helper.from_array(value, name) for name, value in known.items()]
        for name in used & self._tensors.keys():
            tensor = self._tensors[name]
            if np.prod(tensor.dims, dtype=float) <= _SMALL:
                constants.append(tensor)
            else:
                inputs.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
        outputs = [helper.make_empty_tensor_value_info(self.action)]
        graph: GraphProto = helper.make_graph(nodes, "shapes", inputs, outputs, constants)
        imports = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        return helper.make_model(graph, opset_imports=imports)


def _inferred(model: ModelProto) -> dict[str, Shape]:
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # a graph that is malformed: whoever reads its nodes will say where
        return {}
    shapes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            sizes = value.type.tensor_type.shape.dim
            if all(size.HasField("dim_value") for size in sizes):
                shapes[value.name] = tuple(size.dim_value for size in sizes)
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    return shapes


def is_float(kind: int) -> bool:
    return kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
