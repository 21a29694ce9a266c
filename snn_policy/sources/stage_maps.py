"""Connections of a stage's port from the symbolic value that it takes: selections, matrices, convolutions.

Values here are of what stages tell (`Told`), and of linear nodes that fold into the connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Linear
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Connection, Map
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.affine_values import Term, Value, whole_of
from snn_policy.sources.graph_nodes import Filtered, Memory, Node, Weighted
from snn_policy.sources.operations import Float64

MOST_WEIGHTS, MOST_UNROLLED = 2**25, 2**22
"""Weights of one connection; and of a convolution that is written out as a matrix."""
_EXACT = 1e-9
Key = tuple[int, bool]
"""A stage, and whether it is read a decision later."""


@dataclass(frozen=True, eq=False)
class Told(Node):
    """Hold what a stage tells in this decision; stage 0 is the observation."""

    stage: int
    size: int

    @property
    def width(self) -> int:
        return self.size


@dataclass(eq=False)
class _Parts:
    """Hold a port's z: per source a matrix, or selections of entries that need none; and what is added."""

    width: int
    bias: Float64
    matrices: dict[Key, Float64] = field(default_factory=dict)
    selections: dict[Key, list[Term]] = field(default_factory=dict)
    filters: list[tuple[Key, Conv2d]] = field(default_factory=list)


class MapMaker:
    """Make connections; `memories` are what memories hold, in terms of what stages tell."""

    def __init__(self, widths: Mapping[int, int], memories: Mapping[Memory, Value]) -> None:
        self._widths, self._memories = widths, memories
        self._matrices: dict[Node, tuple[dict[Key, Float64], Float64]] = {}

    def connections(self, value: Value, port: int, path: str) -> list[Connection]:
        """Return the connections of one port."""
        parts = self._parts(value)
        made: list[tuple[Key, Map]] = list(parts.filters)  # pyright: ignore[reportAssignmentType]
        for key in sorted(set(parts.matrices) | set(parts.selections)):
            made.append((key, self._map(key, parts)))
        made = [(key, one) for key, one in made if isinstance(one, Select) or _weighs(one)] or made[:1]
        if not made:
            raise UnsupportedLayerError(
                path, "constant",
                "its values do not depend on the observation (of one row, x − x.mean(0) leaves nothing)",
                "Leave it out of the policy; to normalise, take statistics of the training, as BatchNorm1d keeps them",
            )  # fmt: skip
        return [Connection(source, one, delayed, port) for (source, delayed), one in _with_bias(made, parts.bias)]

    def _map(self, key: Key, parts: _Parts) -> Linear | Select:
        selections, width = parts.selections.get(key, []), self._widths[key[0]]
        if key not in parts.matrices and len(selections) == 1 and not key[1]:
            term = selections[0]
            if (term.index >= 0).all() and np.allclose(term.scale, 1, 0, _EXACT):
                return Select(term.index, width)
        matrix = parts.matrices.get(key)
        matrix = np.zeros((parts.width, width)) if matrix is None else matrix.copy()
        for term in selections:
            rows = np.flatnonzero(term.index >= 0)
            np.add.at(matrix, (rows, term.index[rows]), term.scale[rows])
        return Linear(matrix, np.zeros(parts.width))  # pyright: ignore[reportArgumentType]

    def _parts(self, value: Value) -> _Parts:
        parts = _Parts(value.size, value.bias.copy())
        for term in value.terms:
            self._add(parts, term)
        return parts

    def _add(self, parts: _Parts, term: Term) -> None:
        if isinstance(term.node, Told):
            parts.selections.setdefault((term.node.stage, False), []).append(term)
            return
        if isinstance(term.node, Memory):
            held = self._memories.get(term.node, Value.constant(np.zeros(term.node.width)))
            before = held.moved(term.index).scaled(term.scale)
            covered = np.any([one.index >= 0 for one in before.terms], axis=0)
            if (~covered & (term.index >= 0)).any():
                reason = "it is recurrent, and its cell state is read by others than itself"
                raise UnsupportedLayerError(term.node.path, "LSTM", reason, "Use the hidden state")
            parts.bias += before.bias
            for one in before.terms:
                assert isinstance(one.node, Told)
                parts.selections.setdefault((one.node.stage, True), []).append(one)
            return
        if isinstance(term.node, Filtered) and self._filter(parts, term):
            return
        matrices, bias = self._matrix_of(term.node)
        rows = np.maximum(term.index, 0)
        parts.bias += bias[rows] * term.scale
        for key, matrix in matrices.items():
            _check_size(parts.width, matrix.shape[1], term.node)
            chosen = matrix[rows] * term.scale[:, None]
            held = parts.matrices.get(key)
            parts.matrices[key] = chosen if held is None else held + chosen

    def _matrix_of(self, node: Node) -> tuple[dict[Key, Float64], Float64]:
        """Return a linear node as matrices of what stages tell, and what it adds."""
        if node not in self._matrices:
            assert isinstance(node, Weighted | Filtered)
            if isinstance(node, Weighted):
                weight, bias = node.weight, node.bias
            else:
                _check_size(node.filter.outputs, node.filter.inputs, node, MOST_UNROLLED)
                weight = node.filter.dense(np.eye(node.filter.outputs))
                bias = np.repeat(node.filter.bias, node.width // len(node.filter.bias))
            parts = self._parts(node.operand)
            made: dict[Key, Float64] = {key: weight @ matrix for key, matrix in parts.matrices.items()}
            for key, selections in parts.selections.items():
                _check_size(len(weight), self._widths[key[0]], node)
                matrix = made.setdefault(key, np.zeros((len(weight), self._widths[key[0]])))
                for term in selections:
                    columns = np.flatnonzero(term.index >= 0)
                    np.add.at(matrix.T, term.index[columns], (weight[:, columns] * term.scale[columns]).T)
            self._matrices[node] = made, weight @ parts.bias + bias
        return self._matrices[node]

    def _filter(self, parts: _Parts, term: Term) -> bool:
        """Add a convolution as one, where it reads a whole stage and gives the whole port, scaled by channels."""
        node = term.node
        assert isinstance(node, Filtered)
        read = whole_of(node.operand)
        whole = np.array_equal(term.index, np.arange(node.width))
        if read is None or not isinstance(read.node, Told) or not whole:
            return False
        try:
            placed = node.filter.preceded(read.scale, node.operand.bias).then(term.scale, np.zeros(node.width))
        except UnsupportedLayerError:
            return False
        stride, padding = placed.stride, placed.padding
        parts.bias += np.repeat(placed.bias, node.width // len(placed.bias))
        plain = Conv2d(placed.weight, np.zeros(len(placed.bias)), placed.shape, stride, padding)  # pyright: ignore
        parts.filters.append(((read.node.stage, False), plain))
        return True


def _check_size(outputs: int, inputs: int, node: Node, most: int = MOST_WEIGHTS) -> None:
    if outputs * inputs > most:
        raise SourceError(f"{node.path} ({node.kind}): {outputs} × {inputs} weights, more than {most}; refused")


def _weighs(one: Map) -> bool:
    return not isinstance(one, Linear) or bool(one.weight.any())


def _with_bias(made: list[tuple[Key, Map]], bias: Float64) -> list[tuple[Key, Map]]:
    """Return it with what a port adds in one of its maps; a selection becomes a matrix for it."""
    if not (np.abs(bias) > _EXACT * 1e-3).any():
        return made
    order = sorted(range(len(made)), key=lambda place: (not isinstance(made[place][1], Linear), place))
    for place in order:
        key, one = made[place]
        if isinstance(one, Linear):
            changed: Map = Linear(one.weight, bias)  # pyright: ignore[reportArgumentType]
        elif isinstance(one, Conv2d):
            channels = bias.reshape(len(one.bias), -1)
            if not np.allclose(channels, channels[:, :1], 0, _EXACT):
                continue
            changed = Conv2d(one.weight, channels[:, 0], one.input_shape, one.stride, one.padding)  # pyright: ignore
        else:
            identity = np.zeros((one.outputs, one.inputs))
            identity[np.arange(one.outputs), one.indices] = 1
            changed = Linear(identity, bias)  # pyright: ignore[reportArgumentType]
        return [*made[:place], (key, changed), *made[place + 1 :]]
    key, one = made[0]
    assert isinstance(one, Conv2d)
    nothing = Linear(np.zeros((one.outputs, one.inputs)), bias)  # pyright: ignore[reportArgumentType]
    return [*made, (key, nothing)]
