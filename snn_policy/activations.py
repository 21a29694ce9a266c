"""The hidden layers' activation functions, written once for every array-API namespace, with their derivatives."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from array_api_compat import array_namespace

ActivationName = Literal["relu", "tanh", "elu", "silu", "leaky_relu"]
ACTIVATION_NAMES: tuple[str, ...] = get_args(ActivationName)


@dataclass(frozen=True)
class Activation:
    """An elementwise function f.

    Attributes:
        name: relu max(z, 0) · tanh · elu z or a·(eᶻ−1) · silu z·σ(z) (swish) · leaky_relu z or a·z.
        parameter: a, for elu and leaky_relu.
    """

    name: ActivationName
    parameter: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in ACTIVATION_NAMES:
            raise ValueError(f"activation {self.name!r}: expected one of {', '.join(ACTIVATION_NAMES)}")
        if not math.isfinite(self.parameter):
            raise ValueError(f"activation {self.name!r}: its parameter {self.parameter!r} is not finite")

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

    def derivative(self, z: Any) -> Any:
        """f'(z), elementwise; 0 at a ReLU's kink."""
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


RELU = Activation("relu")
