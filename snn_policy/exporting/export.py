"""A spiking policy as ONNX graphs that any runtime can run, and that need no knowledge of spikes: see docs/onnx.md.

export_bundle(bundle, "run/cheetah")       # decision.onnx, step.onnx, beside policy.json and its weights
"""

from dataclasses import dataclass, replace
from pathlib import Path

from snn_policy.bundle import Bundle, write_bundle
from snn_policy.bundle.files import DECISION_FILE, STEP_FILE, SUMS_KEY, graph_file, sha256
from snn_policy.checks import number, require, whole
from snn_policy.exporting.description import Description
from snn_policy.exporting.graphs import (
    Traces,
    action_bounds,
    calibrates,
    columns,
    graph_bytes,
    trace_decision,
    trace_timestep,
)
from snn_policy.exporting.observation_inputs import Inputs, check_inputs, keys_of
from snn_policy.exporting.tracing import BATCH
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons
from snn_policy.versions import installed_versions

NO_STEP = (
    "spike calibration simulates all timesteps of a layer before its first one, so there is no graph of a single "
    f"timestep; use {DECISION_FILE}"
)


@dataclass(frozen=True)
class Exported:
    """Say what was written.

    Attributes:
        files: the graphs.
        step_left_out: why there is no step.onnx; None where there is one.
    """

    files: tuple[Path, ...]
    step_left_out: str | None


def export_bundle(
    bundle: Bundle,
    directory: str | Path,
    *,
    batch: int | None = None,
    counts: bool = True,
    control_period: float | None = None,
    inputs: Inputs = "joined",
) -> Exported:
    """Write `decision.onnx` and `step.onnx`, and the bundle beside them.

    Args:
        bundle: a policy's network, and what is said of its making.
        directory: made if missing; an earlier export or bundle in it is replaced as a whole.
        batch: fix the number of rows, for runtimes that need static shapes; None leaves it open.
        counts: give the graphs a further output `counts`, int64: spikes, synaptic operations and, where known, events.
        control_period: seconds per decision, where known: written into the metadata.
        inputs: of observations that are dictionaries: "joined", one input `obs` with all keys side by side in the
            metadata's order, or "by-key", one input `obs.KEY` each.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
        ValueError: a batch below 1, a period that is not positive, or inputs by key of observations without keys.
    """
    require(batch is None or whole(batch, 1, 2**31 - 1), f"batch {batch!r}: expected a whole number of at least 1")
    period = None if control_period is None else number("control_period", control_period)
    require(period is None or 0 < period < 1e9, f"control_period {control_period!r}: expected seconds")
    network, place = bundle.network, Path(directory)
    check_inputs(inputs, network.actor.observation_shape)
    left_out = NO_STEP if calibrates(network) else None
    files = exported_graphs(network, batch, counts, period, inputs)
    sums = {name: sha256(content) for name, content in files.items()}
    step = STEP_FILE if left_out is None else None
    graphs = {"decision": DECISION_FILE, "step": step, "step_left_out": left_out, SUMS_KEY: sums}
    write_bundle(place, network, bundle.conversion, bundle.card, graphs, files, xz=bundle.xz)
    return Exported(tuple(place / name for name in files), left_out)


def exported_graphs(
    network: SpikingNetwork,
    batch: int | None = None,
    counts: bool = True,
    period: float | None = None,
    inputs: Inputs = "joined",
) -> dict[str, bytes]:
    """Return the contents of the graphs' files by their names: of the decision, and where there is one of the step.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
    """
    rows = BATCH if batch is None else int(batch)
    traced: dict[str, Traces] = {"decision": trace_decision(network, rows, counts, inputs)}
    if not calibrates(network):
        traced["step"] = trace_timestep(network, rows, counts, inputs)
    files: dict[str, bytes] = {}
    for graph, traces in traced.items():
        described = replace(describe(network, graph, traces[2], batch, counts, period), inputs=inputs)
        files[graph_file(graph)] = graph_bytes(graph, traces, described.properties())
    return files


def describe(
    network: SpikingNetwork, graph: str, widths: dict[str, int], batch: int | None, counts: bool, period: float | None
) -> Description:
    """Return what an exported form of the network says about itself; `widths` of its memories, by name."""
    actor, neurons = network.actor, network.neurons
    low, high = action_bounds(actor)
    membrane = neurons if isinstance(neurons, MembraneNeurons) else None
    calibration = membrane.calibration if membrane else None
    return Description(
        graph=graph,
        observation_shape=tuple(actor.observation_shape),
        observation_keys=keys_of(actor.observation_shape),
        action_shape=actor.action_shape,
        discrete=actor.discrete,
        low=low,
        high=high,
        timesteps=neurons.timesteps,
        neuron=membrane.model if membrane else "sigma-delta",
        coding=membrane.coding if membrane else None,
        alpha=membrane.alpha if membrane else neurons.alpha or None,
        memories=tuple(widths.items()),
        batch=batch,
        layers=network.layer_names,
        counted=columns(network, graph) if counts else (),
        multiply_accumulates=actor.layers[0].synapses if membrane else actor.graph.cell_macs,
        iterations=calibration.least_iterations if calibration else 0,
        name=actor.name,
        env_id=actor.env_id,
        control_period=period,
        versions=installed_versions(),
    )
