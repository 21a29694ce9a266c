"""A program on symbolic values, to an `Actor`: every node that the action needs becomes a stage, or a part of one.

All readers of programs that are no chain end here, as all readers of chains end in `assemble`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.cells import Cell, Elementwise, Gru, Lstm, Norm, Product
from snn_policy.ann.graph import Graph
from snn_policy.ann.stage import Stage
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.protocol import FloatArray, IntArray
from snn_policy.sources.affine_values import Term, Value, joined, whole_of
from snn_policy.sources.assemble import read_head
from snn_policy.sources.elementwise import ScaleAndClip
from snn_policy.sources.graph_nodes import (
    Activated,
    CellState,
    Filtered,
    GruStep,
    LstmStep,
    Memory,
    Multiplied,
    Node,
    Observation,
    Summed,
    Unfinished,
    Weighted,
)
from snn_policy.sources.operations import Activate, Float64, Scale, bounded, bounds_alike
from snn_policy.sources.stage_ends import normaliser_of, peeled
from snn_policy.sources.stage_maps import MOST_UNROLLED, MapMaker, Told
from snn_policy.sources.stage_plan import (
    Program,
    check_steps,
    kept_rows,
    needed,
    refuse_forgetting,
    refuse_unread,
    with_cell_states,
)

MOST_STAGES = 1_000


def build(
    program: Program,
    *,
    name: str,
    shape: Sequence[int],
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
) -> Actor:
    """Return the actor of a program; its action is clipped to [low, high] where given.

    Raises:
        UnsupportedLayerError: a function that no stage computes.
        SourceError: weights that are not finite, or more than a policy has.
    """
    try:
        return _built(program, name, tuple(shape) if type(shape) is list else shape, low, high, env_id)  # pyright: ignore
    except UnsupportedLayerError:
        raise
    except ValueError as problem:
        raise SourceError(f"{name}: {problem}") from problem


def _built(
    program: Program, name: str, shape: tuple[int, ...], low: npt.ArrayLike | None, high: npt.ArrayLike | None,
    env_id: str | None,
) -> Actor:  # fmt: skip
    if len(program.action.shape) > 1 and program.action.shape[0] != 1:
        reason = f"it makes actions of shape {program.action.shape} of one observation"
        raise UnsupportedLayerError("action", "rows", reason, "Keep one row per observation")
    value, following = peeled(program.action)
    if not value.terms:
        raise UnsupportedLayerError("forward", "constant", "its action does not depend on the observation", "")
    head, rest = read_head(value.size, following, low, high)
    action = value.scaled(rest.scale).shifted(rest.offset)
    after = with_cell_states(program, needed([action], program.memories))
    nodes = needed([action], after)
    refuse_forgetting(nodes)
    if not any(isinstance(node, Weighted | Filtered) for node in nodes):
        raise UnsupportedLayerError(name, "policy", "it has no linear layer", "Nothing is left to convert")
    check_steps(nodes, after)
    memories = {node: after[node] for node in nodes if isinstance(node, Memory)}
    normaliser, entrance, left = normaliser_of(nodes, [action, *memories.values()], program.observation, shape)
    builder = _Builder(program.observation.width, entrance, left, kept_rows(nodes, action, memories))
    for node in nodes:
        builder.read(node)
    builder.end(action, memories)
    return Actor(builder.graph(), head, shape, normaliser, env_id, name)


@dataclass(eq=False)
class _Plan:
    """Hold a stage to be: its ports' values, and what it reads before the first decision."""

    cell: Cell
    ports: list[Value]
    path: str
    start: Float64 | None = None
    given: IntArray | None = None


class _Builder:
    """Hold the stages so far, and what every node is in terms of what they tell."""

    def __init__(
        self, inputs: int, entrance: Node, left: ScaleAndClip | None, kept: dict[Node, list[IntArray]]
    ) -> None:
        self._inputs, self._kept = inputs, kept
        self._plans: list[_Plan] = []
        self._memories: dict[Memory, Value] = {}
        told = Value.of(Told(0, inputs, path="obs", kind="observation"))
        self._meaning: dict[Node, Value] = {
            entrance: told if left is None else told.scaled(_tidy(left.scale, 1)).shifted(_tidy(left.offset, 0))
        }

    def read(self, node: Node) -> None:
        """Plan a node; the nodes that it needs were read before."""
        if node in self._meaning or isinstance(node, Memory | CellState):
            return
        match node:
            case Observation():  # only the clip of all of it is read
                return
            case Activated(operand, activation, norm):
                made = (
                    None if norm is None else Norm(norm.kind, _float32(norm.weight), _float32(norm.bias), norm.epsilon)
                )
                port = self._translated(operand)
                meaning = self._stage(Elementwise(node.width, activation, made), [port], node.path)
            case Multiplied(first, second):
                meaning = self._product(first, second, node)
            case GruStep(given, returning, before):
                start = _start(before)
                ports = [self._translated(given), self._translated(returning)]
                meaning = self._stage(Gru(_float32(start)), ports, node.path)
            case LstmStep(gates, before):
                meaning = self._stage(Lstm(_float32(_start(before))), [self._translated(gates)], node.path)
            case Weighted() | Filtered() | Summed():
                meaning = self._linear(node)
            case Unfinished():
                meaning = self._finished(node)
            case _:
                raise AssertionError(type(node))
        self._meaning[node] = meaning

    def _translated(self, value: Value) -> Value:
        """Return the value in terms of what stages tell, of memories, and of linear nodes that fold."""
        whole = Value(value.shape, (), value.bias)
        for term in value.terms:
            if isinstance(term.node, Memory):
                part = Value(value.shape, (term,), np.zeros(value.size))
            elif isinstance(term.node, CellState):
                reason = "it is recurrent, and its cell state is read by others than itself"
                raise UnsupportedLayerError(term.node.path, "LSTM", reason, "Use the hidden state")
            else:
                part = self._meaning[term.node].flat.moved(term.index).scaled(term.scale).reshaped(value.shape)
            whole = whole.plus(part)
        return whole

    def _stage(self, cell: Cell, ports: list[Value], path: str) -> Value:
        self._plans.append(_Plan(cell, [port.flat for port in ports], path))
        if len(self._plans) > MOST_STAGES:
            raise SourceError(f"needs more than {MOST_STAGES} stages; refused")
        return Value.of(Told(len(self._plans), cell.width, path=path, kind=cell.kind))

    def _product(self, first: Value, second: Value, node: Node) -> Value:
        ports = [self._translated(first), self._translated(second)]
        return self._stage(Product(node.width), ports, node.path)

    def _linear(self, node: Weighted | Filtered | Summed) -> Value:
        operand = self._translated(node.operands[0])
        match node:
            case Weighted():
                folded = Value.of(Weighted(operand.flat, node.weight, node.bias, path=node.path, kind=node.kind))
            case Filtered():
                folded = Value.of(Filtered(self._whole(operand, node), node.filter, path=node.path, kind=node.kind))
            case Summed():
                folded = operand
        pieces, order = [], []
        for rows in self._kept.get(node, []):
            port = folded.flat.moved(rows)
            term = whole_of(port)
            alone = term is not None and isinstance(term.node, Told) and bool((term.scale == 1).all())
            pieces.append(
                port if alone and not port.bias.any() else self._stage(Elementwise(len(rows)), [port], node.path)
            )
            order.append(rows)
        if not order:
            return folded
        taken = np.concatenate(order)
        others = np.setdiff1d(np.arange(node.width), taken)
        if others.size:
            pieces, taken = [*pieces, folded.flat.moved(others)], np.concatenate([taken, others])
        return joined(pieces, 0).moved(np.argsort(taken))

    def _whole(self, operand: Value, node: Filtered) -> Value:
        """Return what a convolution reads: a whole stage, if it is too large for a matrix."""
        term = whole_of(operand)
        whole = term is not None and isinstance(term.node, Told)
        if whole or node.filter.inputs * node.filter.outputs <= MOST_UNROLLED:
            return operand.flat
        return self._stage(Elementwise(operand.size), [operand], node.path)

    def _finished(self, node: Unfinished) -> Value:
        """Return what stages can compute of the functions that are none of theirs."""
        operand = self._translated(node.operand).flat
        if node.function == "power" and node.numbers[0] in (2.0, 3.0):
            square = self._stage(Product(node.width), [operand, operand], node.path)
            if node.numbers[0] == 2.0:
                return square
            return self._stage(Product(node.width), [square, operand], node.path)
        if node.function == "abs":
            return self._stage(Elementwise(node.width, Activation("leaky_relu", -1.0)), [operand], node.path)
        of_observation = all(isinstance(term.node, Told) and term.node.stage == 0 for term in operand.terms)
        if node.function != "clip":
            raise refuse_unread(node)
        low, high = node.numbers
        if of_observation or not bounds_alike(low, high):
            return self._clipped(operand, low, high, node.path)
        for operation in bounded(node.path, node.kind, low, high):
            if isinstance(operation, Activate):
                operand = self._stage(Elementwise(node.width, operation.activation), [operand], node.path)
            else:
                assert isinstance(operation, Scale)
                operand = operand.scaled(operation.scale).shifted(operation.offset)
        return operand

    def _clipped(self, x: Value, low: Float64, high: Float64, path: str) -> Value:
        """Clip by ReLUs: low + relu(x − low) − relu(x − high), or high − relu(high − x) with no low."""
        below, above = low != -np.inf, high != np.inf
        parts = [x.moved(np.where(below | above, -1, np.arange(x.size)))]
        for rows, sign, bound in ((below, 1.0, low), (above & ~below, -1.0, high)):
            parts += [self._rectified(x.scaled(sign), sign * bound, rows, path).scaled(sign)]
            parts += [Value.constant(np.where(rows, bound, 0.0))]
        parts += [self._rectified(x, high, below & above, path).scaled(-1.0)]
        made = parts[0]
        for part in parts[1:]:
            made = made.plus(part)
        return made

    def _rectified(self, x: Value, bound: Float64, rows: npt.NDArray[np.bool_], path: str) -> Value:
        """Compute relu(x − bound) of the rows chosen, zeros elsewhere."""
        chosen, empty = np.flatnonzero(rows), Value((x.size,), (), np.zeros(x.size))
        if not chosen.size:
            return empty
        told = self._stage(Elementwise(len(chosen), RELU), [x.moved(chosen).shifted(-bound[chosen])], path)
        return empty.overwritten(chosen, told)

    def end(self, action: Value, memories: dict[Memory, Value]) -> None:
        """Plan the last stage, and what memories hold."""
        last = self._translated(action)
        for memory, after in memories.items():
            held = [term for term in after.terms if not isinstance(term.node, CellState)]
            if held:
                self._memories[memory] = self._remembered(memory, after)
        self._stage(Elementwise(action.size), [last], "action")

    def _remembered(self, memory: Memory, after: Value) -> Value:
        """Return what a memory holds, as entries of what stages tell; of anything else, a stage of its own."""
        cells = [term.index >= 0 for term in after.terms if isinstance(term.node, CellState)]
        rows = np.flatnonzero(~np.any(cells, axis=0)) if cells else np.arange(after.size)
        value, start = self._translated(after.flat.moved(rows)), memory.start[rows]
        if not self._starts(value, start):
            value = self._stage(Elementwise(value.size), [value], memory.path)
            self._starts(value, start)
        return Value((after.size,), (), np.zeros(after.size)).overwritten(rows, value)

    def _starts(self, value: Value, start: Float64) -> bool:
        """Set what stages start from, if the value is plain entries of theirs and nobody wants another start."""
        if value.bias.any() or sum((term.index >= 0).astype(int) for term in value.terms).max() != 1:  # pyright: ignore
            return False
        for term in value.terms:
            read = term.index >= 0
            if not isinstance(term.node, Told) or not term.node.stage or (term.scale[read] != 1).any():
                return False
            plan = self._plans[term.node.stage - 1]
            if plan.given is not None and plan.start is not None:
                common = plan.given[term.index[read]] > 0
                if (plan.start[term.index[read]][common] != start[read][common]).any():
                    return False
        covered = sum((term.index >= 0).astype(int) for term in value.terms)
        if not np.all(covered == 1):
            return False
        for term in value.terms:
            read, plan = term.index >= 0, self._plans[term.node.stage - 1]  # pyright: ignore
            if plan.given is None or plan.start is None:
                plan.given, plan.start = np.zeros(plan.cell.width, np.int64), np.zeros(plan.cell.width)
            plan.start[term.index[read]], plan.given[term.index[read]] = start[read], 1
        return True

    def graph(self) -> Graph:
        """Return the stages, connected."""
        widths = {0: self._inputs} | {number: plan.cell.width for number, plan in enumerate(self._plans, 1)}
        maker = MapMaker(widths, self._memories)
        stages = []
        for plan in self._plans:
            connections = [one for port, value in enumerate(plan.ports)
                           for one in maker.connections(value, port, plan.path)]  # fmt: skip
            start = None if plan.start is None or not plan.start.any() else _float32(plan.start)
            stages.append(Stage(tuple(connections), plan.cell, start))
        return Graph(self._inputs, tuple(stages))


def _start(before: Value) -> Float64:
    term: Term = before.terms[0]
    assert isinstance(term.node, Memory)
    return term.node.start[term.index]


def _float32(values: Float64) -> FloatArray:
    return np.asarray(values, np.float32)


def _tidy(values: Float64, target: float) -> Float64:
    """Return what rounding left beside a whole number."""
    return np.where(np.abs(values - target) < 1e-12, target, values)
