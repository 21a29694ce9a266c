"""ONNX operators that only move values: reshapes, selections along the row, and constants laid along it.

An `Actor` sees one observation at a time, as a flat row or an image. With the shapes of all values known for one row,
most of these operators do nothing to it; what mixes rows, repeats values or reorders them is refused.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.onnx_values import Shape, Values
from snn_policy.sources.operations import Flatten, Operation, Select, Unflatten
from snn_policy.sources.refusals import refusal

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand")

_WHOLE = 2**31 - 1
_ONE_ROW = "Export with one row per observation"


def known_shape(values: Values, name: str, path: str, kind: str) -> Shape:
    """Return the value's shape.

    Raises:
        UnsupportedLayerError: it is not known.
    """
    shape = values.shape(name)
    if shape is None:
        remedy = "Pass observation_shape=, or export the policy with fixed sizes"
        raise UnsupportedLayerError(path, kind, "the shape of what it takes is not known", remedy)
    return shape


def moved(values: Values, node: NodeProto, path: str) -> list[Operation]:
    """Return the operations of one of `RESHAPES`, of a value that observations enter."""
    kind = node.op_type
    if None in (values.shape(node.input[0]), values.shape(node.output[0])) and kind in ("Reshape", "Flatten"):
        return _of_any_size(values, node, path)
    before = known_shape(values, node.input[0], path, kind)
    after = known_shape(values, node.output[0], path, kind)
    if _product(before) != _product(after):
        raise UnsupportedLayerError(path, kind, f"it repeats values of shape {before} to {after}", _ONE_ROW)
    if kind == "Transpose" and not _keeps_order(node, before):
        raise refusal(path, kind)
    return _laid_out(path, kind, before, after, values.rows)


def _of_any_size(values: Values, node: NodeProto, path: str) -> list[Operation]:
    """Return a reshape of values of unknown shape to one row, or one image, per observation."""
    if node.op_type == "Flatten":
        if any(attribute.name == "axis" and attribute.i != 1 for attribute in node.attribute):
            raise UnsupportedLayerError(path, "Flatten", "it flattens the batch", "Use axis=1")
        return [Flatten(path=path, kind="Flatten")]
    sizes = [int(size) for size in values.constant(node.input[1]).ravel()]
    row = [size for size in sizes[1:] if size]
    if len(sizes) < 2 or sizes[0] not in (-1, 0, 1) or len(row) < len(sizes) - 1:
        raise UnsupportedLayerError(path, "Reshape", f"it reshapes to {sizes}", _ONE_ROW)
    if len(row) == 3 and -1 not in row:
        return [Unflatten((row[0], row[1], row[2]), path=path, kind="Reshape")]
    return [Flatten(None if -1 in row else _product(row), path=path, kind="Reshape")]


def _laid_out(path: str, kind: str, before: Shape, after: Shape, rows: int) -> list[Operation]:
    if before == after:
        return []
    row = after[1:] if len(after) > 1 else after
    if len(after) > 1 and after[0] not in (1, rows):
        reason = f"it reshapes {_product(before)} values, of shape {before}, to rows of {_product(row)}"
        raise UnsupportedLayerError(path, kind, reason, "Keep one row per observation")
    if rows > 1 and after[:1] != (rows,):
        raise UnsupportedLayerError(path, kind, f"it joins the {rows} rows of the batch", _ONE_ROW)
    if len(row) == 3 and sum(size > 1 for size in row) > 1:
        return [Unflatten((row[0], row[1], row[2]), path=path, kind=kind)]
    return [Flatten(_product(row), path=path, kind=kind)]


def _keeps_order(node: NodeProto, before: Shape) -> bool:
    orders = [list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"]
    order = orders[0] if orders else list(reversed(range(len(before))))
    moving = [axis for axis in order if before[axis] > 1]
    return moving == sorted(moving)


def along_row(values: Values, name: str, axis: int, path: str, kind: str) -> list[Operation]:
    """Check that the axis is the only one of a row's values, and the operations that make them a flat row."""
    shape = values.shape(name)
    if shape is None:
        if axis in (-1, 1):
            return []
    elif -len(shape) <= axis < len(shape):
        others = _product(shape) // max(1, shape[axis])
        of_rows = axis % len(shape) == 0 and len(shape) > 1 and shape[0] == others and others > 1
        if others in (1, values.rows) and not of_rows:
            return [] if len(shape) <= 2 else [Flatten(path=path, kind=kind)]
    raise UnsupportedLayerError(path, kind, f"it works along axis {axis}", "Use the last axis")


def selected(values: Values, node: NodeProto, options: dict[str, Any], path: str) -> list[Operation]:
    """Return a `Slice`: axes that it leaves whole do not count, of the others it may cut the row."""
    starts, ends = (np.ravel(options[name]).tolist() for name in ("starts", "ends"))
    axes = range(len(starts)) if options.get("axes") is None else np.ravel(options["axes"]).tolist()
    steps = [1] * len(starts) if options.get("steps") is None else np.ravel(options["steps"]).tolist()
    shape = values.shape(node.input[0])
    operations: list[Operation] = []
    cuts = 0
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if _is_whole(start, end, step, None if shape is None else shape[axis]):
            continue
        cuts += 1
        if cuts > 1:
            reason = "it slices more than the last axis"
            raise UnsupportedLayerError(path, "Slice", reason, "Slice the last axis only")
        operations += along_row(values, node.input[0], axis, path, "Slice")
        operations.append(_select(path, "Slice", _slice(start, end, step)))
    return operations


def _is_whole(start: int, end: int, step: int, size: int | None) -> bool:
    if size is None:
        return start == 0 and end >= _WHOLE and step == 1
    return step != 0 and range(*_slice(start, end, step).indices(size)) == range(size)


def _slice(start: int, end: int, step: int) -> slice:
    """Return Python's slice; backwards to the very first entry, ONNX counts to the least number there is."""
    return slice(start, None if step < 0 and end < -_WHOLE else end, step)


def gathered(values: Values, node: NodeProto, axis: int, path: str) -> list[Operation]:
    """Return a `Gather` of entries of the row, or of the only row."""
    indices = values.constant(node.input[1])
    shape = values.shape(node.input[0])
    if shape is not None and shape[axis] == 1 and indices.size == 1:
        after = known_shape(values, node.output[0], path, "Gather")
        return _laid_out(path, "Gather", shape, after, values.rows)
    if indices.ndim > 1:
        raise UnsupportedLayerError(path, "Gather", "it adds an axis", "Gather a list of indices")
    chosen = np.atleast_1d(indices).astype(np.int64)
    return [*along_row(values, node.input[0], axis, path, "Gather"), _select(path, "Gather", chosen)]


def _select(path: str, kind: str, chosen: "slice | npt.NDArray[np.int64]") -> Select:
    return Select(lambda width: np.arange(width)[chosen], path=path, kind=kind)


def row_constant(values: Values, name: str, constant: npt.NDArray[Any], path: str, kind: str) -> npt.NDArray[Any]:
    """Return the constant as it meets one row of the value `name`: flat, unless that is an image."""
    shape = values.shape(name)
    if shape is None or constant.size == 1:
        return constant
    try:
        met = np.broadcast_shapes(shape, constant.shape)
    except ValueError:
        return constant  # `assemble` says that it does not fit
    if _product(met) != _product(shape):
        reason = f"its constant of shape {constant.shape} repeats values of shape {shape}"
        raise UnsupportedLayerError(path, kind, reason, "Give the constant the shape of one observation")
    vector = sum(size > 1 for size in (shape[1:] if len(shape) > 1 else shape)) <= 1
    return constant.reshape(-1) if vector and values.rows == 1 else constant


def _product(sizes: Sequence[int]) -> int:
    total = 1
    for size in sizes:
        total *= int(size)
    return total
