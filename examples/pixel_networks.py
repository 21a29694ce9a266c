"""The pixel actors that `train_pixels.py` trains: 9×84×84 bytes to actions in [-1, 1].

`drq`: the encoder, trunk and policy of DrQ-v2 (Yarats et al. 2021), the trunk without its LayerNorm and Tanh but with
a ReLU, as the CRPI authors convert it. `small`: three strided convolutions, a tenth of its multiply-accumulates.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from snn_policy.ann.qcfs import QCFS
from snn_policy.offline.spiking_actor import IntegrateAndFire

Network = Literal["small", "drq"]
IMAGE_SHAPE = (9, 84, 84)


def layers_of(network: Network, actions: int, activation: Callable[[], nn.Module]) -> list[nn.Module]:
    """From a scaled image to what the tanh squashes; `activation` makes one module per hidden layer."""
    if network == "drq":
        convolutions = [nn.Conv2d(9, 32, 3, 2), *(nn.Conv2d(32, 32, 3) for _ in range(3))]
        linears = [nn.Linear(32 * 35 * 35, 50), nn.Linear(50, 1024), nn.Linear(1024, 1024), nn.Linear(1024, actions)]
    else:
        convolutions = [nn.Conv2d(9, 16, 8, 4), nn.Conv2d(16, 32, 4, 2), nn.Conv2d(32, 32, 3, 2)]
        linears = [nn.Linear(32 * 4 * 4, 256), nn.Linear(256, actions)]
    layers = [part for convolution in convolutions for part in (convolution, activation())]
    layers.append(nn.Flatten())
    for linear in linears[:-1]:
        layers += [linear, activation()]
    return [*layers, linears[-1]]


class PixelActor(nn.Module):
    """Pictures (N, 9, 84, 84) of bytes → actions (N, actions)."""

    def __init__(self, network: Network, actions: int, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers_of(network, actions, activation))

    def forward(self, obs: Tensor) -> Tensor:
        return torch.tanh(self.layers(obs / 255 - 0.5))


class SpikingPixelActor(nn.Module):
    """The same with IF neurons over T timesteps, for training with a surrogate gradient."""

    def __init__(self, network: Network, actions: int, timesteps: int) -> None:
        super().__init__()
        self.network: Network = network
        self.actions, self.timesteps = actions, timesteps
        self.layers = nn.ModuleList(layers_of(network, actions, lambda: IntegrateAndFire(timesteps)))

    def forward(self, obs: Tensor) -> Tensor:
        x = (obs / 255 - 0.5)[None]
        for layer in self.layers[:-1]:
            x = layer(x) if isinstance(layer, IntegrateAndFire) else layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return torch.tanh(self.layers[-1](x.mean(0)))

    def shadow(self) -> PixelActor:
        """The QCFS ANN whose conversion at T = L is this network: θ = λ, the same weights."""
        neurons = iter([layer for layer in self.layers if isinstance(layer, IntegrateAndFire)])
        twin = PixelActor(self.network, self.actions, lambda: QCFS(self.timesteps, next(neurons).threshold))
        pairs = zip(twin.layers, self.layers, strict=True)
        for own, other in pairs:
            if not isinstance(own, QCFS):
                own.load_state_dict(other.state_dict())
        return twin.eval()
