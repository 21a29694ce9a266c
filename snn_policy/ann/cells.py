"""What a stage makes of its weighted inputs: its cell, as plain read-only data and pure array-API functions.

A cell has inputs z, one per port, and gives the stage's analog value h; a recurrent one carries an analog memory of its
own from decision to decision, stored relative to where it starts, so that zeros are a reset.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from array_api_compat import array_namespace

from snn_policy.ann.activations import Activation
from snn_policy.checks import frozen_array, number, require
from snn_policy.protocol import Array, FloatArray

NormKind = Literal["layer", "rms", "l2"]
Advanced = tuple[Array, Array | None]
"""A cell's analog value h (rows, width), and its memory after the decision, None of cells without one."""


@dataclass(frozen=True, eq=False)
class Norm:
    """Normalise the values of a stage among themselves, then scale and shift them.

    layer: (z − mean z)/√(var z + ε)·w + b (Ba et al. 2016) · rms: z/√(mean z² + ε)·w + b (Zhang & Sennrich 2019) ·
    l2: z/max(‖z‖₂, ε)·w + b.

    Attributes:
        weight, bias: (width,) float32.
    """

    kind: NormKind
    weight: FloatArray
    bias: FloatArray
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        require(self.kind in ("layer", "rms", "l2"), f"norm {self.kind!r}: expected layer, rms or l2")
        object.__setattr__(self, "weight", frozen_array(self.weight, "norm weight", 1))
        object.__setattr__(self, "bias", frozen_array(self.bias, "norm bias", 1))
        require(self.weight.shape == self.bias.shape, "norm: weight and bias must have one shape")
        epsilon = number("epsilon", self.epsilon)
        require(0 <= epsilon < 1e6, f"norm: epsilon {epsilon!r}, expected 0 or a small number")

    @property
    def macs(self) -> int:
        """Return multiply-accumulates: one per value each for the sum of squares, for the scale, for w and b."""
        return 3 * len(self.weight)

    def __call__(self, z: Array) -> Array:
        xp = array_namespace(z)
        if self.kind == "layer":
            z = z - xp.mean(z, axis=-1, keepdims=True)
        squares = z * z
        if self.kind == "l2":
            size = xp.sqrt(xp.sum(squares, axis=-1, keepdims=True))
            size = xp.maximum(size, xp.full_like(size, max(self.epsilon, LEAST_SIZE)))
        else:
            size = xp.sqrt(xp.mean(squares, axis=-1, keepdims=True) + max(self.epsilon, LEAST_SIZE**2))
        return z / size * self.weight + self.bias


LEAST_SIZE = 1e-18
"""Nothing is divided by less: its square is still a normal number."""


@dataclass(frozen=True, eq=False)
class Elementwise:
    """Compute h = f(norm(z)): one port. Without an activation, f is the identity."""

    width: int
    activation: Activation | None = None
    norm: Norm | None = None

    def __post_init__(self) -> None:
        fits = self.norm is None or len(self.norm.weight) == self.width
        require(fits, f"norm: does not fit {self.width} values")

    @property
    def kind(self) -> str:
        """Return what it computes, in a word or two."""
        parts = [] if self.norm is None else [f"{self.norm.kind} norm"]
        parts += [] if self.activation is None else [self.activation.name]
        return " ".join(parts) or "linear"

    @property
    def ports(self) -> tuple[int, ...]:
        """Return the width of every port."""
        return (self.width,)

    @property
    def memory_width(self) -> int:
        """Return the numbers that are carried from decision to decision."""
        return 0

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of the cell's own analog work."""
        return 0 if self.norm is None else self.norm.macs

    def advance(self, inputs: list[Array], memory: Array | None) -> Advanced:
        """Return h (rows, width) of the ports' z, (rows, port) each, and the memory after this decision."""
        z = inputs[0] if self.norm is None else self.norm(inputs[0])
        return z if self.activation is None else self.activation(z), None


@dataclass(frozen=True, eq=False)
class Product:
    """Compute h = f₀(z₀)·f₁(z₁), as gated units do: two ports."""

    width: int
    activations: tuple[Activation | None, Activation | None] = (None, None)

    kind: ClassVar[str] = "product"

    @property
    def ports(self) -> tuple[int, ...]:
        return (self.width, self.width)

    @property
    def memory_width(self) -> int:
        return 0

    @property
    def macs(self) -> int:
        return self.width

    def advance(self, inputs: list[Array], memory: Array | None) -> Advanced:
        first, second = (z if f is None else f(z) for z, f in zip(inputs, self.activations, strict=True))
        return first * second, None


@dataclass(frozen=True, eq=False)
class Recurrent:
    """Carry as many numbers as there are values; `start` (width,) is what they are before the first decision."""

    start: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", frozen_array(self.start, "start", 1))

    @property
    def width(self) -> int:
        return len(self.start)

    @property
    def memory_width(self) -> int:
        return self.width


@dataclass(frozen=True, eq=False)
class Gru(Recurrent):
    """Compute a gated recurrent unit (Cho et al. 2014) as torch does, the reset gate after the recurrent product.

    Ports: the input's (r, u, n) and the recurrent (r, u, n), 3·width each:
    r = σ(a_r + b_r) · u = σ(a_u + b_u) · n = tanh(a_n + r·b_n) · h = n + u·(h₋ − n).

    `start` is h before the first decision.
    """

    kind: ClassVar[str] = "gru"

    @property
    def ports(self) -> tuple[int, ...]:
        return (3 * self.width, 3 * self.width)

    @property
    def macs(self) -> int:
        return 2 * self.width

    def advance(self, inputs: list[Array], memory: Array | None) -> Advanced:
        a, b, n = inputs[0], inputs[1], self.width
        reset, update = sigmoid(a[:, :n] + b[:, :n]), sigmoid(a[:, n : 2 * n] + b[:, n : 2 * n])
        fresh = array_namespace(a).tanh(a[:, 2 * n :] + reset * b[:, 2 * n :])
        h = fresh + update * (memory + self.start - fresh)  # pyright: ignore[reportOptionalOperand]
        return h, h - self.start


@dataclass(frozen=True, eq=False)
class Lstm(Recurrent):
    """Compute long short-term memory (Hochreiter & Schmidhuber 1997) as torch does, without peepholes.

    One port, the gates (i, f, g, o), 4·width: c = σ(z_f)·c₋ + σ(z_i)·tanh(z_g) · h = σ(z_o)·tanh(c).

    `start` is c before the first decision.
    """

    kind: ClassVar[str] = "lstm"

    @property
    def ports(self) -> tuple[int, ...]:
        return (4 * self.width,)

    @property
    def macs(self) -> int:
        return 3 * self.width

    def advance(self, inputs: list[Array], memory: Array | None) -> Advanced:
        z, n = inputs[0], self.width
        tanh = array_namespace(z).tanh
        taken, kept, leaving = (sigmoid(z[:, k * n : (k + 1) * n]) for k in (0, 1, 3))
        c = kept * (memory + self.start) + taken * tanh(z[:, 2 * n : 3 * n])  # pyright: ignore[reportOptionalOperand]
        return leaving * tanh(c), c - self.start


Cell = Elementwise | Product | Gru | Lstm


def sigmoid(z: Array) -> Array:
    """Return σ(z) = ½ + ½·tanh(z/2), which cannot overflow."""
    xp: Any = array_namespace(z)
    return xp.tanh(z * 0.5) * 0.5 + 0.5


def at_rest(width: int) -> FloatArray:
    """Return the start of a recurrent cell that begins at zero."""
    return np.zeros(width, np.float32)
