"""What a TD3+BC run has learned: its actor as an `Actor`, or a directly trained one as the `SpikingPolicy` it is."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.layers import Head, Linear, Normaliser
from snn_policy.bundle.files import CHECKPOINT_FILE, RUN_FILE
from snn_policy.errors import SourceError
from snn_policy.offline.checkpoints import read_checkpoint
from snn_policy.offline.qcfs import QCFS
from snn_policy.offline.spiking_actor import IntegrateAndFire, SpikingActor
from snn_policy.offline.td3bc import TD3BCSettings
from snn_policy.offline.td3bc_networks import FlatParameters, make_actor
from snn_policy.policy import SpikingPolicy
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons
from snn_policy.spiking.settings import IF, TRAINED, as_record
from snn_policy.untrusted_files import reading


def read_checkpoint_actor(path: str | Path, *, name: str | None = None) -> Actor:
    """The actor of a run's last checkpoint, its state normalisation and the action bounds included.

    Args:
        path: the run's directory, or one of its two files.

    Raises:
        SourceError: damaged, of another run, or a directly trained spiking actor.
    """
    directory = run_directory(path)
    module, parts = _read_module(directory, name)
    if isinstance(module, SpikingActor):
        raise SourceError(
            f"{directory}: a directly trained spiking actor is no ANN; read it with "
            "snn_policy.offline.trained.read_checkpoint_policy"
        )
    return Actor(_layers(module), **parts)


def read_checkpoint_policy(path: str | Path, *, name: str | None = None) -> SpikingPolicy:
    """A directly trained spiking actor as the policy it is: IF neurons, rate coding, T steps, nothing carried over.

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
    """The module as a `SpikingPolicy`; `parts` as `Actor` takes them: head, observation_shape, normaliser, …"""
    thetas = [each.threshold for each in module.neurons if isinstance(each, IntegrateAndFire)]
    activations = [Activation("qcfs", theta, levels=module.timesteps) for theta in thetas]
    actor = Actor(_linears(module.linears, activations), **parts)
    settings = IF(timesteps=module.timesteps, threshold=TRAINED, alpha=0.0)
    thresholds = tuple(
        torch.full((layer.outputs,), theta).numpy() for layer, theta in zip(actor.hidden, thetas, strict=True)
    )
    neurons = MembraneNeurons(settings.settled(len(thetas)), thresholds)  # pyright: ignore[reportArgumentType]
    conversion = as_record(settings)
    return SpikingPolicy(SpikingNetwork(actor, neurons), conversion=conversion)


def run_directory(path: str | Path) -> Path:
    """The directory, given it or one of its files."""
    path = Path(path)
    return path.parent if path.name in (RUN_FILE, CHECKPOINT_FILE) else path


def _read_module(directory: Path, name: str | None) -> tuple[nn.Module, dict[str, Any]]:
    """The actor's module and the other parts of its `Actor`."""
    described, tensors, step = read_checkpoint(directory)
    with reading(directory / RUN_FILE, "run description"):
        settings, data = TD3BCSettings(**described["settings"]), described["data"]
        head, shape = Head.bounded(data["action_low"], data["action_high"]), tuple(data["observation_shape"])
        mean, scale = tensors["observation.mean"].numpy(), tensors["observation.scale"].numpy()
        module = make_actor(
            settings.activation, mean.size, settings.hidden, head.outputs, settings.levels, settings.initial_lambda
        )
        FlatParameters(module).values.copy_(tensors["actor"])
        title = name or f"td3bc-{settings.activation}-{data['name']}-{step}"
        parts = {
            "head": head,
            "observation_shape": shape,
            "normaliser": Normaliser(mean, scale),
            "env_id": data["env_id"],
            "name": title,
        }
    return module.requires_grad_(False), parts


def _layers(module: nn.Module) -> tuple[Linear, ...]:
    parts = list(module.children())
    activations = [_activation(each) for each in parts[1:-1:2]]
    return _linears(parts[::2], activations)


def _activation(module: nn.Module) -> Activation:
    return Activation("qcfs", module.threshold, levels=module.levels) if isinstance(module, QCFS) else RELU


def _linears(linears: Any, activations: list[Activation]) -> tuple[Linear, ...]:
    pairs = zip(linears, [*activations, None], strict=True)
    return tuple(Linear(each.weight.detach().numpy(), each.bias.detach().numpy(), f) for each, f in pairs)
