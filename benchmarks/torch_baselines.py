"""Baselines in torch: the ANN, a spiking loop as it is usually written, and SpikingJelly's converter. Needs torch.

Each of `TORCH_BASELINES` makes its `act` of one observation, or raises `LeftOut` with the reason.
"""

from contextlib import redirect_stderr
from importlib import import_module
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import nn

from snn_policy.actor import Actor
from snn_policy.ann.activations import Activation
from snn_policy.ann.layers import Linear
from snn_policy.bench.baselines import MEMBRANE, Builder, Converted, LeftOut, stand_for
from snn_policy.bench.timing import Decide
from snn_policy.protocol import FloatArray
from snn_policy.spiking.neurons import MembraneNeurons
from snn_policy.spiking.settings import SNM

MODULES: dict[str, Any] = {
    "relu": lambda _: nn.ReLU(), "tanh": lambda _: nn.Tanh(), "silu": lambda _: nn.SiLU(), "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU, "softplus": lambda _: nn.Softplus(), "softsign": lambda _: nn.Softsign(),
    "mish": lambda _: nn.Mish(), "gelu": lambda _: nn.GELU(), "gelu_tanh": lambda _: nn.GELU("tanh"),
    "hardswish": lambda _: nn.Hardswish(),
}  # fmt: skip
"""Of the activation's parameter; any other function runs its own array-API code on tensors."""
CALIBRATION_ROWS = 1_000


class TorchPolicy(nn.Module):
    """Put an actor's normaliser and head around `body`, which stands for its layers; NumPy in and out."""

    def __init__(self, actor: Actor, body: nn.Module) -> None:
        super().__init__()
        self.body, self.normaliser, self.head = body, actor.normaliser, actor.head
        if actor.normaliser is not None:
            self.mean, self.scale = (torch.tensor(value) for value in (actor.normaliser.mean, actor.normaliser.scale))
        self.low, self.high = torch.tensor(actor.head.low), torch.tensor(actor.head.high)
        self.reach, self.centre = torch.tensor(actor.head.scale), torch.tensor(actor.head.offset)
        self.scales = bool((actor.head.scale != 1).any())
        self.shifts = bool((actor.head.offset != 0).any())
        self.bounded = bool(np.isfinite(actor.low).any() or np.isfinite(actor.high).any())

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Map (rows, *shape) to (rows, *action_shape); what would change no value is left out, as in the ONNX graph."""
        if self.normaliser is not None:
            obs = (obs - self.mean) / self.scale
            if self.normaliser.clip != np.inf:
                obs = torch.clamp(obs, -self.normaliser.clip, self.normaliser.clip)
        return self.finished(self.body(obs if obs.ndim == 2 else obs.flatten(1)))

    def finished(self, y: torch.Tensor) -> torch.Tensor:
        """Apply the head: (rows, outputs) to (rows, *action_shape)."""
        if self.head.kind == "argmax":
            return torch.argmax(y, dim=-1)
        if self.head.kind == "tanh":
            y = self._squashed(y)
        return torch.clamp(y, self.low, self.high) if self.bounded else y

    def _squashed(self, y: torch.Tensor) -> torch.Tensor:
        if self.head.pre_clip != np.inf:
            y = torch.clamp(y, -self.head.pre_clip, self.head.pre_clip)
        y = torch.tanh(y)
        if self.scales:
            y = y * self.reach
        return y + self.centre if self.shifts else y

    def act(self, obs: FloatArray) -> Any:
        """Decide on one observation, (*shape) to (*action_shape)."""
        return self.act_rows(obs[None])[0]

    def act_rows(self, obs: FloatArray) -> Any:
        """Decide on (rows, *shape)."""
        with torch.inference_mode():
            return self(torch.from_numpy(obs)).numpy()


class IFLoop(nn.Module):
    """Simulate IF neurons under rate coding, every layer a dense product at every timestep, each decision from v = θ/2.

    v ← v + W·o + b; o = θ·1[v > θ]; v ← v − o; the last layer's output is averaged over T. The neuron is spelled out,
    as such loops do: `fire_if` makes one tensor more per step, and a baseline must not be handicapped.
    """

    def __init__(self, actor: Actor, neurons: MembraneNeurons) -> None:
        super().__init__()
        self.linear = nn.ModuleList(module for module in sequential(actor) if isinstance(module, nn.Linear))
        self.thresholds, self.timesteps = (
            [torch.tensor(threshold) for threshold in neurons.thresholds],
            neurons.timesteps,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        membranes, total = [threshold / 2 for threshold in self.thresholds], torch.zeros(())
        for _ in range(self.timesteps):
            o = x
            for index, threshold in enumerate(self.thresholds):
                v = membranes[index] + self.linear[index](o)
                o = torch.where(v > threshold, threshold, 0.0)
                membranes[index] = v - o
            total = total + self.linear[-1](o)
        return total / self.timesteps


class SpikingJelly(nn.Module):
    """Run what SpikingJelly's rate-coding converter makes of the layers; reset before each decision, averaged over T.

    Raises:
        ImportError: not installed, or older than 2.0.
    """

    def __init__(self, actor: Actor, observations: FloatArray, timesteps: int) -> None:
        super().__init__()
        converters: Any = import_module("spikingjelly.activation_based.ann2snn")
        if not hasattr(converters, "RateCodingRecipe"):
            raise ImportError("SpikingJelly is older than 2.0")
        functional: Any = import_module("spikingjelly.activation_based.functional")
        inputs = torch.tensor(actor.inputs(observations[:CALIBRATION_ROWS]))
        recipe = converters.RateCodingRecipe(dataloader=[inputs], mode="Max")
        with redirect_stderr(StringIO()):  # its progress bar
            self.network: Any = converters.Converter(recipe).convert(sequential(actor))
        self.reset, self.timesteps = functional.reset_net, timesteps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.reset(self.network)
        total = torch.zeros(())
        for _ in range(self.timesteps):
            total = total + self.network(x)
        return total / self.timesteps


class Elementwise(nn.Module):
    """Apply an activation that torch has no module for, such as QCFS."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.activation(z)


def sequential(actor: Actor) -> nn.Sequential:
    """Return the actor's layers as torch modules of its weights.

    Raises:
        ValueError: a layer that is not linear.
    """
    modules: list[nn.Module] = []
    for layer in actor.layers:
        if not isinstance(layer, Linear):
            raise ValueError(f"{type(layer).__name__}: linear layers only")
        linear = nn.Linear(layer.inputs, layer.outputs)
        linear.load_state_dict({"weight": torch.tensor(layer.weight), "bias": torch.tensor(layer.bias)})
        modules.append(linear)
        if layer.activation is not None:
            make = MODULES.get(layer.activation.name)
            modules.append(make(layer.activation.parameter) if make else Elementwise(layer.activation))
    return nn.Sequential(*modules).eval()


def _eager(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    return TorchPolicy(actor, sequential(actor)).act


def _compiled(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    policy = TorchPolicy(actor, sequential(actor))
    policy.forward = torch.compile(policy.forward)
    try:
        policy.act(observations[0])
    except RuntimeError as problem:  # where there is no C++ compiler, or one that torch cannot use
        raise LeftOut(f"torch cannot compile here ({str(problem).strip().splitlines()[0][:100]})") from None
    return policy.act


def _loop(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    if MEMBRANE not in converted:
        raise LeftOut("IF neurons stand for ReLU and QCFS only")
    neurons = converted[MEMBRANE].network.neurons
    assert isinstance(neurons, MembraneNeurons)
    return TorchPolicy(actor, IFLoop(actor, neurons)).act


def _spikingjelly(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    if not stand_for(actor, SNM()):
        raise LeftOut("its converter knows ReLU only")
    try:
        return TorchPolicy(actor, SpikingJelly(actor, observations, converted[MEMBRANE].timesteps)).act
    except ImportError as missing:
        raise LeftOut(f"{missing.name} is not installed" if missing.name else str(missing)) from None


TORCH_BASELINES: dict[str, Builder] = {
    "ANN, torch": _eager,
    "ANN, torch.compile": _compiled,
    f"{MEMBRANE}, eager torch loop": _loop,
    f"{MEMBRANE}, SpikingJelly": _spikingjelly,
}
