"""Stages of a graph, and the connections by which they read each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from snn_policy.ann.cells import Cell
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Linear
from snn_policy.ann.select import Select
from snn_policy.checks import frozen_array, require
from snn_policy.protocol import Array, FloatArray

Map = Linear | Conv2d | Select


@dataclass(frozen=True, eq=False)
class Connection:
    """Add a linear map of what a stage has told to one port of another stage's cell.

    Attributes:
        source: the stage that is read; 0 is the observation.
        map: without an activation of its own; its bias is added, too.
        delayed: whether it reads what was told in the decision before, which any stage may have.
        port: which of the cell's inputs it adds to.
    """

    source: int
    map: Map
    delayed: bool = False
    port: int = 0


@dataclass(frozen=True, eq=False)
class Stage:
    """Compute an analog value from what other stages have told.

    Attributes:
        connections: every port has at least one.
        start: (width,) what its delayed readers read in the first decision; None for zeros.
    """

    connections: tuple[Connection, ...]
    cell: Cell
    start: FloatArray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "connections", tuple(self.connections))
        if self.start is not None:
            object.__setattr__(self, "start", frozen_array(self.start, "start", 1))
            require(self.start.shape == (self.cell.width,), f"start: expected {self.cell.width} values")

    @property
    def width(self) -> int:
        return self.cell.width

    @property
    def groups(self) -> tuple[int, int]:
        """Return (groups, neurons per group): a convolution's channels, else single neurons."""
        maps = [connection.map for connection in self.connections]
        images = [one.groups for one in maps if isinstance(one, Conv2d)]
        alike = len(images) == len(maps) and len(set(images)) == 1 and images[0][0] * images[0][1] == self.width
        return images[0] if alike else (self.width, 1)

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of all connections and of the cell, those with weights of zero included."""
        return sum(connection.map.macs for connection in self.connections) + self.cell.macs

    @property
    def touched(self) -> int:
        """Return the same without rows and columns of a matrix that hold zeros alone: parts that it does not read."""
        return sum(_touched(connection.map) for connection in self.connections) + self.cell.macs

    def received(self, told: "Sequence[Array]", before: "Sequence[Array | None]") -> list[Array]:
        """Return every port's z, (rows, port) each.

        Args:
            told: what the stages so far have told in this decision, (rows, width) each.
            before: what every stage told in the decision before; None of those that nobody reads so late.
        """
        ports: list[Array] = [None] * len(self.cell.ports)
        for connection in self.connections:
            arriving = connection.map((before if connection.delayed else told)[connection.source])
            sofar = ports[connection.port]
            ports[connection.port] = arriving if sofar is None else sofar + arriving
        return ports


def _touched(one: Map) -> int:
    """Return a map's multiply-accumulates, without the rows and columns of a matrix that are nothing but zeros."""
    if not isinstance(one, Linear):
        return one.macs
    return int(one.weight.any(axis=1).sum()) * int(np.count_nonzero(one.fan_out))
