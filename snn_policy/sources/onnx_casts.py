"""ONNX's casts of what depends on the observation to floats narrower than float32."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from snn_policy.sources.narrow_casts import narrowing

_WIDE = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE))
_NARROW = frozenset(
    number for name, number in TensorProto.DataType.items() if name.startswith(("FLOAT", "BFLOAT"))
) - _WIDE  # fmt: skip


def refuse_narrow_node(model: Callable[[], ModelProto], node: NodeProto, others: Sequence[Any], path: str) -> None:
    """Raise where a Cast, or a CastLike beside the value `others`, makes a narrow float in a graph with wide weights.

    Raises:
        UnsupportedLayerError: it does.
    """
    if node.op_type == "Cast":
        kind = next((attribute.i for attribute in node.attribute if attribute.name == "to"), 0)
    else:
        known = [one for one in others if isinstance(one, np.ndarray)]
        kind = helper.np_dtype_to_tensor_dtype(known[0].dtype) if known else 0
    if kind in _NARROW and not _narrow_weights(model()):
        raise narrowing(path, node.op_type, TensorProto.DataType.Name(kind).lower())


def _narrow_weights(model: ModelProto) -> bool:
    kinds = [tensor.data_type for tensor in _tensors(model) if len(tensor.dims) > 1]
    return any(kind in _NARROW for kind in kinds) and not any(kind in _WIDE for kind in kinds)


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        if node.op_type == "Constant":
            yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))
