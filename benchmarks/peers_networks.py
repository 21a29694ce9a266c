"""Make spiking networks of an actor's layers with other libraries: SpikingJelly, sinabs, a plain loop in torch.

Each is run as its documentation recommends: analog input at every timestep, the output averaged over T, all T timesteps
in one call where the library can, and membranes reset before every decision unless `carries` asks for the other thing.
`PeerPolicy` puts the actor's normaliser and head around it. Needs torch; SpikingJelly and sinabs where asked for.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.peers_cells import RECIPE_NAMES
from benchmarks.torch_baselines import IFLoop, TorchPolicy
from snn_policy.actor import Actor
from snn_policy.protocol import Costs, FloatArray, IntArray, Mask
from snn_policy.spiking.neurons import MembraneNeurons

CALIBRATION_BATCH = 100
"""Rows of a batch where a recipe learns from one batch after the other, as in SpikingJelly's example."""
BALANCING_BATCHES = 390
"""Threshold balancing moves its thresholds once per batch: as many as SpikingJelly's example has (50,000 images)."""
PERCENTILE = 99.0
"""Of sinabs' `normalize_weights`, its default."""
Spikes = list[torch.Tensor]


class PeerNetwork(nn.Module, ABC):
    """Run T timesteps on inputs (rows, n), and return the mean output (rows, outputs).

    Attributes:
        timesteps: T.
        carries: leave membranes as they are between decisions.
        network: the library's own module; its linear layers after the first receive spikes.
    """

    timesteps: int
    carries: bool
    network: Any

    @abstractmethod
    def forward(self, x: torch.Tensor) -> torch.Tensor: ...

    @abstractmethod
    def forget(self, rows: torch.Tensor | None = None) -> None:
        """Reset membranes: of all rows, or of those where the mask (rows,) is true, which no library has a call for."""

    @abstractmethod
    def spikes_of(self, received: torch.Tensor, rows: int) -> torch.Tensor:
        """Return spikes (rows, n) in what a linear layer received in one call."""

    def linear(self) -> list[nn.Linear]:
        """Return the linear layers in order."""
        return [module for module in self.network.modules() if isinstance(module, nn.Linear)]


class SpikingJellyNetwork(PeerNetwork):
    """Run what a recipe of SpikingJelly makes of a chain of modules, in its multi-step mode.

    Args:
        recipe: makes one of the calibration inputs (N, n).
        delayed: read the output from the timestep on that its `estimate_delay_start` gives.
    """

    def __init__(
        self, recipe: "Recipe", modules: nn.Module, inputs: torch.Tensor, timesteps: int, carries: bool = False
    ) -> None:
        super().__init__()
        converters: Any = import_module("spikingjelly.activation_based.ann2snn")
        functional: Any = import_module("spikingjelly.activation_based.functional")
        nodes: Any = import_module("spikingjelly.activation_based.neuron")
        made = recipe.make(converters, inputs)
        with quiet():
            self.network = converters.Converter(made).convert(deepcopy(modules)).eval()
            batches = inputs.split(CALIBRATION_BATCH)
            self.start = (
                converters.estimate_delay_start(self.network, batches, "cpu", timesteps) if recipe.delayed else 0
            )
        functional.set_step_mode(self.network, "m")
        self.neurons = [module for module in self.network.modules() if isinstance(module, nodes.BaseNode)]
        self.reset, self.timesteps, self.carries = functional.reset_net, timesteps, carries

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.carries:
            self.reset(self.network)
        return self.network(x.repeat(self.timesteps, 1, 1))[self.start :].mean(0)

    def forget(self, rows: torch.Tensor | None = None) -> None:
        if rows is None:
            self.reset(self.network)
            return
        for neuron in self.neurons:
            if isinstance(neuron.v, torch.Tensor) and neuron.v.ndim:
                neuron.v[rows] = float(neuron.get_reset_value("v"))

    def spikes_of(self, received: torch.Tensor, rows: int) -> torch.Tensor:
        return received.reshape(self.timesteps, rows, -1).ne(0).sum(0)


def shuffled_batches(inputs: torch.Tensor) -> list[torch.Tensor]:
    """Return `BALANCING_BATCHES` batches of the inputs (N, n), shuffled anew each time that all have been taken."""
    torch.manual_seed(0)
    passes = -(-BALANCING_BATCHES * CALIBRATION_BATCH // len(inputs))
    order = torch.cat([torch.randperm(len(inputs)) for _ in range(passes)])
    return list(inputs[order].split(CALIBRATION_BATCH)[:BALANCING_BATCHES])


@dataclass(frozen=True)
class Recipe:
    """Make a recipe of SpikingJelly; `delayed` as in its examples for ImageNet."""

    make: Callable[[Any, torch.Tensor], Any]
    delayed: bool = False


_RECIPES = (
    Recipe(lambda c, inputs: c.RateCodingRecipe(dataloader=[inputs], mode="max")),
    Recipe(lambda c, inputs: c.RateCodingRecipe(dataloader=[inputs], mode="99.9%")),
    Recipe(
        lambda c, inputs: c.RateCodingRecipe(dataloader=[inputs], mode="99.9%", channel_wise=True, half_threshold=True),
        delayed=True,
    ),
    Recipe(lambda c, inputs: c.LocalThresholdBalancingRecipe(dataloader=shuffled_batches(inputs)), delayed=True),
)
RECIPES: dict[str, Recipe] = dict(zip(RECIPE_NAMES, _RECIPES, strict=True))
"""SpikingJelly's recipes for ReLU: the two of its tutorial and the two of its example for ImageNet, set as there."""


class SinabsNetwork(PeerNetwork):
    """Run what sinabs' `from_model` makes of a chain of modules: several spikes per timestep (`MultiSpike`)."""

    def __init__(self, modules: nn.Module, timesteps: int, carries: bool = False) -> None:
        super().__init__()
        from_torch: Any = import_module("sinabs.from_torch")
        layers: Any = import_module("sinabs.layers")
        with quiet():
            self.network = from_torch.from_model(modules, num_timesteps=timesteps).spiking_model.eval()
        self.neurons = [module for module in self.network.modules() if isinstance(module, layers.StatefulLayer)]
        self.timesteps, self.carries = timesteps, carries

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.carries:
            self.forget()
        y = self.network(x.repeat_interleave(self.timesteps, dim=0))
        return y.reshape(len(x), self.timesteps, -1).mean(1)

    def forget(self, rows: torch.Tensor | None = None) -> None:
        for neuron in self.neurons:
            if rows is None:
                neuron.reset_states()
            elif neuron.is_state_initialised():
                neuron.v_mem[rows] = 0

    def spikes_of(self, received: torch.Tensor, rows: int) -> torch.Tensor:
        return received.reshape(rows, self.timesteps, -1).sum(1)


class LoopNetwork(PeerNetwork):
    """Run the plain loop of `torch_baselines`, with the thresholds of a converted IF policy and no memory."""

    def __init__(self, actor: Actor, neurons: MembraneNeurons) -> None:
        super().__init__()
        self.network = IFLoop(actor, neurons)
        self.timesteps, self.carries = neurons.timesteps, False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)

    def forget(self, rows: torch.Tensor | None = None) -> None:
        """Do nothing: every decision starts anew."""

    def spikes_of(self, received: torch.Tensor, rows: int) -> torch.Tensor:
        return received.ne(0)


class PeerPolicy:
    """Act with a peer's network, behind the actor's own normaliser and head: as much as `evaluate_in` needs.

    Args:
        counting: keep what each decision cost as `last_decision`; without it nothing is in the way of `policy.act`.
    """

    def __init__(self, actor: Actor, network: PeerNetwork, counting: bool = True) -> None:
        self.actor, self.network = actor, network
        self.observation_shape, self.action_shape, self.discrete = (
            actor.observation_shape, actor.action_shape, actor.discrete,
        )  # fmt: skip
        self.low, self.high, self.timesteps = actor.low, actor.high, network.timesteps
        self.last_decision: Costs | None = None
        self.policy = TorchPolicy(actor, network)
        self._linear = network.linear()
        self._fan_out = [(layer.weight != 0).sum(0).numpy() for layer in self._linear[1:]]
        self._received: Spikes = []
        if counting:
            for place, layer in enumerate(self._linear[1:]):
                layer.register_forward_pre_hook(self._counter(place))

    def reset(self, mask: Mask | None = None, *, num_envs: int | None = None, seed: int | None = None) -> None:
        """Reset membranes, of the rows in the mask or of all."""
        with torch.inference_mode():
            self.network.forget(None if mask is None else torch.from_numpy(np.asarray(mask)))

    def act(self, obs: FloatArray, active: Mask | None = None) -> Any:
        """Decide on (rows, *shape); rows that are not active are computed, too."""
        self._rows, self._received = len(obs), [torch.zeros(()) for _ in self._fan_out]
        actions = self.policy.act_rows(obs)
        self.last_decision = costs([counts.numpy() for counts in self._received], self._fan_out, self.actor, len(obs))
        return actions

    def _counter(self, place: int) -> Callable[..., None]:
        def count(_: nn.Module, received: tuple[torch.Tensor, ...]) -> None:
            self._received[place] = self._received[place] + self.network.spikes_of(received[0], self._rows)

        return count


def costs(counts: list[Any], fan_out: list[Any], actor: Actor, rows: int) -> Costs:
    """Return what a decision cost, by this package's convention: spikes × fan-out, and the analog input once.

    Args:
        counts: (rows, n) spikes of every layer.
        fan_out: (n,) weights that are not zero, of every layer.
    """
    none = np.zeros(rows, np.int64)
    spikes = [
        np.broadcast_to(count, (rows, len(fan))).astype(np.int64) for count, fan in zip(counts, fan_out, strict=True)
    ]
    operations: IntArray = sum((count @ fan for count, fan in zip(spikes, fan_out, strict=True)), none)
    by_layer = np.stack([count.sum(1) for count in spikes], axis=1) if spikes else none[:, None][:, :0]
    return Costs(by_layer, operations, none + actor.layers[0].synapses, none, none)


def normalised(modules: nn.Sequential, inputs: torch.Tensor, gain: float = 1.0) -> nn.Sequential:
    """Return a copy with the same output whose hidden activations reach `gain` at `PERCENTILE` of the inputs (N, n).

    Rueckauer et al. (2017), biases included: W ← W·λ₋₁/λ, b ← b/λ. A larger gain is sinabs' advice to scale up the
    weights of the first layer, with the biases scaled along.
    """
    copy = deepcopy(modules)
    linear = [place for place, module in enumerate(copy) if isinstance(module, nn.Linear)]
    h, before = inputs, 1.0
    with torch.no_grad():
        for place, (module, original) in enumerate(zip(copy, modules, strict=True)):
            h = original(h)
            if isinstance(module, nn.Linear):
                last = place == linear[-1]
                reach = 1.0 if last else float(np.percentile(torch.relu(h).numpy(), PERCENTILE)) / gain
                module.weight.mul_(before / reach)
                module.bias.div_(reach)
                before = reach
    return copy


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' progress bars, logs and warnings out of the terminal."""
    with redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
