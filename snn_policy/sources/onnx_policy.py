"""ONNX policies that are no chain, to graphs of stages; recurrent ones with their state as inputs and outputs.

A state is an input that comes back as an output of its shape and almost its name; it starts from zeros. All other
inputs that the action depends on are one observation, in order.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, helper

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError, warn
from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_check import TOLERANCE, compare, sizes_found
from snn_policy.sources.graph_inputs import Inputs, inputs_of, joined_inputs
from snn_policy.sources.graph_nodes import Memory, Observation
from snn_policy.sources.no_chain import Asked
from snn_policy.sources.onnx_check import HALF_TOLERANCE, half_weights, session_of
from snn_policy.sources.onnx_outputs import constant_action, names_state
from snn_policy.sources.onnx_patterns import noted_recurrent
from snn_policy.sources.onnx_stable import stable
from snn_policy.sources.onnx_stages import NodeFollower
from snn_policy.sources.onnx_values import Graph
from snn_policy.sources.stage_builder import build
from snn_policy.sources.stage_plan import Program
from snn_policy.sources.state_calls import refuse_denoising
from snn_policy.sources.vecnormalize import ObservationStatistics

Sizes = tuple[int, ...]
_DIRECTIONS = frozenset({"in", "out", "input", "output", "next", "new", "prev", "previous", "last", "n", "i", "o",
                         "initial", "final", "t", "0", "1", "ins", "outs", "inputs", "outputs"})  # fmt: skip


def read_onnx_graph(graph: Graph, action: str, asked: Asked) -> Actor:
    """Read a graph's action, as `read_onnx` does, whatever its shape.

    Raises:
        UnsupportedLayerError: an operator that no rule reads; a hidden state that is a constant.
        SourceError: sizes that are not known, or do not fit.
    """
    states = _states(graph, action)
    given = [one for one in _inputs_of(graph, [action, *states.values()]) if one.name not in states]
    if not given:
        raise constant_action(action)
    refuse_denoising("graph.input", [one.name for one in given])
    if not states:
        _refuse_baked(graph, action)
    full = {one.name: _declared(one) for one in given}
    normaliser = asked.normaliser
    inputs, full = _sized(graph, action, states, full, asked.observation_shape, normaliser)
    program = _program(graph, action, states, full, inputs, normaliser)
    actor = build(program, shape=inputs.shape, **asked.facts)
    run = _Runner(graph, action, states, full, inputs)
    tolerance = HALF_TOLERANCE if half_weights(run.model) else TOLERANCE
    try:
        compare(actor, run, normaliser, "ONNX Runtime", tolerance)
    except UnsupportedLayerError as differs:
        _compare_stable(actor, run, normaliser, tolerance, differs)
    if states:
        told = ", ".join(f"{one} → {other}" for one, other in states.items())
        warn(f"{asked.name}: its state is {told}, which starts from zeros")
    return actor


def _compare_stable(
    actor: Actor, run: "_Runner", normaliser: Sequence[ObservationStatistics], tolerance: float,
    differs: UnsupportedLayerError,
) -> None:  # fmt: skip
    """Compare with what the graph computes where logarithms lose no digits; raise `differs` if it has none."""
    found = stable(run.model)
    if found is None:
        raise differs
    compare(actor, run.of(found[0]), normaliser, "ONNX Runtime", tolerance)
    told = ", ".join(found[1])
    warn(f"{actor.name}: where {told} loses digits or overflows in float32, the actor is exact, the graph is not")


def _inputs_of(graph: Graph, outputs: Sequence[str]) -> list[Any]:
    names = {one.name for output in outputs for one in graph.inputs_before(output)}
    return [one for one in graph.inputs if one.name in names]


def _states(graph: Graph, action: str) -> dict[str, str]:
    """Return the inputs that come back, with the outputs that they come back as."""
    needed = {one.name: one for one in graph.inputs_before(action)}
    found: dict[str, str] = {}
    for _ in range(8):  # states of states
        found = _matched(graph, action, list(needed.values()))
        more = _inputs_of(graph, list(found.values()))
        if all(one.name in needed for one in more):
            return found
        needed |= {one.name: one for one in more}
    return found


def _matched(graph: Graph, action: str, inputs: Sequence[Any]) -> dict[str, str]:
    outputs = [one for one in graph.model.graph.output if one.name != action]
    found: dict[str, str] = {}
    for one in inputs:
        named = [other for other in outputs if other.name not in found.values() and _fits(one, other, loosely=True)
                 and _stem(one.name) == _stem(other.name)]  # fmt: skip
        if len(named) == 1:
            found[one.name] = named[0].name
    rest = [one for one in inputs if one.name not in found and names_state(one.name)]
    left = [other for other in outputs if other.name not in found.values() and names_state(other.name)]
    if len(rest) == len(left) and all(_fits(one, other) for one, other in zip(rest, left, strict=True)):
        found |= {one.name: other.name for one, other in zip(rest, left, strict=True)}
    return {one.name: found[one.name] for one in inputs if one.name in found}


def _stem(name: str) -> tuple[str, ...]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word.lower() for word in re.findall(r"[A-Za-z]+|\d+", spaced)]
    words = [re.sub(r"^(h|c|hidden|cell|state)(in|out|n|x)$", r"\1", word) for word in words]
    return tuple(word for word in words if word not in _DIRECTIONS)


def _fits(one: Any, other: Any, loosely: bool = False) -> bool:
    """Return whether an output's declared shape may be the input's, `loosely` but for axes of one."""
    shapes = [value.type.tensor_type for value in (one, other)]
    if not all(shape.HasField("shape") for shape in shapes):
        return True
    dims = [[size.dim_value for size in shape.shape.dim] for shape in shapes]
    if loosely:
        dims = [[size for size in sizes if size != 1] for sizes in dims]
    return len(dims[0]) == len(dims[1]) and all(a == b or not a or not b for a, b in zip(*dims, strict=True))


def _refuse_baked(graph: Graph, action: str) -> None:
    error = noted_recurrent(graph, action)
    if error is not None:
        raise error


def _declared(value: Any) -> tuple[int | None, ...] | None:
    """Return the declared shape, None for sizes that are open."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(size.dim_value or None for size in tensor.shape.dim)


def _sized(
    graph: Graph, action: str, states: Mapping[str, str], declared: Mapping[str, Any], given: Any,
    normaliser: Sequence[ObservationStatistics],
) -> tuple[Inputs, dict[str, Sizes]]:  # fmt: skip
    full: dict[str, Sizes] = {}
    for name, shape in declared.items():
        if shape is not None and all(size is not None for size in shape[1:]) and shape:
            full[name] = ((shape[0] or 1) if len(shape) > 1 else (shape[0] or 0), *shape[1:])
    if len(full) == len(declared) and all(all(shape) for shape in full.values()):
        return inputs_of({name: _bare(shape) for name, shape in full.items()}, given), full

    def follow(parts: Mapping[str, Sizes]) -> tuple[Observation, Value]:
        sizes = {name: full.get(name, (1, *parts[name])) for name in declared}
        program = _program(graph, action, states, sizes, inputs_of(parts), normaliser)
        return program.observation, program.action

    names = list(declared)
    weights = [tuple(tensor.dims) for tensor in graph.tensors.values()]
    sizes = [size for shape in weights if 1 <= len(shape) <= 3 for size in shape[-2:]]
    inputs = sizes_found(names, given, sizes, follow)
    return inputs, {name: full.get(name, (1, *shape)) for name, shape in inputs.parts.items()}


def _bare(shape: Sizes) -> Sizes:
    """Return it without axes of one in front."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _program(
    graph: Graph, action: str, states: Mapping[str, str], full: Mapping[str, Sizes], inputs: Inputs,
    normaliser: Sequence[ObservationStatistics],
) -> Program:  # fmt: skip
    observation, values = joined_inputs(inputs.parts, normaliser)
    known: dict[str, Any] = {name: value.reshaped(full[name]) for name, value in zip(inputs.parts, values, strict=True)}
    memories: dict[str, Memory] = {}
    shapes = {one.name: _declared(one) for one in graph.inputs}
    for name in states:
        shape = tuple(size or 1 for size in shapes[name] or ())
        if not shape or int(np.prod(shape)) > 2**20:
            raise SourceError(f"the shape of the state {name!r} is not known; export it with fixed sizes")
        memories[name] = Memory(np.zeros(int(np.prod(shape))), path=name, kind="memory")
        known[name] = Value.of(memories[name], shape)
    follower = NodeFollower(graph, known)
    needed = {id(node) for output in (action, *states.values()) for node in graph.nodes_before(output)}
    for node in graph.model.graph.node:
        if id(node) in needed:
            follower.follow(node)
    made = follower.value(action)
    if not isinstance(made, Value):
        raise constant_action(action)
    after: dict[Memory, Value] = {}
    for name, output in states.items():
        value = follower.value(output)
        value = value if isinstance(value, Value) else Value.constant(value)
        if value.size != memories[name].width:
            raise SourceError(f"the state {name!r} comes back as {output!r} with another size")
        after[memories[name]] = value.flat
    return Program(observation, made, after)


class _Runner:
    """Hold what the graph itself makes of consecutive observations."""

    def __init__(
        self, graph: Graph, action: str, states: Mapping[str, str], full: Mapping[str, Sizes], inputs: Inputs
    ) -> None:
        self._states, self._full, self._inputs = states, full, inputs
        self.model = _part(graph, [action, *states.values()])
        self._run = session_of(self.model)
        kinds = {one.name: one.type.tensor_type for one in graph.inputs}
        self._kinds = {name: helper.tensor_dtype_to_np_dtype(kinds[name].elem_type) for name in (*full, *states)}
        self._held = {name: np.zeros(tuple(size.dim_value or 1 for size in kinds[name].shape.dim), self._kinds[name])
                      for name in states}  # fmt: skip

    def of(self, model: ModelProto) -> "_Runner":
        """Return the same of another graph, from a reset."""
        twin = copy.copy(self)
        twin.model, twin._run = model, session_of(model)
        twin._held = {name: np.zeros_like(array) for name, array in self._held.items()}
        return twin

    def __call__(self, row: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        parts = self._inputs.split(row)
        given = {name: part.reshape(self._full[name]).astype(self._kinds[name])
                 for name, part in zip(self._inputs.parts, parts, strict=True)}  # fmt: skip
        results = self._run(given | self._held)
        self._held = {name: np.asarray(result).reshape(self._held[name].shape)
                      for name, result in zip(self._states, results[1:], strict=True)}  # fmt: skip
        return np.asarray(results[0], np.float64)


def _part(graph: Graph, outputs: Sequence[str]) -> ModelProto:
    """Return what lies between the inputs and these outputs, as a graph of its own."""
    needed = {id(node) for output in outputs for node in graph.nodes_before(output)}
    nodes = [node for node in graph.model.graph.node if id(node) in needed]
    used = {name for output in outputs for name in graph.names_before(output)}
    made = [one for output in outputs for one in graph.model.graph.output if one.name == output]
    constants = [tensor for name, tensor in graph.tensors.items() if name in used]
    inputs = [one for one in graph.inputs if one.name in used]
    part = helper.make_graph(nodes, "policy", inputs, made, constants)
    model = helper.make_model(part, opset_imports=graph.model.opset_import)
    model.ir_version = graph.model.ir_version
    return model
