"""Graph: a network as stages with connections, the one inner form of every policy. A chain of layers is a special case.

Stage 0 is the normalised observation; stages 1 … L compute; the last is what the head makes an action of. A connection
is a linear map of what another stage has told, in this decision or (delayed) in the one before. A concatenation is
several connections into one port, a residual connection one that selects all entries.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from array_api_compat import array_namespace

from snn_policy.ann.activations import Activation
from snn_policy.ann.cells import Elementwise
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Layer, Linear
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Connection, Stage
from snn_policy.checks import require
from snn_policy.errors import UnsupportedLayerError
from snn_policy.protocol import Array, FloatArray


class GraphState(NamedTuple):
    """Hold what a recurrent graph carries between decisions, zeros at a reset.

    told: (rows, widths of the stages that are read later) what they told, less what they start from.
    cell: (rows, memories of the cells), less what they start from.
    """

    told: Array
    cell: Array


@dataclass(frozen=True, eq=False)
class Graph:
    """Hold the stages after the observation, in an order in which each has what it needs.

    Attributes:
        inputs: the observation's width.
        stages: stage 1, 2, …; the last is linear, and only the head reads it.
        chained: the layers of a chain, with their activations; empty of other graphs.
    """

    inputs: int
    stages: tuple[Stage, ...]
    chained: tuple[Layer, ...] = field(init=False, repr=False)

    @classmethod
    def chain(cls, layers: Sequence[Layer]) -> "Graph":
        """Return the graph of layers that each read the one before.

        Raises:
            ValueError: layers that do not fit each other; an activation missing, or one at the end.
        """
        stages, size = [], layers[0].inputs if layers else 0
        for index, layer in enumerate(layers):
            require(layer.inputs == size, f"layer {index}: takes {layer.inputs} inputs, but gets {size}")
            fits = (layer.activation is None) == (index == len(layers) - 1)
            require(fits, f"layer {index}: every layer but the last needs an activation, the last none")
            size = layer.outputs
            linear = with_activation(layer, None)
            stages.append(Stage((Connection(index, linear),), Elementwise(size, layer.activation)))
        require(bool(stages), "layers: there are none")
        return cls(layers[0].inputs, tuple(stages))

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        require(bool(self.stages), "graph: it has no stages")
        widths = self.widths
        for index, stage in enumerate(self.stages, 1):
            self._check(index, stage, (*widths, self.outputs))
        last = self.stages[-1].cell
        plain = isinstance(last, Elementwise) and last.activation is None and last.norm is None
        require(plain, "graph: its last stage must be linear; the head follows")
        object.__setattr__(self, "chained", self._chained() if self.is_chain else ())

    def _check(self, index: int, stage: Stage, widths: tuple[int, ...]) -> None:
        ports, place = stage.cell.ports, f"stage {index}"
        for connection in stage.connections:
            source, latest = connection.source, len(self.stages) if connection.delayed else index
            require(0 <= source < latest, f"{place}: reads stage {source}, which has told nothing by then")
            late = not connection.delayed or (source > 0 and isinstance(connection.map, Linear))
            require(late, f"{place}: only linear maps of stages, not of the observation, read the decision before")
            fits = 0 <= connection.port < len(ports) and getattr(connection.map, "activation", None) is None
            require(fits, f"{place}: its connections do not fit its cell")
            sizes = connection.map.inputs, connection.map.outputs
            expected = widths[source], ports[connection.port]
            require(sizes == expected, f"{place}: a connection maps {sizes[0]} to {sizes[1]}, expected {expected}")
        served = {connection.port for connection in stage.connections}
        require(served == set(range(len(ports))), f"{place}: a port without a connection")

    @property
    def outputs(self) -> int:
        """Return what the head is given."""
        return self.stages[-1].width

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Return the width of every stage that tells something: the observation, then all stages but the last."""
        return (self.inputs, *(stage.width for stage in self.stages[:-1]))

    @cached_property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """Return per telling stage (groups, neurons per group): a convolution's channels, else single neurons."""
        reading = {connection.map.input_groups for connection in self.readers(0) if isinstance(connection.map, Conv2d)}
        whole = len(reading) == 1 and all(isinstance(connection.map, Conv2d) for connection in self.readers(0))
        first = next(iter(reading)) if whole else (self.inputs, 1)
        return (first, *(stage.groups for stage in self.stages[:-1]))

    def readers(self, source: int) -> list[Connection]:
        """Return the connections that read a stage."""
        return [one for stage in self.stages for one in stage.connections if one.source == source]

    @cached_property
    def read_last(self) -> frozenset[int]:
        """Return the stages that the last one reads in the same decision."""
        return frozenset(one.source for one in self.stages[-1].connections if not one.delayed)

    @cached_property
    def fan_out(self) -> tuple[FloatArray, ...]:
        """Return of every telling stage the synapses of each of its neurons, over all its readers."""
        return tuple(
            np.sum([reader.map.fan_out for reader in self.readers(source)] or [np.zeros(width, np.int64)], axis=0)
            for source, width in enumerate(self.widths)
        )

    @property
    def macs(self) -> int:
        """Return multiply-accumulates of one pass, those with weights of zero included.

        Where stages read parts of others, a matrix's rows and columns of zeros alone are those that it does not touch.
        """
        if self.is_chain:
            return sum(stage.macs for stage in self.stages)
        return sum(stage.touched for stage in self.stages)

    @property
    def synapses(self) -> int:
        """Return multiply-accumulates of one pass that leaves out weights of zero."""
        maps = sum(connection.map.synapses for stage in self.stages for connection in stage.connections)
        return maps + self.cell_macs

    @cached_property
    def cell_macs(self) -> int:
        """Return the multiply-accumulates of the cells' own analog work: norms, products, gates."""
        return sum(stage.cell.macs for stage in self.stages)

    @cached_property
    def delayed(self) -> tuple[int, ...]:
        """Return the stages that are read a decision later."""
        return tuple(sorted({one.source for stage in self.stages for one in stage.connections if one.delayed}))

    @property
    def recurrent(self) -> bool:
        """Return whether anything is carried from decision to decision."""
        return bool(self.delayed) or self.memory_width > 0

    @cached_property
    def memory_width(self) -> int:
        """Return the numbers that the cells carry from decision to decision."""
        return sum(stage.cell.memory_width for stage in self.stages)

    @cached_property
    def is_chain(self) -> bool:
        """Return whether every stage reads the one before, with an activation of its own."""
        return all(self._differs(index, stage) is None for index, stage in enumerate(self.stages))

    def _chained(self) -> tuple[Layer, ...]:
        layers = []
        for stage in self.stages:
            one, cell = stage.connections[0].map, stage.cell
            assert isinstance(cell, Elementwise)
            assert not isinstance(one, Select)
            layers.append(with_activation(one, cell.activation))
        return tuple(layers)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the layers of a chain.

        Raises:
            UnsupportedLayerError: the graph is no chain.
        """
        if not self.is_chain:
            reason = "this serves chains of layers only: a linear map and an activation after the other"
            remedy = f'Use neuron="sigma-delta", which serves every {self.kind}'
            raise UnsupportedLayerError(*self.no_layer, reason, remedy)
        return self.chained

    @property
    def no_layer(self) -> tuple[str, str]:
        """Return the place of the first stage that is no layer of a chain, and what it is; ("", "") of chains."""
        for index, stage in enumerate(self.stages):
            kind = self._differs(index, stage)
            if kind is not None:
                return f"stage {index + 1} of {len(self.stages)}", kind
        return "", ""

    def _differs(self, index: int, stage: Stage) -> str | None:
        """Return what makes a stage, counted from 0, something else than a chain's layer; None where nothing does."""
        cell, (first, *others) = stage.cell, stage.connections
        if not isinstance(cell, Elementwise) or cell.norm is not None:
            return cell.kind
        if others:
            return f"reads {len(stage.connections)} stages"
        if first.delayed or stage.start is not None:
            return "recurrent"
        if isinstance(first.map, Select):
            return "selection"
        if first.source != index:
            return f"reads stage {first.source}"
        ends = index == len(self.stages) - 1
        return None if (cell.activation is None) == ends else "linear without an activation"

    @property
    def kind(self) -> str:
        """Return what the graph is, in a few words."""
        if self.is_chain:
            return "chain"
        cells = sorted({type(stage.cell).__name__.lower() for stage in self.stages} - {"elementwise"})
        norms = sorted({f"{stage.cell.norm.kind} norm" for stage in self.stages
                        if isinstance(stage.cell, Elementwise) and stage.cell.norm is not None})  # fmt: skip
        return " with ".join(["graph of stages", *filter(None, [", ".join([*cells, *norms])])])

    def start_of(self, source: int) -> FloatArray:
        """Return what a stage's delayed readers read in the first decision, (width,)."""
        start = None if source == 0 else self.stages[source - 1].start
        return np.zeros(self.widths[source], np.float32) if start is None else start

    def initial_state(self, rows: int) -> GraphState:
        """Return the state of so many rows after a reset: zeros."""
        told = sum(self.widths[source] for source in self.delayed)
        return GraphState(np.zeros((rows, told), np.float32), np.zeros((rows, self.memory_width), np.float32))

    def read(self, x: Array, state: GraphState | None) -> tuple[list[list[Array]], list[Array], GraphState | None]:
        """Make one pass.

        Args:
            x: (rows, inputs) normalised.
            state: None of graphs that are not recurrent.

        Returns:
            Every stage's ports' z; the values of the observation and of every stage, (rows, width) each, the last one
            what the head is given; and the state after the decision.
        """
        before: Sequence[Array | None] = () if state is None else self.before(state)
        values, received, memories, at = [x], [], [], 0
        for stage in self.stages:
            ports = stage.received(values, before)
            size = stage.cell.memory_width
            h, memory = stage.cell.advance(ports, state.cell[:, at : at + size] if state is not None and size else None)
            at += size
            received.append(ports)
            values.append(h)
            memories += [] if memory is None else [memory]
        if state is None:
            return received, values, None
        xp = array_namespace(x)
        told = [values[source] - self.start_of(source) for source in self.delayed]
        empty = x[:, :0]
        return received, values, GraphState(xp.concat([empty, *told], axis=1), xp.concat([empty, *memories], axis=1))

    def before(self, state: GraphState) -> list[Array | None]:
        """Return what every stage told in the decision before, (rows, width); None where nobody reads that."""
        values: list[Array | None] = [None] * len(self.widths)
        at = 0
        for source in self.delayed:
            width = self.widths[source]
            values[source] = state.told[:, at : at + width] + self.start_of(source)
            at += width
        return values


def with_activation(layer: Layer, activation: Activation | None) -> Layer:
    """Return the layer with another activation, and with the same arrays."""
    twin = copy(layer)
    object.__setattr__(twin, "activation", activation)
    return twin
