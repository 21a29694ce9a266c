"""Several discrete actions side by side (MultiDiscrete): every ArgMax of its own scores, joined by a Concat."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from snn_policy.sources.onnx_patterns import joined_by_name
from snn_policy.sources.onnx_shapes import known_shape
from snn_policy.sources.onnx_values import Values
from snn_policy.sources.operations import Affine, ArgMax, Flatten, Operation, Select, Softmax
from snn_policy.sources.refusals import joined

Branch = tuple[Select | Affine, int, str]
Read = Callable[[str], tuple[list[Operation], str]]
"""Of a value's name: the operations of the node that makes it, in order, and the value they take."""


def read_choices(values: Values, read: Read, node: NodeProto, path: str) -> tuple[list[Operation], str]:
    """Return the operations of all branches as one, and the value that all of them take.

    Raises:
        UnsupportedLayerError: a branch that is not a selection of scores, or a linear layer, and its argmax.
    """
    branches = [_branch(values, read, operand, path) for operand in node.input]
    starts, sizes, sources = zip(*branches, strict=True)
    if len(set(sources)) != 1 or len({type(start) for start in starts}) != 1:
        raise joined_by_name(values.makers, values.observed, node)
    argmax = ArgMax(tuple(sizes), path=path, kind="ArgMax")
    if all(isinstance(start, Affine) for start in starts):
        weight, bias = (np.concatenate([getattr(start, name) for start in starts]) for name in ("weight", "bias"))
        return [Affine(weight, bias, path=path, kind="Gemm"), argmax], sources[0]

    def indices(width: int) -> npt.NDArray[np.int64]:
        return np.concatenate([start.indices(width) for start in starts])

    return [Select(indices, path=path, kind="Split"), argmax], sources[0]


def _branch(values: Values, read: Read, value: str, path: str) -> Branch:
    """Return a branch's first operation, how many scores it compares, and the value it takes."""
    chosen = False
    choices = 0
    while value in values.makers and value in values.observed:
        maker = values.makers[value]
        operations, source = read(value)
        if maker.op_type == "ArgMax":
            choices = known_shape(values, maker.input[0], path, "ArgMax")[-1]
        for operation in reversed(operations):
            if isinstance(operation, ArgMax):
                chosen = True
            elif isinstance(operation, Select | Affine) and chosen:
                return operation, choices, source
            elif not isinstance(operation, Flatten | Softmax):
                raise joined(path, "Concat")
        value = source
    raise joined(path, "Concat")
