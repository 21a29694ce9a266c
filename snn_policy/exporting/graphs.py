"""The two graphs of a spiking network: a whole decision, and one timestep."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from snn_policy.actor import Actor
from snn_policy.exporting import namespace as xp
from snn_policy.exporting.description import CALIBRATION_COSTS, EVENTS, OPERATIONS
from snn_policy.exporting.model import model_bytes
from snn_policy.exporting.namespace import materialised
from snn_policy.exporting.observation_inputs import Inputs, ObservedGraph
from snn_policy.exporting.sigma_delta import decide_by_tables, fits_tables
from snn_policy.exporting.timestep import knows_first_spikes, timestep_graph
from snn_policy.exporting.tracing import Dimension, Traced
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.spiking.sigma_delta import decide_sigma_delta
from snn_policy.spiking.state import AdaptiveState, CarryingState, MembraneState, RecurrentState, SigmaDeltaState

Traces = tuple[list[Traced], dict[str, Traced], dict[str, int]]


def calibrates(network: SpikingNetwork) -> bool:
    return isinstance(network.neurons, MembraneNeurons) and network.neurons.calibration is not None


def columns(network: SpikingNetwork, graph: str) -> tuple[str, ...]:
    """Return the names of the columns of the output `counts` of the "decision" or the "step" graph."""
    events = EVENTS if graph == "decision" or knows_first_spikes(network.neurons) else ()
    return (*network.layer_names, *OPERATIONS, *events, *(CALIBRATION_COSTS if calibrates(network) else ()))


def trace_decision(network: SpikingNetwork, batch: Dimension, counts: bool = True, inputs: Inputs = "joined") -> Traces:
    """Return the inputs, outputs by name (`counts` if asked), and memories' widths of the graph of all timesteps."""
    actor, widths = network.actor, network.memory_widths
    graph = ObservedGraph(batch, actor.observation_shape, inputs)
    obs = graph.input("obs", actor.observation_shape)
    memory = {name: graph.input(f"memory.{name}.in", (width,)) for name, width in widths.items()}
    if isinstance(network.neurons, SigmaDeltaNeurons):
        action, *rest = _sigma_delta(actor.inputs(obs), memory, actor, network.neurons, counts)
        spent = rest.pop(0) if counts else None
        new = dict(zip(widths, rest, strict=True))
    else:
        state = AdaptiveState(**memory) if "extra_iterations" in memory else MembraneState(**memory)
        action, after, decision = network.decide(obs, state)
        new = after._asdict()
        costs = [decision.synaptic_operations, decision.events]
        costs += [decision.iterations, decision.error_spikes] if calibrates(network) else []
        spent = xp.concat([decision.spikes, *(cost[:, None] for cost in costs)], axis=1) if counts else None
    return [*graph.observed, *memory.values()], _outputs(action, new, spent), widths


def trace_timestep(network: SpikingNetwork, batch: Dimension, counts: bool = True, inputs: Inputs = "joined") -> Traces:
    """Return the same of the graph of one timestep."""
    graph = ObservedGraph(batch, network.actor.observation_shape, inputs)
    given, (y, new, spent) = timestep_graph(graph, network.actor, network.neurons)
    widths = {str(value.name).split(".")[1]: int(value.shape[1]) for value in given[1:]}
    memory = {name: new[name] for name in widths}
    outputs = _outputs(network.actor.head(y), memory, spent if counts else None)
    return [*graph.observed, *given[1:]], outputs, widths


def _outputs(action: Traced, memory: Mapping[str, Traced], counts: Traced | None) -> dict[str, Traced]:
    named = {"action": action, **{f"memory.{name}.out": value for name, value in memory.items()}}
    named |= {} if counts is None else {"counts": counts}
    return {name: materialised(value) for name, value in named.items()}


def _sigma_delta(
    x: Traced, memory: dict[str, Traced], actor: Actor, neurons: SigmaDeltaNeurons, counts: bool
) -> list[Traced]:
    """Return action, counts if asked, and the new memories: looked up where that is possible, else as defined."""
    defined = _as_defined(x, memory, actor, neurons, counts)
    if not actor.graph.is_chain or not fits_tables(actor.layers, neurons):
        return defined
    within, (y, *found) = decide_by_tables(x, memory, actor.layers, neurons, counts)
    chosen = [materialised(value) for value in (actor.head(y), *found)]
    return x.graph.conditional(within, chosen, [materialised(value) for value in defined])


def _as_defined(
    x: Traced, memory: dict[str, Traced], actor: Actor, neurons: SigmaDeltaNeurons, counts: bool
) -> list[Traced]:
    none = memory["memory"][:, :1] * 0
    kind = CarryingState if neurons.carries else SigmaDeltaState
    derived = {"accumulator": none, "age": none}
    if actor.recurrent:
        kind, derived = RecurrentState, derived | {"residual": none[:, :0], "cell": none[:, :0]}
    y, state, decision = decide_sigma_delta(x, kind(**(derived | memory)), actor.graph, neurons)
    assert decision.events is not None
    spent = [decision.spikes, decision.synaptic_operations[:, None], decision.events[:, None]]
    costs = [xp.concat(spent, axis=1)] if counts else []
    return [actor.head(y), *costs, *(getattr(state, name) for name in memory)]


def graph_bytes(name: str, traces: Traces, metadata: Mapping[str, str]) -> bytes:
    inputs, outputs, _ = traces
    return model_bytes(name, inputs, outputs, metadata)


def action_bounds(actor: Actor) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return `low` and `high` as a description holds them: None for an infinite bound."""
    low, high = ([bound if np.isfinite(bound) else None for bound in np.ravel(side).tolist()]
                 for side in (actor.low, actor.high))  # fmt: skip
    return tuple(low), tuple(high)
