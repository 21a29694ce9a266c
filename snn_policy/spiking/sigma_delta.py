"""One decision of sigma-delta networks, pure and array-API: stage by stage. Equations: docs/methods.md §1.

This is the reference: it derives the accumulators from the memory in every decision, so they carry no rounding. Only
linear maps have any: what the receivers of a convolution or of a selection have accumulated is always derived.

Where stages carry residuals (α > 0), a decision begins with v = h − c − γ·m + α·r, r from the decision before. All
readers of a stage are sent the same spikes; a delayed connection reads the memory that the decision before has left.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from array_api_compat import array_namespace

from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Linear
from snn_policy.ann.stage import Connection
from snn_policy.protocol import Array, Decision
from snn_policy.spiking.neurons import SigmaDeltaNeurons, sigma_delta_residual, sigma_delta_spike
from snn_policy.spiking.state import CarryingState, RecurrentState, SigmaDeltaState, SigmaDeltaStates


def accumulator_sizes(graph: Graph) -> tuple[int, ...]:
    """Return the sums that every connection keeps, stage by stage: of linear maps, their outputs.

    What is read a decision later keeps two: of neurons with γ = 1, and of those with γ = 0.
    """
    return tuple(
        one.map.outputs * (2 if one.delayed else 1) if isinstance(one.map, Linear) else 0
        for stage in graph.stages
        for one in stage.connections
    )


def initial_state(rows: int, graph: Graph, neurons: SigmaDeltaNeurons) -> SigmaDeltaStates:
    """Return the state of so many rows after a reset: zeros."""
    memory = np.zeros((rows, sum(graph.widths)), np.float32)
    accumulator = np.zeros((rows, sum(accumulator_sizes(graph))), np.float32)
    state = SigmaDeltaState(memory, accumulator, np.zeros((rows, 1), np.float32))
    if graph.recurrent:
        residual = np.zeros((rows, memory.shape[1] if neurons.carries else 0), np.float32)
        return RecurrentState(*state, residual, np.zeros((rows, graph.memory_width), np.float32))
    return CarryingState(*state, np.zeros_like(memory)) if neurons.carries else state


class Told(NamedTuple):
    """Hold what a stage has told by the end of a decision, (rows, neurons) each.

    memory: m · emitted: spikes per neuron, int64 · residual: r.
    """

    memory: Array
    emitted: Array
    residual: Array | None


def tell(
    h: Array, stage: int, memory: Array, residual: Array | None, offset: Array, neurons: SigmaDeltaNeurons
) -> Told:
    """Return what a stage tells of its analog values h: greedy digits of what its readers do not know yet."""
    xp = array_namespace(h)
    quantum, kept = neurons.quanta[stage], neurons.predictor[stage] * memory
    v, sent = h - offset - kept, kept * 0
    if residual is not None:
        v = v + neurons.alpha[stage] * residual
    emitted = xp.astype(sent, xp.int64)
    for _ in range(neurons.digits[stage]):
        s = sigma_delta_spike(v, quantum, neurons.powers)
        v, sent, emitted = v - s, sent + s, emitted + xp.astype(s != 0, xp.int64)
        if isinstance(s, np.ndarray) and not s.any():
            break  # no digit after it says anything either: v is as it was
    left = None if residual is None else sigma_delta_residual(v, emitted != 0, quantum)
    return Told(kept + sent, emitted, left)


def arriving(connection: Connection, memory: Array, offset: Array, predictor: Array) -> tuple[Array, list[Array]]:
    """Return what one connection adds to z, and the sums that its receivers go on with."""
    if not isinstance(connection.map, Linear):
        return connection.map(memory + offset), []
    kept = connection.map.product(predictor * memory)
    return kept + connection.map((1 - predictor) * memory + offset), [kept]


def decide_sigma_delta(
    x: Array, state: SigmaDeltaStates, graph: Graph, neurons: SigmaDeltaNeurons
) -> tuple[Array, SigmaDeltaStates, Decision]:
    """Return, from the normalised x (rows, inputs), the last stage's y, the new state, the decision's costs."""
    xp = array_namespace(x)
    run = _Run(x, state, graph, neurons)
    for index in range(len(graph.stages)):
        run.tell(index)
        run.advance(index)
    none = xp.astype(x[:, 0] * 0, xp.int64)
    operations, events = none, none
    for source, told in enumerate(run.told):
        for reader in graph.readers(source):
            operations = operations + reader.map.operations(told.emitted)
            events = events + reader.map.operations(xp.astype(told.emitted != 0, xp.int64))
    spikes = xp.stack([xp.sum(told.emitted, axis=1) for told in run.told], axis=1)
    macs = none + graph.cell_macs if graph.cell_macs else none
    return run.h, run.new_state(), Decision(spikes, operations, macs, none, none, events)


class _Run:
    """Carry one decision through the stages; `h` is the newest stage's analog value."""

    def __init__(self, x: Array, state: SigmaDeltaStates, graph: Graph, neurons: SigmaDeltaNeurons) -> None:
        self.h, self.told = x, list[Told]()
        self._state, self._graph, self._neurons = state, graph, neurons
        self._memories = _columns(state.memory, graph.widths)
        self._residuals = None
        if isinstance(state, CarryingState | RecurrentState) and neurons.carries:
            self._residuals = _columns(state.residual, graph.widths)
        sizes = [stage.cell.memory_width for stage in graph.stages]
        self._cells = _columns(state.cell, sizes) if isinstance(state, RecurrentState) else [None] * len(sizes)
        self._accumulators: list[tuple[Connection, list[Array]]] = []
        self._remembered: list[Array] = []

    def _offset(self, source: int) -> Array:
        if source == 0:
            return self._neurons.offset
        start = self._graph.stages[source - 1].start
        return 0.0 if start is None else start

    def tell(self, index: int) -> None:
        """Let stage `index`, whose values are `h`, tell its readers."""
        residual = None if self._residuals is None else self._residuals[index]
        self.told.append(tell(self.h, index, self._memories[index], residual, self._offset(index), self._neurons))

    def advance(self, index: int) -> None:
        """Compute the values of stage `index` + 1."""
        stage = self._graph.stages[index]
        ports: list[Array] = [None] * len(stage.cell.ports)
        for one in stage.connections:
            memory = self._memories[one.source] if one.delayed else self.told[one.source].memory
            z, sums = arriving(one, memory, self._offset(one.source), self._neurons.predictor[one.source])
            ports[one.port] = z if ports[one.port] is None else ports[one.port] + z
            self._accumulators.append((one, sums))
        self.h, remembered = stage.cell.advance(ports, self._cells[index])
        self._remembered += [] if remembered is None else [remembered]

    def _sums(self) -> list[Array]:
        """Return what receivers have accumulated by the end of the decision, connection by connection."""
        sums = []
        for one, kept in self._accumulators:
            if one.delayed and isinstance(one.map, Linear):
                memory, predictor = self.told[one.source].memory, self._neurons.predictor[one.source]
                kept = [one.map.product(predictor * memory), one.map.product((1 - predictor) * memory)]
            sums += kept
        return sums

    def new_state(self) -> SigmaDeltaStates:
        """Return the state after the decision."""
        none = self._state.memory[:, :0]
        xp = array_namespace(none)
        memory = xp.concat([told.memory for told in self.told], axis=1)
        plain = SigmaDeltaState(memory, xp.concat([none, *self._sums()], axis=1), self._state.age * 0)
        left = [told.residual for told in self.told if told.residual is not None]
        if isinstance(self._state, RecurrentState):
            cell = xp.concat([none, *self._remembered], axis=1)
            return RecurrentState(*plain, xp.concat([none, *left], axis=1), cell)
        return CarryingState(*plain, xp.concat(left, axis=1)) if left else plain


def _columns(array: Array, widths: Sequence[int]) -> list[Array]:
    ends = np.cumsum([0, *widths])
    return [array[:, int(end) - width : int(end)] for end, width in zip(ends[1:], widths, strict=True)]
