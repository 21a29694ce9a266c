"""The parts of an actor, as plain read-only data: layers, observation normaliser, action head.

Their functions are written against the array-API: the arrays' own namespace (NumPy, torch) does the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from snn_policy.ann.activations import Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.vector_map import VectorMap
from snn_policy.checks import frozen_array
from snn_policy.protocol import Array, FloatArray, IntArray

HeadKind = Literal["tanh", "clip", "argmax"]


@dataclass(frozen=True, eq=False)
class Linear(VectorMap):
    """Compute z = weight · x + bias, then the activation (None on the last layer: the head follows).

    Attributes:
        weight: (outputs, inputs) float32; a weight of exactly zero is no synapse.
        bias: (outputs,) float32.
        fan_out: (inputs,) synapses of every input neuron: its weights that are not zero.
        uniform_fan_out: the same of all of them, where it is.
    """

    weight: FloatArray
    bias: FloatArray
    activation: Activation | None = None
    fan_out: IntArray = field(init=False, repr=False)
    uniform_fan_out: int | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", frozen_array(self.weight, "weight", 2))
        object.__setattr__(self, "bias", frozen_array(self.bias, "bias", 1))
        if self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"bias: expected shape {self.weight.shape[:1]}, got {self.bias.shape}")
        self.set_fan_out(np.count_nonzero(self.weight, axis=0))

    @property
    def inputs(self) -> int:
        return self.weight.shape[1]

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]

    @property
    def unit_bias(self) -> FloatArray:
        """Return (outputs,) the bias of every output neuron."""
        return self.bias

    @property
    def macs(self) -> int:
        """Return multiply-accumulates of one dense product, those with weights of zero included."""
        return self.inputs * self.outputs

    @property
    def synapses(self) -> int:
        """Return multiply-accumulates of one product that leaves out weights of zero."""
        return int(self.fan_out.sum())

    def __call__(self, x: Array) -> Array:
        """Return weight · x + bias of (rows, inputs), (rows, outputs)."""
        return self.product(x) + self.bias

    def product(self, x: Array) -> Array:
        """Return weight · x of (rows, inputs) or (rows, T, inputs), each row by itself, never by its batch."""
        xp = array_namespace(x)
        if x.ndim == 3:
            return xp.matmul(x, self.weight.T)
        return xp.matmul(x[:, None, :], self.weight.T)[:, 0, :]

    def batched(self, x: FloatArray) -> FloatArray:
        """Return weight · x + bias of (rows, inputs) in one matrix product, whose rounding depends on the batch."""
        return x @ self.weight.T + self.bias

    def transposed(self, y: FloatArray) -> FloatArray:
        """Return weightᵀ · y, (…, outputs) → (…, inputs): how derivatives travel backwards."""
        return y @ self.weight


Layer = Linear | Conv2d


def inner_bounds(low: npt.ArrayLike, high: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return bounds as float32, rounded inwards: whatever lies within them lies within [low, high].

    Where no float32 number lies between the two, both are the nearest. Beyond the range of float32 they are infinite.
    """
    exact = np.asarray(low, np.float64), np.asarray(high, np.float64)
    with np.errstate(over="ignore"):
        bottom, top = (np.array(bound, np.float32) for bound in exact)
        inner_bottom = np.where(bottom < exact[0], np.nextafter(bottom, np.float32(np.inf)), bottom)
        inner_top = np.where(top > exact[1], np.nextafter(top, np.float32(-np.inf)), top)
    inner_bottom = np.where(np.isinf(bottom), bottom, inner_bottom)
    inner_top = np.where(np.isinf(top), top, inner_top)
    apart = inner_bottom <= inner_top
    return np.array(np.where(apart, inner_bottom, bottom)), np.array(np.where(apart, inner_top, top))


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Compute x = clip((obs − mean) / scale, −clip, clip), mean and scale broadcast over the observation's shape."""

    mean: FloatArray
    scale: FloatArray
    clip: float = float("inf")

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", frozen_array(self.mean, "normaliser mean"))
        object.__setattr__(self, "scale", frozen_array(self.scale, "normaliser scale"))
        if self.mean.shape != self.scale.shape or not (self.scale > 0).all() or not self.clip > 0:
            raise ValueError("normaliser: mean and scale must have one shape, scale and clip be positive")

    def __call__(self, obs: Array) -> Array:
        x = (obs - self.mean) / self.scale
        return array_namespace(x).clip(x, -self.clip, self.clip) if self.clip != float("inf") else x


@dataclass(frozen=True, eq=False)
class Head:
    """Turn the last layer's output y, (…, outputs), into an action.

    tanh: tanh(clip(y, ±pre_clip))·scale + offset, within [low, high] · clip: clip(y, low, high) ·
    argmax: the index of the largest y, an integer; or, of several discrete actions, the index of the largest among each
    one's own entries of y, which lie side by side.

    The bounds are rounded inwards (`inner_bounds`), and every action is clipped to them, so that rounding never takes
    it out of the environment's own space.

    Attributes:
        low, high: (outputs,) bounds of the action; for argmax 0 and the number of choices − 1, scalars or, of several
            discrete actions, (actions,).
        scale, offset: (outputs,), for tanh only.
        pre_clip: e.g. 2.0 where gSDE clips the mean before the tanh; infinity for none.
    """

    kind: HeadKind
    low: npt.NDArray[Any]
    high: npt.NDArray[Any]
    scale: FloatArray
    offset: FloatArray
    pre_clip: float = float("inf")

    @classmethod
    def tanh(cls, scale: npt.ArrayLike, offset: npt.ArrayLike, pre_clip: float = float("inf")) -> "Head":
        centre, reach = frozen_array(offset, "action offset", 1), frozen_array(scale, "action scale", 1)
        exact = centre.astype(np.float64), abs(reach.astype(np.float64))
        low, high = inner_bounds(exact[0] - exact[1], exact[0] + exact[1])
        return cls("tanh", frozen_array(low, "low"), frozen_array(high, "high"), reach, centre, pre_clip)

    @classmethod
    def bounded(cls, low: npt.ArrayLike, high: npt.ArrayLike, pre_clip: float = float("inf")) -> "Head":
        """Return the tanh head that fills the box [low, high], as SB3 rescales it."""
        exact = np.asarray(low, np.float64), np.asarray(high, np.float64)
        scale = frozen_array((exact[1] - exact[0]) / 2, "action scale", 1)
        offset = frozen_array((exact[1] + exact[0]) / 2, "action offset", 1)
        bottom, top = inner_bounds(*exact)
        return cls("tanh", frozen_array(bottom, "low", 1), frozen_array(top, "high", 1), scale, offset, pre_clip)

    @classmethod
    def clip(cls, low: npt.ArrayLike, high: npt.ArrayLike) -> "Head":
        """Return the identity within [low, high], which may be infinite."""
        bottom, top = inner_bounds(low, high)
        return cls("clip", bottom, top, np.ones_like(top), np.zeros_like(top))

    @classmethod
    def argmax(cls, choices: int | Sequence[int]) -> "Head":
        """Return one discrete action, or several (Gymnasium's MultiDiscrete) with so many choices each."""
        high = np.array(np.asarray(choices) - 1, np.int64)
        one = np.ones(int((high + 1).sum()), np.float32)
        return cls("argmax", np.zeros_like(high), high, one, 0 * one)

    def __post_init__(self) -> None:
        if self.kind not in ("tanh", "clip", "argmax"):
            raise ValueError(f"head {self.kind!r}: expected tanh, clip or argmax")
        if not self.pre_clip > 0:
            raise ValueError(f"head: pre_clip {self.pre_clip!r} must be positive")
        if np.isnan(self.low).any() or np.isnan(self.high).any() or not (self.low <= self.high).all():
            raise ValueError("head: low must not exceed high")
        if self.kind == "argmax" and (min(self.choices, default=0) < 1 or sum(self.choices) != self.outputs):
            raise ValueError(f"head: {self.choices} choices do not fit {self.outputs} outputs")
        for bound in (self.low, self.high):
            bound.flags.writeable = False

    @property
    def outputs(self) -> int:
        return self.scale.shape[0]

    @property
    def discrete(self) -> bool:
        return self.kind == "argmax"

    @property
    def action_shape(self) -> tuple[int, ...]:
        return self.high.shape if self.discrete else (self.outputs,)

    @property
    def choices(self) -> tuple[int, ...]:
        """Return, of every discrete action, how many choices it has; none of a continuous one."""
        return tuple(int(high) + 1 for high in self.high.ravel()) if self.discrete else ()

    def half_range(self, infinite: float = 1.0, dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
        """Return half the distance between the bounds of every action, (outputs,), in the given float type.

        Args:
            infinite: stands where a bound is infinite, or the distance is beyond the float type.
        """
        with np.errstate(over="ignore"):
            half_range = (self.high.astype(dtype) - self.low) / 2
        return np.where(np.isfinite(half_range), half_range, infinite)

    def disturbed(self, action: npt.NDArray[Any], noise: float, rng: np.random.Generator) -> npt.NDArray[Any]:
        """Return actions with noise, within the bounds, float32: Gaussian, of `noise` half-ranges' standard deviation.

        A discrete action is replaced by a random one with probability `noise`, int64; one row only.

        Args:
            action: (*action_shape) or, if continuous, (rows, outputs).
        """
        if self.discrete:
            choices = self.choices if self.action_shape else self.outputs
            return np.int64(rng.integers(choices)) if rng.random() < noise else action  # pyright: ignore
        spread = noise * self.half_range(dtype=np.float32)
        return np.clip(action + rng.normal(size=action.shape) * spread, self.low, self.high).astype(np.float32)

    def __call__(self, y: Array) -> Array:
        xp = array_namespace(y)
        if self.kind == "argmax":
            return self._choose(y, xp)
        if self.kind == "tanh":
            squashed = xp.tanh(xp.clip(y, -self.pre_clip, self.pre_clip) if self.pre_clip != float("inf") else y)
            y = squashed * self.scale + self.offset
        return xp.minimum(xp.maximum(y, self.low), self.high)

    def _choose(self, y: Array, xp: Any) -> Array:
        if not self.action_shape:
            return xp.argmax(y, axis=-1)
        ends = np.cumsum(self.choices)
        rows = (slice(None),) * (y.ndim - 1)
        own = [(*rows, slice(int(end) - size, int(end))) for end, size in zip(ends, self.choices, strict=True)]
        return xp.stack([xp.argmax(y[columns], axis=-1) for columns in own], axis=y.ndim - 1)
