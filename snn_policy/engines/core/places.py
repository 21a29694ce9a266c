"""Where the parts of a graph lie in the core's buffers: ports in z, spikes in slots, what a row remembers."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from snn_policy.ann.cells import Cell
from snn_policy.ann.graph import Graph
from snn_policy.ann.select import Select
from snn_policy.engines.core.buffers import padded
from snn_policy.spiking.sigma_delta import accumulator_sizes


def port_places(cell: Cell, lanes: int) -> tuple[int, ...]:
    """Return where in z every port of the cell begins, and, last, the floats of all: each but the last is padded."""
    *first, last = cell.ports
    places = tuple(accumulate((padded(port, lanes) for port in first), initial=0))
    return (*places, places[-1] + last)


def slots(graph: Graph) -> tuple[int, ...]:
    """Return the slot of every telling stage: it is another's when all that read the stage's spikes have done so.

    A selection reads the memory, not the spikes. Whoever reads a decision later does so when all stages have told.
    """
    until = list(range(len(graph.widths)))
    for index, stage in enumerate(graph.stages, 1):
        for one in stage.connections:
            if not isinstance(one.map, Select):
                until[one.source] = max(until[one.source], len(graph.stages) if one.delayed else index)
    taken: list[int] = []  # per slot, the last stage that reads what is in it
    found = []
    for index, last in enumerate(until):
        slot = next((slot for slot, reader in enumerate(taken) if reader <= index), len(taken))
        taken[slot : slot + 1] = [last]
        found.append(slot)
    return tuple(found)


@dataclass(frozen=True, eq=False)
class StatePlaces:
    """Say where the fields of a sigma-delta network's state begin in a row, laid out as the NamedTuple.

    Attributes:
        carries: whether there are residuals.
    """

    graph: Graph
    carries: bool

    @cached_property
    def memories(self) -> tuple[int, ...]:
        """Return where every telling stage's memory begins; then where the accumulators do."""
        return tuple(accumulate(self.graph.widths, initial=0))

    @cached_property
    def accumulators(self) -> tuple[int, ...]:
        """Return where every connection's sums begin, stage by stage; then where the age is."""
        return tuple(accumulate(accumulator_sizes(self.graph), initial=self.memories[-1]))

    @property
    def age(self) -> int:
        """Return where decisions are counted."""
        return self.accumulators[-1]

    @cached_property
    def residuals(self) -> tuple[int, ...]:
        """Return where every telling stage's residuals begin, where there are any."""
        return tuple(self.age + 1 + memory for memory in self.memories[:-1])

    @cached_property
    def cells(self) -> tuple[int, ...]:
        """Return where the memory of every stage's cell begins."""
        first = self.age + 1 + (self.memories[-1] if self.carries else 0)
        return tuple(accumulate((stage.cell.memory_width for stage in self.graph.stages), initial=first))[:-1]
