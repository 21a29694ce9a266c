"""What the order of float32 sums may change of an actor's values: the slack that a comparison of programs grants."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.cell_derivatives import backwards
from snn_policy.ann.cells import LEAST_SIZE, Elementwise, Norm
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Stage
from snn_policy.calibration.recordings import chunks
from snn_policy.calibration.trajectories import received, trajectory
from snn_policy.progress import Passes
from snn_policy.protocol import FloatArray

ROUNDING = 16 * 2.0**-23
"""What the order of a float32 sum may change, by the sum of its terms' sizes."""


def outputs_and_rounding(actor: Actor, observations: FloatArray) -> tuple[FloatArray, list[npt.NDArray[np.float64]]]:
    """Return the ANN's y, and what rounding may change: of the inputs, (inputs,), then of every W·h + b, (outputs,)."""
    if not actor.graph.is_chain:
        return _of_graph(actor, observations)
    sizes = [replace(layer, weight=abs(layer.weight), bias=abs(layer.bias), activation=None) for layer in actor.layers]
    largest, outputs = [np.zeros(width) for width in (*actor.widths, actor.head.outputs)], []
    for chunk in chunks(observations, rows=128):
        h = actor.inputs(chunk)
        np.maximum(largest[0], abs(h).max(axis=0), out=largest[0])
        for layer, size, most in zip(actor.layers, sizes, largest[1:], strict=True):
            np.maximum(most, size.batched(abs(h)).max(axis=0), out=most)
            z = layer.batched(h)
            h = z if layer.activation is None else layer.activation(z)
        outputs.append(h)
    return np.concatenate(outputs), [ROUNDING * most for most in largest]


def _of_graph(actor: Actor, observations: FloatArray) -> tuple[FloatArray, list[npt.NDArray[np.float64]]]:
    """Do the same in a graph of stages: of the inputs, then of every stage's h, by the slope of its cell.

    A recurrent actor takes the observations for one episode.
    """
    run = trajectory(actor.graph, actor.inputs(observations), None, Passes())
    sizes = [_sizes(stage) for stage in actor.graph.stages]
    largest = [np.zeros(width) for width in (*actor.widths, actor.head.outputs)]
    for start in range(0, len(observations), 128):
        rows = np.arange(start, min(start + 128, len(observations)))
        told, before = run.read(rows)
        ports, memories = run.received(rows), run.memory(rows)
        np.maximum(largest[0], abs(told[0]).max(axis=0), out=largest[0])
        shown = [abs(values) for values in told], {source: abs(values) for source, values in before.items()}
        for place, (stage, size) in enumerate(zip(actor.graph.stages, sizes, strict=True)):
            moved = _moved(stage, ports[place], memories[place], received(size, *shown))
            np.maximum(largest[place + 1], moved.max(axis=0), out=largest[place + 1])
    return run.outputs, [ROUNDING * most for most in largest]


def _sizes(stage: Stage) -> Stage:
    """Return the stage with the sizes of its weights, which sums up the sizes of its terms."""
    connections = (
        one if isinstance(one.map, Select)
        else replace(one, map=replace(one.map, weight=abs(one.map.weight), bias=abs(one.map.bias)))
        for one in stage.connections
    )  # fmt: skip
    return replace(stage, connections=tuple(connections))


def _moved(stage: Stage, ports: list[FloatArray], memory: FloatArray | None, sizes: list[FloatArray]) -> FloatArray:
    """Return (rows, width) how far h moves if every z does so by its size, to first order."""
    cell = stage.cell
    if isinstance(cell, Elementwise):
        return sizes[0] if cell.norm is None else _normed(cell.norm, ports[0], sizes[0])
    one = np.ones((len(sizes[0]), 1, cell.width), np.float32)
    slopes, _ = backwards(cell, ports, memory, one, None)  # pyright: ignore[reportArgumentType]
    parts = [abs(slope[:, 0]) * size for slope, size in zip(slopes, sizes, strict=True)]
    return sum(part.reshape(len(part), -1, cell.width).sum(axis=1) for part in parts) + 1  # pyright: ignore


def _normed(norm: Norm, z: FloatArray, moves: FloatArray) -> FloatArray:
    """Return how far normalised values move: with their own z, with the mean, and with the size of all."""
    if norm.kind == "layer":
        z, moves = z - z.mean(axis=-1, keepdims=True), moves + moves.mean(axis=-1, keepdims=True)
    mean = np.sum if norm.kind == "l2" else np.mean
    size = np.sqrt(mean(z * z, axis=-1, keepdims=True) + norm.epsilon ** (2 if norm.kind == "l2" else 1))
    size = np.maximum(size, LEAST_SIZE)
    unit = abs(z / size)
    along = unit * mean(unit * moves, axis=-1, keepdims=True)
    return (moves + along) / size * abs(norm.weight) + abs(norm.weight * unit) + abs(norm.bias)
