"""Conv2d: a two-dimensional convolution on flattened images, as one layer of an actor.

Images are flat in the order (channels, height, width) everywhere outside this file, so that neurons, thresholds and
states need not know of them. Zero padding; synapses onto the padding do not exist and are not counted.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, is_numpy_array, is_torch_array

from snn_policy.ann.activations import Activation
from snn_policy.checks import frozen_array, whole
from snn_policy.protocol import Array, FloatArray, IntArray

MOST_PATCH_BYTES = 2**22
"""Rows are convolved in pieces whose patches take at most so much memory, of a core's cache (a single row may more)."""

MOST_NEURONS = 2**24
"""Of one convolution's input or output: files tell its sizes, and arrays of them are made."""


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Compute z = weight ∗ x + bias (a cross-correlation, as in torch), then the activation.

    Attributes:
        weight: (output channels, input channels, kernel height, kernel width) float32.
        bias: (output channels,) float32.
        input_shape: (channels, height, width) of one image.
        stride, padding: (vertical, horizontal); the padding is zeros.
        unit_bias: (outputs,) the bias of every output neuron.
        fan_out: (inputs,) synapses of every input neuron: its weights that are not zero, kernel position by kernel
            position; fewer at the borders, and where the stride skips.
    """

    weight: FloatArray
    bias: FloatArray
    input_shape: tuple[int, int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    activation: Activation | None = None
    unit_bias: FloatArray = field(init=False, repr=False)
    fan_out: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", frozen_array(self.weight, "weight", 4))
        object.__setattr__(self, "bias", frozen_array(self.bias, "bias", 1))
        for name, length, least in (("input_shape", 3, 1), ("stride", 2, 1), ("padding", 2, 0)):
            values = tuple(getattr(self, name))
            if len(values) != length or not all(whole(value, least, 2**15) for value in values):
                raise ValueError(f"{name} {values!r}: expected {length} whole numbers of at least {least}")
            object.__setattr__(self, name, tuple(int(value) for value in values))
        if self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"bias: expected shape {self.weight.shape[:1]}, got {self.bias.shape}")
        if self.weight.shape[1] != self.input_shape[0]:
            raise ValueError(f"weight: takes {self.weight.shape[1]} channels, but images have {self.input_shape[0]}")
        if min(self.output_shape) < 1:
            raise ValueError(f"weight: a kernel of {self.weight.shape[2:]} does not fit images {self.input_shape}")
        if max(self.inputs, self.outputs) > MOST_NEURONS:
            raise ValueError(f"weight: {max(self.inputs, self.outputs)} neurons, more than {MOST_NEURONS}")
        object.__setattr__(self, "unit_bias", frozen_array(np.repeat(self.bias, self.groups[1]), "bias"))
        object.__setattr__(self, "fan_out", self._fan_out())

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width)."""
        return convolved_shape(self.weight.shape, self.input_shape, self.stride, self.padding)

    @property
    def inputs(self) -> int:
        return int(np.prod(self.input_shape))

    @property
    def outputs(self) -> int:
        return int(np.prod(self.output_shape))

    @property
    def input_groups(self) -> tuple[int, int]:
        """Return (channels, positions): neurons that share a quantum."""
        return self.input_shape[0], self.inputs // self.input_shape[0]

    @property
    def groups(self) -> tuple[int, int]:
        """Return (channels, positions): neurons that share a threshold."""
        return self.output_shape[0], self.outputs // self.output_shape[0]

    @property
    def macs(self) -> int:
        """Return multiply-accumulates of one image, those of zero weights included, those with the padding left out."""
        vertical, horizontal = (int(reached.sum()) for reached in self.reached())
        return vertical * horizontal * self.weight.shape[0] * self.weight.shape[1]

    @property
    def synapses(self) -> int:
        """Return multiply-accumulates of one image that leave out weights of zero."""
        return int(self.fan_out.sum())

    def reached(self) -> list[IntArray]:
        """Return along each axis (kernel, size): 1 where an output's window has this kernel place at that pixel."""
        along = []
        sizes = zip(self.input_shape[1:], self.output_shape[1:], self.weight.shape[2:], self.stride, self.padding,
                    strict=True)  # fmt: skip
        for size, outputs, kernel, stride, pad in sizes:
            pixels = np.arange(outputs) * stride + np.arange(kernel)[:, None] - pad
            reached = np.zeros((kernel, size), np.int64)
            places, columns = np.nonzero((pixels >= 0) & (pixels < size))
            reached[places, pixels[places, columns]] = 1
            along.append(reached)
        return along

    def _fan_out(self) -> IntArray:
        synapses = np.count_nonzero(self.weight, axis=0).astype(np.int64)
        vertical, horizontal = self.reached()
        counts = np.einsum("cij,iy,jx->cyx", synapses, vertical, horizontal, optimize=True).ravel()
        counts.flags.writeable = False
        return counts

    def __call__(self, x: Array) -> Array:
        """Return weight ∗ x + bias of (rows, inputs), (rows, outputs)."""
        return self.product(x) + self.unit_bias

    batched = __call__

    def product(self, x: Array) -> Array:
        """Return weight ∗ x of (rows, inputs) or (rows, T, inputs); on NumPy, a row does not depend on its batch."""
        xp = array_namespace(x)
        images = xp.reshape(x, (-1, *self.input_shape))
        if is_numpy_array(x):
            y = self._patchwise(images)
        elif is_torch_array(x):
            from torch.nn.functional import conv2d

            y = conv2d(images, self.weight, stride=self.stride, padding=self.padding)  # pyright: ignore
        else:
            y = xp.conv2d(images, self.weight, stride=self.stride, padding=self.padding)
        return xp.reshape(y, (*x.shape[:-1], self.outputs))

    def operations(self, counts: Array) -> Array:
        """Return the synaptic operations of `counts` (rows, inputs) spikes per input neuron, (rows,) int64."""
        return array_namespace(counts).sum(counts * self.fan_out, axis=1)

    def _padded(self, images: FloatArray) -> FloatArray:
        if self.padding == (0, 0):
            return images
        vertical, horizontal = self.padding
        return np.pad(images, ((0, 0), (0, 0), (vertical, vertical), (horizontal, horizontal)))

    def _patchwise(self, images: FloatArray) -> FloatArray:
        """Return one matrix product per image, of the image's patches, gathered one place of the kernel at a time."""
        (channels, height, width), (down, right) = self.output_shape, self.stride
        kernels = self.weight.reshape(channels, -1)
        y = np.empty((len(images), channels, height * width), np.float32)
        rows = max(1, min(len(images), MOST_PATCH_BYTES // (4 * height * width * kernels.shape[1])))
        patches = np.empty((rows, *self.weight.shape[1:], height, width), np.float32)
        for start in range(0, len(images), rows):
            padded = self._padded(images[start : start + rows])
            gathered = patches[: len(padded)]
            for i, j in np.ndindex(self.weight.shape[2:]):
                bottom, end = i + down * (height - 1) + 1, j + right * (width - 1) + 1
                gathered[:, :, i, j] = padded[:, :, i:bottom:down, j:end:right]
            np.matmul(kernels, gathered.reshape(len(padded), -1, height * width), out=y[start : start + rows])
        return y

    def transposed(self, y: FloatArray) -> FloatArray:
        """Return the transposed product, (rows, …, outputs) → (rows, …, inputs): how derivatives travel backwards."""
        rows = transposed_convolution(y.reshape(-1, self.outputs), self.weight, self.input_shape, self.stride,
                                      self.padding)  # fmt: skip
        return rows.reshape(*y.shape[:-1], self.inputs).astype(np.float32, copy=False)


def convolved_shape(
    weight_shape: tuple[int, ...], input_shape: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int, int]:
    """Return (channels, height, width) of what a convolution makes of images (channels, height, width)."""
    sizes = zip(input_shape[1:], weight_shape[2:], stride, padding, strict=True)
    height, width = ((size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in sizes)
    return weight_shape[0], height, width


def transposed_convolution(
    rows: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    input_shape: tuple[int, int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> npt.NDArray[Any]:
    """Return (rows, outputs) times the convolution's matrix (outputs, inputs): (rows, inputs), of the arrays' dtype."""
    channels, height, width = convolved_shape(weight.shape, input_shape, stride, padding)
    maps = rows.reshape(-1, channels, height * width)
    (vertical, horizontal), (down, right) = padding, stride
    inputs, image_height, image_width = input_shape
    images = np.zeros((len(maps), inputs, image_height + 2 * vertical, image_width + 2 * horizontal),
                      np.result_type(rows, weight))  # fmt: skip
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            part = np.matmul(weight[:, :, i, j].T, maps).reshape(len(maps), -1, height, width)
            images[:, :, i : i + down * height : down, j : j + right * width : right] += part
    inner = images[:, :, vertical : vertical + image_height, horizontal : horizontal + image_width]
    return inner.reshape(len(maps), -1)
