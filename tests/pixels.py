"""Convolutional torch policies on small images, and the images."""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from snn_policy.actor import Actor
from snn_policy.sources import load_actor

SHAPE = (3, 14, 12)


def images(rows: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, *shape), dtype=np.uint8)


def difference(actor: Actor, module: nn.Module, rows: int = 32) -> float:
    obs = images(rows, actor.observation_shape)
    module = copy.deepcopy(module).eval()
    with torch.no_grad():
        own = module(torch.from_numpy(obs).float()).numpy()
    return float(np.abs(own - actor.act(obs)).max() / (1 + np.abs(own).max()))


def norm(layer: Any) -> Any:
    for values in (layer.running_mean, layer.weight.data, layer.bias.data):
        values.normal_()
    layer.running_var.uniform_(0.5, 2)
    return layer


class Pixels(nn.Module):
    """obs/255 − 0.5 → body → flat → linear → tanh."""

    def __init__(self, *body: nn.Module, outputs: int = 2, shape: tuple[int, ...] = SHAPE) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        with torch.no_grad():
            size = copy.deepcopy(self.body).eval()(torch.zeros(1, *shape)).numel()
        self.last = nn.Linear(size, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.body(x / 255.0 - 0.5)
        return torch.tanh(self.last(h.reshape(h.shape[0], -1)))


def read(*body: nn.Module) -> tuple[Actor, Pixels]:
    torch.manual_seed(0)
    module = Pixels(*body)
    return load_actor(module, observation_shape=SHAPE), module
