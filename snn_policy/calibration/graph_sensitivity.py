"""Sensitivities of graphs of stages: how far the action moves with an error in what a stage tells.

What a stage tells reaches the action by all its readers, whose derivatives are summed; in a recurrent graph also later,
by what is read a decision late and by the cells' memories. Errors of different decisions are taken for independent,
so that the squares of their effects on one action are summed over the `DECISIONS_BACK` decisions before it, as far as
its episode goes back: g_j² = Σ_k mean ‖∂action[t]/∂told_j[t − k]‖².
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from snn_policy.ann.cell_derivatives import backwards, slopes
from snn_policy.ann.cells import Cell, Elementwise
from snn_policy.ann.graph import Graph
from snn_policy.calibration.recordings import SENSITIVITY_VALUES, pieces
from snn_policy.calibration.trajectories import Trajectory
from snn_policy.protocol import FloatArray, IntArray

DECISIONS_BACK = 16
MOST_SEQUENCES = 500
"""Actions of a recurrent graph whose derivatives are taken, evenly spaced along the recording."""
MOST_DERIVATIVES = 2**22
"""Numbers of the largest array of derivatives."""

OfActions = Callable[[FloatArray], FloatArray]
"""Of the head: (rows, outputs) → (rows, actions, outputs), the derivatives of what is judged."""


def graph_sensitivities(
    run: Trajectory, of_actions: OfActions, linear: tuple[int, ...] = ()
) -> list[npt.NDArray[np.float64]]:
    """Return per telling stage the mean over the recording of Σ_actions (∂action/∂told_j)², (width,).

    Args:
        linear: stages, counted from 0, whose activation is taken for the identity.
    """
    cells = [_without_activation(stage.cell) if index in linear else stage.cell
             for index, stage in enumerate(run.graph.stages)]  # fmt: skip
    squares = [np.zeros(width) for width in run.graph.widths]
    apart = -(-run.values[0].size // SENSITIVITY_VALUES)
    if run.graph.recurrent:
        apart = max(apart, -(-len(run.outputs) // MOST_SEQUENCES))
    chosen = np.arange(len(run.outputs))[::apart]
    actions = of_actions(run.outputs[:1]).shape[1]
    for rows in pieces(chosen, rows=_at_a_time(run.graph, actions)):
        _Backwards(run, cells, squares).go(chosen[rows], of_actions(run.outputs[chosen[rows]]))
    return [total / len(chosen) for total in squares]


def steepest_slopes(run: Trajectory) -> dict[int, float]:
    """Return the steepest slope on the recording of every stage, counted from 0, that has one activation."""
    steepest: dict[int, float] = {}
    apart = -(-run.values[0].size // SENSITIVITY_VALUES)
    chosen = np.arange(len(run.outputs))[::apart]
    for rows in pieces(chosen, rows=_at_a_time(run.graph, 1)):
        for index, (stage, ports) in enumerate(zip(run.graph.stages, run.received(chosen[rows]), strict=True)):
            if isinstance(stage.cell, Elementwise) and stage.cell.activation is not None:
                largest = float(abs(slopes(stage.cell, ports[0])).max())
                steepest[index] = max(steepest.get(index, 0.0), largest)
    return steepest


def _at_a_time(graph: Graph, actions: int) -> int:
    """Return the rows whose derivatives are held at a time."""
    widest = max(max(stage.cell.ports) for stage in graph.stages)
    return max(1, min(512, MOST_DERIVATIVES // (actions * widest)))


def _without_activation(cell: Cell) -> Cell:
    return replace(cell, activation=None) if isinstance(cell, Elementwise) else cell


class _Backwards:
    """Carry derivatives of some rows' actions back, decision by decision, adding up squares on the way.

    `late`: by what was told in the decision before, `memories`: by the cells' memories, before the newest decision.
    """

    def __init__(self, run: Trajectory, cells: list[Cell], squares: list[npt.NDArray[np.float64]]) -> None:
        self._run, self._graph, self._cells, self._squares = run, run.graph, cells, squares
        self._late: dict[int, FloatArray] = {}
        self._memories: dict[int, FloatArray] = {}

    def go(self, rows: IntArray, of_outputs: FloatArray) -> None:
        """Carry back from the outputs' derivatives, (rows, actions, outputs), at these rows of the recording."""
        outputs: FloatArray | None = of_outputs
        for _ in range(DECISIONS_BACK if self._graph.recurrent else 1):
            self._decision(rows, outputs)
            going = ~self._run.starts[rows]
            rows, outputs = rows[going] - 1, None
            self._late = {source: values[going] for source, values in self._late.items()}
            self._memories = {stage: values[going] for stage, values in self._memories.items()}
            if not len(rows):
                break

    def _decision(self, rows: IntArray, of_outputs: FloatArray | None) -> None:
        told, late, memories = self._late, {}, {}
        ports, before = self._run.received(rows), self._run.memory(rows)
        for index in reversed(range(len(self._graph.stages))):
            of_h, of_memory = told.get(index + 1), self._memories.get(index)
            if index == len(self._graph.stages) - 1:
                of_h = of_outputs
            elif of_h is not None:
                self._add(index + 1, of_h)
            if of_h is None and of_memory is not None:
                of_h = np.zeros((*of_memory.shape[:2], self._graph.stages[index].width), np.float32)
            if of_h is None:
                continue
            of_ports, of_before = backwards(self._cells[index], ports[index], before[index], of_h, of_memory)  # pyright: ignore
            if of_before is not None:
                memories[index] = of_before
            _pass_on(self._graph, index, of_ports, told, late)  # pyright: ignore[reportArgumentType]
        if 0 in told:
            self._add(0, told[0])
        self._late, self._memories = late, memories

    def _add(self, source: int, derivatives: FloatArray) -> None:
        self._squares[source] += np.einsum("raj,raj->j", derivatives, derivatives, dtype=np.float64)


def _pass_on(
    graph: Graph, index: int, of_ports: list[FloatArray], told: dict[int, FloatArray], late: dict[int, FloatArray]
) -> None:
    """Add what a stage's ports say to its sources' derivatives: of this decision, or of the one before."""
    for connection in graph.stages[index].connections:
        sums = late if connection.delayed else told
        back = connection.map.transposed(of_ports[connection.port])
        known = sums.get(connection.source)
        sums[connection.source] = back if known is None else known + back
