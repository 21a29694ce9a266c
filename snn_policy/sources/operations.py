"""The primitive operations a source file is read into: a flat list from the observation to the action.

Every operation carries the path it has in its source and what it is called there, for messages.
`assemble` turns such a list into an `Actor`; a further kind of layer starts with a further class here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.ann.activations import Activation

Float64 = npt.NDArray[np.float64]
Pair = tuple[int, int]


@dataclass(frozen=True, eq=False, kw_only=True)
class Operation:
    """Name where an operation stands in its source (`actor.net.3`) and its name there (`Linear`)."""

    path: str
    kind: str


@dataclass(frozen=True, eq=False)
class Affine(Operation):
    """Compute weight · x + bias; weight (outputs, inputs), bias (outputs,)."""

    weight: Float64
    bias: Float64

    @property
    def inputs(self) -> int:
        return self.weight.shape[1]

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]

    def then(self, scale: Float64, offset: Float64) -> "Affine":
        """Return the layer with y · scale + offset after it; both (outputs,)."""
        return replace(self, weight=self.weight * scale[:, None], bias=self.bias * scale + offset)

    def preceded(self, scale: Float64, offset: Float64) -> "Affine":
        """Return the layer with x · scale + offset before it; both (inputs,)."""
        return replace(self, weight=self.weight * scale, bias=self.weight @ offset + self.bias)


@dataclass(frozen=True, eq=False)
class Convolve(Operation):
    """Compute weight ∗ x + bias on images (channels, height, width), padded with zeros.

    Attributes:
        weight: (output channels, input channels, kernel height, kernel width); bias: (output channels,).
        stride, padding: (vertical, horizontal).
    """

    weight: Float64
    bias: Float64
    stride: Pair
    padding: Pair


@dataclass(frozen=True, eq=False)
class AveragePool(Operation):
    """Average every window of an image; without padding."""

    window: Pair
    stride: Pair


@dataclass(frozen=True, eq=False)
class AdaptivePool(Operation):
    """Average equal parts of an image; `size` is (height, width) of the result, None for the image's own."""

    size: tuple[int | None, int | None]


@dataclass(frozen=True, eq=False)
class Scale(Operation):
    """Compute x · scale + offset, elementwise; both broadcast against one row."""

    scale: Float64
    offset: Float64


@dataclass(frozen=True, eq=False)
class ChannelScale(Scale):
    """Apply one scale and offset per channel, (channels,): the first axis of an image, the only one of a flat row."""


@dataclass(frozen=True, eq=False)
class Clip(Operation):
    """Compute min(max(x, low), high), elementwise; the bounds broadcast against one row and may be infinite."""

    low: Float64
    high: Float64


@dataclass(frozen=True, eq=False)
class Activate(Operation):
    """Apply an activation function, elementwise."""

    activation: Activation


@dataclass(frozen=True, eq=False)
class Select(Operation):
    """Select some of the last axis' entries; `indices` gives them for a width."""

    indices: Callable[[int], npt.NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Flatten(Operation):
    """Make one row of each observation, `width` long where the source says so."""

    width: int | None = field(default=None)


@dataclass(frozen=True, eq=False)
class Unflatten(Operation):
    """Make one image (channels, height, width) of each observation."""

    shape: tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class KeepWidth(Operation):
    """Do nothing, as long as the last axis is `width` long (None: however long it is)."""

    width: int | None


@dataclass(frozen=True, eq=False)
class Softmax(Operation):
    """Keep the order of its entries, so that it means nothing before an `ArgMax`."""


@dataclass(frozen=True, eq=False)
class ArgMax(Operation):
    """Return the largest entry's index in the last axis; with `choices`, in each of so many entries, side by side."""

    choices: tuple[int, ...] | None = None


def entries(chosen: Any) -> str:
    """Name the chosen entries: "entry 5", "entries 1, 4, 7"; of several axes, by index tuples."""
    places = np.argwhere(np.asarray(chosen))
    names = [str(place[0]) if len(place) == 1 else str(tuple(map(int, place))) for place in places[:8]]
    more = f" and {len(places) - 8} more" if len(places) > 8 else ""
    return f"entr{'y' if len(places) == 1 else 'ies'} {', '.join(names)}{more}" if places.shape[1] else "its only entry"


def as_float64(values: Any) -> Float64:
    return np.asarray(values, np.float64)


def affine(path: str, kind: str, weight: Any, bias: Any = None) -> Affine:
    """Return an `Affine` from arrays of any float type; no bias means zeros."""
    matrix = as_float64(weight)
    return Affine(matrix, np.zeros(matrix.shape[0]) if bias is None else as_float64(bias), path=path, kind=kind)


def scale(path: str, kind: str, factor: Any = 1.0, offset: Any = 0.0) -> Scale:
    return Scale(as_float64(factor), as_float64(offset), path=path, kind=kind)


def clip(path: str, kind: str, low: Any = None, high: Any = None) -> Clip:
    """Return a `Clip`; None stands for no bound."""
    bottom, top = -np.inf if low is None else low, np.inf if high is None else high
    return Clip(as_float64(bottom), as_float64(top), path=path, kind=kind)


def activate(path: str, kind: str, name: str, parameter: float = 0.0) -> list[Operation]:
    """Return an activation by name; σ(z) = (1 + tanh(z/2))/2 becomes a tanh between two scales, which fold away.

    So do SELU, CELU (parameter a), hard tanh, hard and logarithmic sigmoids, softplus and SiLU (parameter β).
    """
    if name == "sigmoid":
        half = scale(path, kind, 0.5)
        return [half, *activate(path, kind, "tanh"), scale(path, kind, 0.5, 0.5)]
    if name == "relu6":
        return [Activate(Activation("clip", 6.0), path=path, kind=kind)]
    if name == "hardtanh":
        return bounded(path, kind, -np.ones(1), np.ones(1))
    if name == "hardsigmoid":  # clip(z + 3, 0, 6)/6
        return [scale(path, kind, 1.0, 3.0), *activate(path, kind, "relu6"), scale(path, kind, 1 / 6)]
    if name == "logsigmoid":  # −softplus(−z)
        return _widened(path, kind, "softplus", 0.0, -1.0)
    if name == "selu":  # γ·elu with α
        return [*activate(path, kind, "elu", SELU[0]), scale(path, kind, SELU[1])]
    if name == "celu":  # a·elu(z/a)
        return _widened(path, kind, "elu", 1.0, 1 / parameter)
    if name in ("softplus", "silu") and parameter not in (0.0, 1.0):  # log(1 + e^{βz})/β, z·σ(βz)
        return _widened(path, kind, name, 0.0, parameter)
    return [Activate(Activation(name, float(parameter)), path=path, kind=kind)]  # pyright: ignore[reportArgumentType]


SELU = 1.6732632423543772, 1.0507009873554805


def _widened(path: str, kind: str, name: str, parameter: float, factor: float) -> list[Operation]:
    """Return f(factor · z) / factor."""
    return [scale(path, kind, factor), *activate(path, kind, name, parameter), scale(path, kind, 1 / factor)]


def bounded(path: str, kind: str, low: Float64, high: Float64) -> list[Operation]:
    """Return min(max(x, low), high) as an activation between scales: a ReLU where one bound is infinite.

    Args:
        low, high: (n,) or (1,), low < high; the same of them finite at every entry.
    """
    if (low == -np.inf).all():
        turned = scale(path, kind, -1.0, high)
        return [turned, *activate(path, kind, "relu"), turned]
    if (high == np.inf).all():
        return [scale(path, kind, 1.0, -low), *activate(path, kind, "relu"), scale(path, kind, 1.0, low)]
    reach = high - low
    width = float(reach.flat[0]) if (reach == reach.flat[0]).all() else 1.0
    factor = reach / width
    clipped = Activate(Activation("clip", width), path=path, kind=kind)
    return [scale(path, kind, 1 / factor, -low / factor), clipped, scale(path, kind, factor, low)]


def bounds_alike(low: Float64, high: Float64) -> bool:
    """Return whether `bounded` takes these bounds."""
    infinite = np.isinf(low), np.isinf(high)
    return all(one.all() or not one.any() for one in infinite) and bool((low < high).all())


def normalise(
    path: str, kind: str, mean: Any, variance: Any, epsilon: float, factor: Any = 1.0, offset: Any = 0.0
) -> Scale:
    """Return (x − mean) / √(variance + epsilon) · factor + offset."""
    with np.errstate(all="ignore"):  # `assemble` refuses what is not finite
        slope = as_float64(factor) / np.sqrt(as_float64(variance) + epsilon)
        return scale(path, kind, slope, as_float64(offset) - as_float64(mean) * slope)


def batch_norm(
    path: str, kind: str, mean: Any, variance: Any, epsilon: float, factor: Any, offset: Any
) -> ChannelScale:
    """Return `normalise` with statistics (channels,) of every channel."""
    plain = normalise(path, kind, mean, variance, epsilon, factor, offset)
    return ChannelScale(plain.scale, plain.offset, path=path, kind=kind)


def squash(path: str, low: Any, high: Any, pre_clip: float | None = None) -> list[Operation]:
    """Return the action head of most actor-critics: [clip to ±pre_clip], tanh, rescaled to fill [low, high]."""
    bottom, top = as_float64(low), as_float64(high)
    before = [] if pre_clip is None else [clip(path, "Hardtanh", -pre_clip, pre_clip)]
    rescale = scale(path, "rescale", (top - bottom) / 2, (top + bottom) / 2)
    return [*before, *activate(path, "Tanh", "tanh"), rescale, clip(path, "Clip", bottom, top)]
