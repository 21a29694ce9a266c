"""Read what a TD3+BC run has learned: its actor, or a directly trained one as a `SpikingPolicy`."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from snn_policy.actor import Actor
from snn_policy.ann.activations import Activation
from snn_policy.ann.layers import Linear
from snn_policy.bundle.files import RUN_FILE
from snn_policy.errors import SourceError
from snn_policy.offline.spiking_actor import IntegrateAndFire, SpikingActor
from snn_policy.offline.td3bc import TD3BCSettings
from snn_policy.offline.td3bc_networks import FlatParameters, make_actor
from snn_policy.policy import SpikingPolicy
from snn_policy.sources.training_run import actor_parts, read_run, read_tensors, run_directory
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons
from snn_policy.spiking.settings import IF, TRAINED, as_record
from snn_policy.untrusted_files import reading


def read_checkpoint_policy(path: str | Path, *, name: str | None = None) -> SpikingPolicy:
    """Return a directly trained spiking actor as a policy: IF neurons, rate coding, T steps, nothing carried over.

    Its `actor`, the shadow, has QCFS activations with λ = θ and L = T: what its firing rates stand for.

    Raises:
        SourceError: damaged, of another run, or not a spiking actor.
    """
    directory = run_directory(path)
    module, parts = _read_module(directory, name)
    if not isinstance(module, SpikingActor):
        raise SourceError(f"{directory}: an ANN, no spiking actor; read it with load_actor and convert it")
    return spiking_policy(module, **parts)


def spiking_policy(module: SpikingActor, **parts: Any) -> SpikingPolicy:
    """Return the module as a `SpikingPolicy`; `parts` as `Actor` takes them: head, observation_shape, normaliser, …"""
    thetas = [neuron.threshold for neuron in module.neurons if isinstance(neuron, IntegrateAndFire)]
    activations = [Activation("qcfs", theta, levels=module.timesteps) for theta in thetas]
    actor = Actor(_linears(module.linears, activations), **parts)
    settings = IF(timesteps=module.timesteps, threshold=TRAINED, alpha=0.0)
    thresholds = tuple(
        torch.full((layer.outputs,), theta).numpy() for layer, theta in zip(actor.hidden, thetas, strict=True)
    )
    neurons = MembraneNeurons(settings.settled(len(thetas)), thresholds)  # pyright: ignore[reportArgumentType]
    conversion = as_record(settings)
    return SpikingPolicy(SpikingNetwork(actor, neurons), conversion=conversion)


def _read_module(directory: Path, name: str | None) -> tuple[nn.Module, dict[str, Any]]:
    """Return the actor's module and the other parts of its `Actor`."""
    described = read_run(directory)
    arrays, step = read_tensors(directory, described)
    with reading(directory / RUN_FILE, "run description"):
        settings, parts = TD3BCSettings(**described["settings"]), actor_parts(described, arrays, step, name)
        inputs, outputs = parts["normaliser"].mean.size, parts["head"].outputs
        module = make_actor(
            settings.activation, inputs, settings.hidden, outputs, settings.levels, settings.initial_lambda
        )
        FlatParameters(module).values.copy_(torch.from_numpy(arrays["actor"]))
    return module.requires_grad_(False), parts


def _linears(linears: Any, activations: list[Activation]) -> tuple[Linear, ...]:
    pairs = zip(linears, [*activations, None], strict=True)
    return tuple(Linear(linear.weight.detach().numpy(), linear.bias.detach().numpy(), f) for linear, f in pairs)
