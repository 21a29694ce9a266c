"""Logarithms that graphs spell out with operators that lose their digits in float32, as operators that keep them.

log σ(x) is Log(Sigmoid(x)) of torch's exporters: from about −10 on, ONNX Runtime's sigmoid has no digits left for a
logarithm. log(1 + eˣ) overflows from 89 on. What an actor is compared with, says these as softplus.
"""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

Makers = Mapping[str, NodeProto]


def stable(model: ModelProto) -> tuple[ModelProto, list[str]] | None:
    """Return a graph that computes the same with all digits, and what it replaces; None if there is nothing to."""
    makers = {name: node for node in model.graph.node for name in node.output}
    ones = {tensor.name for tensor in model.graph.initializer if _is_one(numpy_helper.to_array(tensor))}
    for node in model.graph.node:
        held = [one.t for one in node.attribute if node.op_type == "Constant" and one.name == "value"]
        ones |= {node.output[0] for tensor in held if _is_one(numpy_helper.to_array(tensor))}
    nodes, replaced = list[NodeProto](), list[str]()
    for node in model.graph.node:
        found = _softplus(node, makers, ones) if node.op_type == "Log" else None
        if found is None:
            nodes.append(node)
            continue
        sign, argument, what = found
        names = [f"{node.output[0]} {step}" for step in ("turned", "softplus")]
        turned = what == "log(sigmoid(x))"
        nodes += [helper.make_node("Neg", [argument], names[:1])] if turned else []
        nodes.append(helper.make_node("Softplus", [names[0] if turned else argument], names[1:]))
        nodes.append(helper.make_node("Neg" if sign < 0 else "Identity", names[1:], node.output))
        replaced.append(what)
    if not replaced:
        return None
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made, sorted(set(replaced))


def _softplus(node: NodeProto, makers: Makers, ones: set[str]) -> tuple[int, str, str] | None:
    """Return the sign and the argument of the softplus that a logarithm is, and how it is spelled."""
    maker = makers.get(node.input[0])
    if maker is None:
        return None
    if maker.op_type == "Sigmoid":
        return -1, maker.input[0], "log(sigmoid(x))"
    inner = _exponent(maker, makers, ones)
    if inner is not None:
        return 1, inner, "log(1 + exp(x))"
    if maker.op_type == "Reciprocal" or (maker.op_type == "Div" and maker.input[0] in ones):
        below = makers.get(maker.input[-1])
        inner = None if below is None else _exponent(below, makers, ones)
        return None if inner is None else (-1, inner, "log(1/(1 + exp(x)))")
    return None


def _exponent(node: NodeProto, makers: Makers, ones: set[str]) -> str | None:
    """Return x of 1 + eˣ."""
    if node.op_type != "Add":
        return None
    for one, other in (tuple(node.input), tuple(node.input)[::-1]):
        maker = makers.get(other)
        if one in ones and maker is not None and maker.op_type == "Exp":
            return maker.input[0]
    return None


def _is_one(array: np.ndarray) -> bool:
    return array.size == 1 and array.dtype.kind == "f" and float(array.reshape(())) == 1.0
