"""One timestep of a sigma-delta network that is a graph of stages: one digit of the stage whose turn it is.

As `timestep` has it for chains. Every memory starts from zero; what is read a decision later, and what cells remember,
are memories of their own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.graph import GraphState
from snn_policy.exporting import namespace as xp
from snn_policy.exporting.costs import counted
from snn_policy.exporting.timestep_memories import Memory, Step, next_timestep, sigma_delta_memories
from snn_policy.exporting.tracing import Traced
from snn_policy.protocol import Array
from snn_policy.spiking.neurons import SigmaDeltaNeurons, sigma_delta_residual, sigma_delta_spike


@dataclass(frozen=True, eq=False)
class Readers:
    """Stand for all connections that read a stage, as `costs` takes layers: so many neurons, their synapses in all."""

    inputs: int
    fan_out: npt.NDArray[Any]


def graph_memories(actor: Actor, neurons: SigmaDeltaNeurons) -> dict[str, int]:
    """Return the widths of the memories of a graph of stages: a chain's, what its cells remember, and, of stages that
    are read a decision later, what they had sent by the end of the decision before."""
    graph = actor.graph
    late = {"cell": graph.memory_width, "previous": sum(graph.widths[source] for source in graph.delayed)}
    return sigma_delta_memories(actor, neurons) | {name: width for name, width in late.items() if width}


def graph_step(x: Traced, memory: Memory, actor: Actor, neurons: SigmaDeltaNeurons) -> Step:
    """Do as `sigma_delta_step` in a graph of stages. What is read late is set aside at the decision's first digit; a
    cell goes on at its stage's first digit, when all that it is given has been sent."""
    graph, widths = actor.graph, actor.widths
    stages = _TurnByTurn(memory, actor, neurons)
    offset = np.concatenate([neurons.offset, *(graph.start_of(source) for source in range(1, len(widths)))])
    quantum, predictor = np.concatenate(neurons.quanta), np.concatenate(neurons.predictor)
    previous = _set_aside(memory, actor)
    before = graph.before(GraphState(previous, previous)) if graph.delayed else []
    analog, cells = _values(x, memory, memory["memory"] + offset, before, actor)
    kept = predictor * memory["memory"]
    owed = xp.concat(analog[:-1], axis=1) - offset - kept
    if neurons.carries:
        owed = owed + np.repeat(np.array(neurons.alpha, np.float32), widths) * memory["residual"]
    v = xp.where(stages.begins, owed, memory["potential"])
    s = xp.where(stages.runs, sigma_delta_spike(v, quantum, neurons.powers), v * 0)
    updated = xp.where(stages.begins, kept, memory["memory"]) + s
    y = _values(x, memory, updated + offset, before, actor)[0][-1]
    _, timestep = next_timestep(memory["timestep"], neurons.timesteps)
    fired = s != 0
    new = {"memory": updated, "potential": v - s, "timestep": timestep, "previous": previous}
    new["cell"] = xp.concat([memory["memory"][:, :0], *stages.advanced(cells)], axis=1)
    if neurons.carries:
        new["residual"] = xp.where(stages.begins, sigma_delta_residual(v - s, fired, quantum), memory["residual"])
    receivers: Any = [Readers(width, fan_out) for width, fan_out in zip(widths, graph.fan_out, strict=True)]
    return y, new, counted(fired, receivers, stages.begins & fired)


class _TurnByTurn:
    """Know whose turn it is: `begins` and `runs`, (rows, neurons of all stages), at a stage's first and any digit."""

    def __init__(self, memory: Memory, actor: Actor, neurons: SigmaDeltaNeurons) -> None:
        self._memory, self._graph = memory, actor.graph
        starts, self._t = np.cumsum((0, *neurons.digits)), memory["timestep"]
        begin, end = (np.repeat(edge, actor.widths).astype(np.float32) for edge in (starts[:-1], starts[1:]))
        self.begins = abs(self._t - begin) < 0.5
        self.runs = (self._t > begin - 0.5) & (self._t < end - 0.5)
        self._first_digits = starts

    def advanced(self, cells: list[Traced | None]) -> list[Traced]:
        """Return the cells' memories: what they become at their stage's first digit, and as they were at others."""
        sizes = [stage.cell.memory_width for stage in self._graph.stages]
        kept = iter(xp.split(self._memory["cell"], [size for size in sizes if size]) if any(sizes) else ())
        return [
            xp.where(abs(self._t - float(self._first_digits[place])) < 0.5, after, next(kept))
            for place, after in enumerate(cells, 1)
            if after is not None
        ]


def _set_aside(memory: Memory, actor: Actor) -> Traced:
    """Return (rows, widths of the stages that are read late) their memories as they stood when the decision began."""
    parts, delayed = xp.split(memory["memory"], actor.widths), actor.graph.delayed
    if not delayed:
        return memory["memory"][:, :0]
    return xp.where(memory["timestep"] < 0.5, xp.concat([parts[source] for source in delayed], axis=1),
                    memory["previous"])  # fmt: skip


def _values(
    x: Traced, memory: Memory, known: Traced, before: list[Any], actor: Actor
) -> tuple[list[Array], list[Traced | None]]:
    """Return the observation's and every stage's analog value of what is `known` of the stages before it, (rows,
    neurons of all telling stages), and every cell's memory after it."""
    graph = actor.graph
    told, values, after = xp.split(known, graph.widths), [x], []
    sizes = [stage.cell.memory_width for stage in graph.stages]
    cells = iter(xp.split(memory["cell"], [size for size in sizes if size]) if any(sizes) else ())
    for stage, size in zip(graph.stages, sizes, strict=True):
        h, remembered = stage.cell.advance(stage.received(told, before), next(cells) if size else None)
        values.append(h)
        after.append(remembered)
    return values, after
