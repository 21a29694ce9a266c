"""The ANN along a recording, where it is a graph of stages: every stage's values, and what its cells remembered.

A graph without memory is read in batches; a recurrent one in sequence, from rest wherever an episode begins, the
episodes side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snn_policy.ann.graph import Graph
from snn_policy.ann.stage import Stage
from snn_policy.calibration.episodes import lanes
from snn_policy.calibration.recordings import pieces, release, scratch
from snn_policy.progress import Passes
from snn_policy.protocol import FloatArray, IntArray, Mask

Told = Sequence[FloatArray | None] | Mapping[int, FloatArray]
"""What stages told, (rows, width) each, by their number."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Hold what the ANN does along a recording.

    Attributes:
        values: of every telling stage, (N, width), the normalised observation first.
        memories: (N, memories of the cells) before each decision, less what they start from.
        outputs: (N, outputs) of the last stage.
        starts: (N,) where episodes begin.
    """

    graph: Graph
    values: tuple[FloatArray, ...]
    memories: FloatArray
    outputs: FloatArray
    starts: Mask

    def received(self, rows: IntArray) -> list[list[FloatArray]]:
        """Return every stage's ports' z in the decisions of these rows of the recording."""
        told, before = self.read(rows)
        return [received(stage, told, before) for stage in self.graph.stages]

    def read(self, rows: IntArray) -> tuple[list[FloatArray], dict[int, FloatArray]]:
        """Return what every stage tells in the decisions of these rows, and what those read late told before them."""
        told = [values[rows] for values in self.values]
        before: dict[int, FloatArray] = {}
        for source in self.graph.delayed:
            earlier = self.values[source][np.maximum(rows - 1, 0)]
            before[source] = np.where(self.starts[rows][:, None], self.graph.start_of(source), earlier)
        return told, before

    def memory(self, rows: IntArray) -> list[FloatArray | None]:
        """Return every stage's own memory before the decisions of these rows; None of cells without one."""
        return _of_cells(self.graph, self.memories[rows])


def trajectory(graph: Graph, inputs: FloatArray, starts: Mask | None, passes: Passes) -> Trajectory:
    """Return what the ANN does on consecutive normalised observations, (N, inputs).

    Args:
        starts: (N,) where episodes begin; None where all of it is one.
    """
    begins = np.arange(len(inputs)) == 0 if starts is None else starts
    stores = [scratch(len(inputs), width) for width in (*graph.widths[1:], graph.outputs)]
    memories = scratch(len(inputs), graph.memory_width)
    run = _in_sequence if graph.recurrent else _in_batches
    run(graph, inputs, begins, stores, memories, passes)
    return Trajectory(graph, (inputs, *stores[:-1]), memories, stores[-1], begins)


def received(stage: Stage, told: Told, before: Told) -> list[FloatArray]:
    """Return every port's z as `Stage.received` does, but in one matrix product per connection, for batches."""
    ports: list[FloatArray | None] = [None] * len(stage.cell.ports)
    for connection in stage.connections:
        source = (before if connection.delayed else told)[connection.source]
        assert source is not None
        arriving, sofar = connection.map.batched(source), ports[connection.port]
        ports[connection.port] = arriving if sofar is None else sofar + arriving
    return ports  # pyright: ignore[reportReturnType]


def _in_batches(
    graph: Graph, inputs: FloatArray, _: Mask, stores: list[FloatArray], memories: FloatArray, passes: Passes
) -> None:
    widest = max(inputs, *stores, key=lambda values: values.shape[1])
    for rows in pieces(widest):
        _store(rows, _passed(graph, inputs[rows], (), memories[rows])[0], stores)
        passes.advance(len(inputs[rows]))


def _in_sequence(
    graph: Graph, inputs: FloatArray, starts: Mask, stores: list[FloatArray], memories: FloatArray, passes: Passes
) -> None:
    laid = lanes(starts)
    count = laid.rows.shape[1]
    previous = {source: np.zeros((count, graph.widths[source]), np.float32) for source in graph.delayed}
    memory = np.zeros((count, graph.memory_width), np.float32)
    for rows, begins in laid:
        fresh = begins[:, None]
        before = {source: np.where(fresh, graph.start_of(source), told[: len(rows)])
                  for source, told in previous.items()}  # fmt: skip
        memories[rows] = np.where(fresh, np.float32(0), memory[: len(rows)])
        values, memory = _passed(graph, inputs[rows], before, memories[rows])
        _store(rows, values, stores)
        previous = {source: values[source] for source in graph.delayed}
        passes.advance(len(rows))


def _store(rows: slice | IntArray, values: list[FloatArray], stores: list[FloatArray]) -> None:
    for store, made in zip(stores, values[1:], strict=True):
        store[rows] = made
        if isinstance(rows, slice):
            release(store)


def _passed(graph: Graph, x: FloatArray, before: Told, memories: FloatArray) -> tuple[list[FloatArray], FloatArray]:
    """Return all values of one pass, the observation's first, and the cells' memories after it."""
    values, after = [x], [memories[:, :0]]
    for stage, memory in zip(graph.stages, _of_cells(graph, memories), strict=True):
        h, kept = stage.cell.advance(received(stage, values, before), memory)
        values.append(h)
        after += [] if kept is None else [kept]
    return values, np.concatenate(after, axis=1)


def _of_cells(graph: Graph, memories: FloatArray) -> list[FloatArray | None]:
    sizes = [stage.cell.memory_width for stage in graph.stages]
    parts = np.split(memories, np.cumsum(sizes)[:-1], axis=1)
    return [part if size else None for part, size in zip(parts, sizes, strict=True)]
