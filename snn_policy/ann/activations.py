"""The hidden layers' activation functions, written once for every array-API namespace, with their derivatives."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from array_api_compat import array_namespace

ActivationName = Literal["relu", "tanh", "elu", "silu", "leaky_relu", "qcfs"]
MOST_LEVELS = 2**16
ACTIVATION_NAMES: tuple[str, ...] = get_args(ActivationName)


@dataclass(frozen=True)
class Activation:
    """An elementwise function f.

    Attributes:
        name: relu max(z, 0) · tanh · elu z or a·(eᶻ−1) · silu z·σ(z) (swish) · leaky_relu z or a·z ·
            qcfs (λ/L)·clip(⌊z·L/λ + ½⌋, 0, L), quantised clip-floor-shift (Bu et al. 2022; docs/methods.md §4).
        parameter: a, for elu and leaky_relu; λ > 0, for qcfs.
        levels: L, for qcfs.
    """

    name: ActivationName
    parameter: float = 0.0
    levels: int = 0

    def __post_init__(self) -> None:
        if self.name not in ACTIVATION_NAMES:
            raise ValueError(f"activation {self.name!r}: expected one of {', '.join(ACTIVATION_NAMES)}")
        if not math.isfinite(self.parameter):
            raise ValueError(f"activation {self.name!r}: its parameter {self.parameter!r} is not finite")
        quantised = self.name == "qcfs"
        fits = isinstance(self.levels, int) and (1 if quantised else 0) <= self.levels <= quantised * MOST_LEVELS
        if not fits or isinstance(self.levels, bool):
            expected = f"1 to {MOST_LEVELS}" if quantised else "none"
            raise ValueError(f"activation {self.name!r}: levels {self.levels!r}, expected {expected}")
        if quantised and not self.parameter > 0:
            raise ValueError(f"activation 'qcfs': λ must be positive, got {self.parameter!r}")

    def __call__(self, z: Any) -> Any:
        xp = array_namespace(z)
        match self.name:
            case "relu":
                return xp.maximum(z, xp.zeros_like(z))
            case "tanh":
                return xp.tanh(z)
            case "elu":
                return xp.where(z > 0, z, self.parameter * xp.expm1(xp.minimum(z, xp.zeros_like(z))))
            case "silu":  # σ(z) = (1 + tanh(z/2))/2 cannot overflow
                return z * (xp.tanh(z * 0.5) * 0.5 + 0.5)
            case "leaky_relu":
                return xp.where(z > 0, z, z * self.parameter)
            case "qcfs":
                return quantised(z, self.parameter, self.levels)

    def derivative(self, z: Any) -> Any:
        """f'(z), elementwise; 0 at a ReLU's kink, straight through the steps of qcfs."""
        xp = array_namespace(z)
        match self.name:
            case "relu":
                return xp.astype(z > 0, z.dtype)
            case "tanh":
                return 1 - xp.tanh(z) ** 2
            case "elu":
                return xp.where(z > 0, xp.ones_like(z), self.parameter * xp.exp(xp.minimum(z, xp.zeros_like(z))))
            case "silu":
                sigmoid = xp.tanh(z * 0.5) * 0.5 + 0.5
                return sigmoid * (1 + z * (1 - sigmoid))
            case "leaky_relu":
                return xp.where(z > 0, xp.ones_like(z), xp.full_like(z, self.parameter))
            case "qcfs":
                shifted = z * (self.levels / self.parameter) + 0.5
                return xp.astype((shifted > 0) & (shifted < self.levels + 1), z.dtype)


def quantised(z: Any, threshold: Any, levels: int) -> Any:
    """h(z) = (λ/L)·clip(⌊z·L/λ + ½⌋, 0, L), λ a number or (neurons,); 0 for a dead neuron, λ = 0."""
    xp = array_namespace(z)
    step = threshold / levels * xp.ones_like(z)
    safe = xp.where(step > 0, step, xp.ones_like(step))
    return xp.clip(xp.floor(z / safe + 0.5), 0.0, float(levels)) * step


RELU = Activation("relu")
