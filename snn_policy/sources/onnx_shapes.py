"""Shapes inside an ONNX graph, as far as exporters compute them at run time; the batch's size stays unknown."""

from typing import TYPE_CHECKING

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.refusals import refusal

if TYPE_CHECKING:
    from snn_policy.sources.onnx_nodes import Reader

_SHAPE_ARITHMETIC = ("Gather", "Slice", "Unsqueeze", "Squeeze", "Cast")
_ELEMENTWISE = (
    "Add", "Sub", "Mul", "Div", "Relu", "Tanh", "Sigmoid", "Elu", "LeakyRelu", "Clip", "Identity", "Cast", "Dropout",
    "BatchNormalization", "Neg",
)  # fmt: skip


def row_shape(reader: "Reader", shape: str, path: str) -> tuple[int, ...]:
    """The shape of each observation's values after a Reshape to `shape`; −1 where it is left open."""
    sizes = _sizes(reader, shape)
    widths = [size for size in sizes[1:] if size]
    if len(sizes) < 2 or sizes[0] not in (None, -1, 0, 1) or len(widths) < len(sizes) - 1:
        remedy = "Export with one row per observation"
        raise UnsupportedLayerError(path, "Reshape", f"it reshapes to {sizes}", remedy)
    return tuple(widths)


def _sizes(reader: "Reader", name: str) -> list[int | None]:
    """A shape; None for what depends on the batch."""
    maker = reader.makers.get(name)
    if maker is not None and maker.op_type == "Concat":
        return [size for each in maker.input for size in _sizes(reader, each)]
    if maker is not None and _follows_batch(reader, name):
        return [None]
    return [int(size) for size in np.atleast_1d(reader.value(name))]


def _follows_batch(reader: "Reader", name: str) -> bool:
    maker = reader.makers.get(name)
    while maker is not None and maker.op_type in _SHAPE_ARITHMETIC:
        maker = reader.makers.get(maker.input[0])
    return maker is not None and maker.op_type == "Shape"


def width(reader: "Reader", value: str, path: str) -> int:
    """The last axis' length of a value, from the linear layer that it follows."""
    maker = reader.makers.get(value)
    while maker is not None and maker.op_type in _ELEMENTWISE:
        source = next((each for each in maker.input if each in reader.observed), "")
        maker = reader.makers.get(source)
    if maker is None or maker.op_type not in ("Gemm", "MatMul"):
        raise refusal(path, "Shape")
    weight = reader.value(maker.input[1])
    transposed = any(each.name == "transB" and each.i for each in maker.attribute)
    return int(weight.shape[0 if transposed else -1])


def expanded_width(reader: "Reader", value: str, shape: str, path: str) -> int | None:
    """The width that Expand(value, shape) needs `value` to have if it is to change nothing; None for any."""
    maker = reader.makers.get(shape)
    if maker is not None and maker.op_type == "Shape":
        widths = _broadcast(reader, maker.input[0], value, path)
    else:
        *batch, last = (int(size) for size in np.atleast_1d(reader.value(shape)))
        if any(size != 1 for size in batch):
            raise UnsupportedLayerError(path, "Expand", "it repeats rows", "Export with one row per observation")
        widths = [last]
    return next((each for each in widths if each > 1), None)


def _broadcast(reader: "Reader", value: str, origin: str, path: str) -> list[int]:
    """The widths of all constants that meet `origin` on the elementwise way to `value`."""
    maker = reader.makers.get(value)
    if value == origin:
        return []
    if maker is not None and maker.op_type == "ConstantOfShape":
        shape = reader.makers.get(maker.input[0])
        if shape is not None and shape.op_type == "Shape":
            return _broadcast(reader, shape.input[0], origin, path)
    if value not in reader.observed:
        constant = reader.value(value)
        if constant.size != (constant.shape[-1] if constant.ndim else 1):
            raise refusal(path, "Expand")
        return [constant.size]
    if maker is None or maker.op_type not in _ELEMENTWISE:
        raise refusal(path, "Expand")
    return [size for each in maker.input for size in _broadcast(reader, each, origin, path)]
