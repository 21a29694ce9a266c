"""Convolutions and average pooling of all sources: checked, placed on images of known size, folded and composed.

Average pooling is a convolution with the same weight everywhere, so it merges with what precedes or follows it.
All in float64; two convolutions without an activation between them are one if no padding comes between.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snn_policy.ann.convolution import convolved_shape, transposed_convolution
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.operations import (
    AdaptivePool,
    Affine,
    AveragePool,
    Convolve,
    Flatten,
    Float64,
    Operation,
    Pair,
    as_float64,
)
from snn_policy.sources.refusals import refusal

Image = tuple[int, int, int]
MOST_VALUES = 2**26
"""Larger images are no observation or feature map of a policy, but a file that wants all memory."""


@dataclass(frozen=True, eq=False)
class Filter(Convolve):
    """Convolve images of a known shape, (channels, height, width)."""

    shape: Image

    @property
    def output_shape(self) -> Image:
        return convolved_shape(self.weight.shape, self.shape, self.stride, self.padding)

    @property
    def inputs(self) -> int:
        return int(np.prod(self.shape))

    @property
    def outputs(self) -> int:
        return int(np.prod(self.output_shape))

    def then(self, scale: Float64, offset: Float64) -> "Filter":
        """Return the filter with y · scale + offset after it; both (outputs,), equal within a channel."""
        factor, shift = (self._per_channel(values, self.output_shape, "follow") for values in (scale, offset))
        return replace(self, weight=self.weight * factor[:, None, None, None], bias=self.bias * factor + shift)

    def preceded(self, scale: Float64, offset: Float64) -> "Filter":
        """Return the filter with x · scale + offset before it; both (inputs,), equal within a channel."""
        factor, shift = (self._per_channel(values, self.shape, "precede") for values in (scale, offset))
        if shift.any() and any(self.padding):
            reason = "a shift before its zero padding (BatchNorm2d, a sigmoid) does not fold into it at the borders"
            remedy = "Retrain with padding=0, with ReLU or tanh, or with BatchNorm2d after the convolution"
            raise UnsupportedLayerError(self.path, self.kind, reason, remedy)
        bias = self.bias + self.weight.sum(axis=(2, 3)) @ shift
        return replace(self, weight=self.weight * factor[:, None, None], bias=bias)

    def dense(self, rows: Float64) -> Float64:
        """Return (rows, outputs) times its matrix (outputs, inputs)."""
        return transposed_convolution(rows, self.weight, self.shape, self.stride, self.padding)

    def _per_channel(self, values: Float64, shape: Image, where: str) -> Float64:
        grouped = values.reshape(shape[0], -1)
        if not (grouped == grouped[:, :1]).all():
            reason = f"the constants that {where} it differ between the positions of a channel"
            raise UnsupportedLayerError(self.path, self.kind, reason, "Use one constant per channel")
        return grouped[:, 0]


def convolve(
    path: str, kind: str, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any = 1, groups: int = 1
) -> Convolve:
    """Return a convolution as torch describes it: numbers or pairs; padding also "valid" or "same".

    Raises:
        UnsupportedLayerError: what a plain convolution with symmetric zero padding does not do.
    """
    kernels = as_float64(weight)
    if kernels.ndim != 4:
        raise refusal(path, kind)
    if groups != 1:
        raise UnsupportedLayerError(path, kind, f"its channels are split into {groups} groups", "Retrain with groups=1")
    if _pair(dilation) != (1, 1):
        raise UnsupportedLayerError(path, kind, f"its kernel is dilated by {dilation}", "Retrain with dilation=1")
    if padding == "same":
        if any(size % 2 == 0 for size in kernels.shape[2:]) or _pair(stride) != (1, 1):
            raise uneven_padding(path, kind)
        padding = tuple(size // 2 for size in kernels.shape[2:])
    around = (0, 0) if padding == "valid" else _pair(padding)
    biases = np.zeros(len(kernels)) if bias is None else as_float64(bias)
    _check_geometry(path, kernels.shape[2:], _pair(stride), around)
    return Convolve(kernels, biases, _pair(stride), around, path=path, kind=kind)


def uneven_padding(path: str, kind: str) -> UnsupportedLayerError:
    remedy = "Retrain with an odd kernel, or with padding given as numbers"
    return UnsupportedLayerError(path, kind, "its padding differs between opposite borders", remedy)


def average_pool(path: str, kind: str, window: Any, stride: Any, padding: Any, ceil_mode: Any = False) -> AveragePool:
    """Average pooling, with numbers or pairs; without a stride, windows lie side by side."""
    if ceil_mode:
        raise UnsupportedLayerError(path, kind, "with ceil_mode, windows reach beyond the image", "Use ceil_mode=False")
    if _pair(padding) != (0, 0):
        reason = "its means at the borders are of fewer pixels, or of padding"
        raise UnsupportedLayerError(path, kind, reason, "Retrain with padding=0 in the pooling")
    steps = _pair(window if stride is None or np.size(stride) == 0 else stride)
    _check_geometry(path, _pair(window), steps, (0, 0))
    return AveragePool(_pair(window), steps, path=path, kind=kind)


def spatial_means(path: str, kind: str, axes: Any, keeps: bool) -> list[Operation]:
    """Return the mean over (batch, channels, height, width)'s last two axes, which are dropped unless it keeps them."""
    if sorted(int(axis) % 4 for axis in np.atleast_1d(axes)) != [2, 3]:
        raise UnsupportedLayerError(path, kind, "it is a mean over other axes than height and width", "Use dim=(2, 3)")
    pooled = AdaptivePool((1, 1), path=path, kind=kind)
    return [pooled] if keeps else [pooled, Flatten(path=path, kind=kind)]


def _check_geometry(path: str, kernel: tuple[int, ...], stride: Pair, padding: Pair) -> None:
    if min(*kernel, *stride) < 1 or min(padding) < 0:
        raise SourceError(f"{path}: kernel {kernel}, stride {stride} and padding {padding} are of no convolution")


def _pair(value: Any) -> Pair:
    both = tuple(int(side) for side in np.atleast_1d(value))
    return (both[0], both[0]) if len(both) == 1 else (both[0], both[1])


def placed(operation: Convolve | AveragePool | AdaptivePool, shape: tuple[int, ...]) -> Filter:
    """Return the operation on values of one row's `shape`.

    Raises:
        UnsupportedLayerError: they are no images.
        ValueError: images of other channels, smaller than the kernel, or too large.
    """
    if len(shape) != 3:
        reason, remedy = f"it takes images, but values have shape {shape}", "Flatten after the last such layer only"
        raise UnsupportedLayerError(operation.path, operation.kind, reason, remedy)
    image: Image = shape  # pyright: ignore[reportAssignmentType]
    plain = operation if isinstance(operation, Convolve) else _pooling(operation, image)
    channels = plain.weight.shape[1]
    if channels != image[0]:
        hint = "; images must be channel-first, (channels, height, width)" if channels == image[2] else ""
        raise ValueError(f"{operation.path} takes images of {channels} channels, but gets {image}{hint}")
    made = Filter(
        plain.weight, plain.bias, plain.stride, plain.padding, image, path=operation.path, kind=operation.kind
    )
    if min(made.output_shape) < 1:
        raise ValueError(f"{operation.path} has a kernel of {plain.weight.shape[2:]}, too large for images {image}")
    if made.outputs > MOST_VALUES:
        raise ValueError(
            f"{operation.path} makes images {made.output_shape}, more than the {MOST_VALUES} values allowed"
        )
    return made


def _pooling(operation: AveragePool | AdaptivePool, image: Image) -> Convolve:
    if isinstance(operation, AveragePool):
        window, stride = operation.window, operation.stride
        if window[0] > image[1] or window[1] > image[2]:
            raise ValueError(f"{operation.path} has windows of {window}, too large for images {image}")
    else:
        sizes = [own if wanted is None else wanted for wanted, own in zip(operation.size, image[1:], strict=True)]
        if any(wanted < 1 or own % wanted for wanted, own in zip(sizes, image[1:], strict=True)):
            reason = f"it divides images of {image[1:]} pixels into {tuple(sizes)} parts of unequal sizes"
            raise UnsupportedLayerError(
                operation.path, operation.kind, reason, "Retrain with AvgPool2d, or a size that divides"
            )
        window = stride = image[1] // sizes[0], image[2] // sizes[1]
    share = np.full(window, 1 / np.prod(window))
    weight = np.eye(image[0])[:, :, None, None] * share
    return Convolve(weight, np.zeros(image[0]), stride, (0, 0), path=operation.path, kind=operation.kind)


def composed(second: Affine | Filter, first: Affine | Filter) -> Affine | Filter:
    """Return second ∘ first, with nothing between them.

    Raises:
        UnsupportedLayerError: it is neither a matrix of reasonable size nor a convolution.
    """
    if isinstance(second, Filter):
        if isinstance(first, Filter):
            return _composed_filters(second, first)
        reason = f"no activation stands between it and the linear layer {first.path}"
        raise UnsupportedLayerError(second.path, second.kind, reason, "Retrain with a ReLU between the two")
    if isinstance(first, Affine):
        return replace(second, weight=second.weight @ first.weight, bias=second.weight @ first.bias + second.bias)
    per_channel = second.weight.reshape(len(second.weight), len(first.bias), -1).sum(axis=2)
    return replace(second, weight=first.dense(second.weight), bias=per_channel @ first.bias + second.bias)


def _composed_filters(second: Filter, first: Filter) -> Filter:
    (down, right), (height, width) = first.stride, first.weight.shape[2:]
    rows, columns = second.weight.shape[2:]
    weight = np.zeros((len(second.weight), first.shape[0], height + (rows - 1) * down, width + (columns - 1) * right))
    for i in range(rows):
        for j in range(columns):
            part = np.tensordot(second.weight[:, :, i, j], first.weight, axes=1)
            weight[:, :, i * down : i * down + height, j * right : j * right + width] += part
    stride = down * second.stride[0], right * second.stride[1]
    padding = first.padding[0] + second.padding[0] * down, first.padding[1] + second.padding[1] * right
    bias = second.weight.sum(axis=(2, 3)) @ first.bias + second.bias
    merged = replace(second, weight=weight, bias=bias, shape=first.shape, stride=stride, padding=padding)
    if not _pads_nothing_real(second, first) or merged.output_shape != second.output_shape:
        reason = f"no activation stands between {first.path} and its zero padding: at the borders the two do not merge"
        remedy = "Retrain with padding=0 in it, with a ReLU between the two, or with a stride instead of pooling"
        raise UnsupportedLayerError(second.path, second.kind, reason, remedy)
    return merged


def _pads_nothing_real(second: Filter, first: Filter) -> bool:
    """Check that the second's padding is what the first would make of its own padding: nothing, from no pixel."""
    if not any(second.padding):
        return True
    apart = all(
        not pad or (not own and kernel <= step and step * outputs >= size)
        for pad, own, kernel, step, outputs, size in zip(
            second.padding, first.padding, first.weight.shape[2:], first.stride, first.output_shape[1:],
            first.shape[1:], strict=True,
        )
    )  # fmt: skip
    return apart and not first.bias.any()
