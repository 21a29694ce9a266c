"""One timestep of a network, for graphs that a host calls T times per decision; the neurons' own step functions.

Every memory starts from zero: what a decision begins with is set at its first timestep. A feed-forward network without
synaptic delay gives the same spikes whether time or layers come first (`membrane_decision`).
"""

from typing import Any

import numpy as np

from snn_policy.actor import Actor
from snn_policy.exporting import namespace as xp
from snn_policy.exporting.costs import counted
from snn_policy.exporting.graph_timestep import graph_memories, graph_step
from snn_policy.exporting.timestep_memories import Memory, Step, next_timestep, sigma_delta_memories
from snn_policy.exporting.tracing import Graph, Traced
from snn_policy.protocol import Array
from snn_policy.spiking.crpi import residual_potential, start_potential
from snn_policy.spiking.neurons import (
    DifferentialMembrane,
    Membrane,
    MembraneNeurons,
    SigmaDeltaNeurons,
    sigma_delta_residual,
    sigma_delta_spike,
    step_differential,
    step_rate,
)


def membrane_memories(actor: Actor, neurons: MembraneNeurons) -> dict[str, int]:
    """Return the widths of the memories: the residual of the last decision, then what this decision has reached."""
    width = sum(actor.widths[1:])
    names = ("residual", "potential", "net", *(("inflow", "outflow") if neurons.coding == "differential" else ()))
    return {**dict.fromkeys(names, width), "timestep": 1}


def knows_first_spikes(neurons: MembraneNeurons | SigmaDeltaNeurons) -> bool:
    """Return whether one timestep shows which spikes are their neuron's first of the decision: the events.

    A sigma-delta neuron that is silent at its stage's first digit has no later one; an IF neuron's net output grows
    with every spike. That of SNM and MT neurons may return to zero.
    """
    return isinstance(neurons, SigmaDeltaNeurons) or neurons.model == "if"


def membrane_step(x: Traced, memory: Memory, actor: Actor, neurons: MembraneNeurons) -> Step:
    """Run timestep memory.timestep + 1 of all layers: y as far as it is decoded, the memories, what was spent."""
    begins = memory["timestep"] < 0.5
    widths = actor.widths[1:]
    threshold = np.concatenate([np.zeros(0, np.float32), *neurons.thresholds])
    alpha = np.repeat(np.array(neurons.alpha, np.float32), widths)
    v_start = start_potential(neurons.base(threshold), memory["residual"], alpha, threshold * neurons.alpha_clip)  # pyright: ignore
    current = {"potential": xp.where(begins, v_start, memory["potential"]),
               "net": xp.where(begins, memory["net"] * 0, memory["net"])}  # fmt: skip
    if neurons.coding == "differential":
        bias = np.concatenate([np.zeros(0, np.float32), *(layer.unit_bias for layer in actor.hidden)])
        current |= {"inflow": xp.where(begins, memory["inflow"] * 0 + bias, memory["inflow"]),
                    "outflow": xp.where(begins, memory["outflow"] * 0, memory["outflow"])}  # fmt: skip
    new, outputs, decoded = _step_layers(x, current, memory["timestep"], begins, actor, neurons)
    last, timestep = next_timestep(memory["timestep"], neurons.timesteps)
    if outputs:
        residual = residual_potential(new["potential"], v_start, new["net"], neurons.residual)
        new["residual"] = xp.where(last, residual, memory["residual"])
        sent = xp.concat(outputs, axis=1)
        first = sent > current["net"] if knows_first_spikes(neurons) else None
        counts = counted(sent != 0, actor.layers[1:], first)
    else:
        none = xp.astype(memory["timestep"] * 0, np.int64)
        new, counts = dict(memory), xp.concat([none] * (2 if knows_first_spikes(neurons) else 1), axis=1)
    return actor.layers[-1](decoded), {**new, "timestep": timestep}, counts


def _step_layers(
    x: Traced, current: Memory, timestep: Traced, begins: Traced, actor: Actor, neurons: MembraneNeurons
) -> tuple[Memory, list[Traced], Traced]:
    """Return the memories after the step, the outputs layer by layer, and what the last layer has decoded."""
    differential = neurons.coding == "differential"
    parts = {name: xp.split(value, actor.widths[1:]) for name, value in current.items()}
    outputs, states, decoded = [], [], x
    for place, (layer, threshold) in enumerate(zip(actor.hidden, neurons.thresholds, strict=True)):
        state = [part[place] for part in parts.values()]
        arriving = layer.product(outputs[-1] if outputs else x)
        if differential:
            d = arriving if outputs else xp.where(begins, arriving, arriving * 0)
            o, after = step_differential(d, timestep + 1, DifferentialMembrane(*state), threshold, neurons)  # pyright: ignore
            decoded = after.outflow
        else:
            o, after = step_rate(arriving + layer.unit_bias, Membrane(*state), threshold, neurons)
            decoded = after.net / neurons.timesteps
        outputs.append(o)
        states.append(after)
    names = list(current) if states else []
    new = {name: xp.concat([state[place] for state in states], axis=1) for place, name in enumerate(names)}
    return new, outputs, decoded


def sigma_delta_step(x: Traced, memory: Memory, actor: Actor, neurons: SigmaDeltaNeurons) -> Step:
    """Run one digit of the stage whose turn it is; a stage starts from what the stage before it has sent by then."""
    widths, starts = actor.widths, np.cumsum((0, *neurons.digits))
    begin, end = (np.repeat(edge, widths).astype(np.float32) for edge in (starts[:-1], starts[1:]))
    quantum, predictor = np.concatenate(neurons.quanta), np.concatenate(neurons.predictor)
    offset = np.concatenate([neurons.offset, *(np.zeros_like(quanta) for quanta in neurons.quanta[1:])])
    stages = xp.split(memory["memory"] + offset, widths)
    analog: list[Array] = [x]
    for layer, reconstruction in zip(actor.hidden, stages[:-1], strict=True):
        assert layer.activation is not None
        analog.append(layer.activation(layer(reconstruction)))
    t = memory["timestep"]
    begins, runs = abs(t - begin) < 0.5, (t > begin - 0.5) & (t < end - 0.5)
    kept = predictor * memory["memory"]
    owed = xp.concat(analog, axis=1) - offset - kept
    if neurons.carries:
        owed = owed + np.repeat(np.array(neurons.alpha, np.float32), widths) * memory["residual"]
    v = xp.where(begins, owed, memory["potential"])
    s = xp.where(runs, sigma_delta_spike(v, quantum, neurons.powers), v * 0)
    updated = xp.where(begins, kept, memory["memory"]) + s
    y = actor.layers[-1](xp.split(updated + offset, widths)[-1])
    _, timestep = next_timestep(t, neurons.timesteps)
    fired = s != 0
    new = {"memory": updated, "potential": v - s, "timestep": timestep}
    if neurons.carries:
        left = sigma_delta_residual(v - s, fired, quantum)
        new["residual"] = xp.where(begins, left, memory["residual"])  # silent at its first digit: no later spike
    return y, new, counted(fired, actor.layers, begins & fired)


def timestep_graph(graph: Graph, actor: Actor, neurons: Any) -> tuple[list[Traced], Step]:
    """Return the inputs and what they become."""
    memories: Any = membrane_memories
    step: Any = membrane_step
    if isinstance(neurons, SigmaDeltaNeurons):
        chain = actor.graph.is_chain
        memories, step = (sigma_delta_memories, sigma_delta_step) if chain else (graph_memories, graph_step)
    obs = graph.input("obs", actor.observation_shape)
    memory = {name: graph.input(f"memory.{name}.in", (width,)) for name, width in memories(actor, neurons).items()}
    return [obs, *memory.values()], step(actor.inputs(obs), memory, actor, neurons)
