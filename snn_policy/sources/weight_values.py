"""Arrays of checkpoints, whatever library they are of: their shapes, their types, and their values as float64.

Weights are floating-point numbers. Whole ones are quantised, as a rule: what they stand for is told by scales and
zero points that lie elsewhere and that every library applies in its own way, so they are refused by name.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.refusals import DEQUANTISE
from snn_policy.sources.torch_archive import Tensor
from snn_policy.sources.unpickling import Array

_WHOLE = re.compile(r"u?int(8|16|32|64)")
_QUANTISED = re.compile(
    r"(^|[._])(_?packed_params|qweight|qzeros|zero_points?|quant_(map|state)|absmax|scb|weight_(scales?|packed)|"
    r"weight\._(data|scale))([._]|$)"
)
_REASONS = {
    "complex": "a policy computes with real numbers",
    "bool": "a weight is a floating-point number, and this is a mask",
    "quantised": "its scales and zero points are applied by no rule",
    "int": "whole numbers stand for quantised weights, whose scales and zero points no rule applies",
    "": "a weight is a floating-point number",
}


def is_array(value: Any) -> bool:
    """Return whether a value holds numbers in a shape, whatever library it is of."""
    if isinstance(value, Array):
        return value.values is not None
    return isinstance(value, Tensor | np.ndarray) or (hasattr(value, "detach") and hasattr(value, "numpy"))


def shape_of(value: Any) -> tuple[int, ...]:
    held: Any = value.values if isinstance(value, Array) and value.values is not None else value
    return tuple(int(size) for size in held.shape)


def type_of(value: Any) -> str:
    """Return the name of the numbers' type, as float32 or qint8; an array's of a file without reading it."""
    if isinstance(value, Tensor | Array):
        return value.dtype
    return str(value.dtype).rpartition(".")[2]


def refuse_quantised(weights: Mapping[str, Any], name: str) -> None:
    """Refuse a weight or bias that is no array of floating-point numbers.

    Raises:
        UnsupportedLayerError: it names the array, its type and shape.
    """
    kind = type_of(weights[name])
    if "float" in kind and not kind.endswith("_x2"):
        return
    reason = next(text for word, text in _REASONS.items() if word in kind)
    remedy = "Save the network's real weights in float32" if "complex" in kind else DEQUANTISE
    raise UnsupportedLayerError(name, f"{kind} {shape_of(weights[name])}", reason, remedy)


def quantised_among(names: Iterable[str]) -> str | None:
    """Return the first name that a quantised layer's array has; None where there is none."""
    return next((name for name in names if _QUANTISED.search(name.lower())), None)


def values_of(weights: Mapping[str, Any], name: str, whole: bool = False) -> Any:
    """Return an array of float64.

    Args:
        whole: integers are what they say, as in an observation's mean or an action's scale.

    Raises:
        UnsupportedLayerError: it holds no floating-point numbers.
    """
    if not (whole and _WHOLE.fullmatch(type_of(weights[name]))):
        refuse_quantised(weights, name)
    value = weights[name]
    held: Any = value.values if isinstance(value, Array | Tensor) else value
    if hasattr(held, "detach"):
        held = held.detach().cpu().double().numpy()
    return np.asarray(held, np.float64)
