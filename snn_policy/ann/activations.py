"""The hidden layers' activation functions, written once for every array-API namespace, with their derivatives."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from array_api_compat import array_namespace

from snn_policy.protocol import Array

ActivationName = Literal[
    "relu",
    "tanh",
    "elu",
    "silu",
    "leaky_relu",
    "qcfs",
    "softplus",
    "softsign",
    "mish",
    "gelu",
    "gelu_tanh",
    "clip",
    "log_softplus",
    "hardswish",
]
MOST_LEVELS = 2**16
ACTIVATION_NAMES: tuple[str, ...] = get_args(ActivationName)


@dataclass(frozen=True)
class Activation:
    """Apply an elementwise function f.

    Attributes:
        name: relu max(z, 0) · tanh · elu z or a·(eᶻ−1) · silu z·σ(z) (swish) · leaky_relu z or a·z ·
            qcfs (λ/L)·clip(⌊z·L/λ + ½⌋, 0, L), quantised clip-floor-shift (Bu et al. 2022; docs/methods.md §4) ·
            softplus log(1 + eᶻ) · softsign z/(1 + |z|) · mish z·tanh(softplus(z)) · gelu z·Φ(z) with the normal
            distribution's Φ · gelu_tanh the same by its approximation with a tanh · clip min(max(z, 0), λ): ReLU6 with
            λ = 6, and other bounds by what is added before and after · log_softplus log(o + softplus(z)), of which the
            mean of a Beta distribution is made (σ of a difference of two) · hardswish z·clip(z + 3, 0, 6)/6.
        parameter: a, for elu and leaky_relu; λ > 0, for qcfs and clip; o ≥ 0, for log_softplus.
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
        if self.name == "log_softplus" and self.parameter < 0:
            raise ValueError(f"activation 'log_softplus': o must not be negative, got {self.parameter!r}")
        if self.name in ("qcfs", "clip") and not self.parameter > 0:
            raise ValueError(f"activation {self.name!r}: λ must be positive, got {self.parameter!r}")

    def __call__(self, z: Array) -> Array:
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
            case "softplus":
                return _softplus(z, xp)
            case "softsign":
                return z / (abs(z) + 1)
            case "mish":
                return z * _tanh_of_softplus(z, xp)
            case "gelu":
                return z * (_erf(z * _ROOT_HALF, xp) * 0.5 + 0.5)
            case "gelu_tanh":
                return z * (xp.tanh(z * (z * z * _GELU_CUBIC + _GELU_LINEAR)) * 0.5 + 0.5)
            case "clip":
                return xp.clip(z, 0.0, self.parameter)
            case "log_softplus":
                return _log_softplus(z, self.parameter, xp)
            case "hardswish":
                return z * (xp.clip(z + 3, 0.0, 6.0) * _SIXTH)

    def derivative(self, z: Array) -> Array:
        """Return f'(z), elementwise; 0 at a ReLU's kink, straight through the steps of qcfs."""
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
            case "softplus":
                return xp.tanh(z * 0.5) * 0.5 + 0.5
            case "softsign":
                return 1 / (abs(z) + 1) ** 2
            case "mish":
                inner = _tanh_of_softplus(z, xp)
                return inner + z * (xp.tanh(z * 0.5) * 0.5 + 0.5) * (1 - inner**2)
            case "gelu":
                density = xp.exp(-0.5 * xp.minimum(z * z, 200 * xp.ones_like(z))) * _DENSITY
                return _erf(z * _ROOT_HALF, xp) * 0.5 + 0.5 + z * density
            case "gelu_tanh":
                bounded = xp.maximum(xp.minimum(z, 20 * xp.ones_like(z)), -20 * xp.ones_like(z))
                inner = xp.tanh(bounded * (bounded * bounded * _GELU_CUBIC + _GELU_LINEAR))
                slope = bounded * bounded * (3 * _GELU_CUBIC) + _GELU_LINEAR
                return inner * 0.5 + 0.5 + bounded * 0.5 * (1 - inner**2) * slope
            case "clip":
                return xp.astype((z > 0) & (z < self.parameter), z.dtype)
            case "log_softplus":  # σ(z)/(o + softplus(z)); both are e^z far below zero
                bounded = xp.maximum(z, -15 * xp.ones_like(z))
                e = xp.exp(xp.minimum(bounded, 15 * xp.ones_like(z)))
                slope = e / (1 + e) / (self.parameter + _softplus(bounded, xp))
                return slope if not self.parameter else slope * xp.exp(xp.minimum(z + 15, xp.zeros_like(z)))
            case "hardswish":
                within = (xp.clip(z, -3.0, 3.0) * 2 + 3) * _SIXTH
                return xp.where(abs(z) < 3, within, xp.astype(z > 0, z.dtype))


def quantised(z: Array, threshold: Array, levels: int) -> Array:
    """Return h(z) = (λ/L)·clip(⌊z·L/λ + ½⌋, 0, L), λ a number or (neurons,); 0 for a dead neuron, λ = 0."""
    xp = array_namespace(z)
    step = threshold / levels * xp.ones_like(z)
    safe = xp.where(step > 0, step, xp.ones_like(step))
    return xp.clip(xp.floor(z / safe + 0.5), 0.0, float(levels)) * step


_SIXTH = 1 / 6
_ROOT_HALF, _DENSITY = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
_GELU_LINEAR, _GELU_CUBIC = math.sqrt(2 / math.pi), 0.044715 * math.sqrt(2 / math.pi)
_ERF_SMALL = (0.128379166, -0.376126379, 0.112837829, -0.0268654451, 0.00522107491, -0.000848471187, 0.000112705457,
              -9.68014047e-06)  # fmt: skip
_ERF_LARGE = (1.12848902, 0.635978341, 0.104414701, -0.0215389915, 0.0020040283, 0.000421882054, -0.000191807005,
              3.0197938e-05, -1.86072259e-06)  # fmt: skip


def _softplus(z: Array, xp: Any) -> Array:
    """Return log(1 + eᶻ)."""
    return xp.maximum(z, xp.zeros_like(z)) + xp.log1p(xp.exp(-abs(z)))


def _log_softplus(z: Array, least: float, xp: Any) -> Array:
    """Return log(least + softplus(z)); below −15, softplus(z) is eᶻ, whose logarithm with nothing added is z."""
    if least:
        return xp.log(_softplus(z, xp) + least)
    bounded = xp.maximum(z, -15 * xp.ones_like(z))
    return xp.log(_softplus(bounded, xp)) + (z - bounded)


def _tanh_of_softplus(z: Array, xp: Any) -> Array:
    """Return tanh(log(1 + e)) = n/(n + 2) with e = eᶻ and n = e·(e + 2); 1 beyond z = 20."""
    e = xp.exp(xp.minimum(z, 20 * xp.ones_like(z)))
    n = e * (e + 2)
    return n / (n + 2)


def _erf(z: Array, xp: Any) -> Array:
    """Return the error function in float32 (array libraries have none in common), by the core's polynomials."""
    a = xp.minimum(abs(z), 4 * xp.ones_like(z))
    small = z + z * _polynomial(a * a, _ERF_SMALL)
    large = 1 - xp.exp(-(a * _polynomial(a, _ERF_LARGE)))
    return xp.where(a < 1, small, xp.where(z > 0, large, -large))


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    value: Array = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = x * value + coefficient
    return value


RELU = Activation("relu")
