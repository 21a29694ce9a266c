"""Export the peers' networks to ONNX and NIR, as they come from their converters, and compare what the files compute.

One decision, from reset membranes, as ONNX by `torch.onnx.export`; one timestep's network as NIR by the library's own
function. Ours are written by `SpikingPolicy.export_onnx` and `export_nir`, which compare by themselves.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from benchmarks.peers_networks import RECIPES, PeerNetwork, SinabsNetwork, SpikingJellyNetwork, quiet
from benchmarks.peers_probes import INPUTS, PROBE_ROWS, Found, chain
from snn_policy import IF, OnnxPolicy, SigmaDelta, convert, load_actor
from snn_policy.bundle.files import DECISION_FILE

EXPORT_TIMESTEPS = 8
NAMES = ("SpikingJelly", "sinabs", "ours, IF", "ours, sigma-delta")


def exports(effort: Mapping[str, Any]) -> list[Found]:
    """Return, per network and format, the largest difference of what the file computes, or the error raised."""
    torch.manual_seed(0)
    module = chain(nn.ReLU).eval()
    inputs = torch.randn(2_000, INPUTS)
    networks = {
        NAMES[0]: SpikingJellyNetwork(RECIPES["max"], module, inputs, EXPORT_TIMESTEPS),
        NAMES[1]: SinabsNetwork(module, EXPORT_TIMESTEPS),
    }
    found = []
    for name, network in networks.items():
        found.append({"peer": name, "format": "ONNX", **attempt(lambda: onnx_difference(network, inputs))})  # noqa: B023
        found.append({"peer": name, "format": "NIR", **attempt(lambda: nir_nodes(network, inputs))})  # noqa: B023
    return found + ours(module, inputs)


def attempt(call: Callable[[], Found]) -> Found:
    """Return what the call gives, or the first line of the error that it raises."""
    try:
        with quiet():
            return call()
    except Exception as refusal:  # whatever a library raises is what it says
        lines = [line for line in str(refusal).splitlines() if line.strip()] or [""]
        return {"refused": f"{type(refusal).__name__}: {lines[0]}"[:200]}


def onnx_difference(network: PeerNetwork, inputs: torch.Tensor) -> Found:
    """Export whole decisions of one row; return the largest difference over consecutive ones, and the graph's size."""
    network.forget()
    with TemporaryDirectory() as directory:
        file = Path(directory) / DECISION_FILE
        torch.onnx.export(network, (inputs[:1],), file, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        network.forget()
        with torch.no_grad():
            differences = [
                np.abs(session.run(None, {names[0]: row[None].numpy()})[0] - network(row[None]).numpy()).max()
                for row in inputs[:PROBE_ROWS]
            ]
        return {"difference": float(max(differences)), "inputs": len(names), "nodes": nodes_of(file)}


def nodes_of(file: Path) -> int:
    """Return how many nodes the graph has."""
    import onnx

    return len(onnx.load(file).graph.node)


def nir_nodes(network: PeerNetwork, inputs: torch.Tensor) -> Found:
    """Export the network to NIR, and return the kinds of its nodes in the file."""
    import nir

    with TemporaryDirectory() as directory:
        file = Path(directory) / "network.nir"
        if isinstance(network, SpikingJellyNetwork):
            exchange: Any = import_module("spikingjelly.activation_based.nir_exchange")
            functional: Any = import_module("spikingjelly.activation_based.functional")
            functional.reset_net(network.network)
            functional.set_step_mode(network.network, "s")
            try:
                graph = exchange.export_to_nir(network.network, example_input=inputs[:1])
            finally:
                functional.reset_net(network.network)
                functional.set_step_mode(network.network, "m")
        else:
            written: Any = import_module("sinabs.nir")
            network.forget()
            graph = written.to_nir(network.network, inputs[:1].repeat_interleave(network.timesteps, dim=0))
        nir.write(file, graph)
        return {"nodes": [type(node).__name__ for node in nir.read(file).nodes.values()]}


def ours(module: nn.Module, inputs: torch.Tensor) -> list[Found]:
    """Return the same of this package's policies."""
    with torch.no_grad():
        bounds = 1.5 * module(inputs).abs().amax(0).numpy()
    actor = load_actor(module, observation_shape=(INPUTS,), low=-bounds, high=bounds)
    found = []
    for name, neuron in ((NAMES[2], IF(timesteps=EXPORT_TIMESTEPS)), (NAMES[3], SigmaDelta())):
        policy = convert(actor, inputs.numpy(), neuron=neuron)
        found.append({"peer": name, "format": "ONNX", **attempt(lambda: our_onnx(policy, inputs))})  # noqa: B023
        found.append({"peer": name, "format": "NIR", **attempt(lambda: our_nir(policy))})  # noqa: B023
    return found


def our_onnx(policy: Any, inputs: torch.Tensor) -> Found:
    """Return the largest difference of the exported graph's actions, its memory carried from decision to decision."""
    with TemporaryDirectory() as directory:
        policy.export_onnx(directory)
        graph = OnnxPolicy(directory)
        policy.reset()
        difference = max(float(np.abs(graph.act(row) - policy.act(row)).max()) for row in inputs[:PROBE_ROWS].numpy())
        session = onnxruntime.InferenceSession(Path(directory) / DECISION_FILE, providers=["CPUExecutionProvider"])
        return {"difference": difference, "inputs": len(session.get_inputs()),
                "nodes": nodes_of(Path(directory) / DECISION_FILE)}  # fmt: skip


def our_nir(policy: Any) -> Found:
    """Return the kinds of nodes in the file."""
    import nir

    with TemporaryDirectory() as directory:
        file = Path(directory) / "policy.nir"
        policy.export_nir(file)
        return {"nodes": [type(node).__name__ for node in nir.read(file).nodes.values()]}
