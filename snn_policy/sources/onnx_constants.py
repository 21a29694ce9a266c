"""Values of an ONNX graph that no observation enters, computed operator by operator as the standard defines them.

ONNX's own reference implementation computes them, for the operators listed here only, and never a result so large that
no policy could need it: a graph is an untrusted file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.refusals import refusal

Array = npt.NDArray[Any]

MOST_CONSTANTS = 2**24
"""Values of one constant; a larger one is no part of a policy, but a file that wants all memory."""

_ELEMENTWISE = frozenset({
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Greater",
    "GreaterOrEqual", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not",
    "Or", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "Where",
    "Xor",
})  # fmt: skip
_SAME_SIZE = frozenset({"Concat", "Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
_REDUCTIONS = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"})
_GROWING = frozenset({"ConstantOfShape", "Expand", "Gather", "Gemm", "MatMul", "Range", "Tile"})
FOLDED = _ELEMENTWISE | _SAME_SIZE | _REDUCTIONS | _GROWING


def fold(node: NodeProto, inputs: Sequence[Array | None], output: int, opsets: Mapping[str, int]) -> Array:
    """Return the node's output of that number; inputs left empty are None.

    Raises:
        UnsupportedLayerError: an operator that is not in `FOLDED`, a division by zero, or a hidden state of zeros.
        SourceError: a result larger than any policy needs.
    """
    path, kind = node.name or node.output[0], node.op_type
    if node.domain not in ("", "ai.onnx") or kind not in FOLDED:
        raise refusal(path, kind)
    if _result_size(node, inputs) > MOST_CONSTANTS:
        raise SourceError(f"{path} ({kind}) makes more than {MOST_CONSTANTS} constants, too large for a policy")
    _refuse_zero_divisor(path, kind, inputs)
    _refuse_zero_state(path, node, inputs)
    with np.errstate(all="ignore"):  # `assemble` refuses what is not finite
        return np.asarray(_evaluated(node, inputs, opsets)[output])


def constant_node(node: NodeProto) -> Array:
    """Return the value of a `Constant` node."""
    attribute = node.attribute[0]
    found = helper.get_attribute_value(attribute)
    return np.asarray(numpy_helper.to_array(found) if attribute.name == "value" else found)


def _evaluated(node: NodeProto, inputs: Sequence[Array | None], opsets: Mapping[str, int]) -> Sequence[Any]:
    from onnx.reference import ReferenceEvaluator

    plain = NodeProto()
    plain.CopyFrom(node)
    del plain.input[:], plain.output[:]
    plain.input.extend("" if array is None else f"i{index}" for index, array in enumerate(inputs))
    plain.output.extend(f"o{index}" for index in range(len(node.output)))
    given = {f"i{index}": array for index, array in enumerate(inputs) if array is not None}
    starts, ends = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        for names in (given, plain.output)
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items() if domain in ("", "ai.onnx")]
    model = helper.make_model(helper.make_graph([plain], "constant", starts, ends), opset_imports=imports)
    return ReferenceEvaluator(model).run(None, given)  # pyright: ignore[reportReturnType]


def _result_size(node: NodeProto, inputs: Sequence[Array | None]) -> int:
    """Return how many values the node makes at most."""
    kind, given = node.op_type, [array for array in inputs if array is not None]
    options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if kind in _ELEMENTWISE:
        return _product(np.broadcast_shapes(*(array.shape for array in given))) if given else 0
    if kind == "ConstantOfShape":
        return _product(given[0].ravel())
    if kind == "Expand":
        return _product(np.broadcast_shapes(given[0].shape, tuple(int(size) for size in given[1].ravel())))
    if kind == "Tile":
        return given[0].size * _product(given[1].ravel())
    if kind == "Gather":
        return given[0].size // max(1, given[0].shape[options.get("axis", 0)]) * given[1].size
    if kind == "Gemm":
        rows = given[0].shape[1 if options.get("transA", 0) else 0]
        return rows * given[1].shape[0 if options.get("transB", 0) else 1]
    if kind == "MatMul":
        left, right = given
        rows, columns = left.size // max(1, left.shape[-1]), right.size // max(1, right.shape[-min(2, right.ndim)])
        return rows * columns
    if kind == "Range":
        start, limit, step = (float(number) for number in given)
        return int(abs(limit - start) / abs(step)) + 1 if step else 0
    return sum(array.size for array in given)


def _product(sizes: Any) -> int:
    total = 1
    for size in sizes:
        total *= int(size)
    return total


def _refuse_zero_divisor(path: str, kind: str, inputs: Sequence[Array | None]) -> None:
    divisor = inputs[-1] if kind in ("Div", "Reciprocal") else None
    if divisor is not None and divisor.dtype.kind == "f" and (divisor == 0).any():
        raise zero_divisor(path, kind, divisor)


def zero_divisor(path: str, kind: str, divisor: Any) -> UnsupportedLayerError:
    """Return the error for a division by a constant with zeros in it: in a normaliser, deviations of nothing."""
    entries = np.flatnonzero(np.asarray(divisor) == 0)
    named = ", ".join(str(entry) for entry in entries[:5]) + (", …" if len(entries) > 5 else "")
    which = f"entries {named} are" if len(entries) > 1 else f"entry {named} is"
    reason = f"it divides by zero: {which} 0 (in a normaliser, the standard deviation of a constant observation)"
    return UnsupportedLayerError(path, kind, reason, "Set it to 1, or add an epsilon, before exporting")


def _refuse_zero_state(path: str, node: NodeProto, inputs: Sequence[Array | None]) -> None:
    """Refuse weights times a row of zeros: what exporters make of a hidden state that was a module's buffer."""
    if node.op_type in ("Gemm", "MatMul"):
        for index in range(2):
            operand = inputs[index]
            if operand is not None and operand.size and not operand.any():
                raise baked_state(path, node.op_type, f"{node.input[index] or 'a value'} is a constant zero")


def baked_state(path: str, kind: str, what: str) -> UnsupportedLayerError:
    """Return the error for a recurrent graph whose hidden state is a constant."""
    reason = f"it is recurrent, and its hidden state is baked into the file ({what}): it would forget at every step"
    remedy = "Export it with its state as an input and an output of the graph"
    return UnsupportedLayerError(path, kind, reason, remedy)
