"""The student: the weights that are trained, which of them are pruned, and the actor that they make.

A ReLU teacher is copied; of any other activation only the shapes are taken, and the weights begin anew, as He et al.
(2015) draw them.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU
from snn_policy.compression.maps import map_of
from snn_policy.compression.rounding import rounded


class Student(nn.Module):
    """Compute a chain of linear layers and convolutions with ReLU between them.

    Attributes:
        teacher: the actor whose normaliser, head and shapes it has; `copied`: and whose weights it began with.
        weights: (outputs, inputs) per layer, of convolutions (output channels, input channels, height, width);
            `biases`: (outputs or output channels,); `maps`: what the layers make of them.
        kept: as `weights`, 1 where the weight is there and 0 where it is pruned.
        groups: per stage (groups, neurons per group), as the teacher's.
    """

    def __init__(self, teacher: Actor, seed: int) -> None:
        super().__init__()
        self.teacher = teacher
        self.copied = all(layer.activation is not None and layer.activation.name == "relu" for layer in teacher.hidden)
        rng, weights, biases = np.random.default_rng(seed), [], []
        for index, layer in enumerate(teacher.layers):
            weight, bias = np.array(layer.weight), np.array(layer.bias)
            if not self.copied:
                gain = 2 if index < len(teacher.layers) - 1 else 0.1
                weight = rng.normal(size=weight.shape) * math.sqrt(gain / weight[0].size)
                bias = np.zeros_like(bias)
            weights.append(nn.Parameter(torch.tensor(weight, dtype=torch.float32)))
            biases.append(nn.Parameter(torch.tensor(bias, dtype=torch.float32)))
        self.weights, self.biases = nn.ParameterList(weights), nn.ParameterList(biases)
        self.kept = [torch.ones_like(weight) for weight in weights]
        self.maps, self.groups = [map_of(layer) for layer in teacher.layers], teacher.groups

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Map normalised observations (N, inputs) to the hidden layers' values h_1 … h_H, (N, width) each, and y."""
        hidden = []
        for through, weight, bias in zip(self.maps[:-1], self.weights[:-1], self.biases[:-1], strict=True):
            x = through(x, weight, bias).relu_()
            hidden.append(x)
        return hidden, self.maps[-1](x, self.weights[-1], self.biases[-1])

    @torch.no_grad()
    def apply_mask(self) -> None:
        """Set the pruned weights to exact zeros."""
        for weight, kept in zip(self.weights, self.kept, strict=True):
            weight.mul_(kept)

    @property
    def fan_out(self) -> list[Tensor]:
        """Count the weights that are left of every neuron, (inputs,) per layer."""
        return [through.fan_out(kept) for through, kept in zip(self.maps, self.kept, strict=True)]

    @property
    def density(self) -> float:
        """Return the share of all the weights that is left."""
        return float(sum(kept.sum() for kept in self.kept) / sum(kept.numel() for kept in self.kept))

    def actor(self) -> Actor:
        """Return the student as an actor of its own: dense float32 arrays with exact zeros, weights rounded."""
        trained = zip(self.teacher.layers, self.weights, self.biases, strict=True)
        layers = tuple(
            replace(
                layer,
                weight=rounded(weight.detach().numpy()),
                bias=bias.detach().numpy(),
                activation=layer.activation and RELU,
            )
            for layer, weight, bias in trained
        )
        return replace(self.teacher, graph=layers, name=f"{self.teacher.name}-compressed")
