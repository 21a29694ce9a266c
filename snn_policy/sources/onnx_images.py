"""ONNX operators on images: convolutions and average pooling."""

from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.sources.images import average_pool, convolve, uneven_padding
from snn_policy.sources.operations import AdaptivePool, Operation

IMAGE_OPERATORS = ("Conv", "AveragePool", "GlobalAveragePool")


def image_operations(
    kind: str, path: str, options: dict[str, Any], constants: dict[int, npt.NDArray[Any]]
) -> list[Operation]:
    """Return the operations of one of `IMAGE_OPERATORS`, given its attributes and constant inputs by position."""
    if kind == "GlobalAveragePool":
        return [AdaptivePool((1, 1), path=path, kind=kind)]
    stride, padding = options.get("strides", [1, 1]), _padding(options, path, kind)
    if kind == "AveragePool":
        remains = padding if padding != "valid" else 0
        if padding == "same" or np.prod(options.get("dilations", 1)) != 1:
            raise uneven_padding(path, kind)
        return [average_pool(path, kind, options["kernel_shape"], stride, remains, options.get("ceil_mode", 0))]
    dilation, groups = options.get("dilations", [1, 1]), options.get("group", 1)
    weight, bias = constants.get(1, np.zeros(())), constants.get(2)
    return [convolve(path, kind, weight, bias, stride, padding, dilation, groups)]


def _padding(options: dict[str, Any], path: str, kind: str) -> Any:
    automatic = options.get("auto_pad", b"NOTSET").decode()
    if automatic != "NOTSET":
        return "valid" if automatic == "VALID" else "same"
    pads = list(options.get("pads", [0]))
    before, after = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    if len(pads) > 1 and before != after:
        raise uneven_padding(path, kind)
    return before or 0
