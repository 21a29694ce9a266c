"""Which nodes of a program the action needs, and which linear maps become stages of their own.

A linear map without an activation folds into whoever reads it, unless that costs more multiply-accumulates than telling
its values does: a residual stream is a stage, a projection before a norm is not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.protocol import IntArray
from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_nodes import (
    CellState,
    Filtered,
    GruStep,
    LstmStep,
    Memory,
    Node,
    Observation,
    Summed,
    Unfinished,
    Weighted,
)
from snn_policy.sources.refusals import refusal
from snn_policy.sources.value_pieces import refuse_jump
from snn_policy.sources.value_weighing import weighing

MOST_NODES = 5_000
Linear = Weighted | Filtered | Summed


@dataclass(frozen=True, eq=False)
class Program:
    """Hold what a reader has found: the action of one observation, and what it remembers.

    Attributes:
        memories: what every memory is in the next decision.
    """

    observation: Observation
    action: Value
    memories: Mapping[Memory, Value]


def needed(values: Iterable[Value], memories: Mapping[Memory, Value]) -> list[Node]:
    """Return the nodes that the values need, memories' own included, in the order they were made."""
    found: set[Node] = set()
    waiting = [term.node for value in values for term in value.terms]
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        found.add(node)
        if len(found) > MOST_NODES:
            raise SourceError(f"needs more than {MOST_NODES} operations; refused")
        read = list(node.operands)
        if isinstance(node, Memory):
            read.append(memories[node])
        if isinstance(node, GruStep | LstmStep):
            read.append(node.before)
        waiting += [term.node for value in read for term in value.terms]
    return sorted(found, key=lambda node: node.number)


def refuse_forgetting(nodes: Iterable[Node]) -> None:
    """Raise where a recurrent layer starts from the same state at every decision."""
    for node in nodes:
        if isinstance(node, Unfinished) and node.function == "forgetting":
            reason = "it is recurrent, and its state is a constant: it would forget at every step"
            if node.numbers[0] == "Linear":
                reason = (
                    "a constant is in the place of its recurrent state, as in traces: it would forget at every step"
                )
            remedy = "Keep its state in buffers that forward writes, or pass it in and return it"
            raise UnsupportedLayerError(node.path, str(node.numbers[0]), reason, remedy)


def with_cell_states(program: Program, nodes: Iterable[Node]) -> dict[Memory, Value]:
    """Return the memories, with the cells' own states where programs spell those out."""
    memories = dict(program.memories)
    for node in nodes:
        if isinstance(node, LstmStep) and node.spelled is not None:
            term = node.before.terms[0]
            assert isinstance(term.node, Memory)
            if memories[term.node].moved(term.index).same_as(node.spelled):
                state = Value.of(CellState(node, path=node.path, kind=node.kind))
                memories[term.node] = memories[term.node].overwritten(term.index, state)
    return memories


def check_steps(nodes: Iterable[Node], memories: Mapping[Memory, Value]) -> None:
    """Raise unless every GRU and LSTM starts from what it ended with in the decision before."""
    for node in nodes:
        if isinstance(node, GruStep | LstmStep):
            term = node.before.terms[0]
            if isinstance(node, GruStep):
                wanted = Value.of(node)
                agrees = memories[term.node].moved(term.index).same_as(wanted)  # pyright: ignore
            else:
                after = memories[term.node].moved(term.index)  # pyright: ignore
                states = [one.node for one in after.terms if isinstance(one.node, CellState) and one.node.step is node]
                agrees = len(states) == 1 and after.same_as(Value.of(states[0]))
            if not agrees:
                reason = "it is recurrent, and its state is changed between decisions"
                raise UnsupportedLayerError(node.path, node.kind, reason, "Keep its state as it leaves the layer")


def refuse_unread(node: Node) -> UnsupportedLayerError:
    """Return the error for half a function."""
    assert isinstance(node, Unfinished)
    if node.function == "clip":
        reason = "values are clipped between two linear layers"
        remedy = "Clipping is only read at the observation and at the action"
        return UnsupportedLayerError(node.path, node.kind, reason, remedy)
    if node.function == "pieces":
        return refuse_jump(node)
    if node.function == "softmax":
        return weighing(node.path, node)
    if node.function == "exp":
        reason = "it is an exponential of values of the observation, as in state spaces (Mamba, S4)"
        return UnsupportedLayerError(node.path, "exp", reason, "Use a GRU, an LSTM or an activation by its name")
    if node.function == "argmax":
        return refusal(node.path, node.function)
    if node.function == "root" and all(
        isinstance(term.node, Unfinished) and term.node.function == "power" for term in node.operand.terms
    ):
        return refusal(node.path, "Squareplus")
    names = {"root": "square root", "squares": "sum of squares", "power": "power"}
    return refusal(node.path, names.get(node.function, node.function))


@dataclass(frozen=True, eq=False)
class _Use:
    """Hold a reader of a linear node's rows: a linear map with so many outputs (0: a port, entry by entry)."""

    reader: int
    outputs: int
    rows: IntArray


def kept_rows(nodes: list[Node], action: Value, memories: Mapping[Memory, Value]) -> dict[Node, list[IntArray]]:
    """Return, of every linear node, the groups of rows that are to be stages."""
    uses: dict[Linear, list[_Use]] = {node: [] for node in nodes if isinstance(node, Linear)}

    def note(value: Value, reader: int, outputs: int) -> None:
        for term in value.terms:
            if isinstance(term.node, Linear):
                uses[term.node].append(_Use(reader, outputs, np.unique(term.index[term.index >= 0])))

    for node in nodes:
        outputs = len(node.weight) if isinstance(node, Weighted) else 0
        for value in node.operands if not isinstance(node, CellState) else ():
            note(value, node.number, outputs)
    note(action, -1, 0)
    return {node: list(_groups(node, found)) for node, found in uses.items()}


def _groups(node: Linear, uses: list[_Use]) -> Iterable[IntArray]:
    """Return rows with the same readers, together; those groups of which a stage costs less than to fold them."""
    if isinstance(node, Filtered):
        rows = np.arange(node.width)
        yield from [rows] if len(uses) > 1 or any(use.outputs for use in uses) else []
        return
    marks = np.zeros((node.width, len(uses)), bool)
    for column, use in enumerate(uses):
        marks[use.rows, column] = True
    patterns, group_of = np.unique(marks, axis=0, return_inverse=True)
    inputs, own = _costs(node)
    for number, pattern in enumerate(patterns):
        rows = np.flatnonzero(group_of.reshape(-1) == number)
        readers = [use for use, reads in zip(uses, pattern, strict=True) if reads]
        dense = sum(use.outputs for use in readers)
        plain = sum(use.outputs == 0 for use in readers)
        folded = dense * inputs + plain * own * len(rows)
        told = own * len(rows) + dense * len(rows)
        if readers and (folded > told or (folded == told and len(readers) > 1)):
            yield rows


def _costs(node: Linear) -> tuple[int, int]:
    """Return how many entries it is made of, and multiply-accumulates per row."""
    inputs = sum(int(np.count_nonzero(np.unique(term.index) >= 0)) for term in node.operands[0].terms)
    if isinstance(node, Weighted):
        return inputs, inputs
    return inputs, sum(_costs(term.node)[1] for term in node.operands[0].terms if isinstance(term.node, Weighted))
