"""ONNX operators that need nothing but their constants: activations and arithmetic."""

from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.sources.onnx_constants import zero_divisor
from snn_policy.sources.operations import SELU, Operation, activate, bounded, clip, scale
from snn_policy.sources.refusals import refusal


def activation_operations(
    kind: str, path: str, options: dict[str, Any], constants: dict[int, npt.NDArray[Any]]
) -> list[Operation] | None:
    """Return the operations of an elementwise operator without constants; None for any other."""
    match kind:
        case "Relu" | "Tanh" | "Sigmoid":
            return activate(path, kind, kind.lower())
        case "Elu":
            return activate(path, kind, "elu", options.get("alpha", 1.0))
        case "LeakyRelu":
            return activate(path, kind, "leaky_relu", options.get("alpha", 0.01))
        case "Softplus" | "Softsign" | "Mish":
            return activate(path, kind, kind.lower())
        case "Celu" if options.get("alpha", 1.0) > 0:
            return activate(path, kind, "celu", options.get("alpha", 1.0))
        case "Selu":
            alpha, gamma = (options.get(key, number) for key, number in zip(("alpha", "gamma"), SELU, strict=True))
            return [*activate(path, kind, "elu", alpha), scale(path, kind, gamma)]
        case "Gelu":
            return activate(path, kind, "gelu_tanh" if options.get("approximate", b"none") == b"tanh" else "gelu")
        case "Swish" if options.get("alpha", 1.0) == 0:  # x·σ(0)
            return [scale(path, kind, 0.5)]
        case "Swish":
            return activate(path, kind, "silu", options.get("alpha", 1.0))
        case "HardSwish":
            return activate(path, kind, "hardswish")
        case "HardSigmoid" if options.get("alpha", 0.2) != 0:
            slope, offset = options.get("alpha", 0.2), options.get("beta", 0.5)
            return [scale(path, kind, slope, offset), *bounded(path, kind, np.zeros(1), np.ones(1))]
        case "PRelu" if 1 in constants and constants[1].size == 1:
            return activate(path, kind, "leaky_relu", float(constants[1].reshape(())))
        case "Identity":
            return []
        case "Neg":
            return [scale(path, kind, -1.0)]
    return None


def arithmetic(kind: str, path: str, constant: npt.NDArray[Any], first: bool) -> Operation:
    """Return x ∘ constant, or constant ∘ x where not `first`."""
    number = np.asarray(constant, np.float64)
    match kind:
        case "Add":
            return scale(path, kind, 1.0, number)
        case "Mul":
            return scale(path, kind, number)
        case "Sub":
            return scale(path, kind, 1.0, -number) if first else scale(path, kind, -1.0, number)
        case "Div" if first:
            if not (number != 0).all():
                raise zero_divisor(path, kind, constant)
            return scale(path, kind, 1.0 / number)
        case "Max":
            return clip(path, kind, low=number)
        case "Min":
            return clip(path, kind, high=number)
    raise refusal(path, kind)
