"""A student's linear maps in torch: a matrix, or a convolution of flat images (channels, height, width).

A convolution's weights are seen as a matrix, too: (output channels, columns), a column for every place of the kernel in
every input channel. A spike reaches some of its channel's places and adds their columns, all output channels side by
side (`engines/core/convolution.h`), so that a column is to a convolution what an input is to a matrix.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, unfold
from torch.nn.grad import conv2d_input

from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Layer, Linear


class LinearMap:
    """Map (rows, inputs) to (rows, outputs) by a matrix."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return weight · x + bias."""
        return torch.addmm(bias, x, weight.T)

    def transposed(self, y: Tensor, weight: Tensor) -> Tensor:
        """Return weightᵀ · y, (rows, actions, outputs) → (rows, actions, inputs)."""
        return y @ weight

    def fan_out(self, kept: Tensor) -> Tensor:
        """Count the weights that are left of every input neuron, (inputs,)."""
        return kept.sum(0)

    def per_column(self, spikes: Tensor) -> Tensor:
        """Return how many of the input neurons' spikes, (inputs,), a column's weights receive, (columns,)."""
        return spikes

    def effects(self, weight_squares: Tensor, size_squares: Tensor, listened: Tensor) -> Tensor:
        """Return the squared effect of every weight, in the weights' shape.

        Args:
            size_squares: (inputs,) of the values; `listened`: (outputs,) the squared effect of a unit of each output.
        """
        return weight_squares * size_squares * listened[:, None]


class ConvolutionMap:
    """Map flat images (rows, inputs) to flat images (rows, outputs) by a convolution."""

    def __init__(self, layer: Conv2d) -> None:
        self.shape, self.places = layer.input_shape, layer.weight.shape[1:]
        self.output_shape = layer.output_shape
        self.stride, self.padding = layer.stride, layer.padding
        self._reached = [torch.from_numpy(along.astype(np.float32)) for along in layer.reached()]

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return weight ∗ x + bias; channels side by side take two thirds of the time."""
        images = x.view(-1, *self.shape).contiguous(memory_format=torch.channels_last)
        return conv2d(images, weight, bias, self.stride, self.padding).flatten(1)

    def transposed(self, y: Tensor, weight: Tensor) -> Tensor:
        """Return the transposed product, (rows, actions, outputs) → (rows, actions, inputs)."""
        images = y.reshape(-1, *self.output_shape)
        size = (len(images), *self.shape)
        back = conv2d_input(size, weight, images, self.stride, self.padding)  # pyright: ignore[reportArgumentType]
        return back.view(*y.shape[:2], -1)

    def fan_out(self, kept: Tensor) -> Tensor:
        """Count the weights that are left of every input neuron, (inputs,): fewer at borders and between strides."""
        return torch.einsum("cij,iy,jx->cyx", kept.sum(0), *self._reached).flatten()

    def per_column(self, spikes: Tensor) -> Tensor:
        """Return how many of the input neurons' spikes, (inputs,), a column's weights receive, (columns,)."""
        return torch.einsum("cyx,iy,jx->cij", spikes.view(self.shape), *self._reached).flatten()

    def effects(self, weight_squares: Tensor, size_squares: Tensor, listened: Tensor) -> Tensor:
        """Return the squared effect of every weight, in the weights' shape: the sum of those at its positions.

        Args:
            size_squares: (inputs,) of the values; `listened`: (outputs,) the squared effect of a unit of each output.
        """
        images = size_squares.view(1, *self.shape)
        patches = unfold(images, self.places[1:], padding=self.padding, stride=self.stride)[0]
        summed = listened.view(len(weight_squares), -1) @ patches.T
        return weight_squares * summed.view_as(weight_squares)


Map = LinearMap | ConvolutionMap


def map_of(layer: Layer) -> Map:
    """Return the map of a layer of any weights."""
    return LinearMap() if isinstance(layer, Linear) else ConvolutionMap(layer)


def group_means(values: Tensor, groups: tuple[int, int]) -> Tensor:
    """Return each group's mean in place of its neurons' values, (neurons,): a channel's positions share a quantum."""
    return values if groups[1] == 1 else values.view(groups).mean(1).repeat_interleave(groups[1])
