"""What a part of an ONNX graph is that no rule reads, by its right name: recurrent, LayerNorm, GELU spelled out, …

Old operator sets and some exporters write a layer as several nodes. Named by the last of them (`Div`, `Mul`), a refusal
would send the user the wrong way.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnx import NodeProto

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.onnx_constants import baked_state
from snn_policy.sources.onnx_outputs import RANDOM, names_state
from snn_policy.sources.onnx_values import Graph
from snn_policy.sources.refusals import joined, refusal

_RECURRENT = ("LSTM", "GRU", "RNN")
_INITIAL_STATE = 5
_LAYERS = frozenset({"Gemm", "MatMul", "Conv", "LSTM", "GRU", "RNN", "ArgMax"})
_MOST_NODES = 32
_ROOTS = frozenset(("Sqrt", "Pow", "Reciprocal"))


def refuse_recurrent(graph: Graph, action: str) -> None:
    """Raise where the action depends on earlier decisions, or should, by operators or by what the exporter noted."""
    for node in graph.nodes_before(action):
        path, kind = node.name or node.output[0], node.op_type
        if kind in _RECURRENT:
            state = node.input[_INITIAL_STATE] if len(node.input) > _INITIAL_STATE else ""
            if not state or not graph.inputs_before(state):
                raise baked_state(path, kind, f"{state or 'it starts from zeros, which'} is no input of the graph")
            raise refusal(path, kind)
        if kind in ("Scan", "Loop"):
            raise refusal(path, kind)
    error = noted_recurrent(graph, action)
    if error is not None:
        raise error


def noted_recurrent(graph: Graph, action: str) -> UnsupportedLayerError | None:
    """Return the error for a recurrent module that an exporter spelled out; None where there is none."""
    for node in graph.nodes_before(action):
        path = node.name or node.output[0]
        module = _noted_module(node)
        if module is not None and len(graph.inputs_before(action)) > 1:
            return refusal(path, module)
        if module is not None:
            return baked_state(path, module, "as the exporter notes, it comes from torch.nn." + module)
    return None


def _noted_module(node: NodeProto) -> str | None:
    """Return the recurrent torch module that the node comes from, where torch's exporter noted the modules' classes."""
    for note in node.metadata_props:
        if note.key == "pkg.torch.onnx.class_hierarchy" and "torch.nn.modules.rnn." in note.value:
            return note.value.split("torch.nn.modules.rnn.")[-1].split("'")[0]
    return None


def several_inputs(graph: Graph, inputs: Sequence[Any]) -> UnsupportedLayerError:
    """Return the error where the action depends on more than one input; a recurrent policy's state is called so."""
    names = [value.name for value in inputs]
    states = [name for name in names if names_state(name)]
    returned = [output.name for output in graph.model.graph.output if names_state(output.name)]
    listed = ", ".join(names)
    if states and returned and len(states) < len(names):
        reason = f"it is recurrent: {', '.join(states)} comes back as {', '.join(returned)}"
        return UnsupportedLayerError("graph.input", listed, reason, refusal("", "RNN").remedy)
    remedy = "Export the policy with the observation as its only input"
    return UnsupportedLayerError("graph.input", listed, "it takes several inputs that the action depends on", remedy)


def joined_by_name(makers: Mapping[str, NodeProto], observed: set[str], node: NodeProto) -> UnsupportedLayerError:
    """Return the error where values meet that depend on the observation: a layer spelled out, or a junction."""
    path = node.name or node.output[0]
    if node.op_type == "Concat":
        return refusal(path, "Concat")
    name = _spelled_out([maker.op_type for maker in _region(makers, observed, node)])
    if name is None:
        return joined(path, node.op_type)
    if name in _RECURRENT:
        return baked_state(path, name, "gates are there, but no input for the state")
    return refusal(path, name)


def _region(makers: Mapping[str, NodeProto], observed: set[str], node: NodeProto) -> Iterator[NodeProto]:
    """Yield the node and those before it, back to the nearest linear layers."""
    waiting, seen = [node], {id(node)}
    while waiting and len(seen) <= _MOST_NODES:
        current = waiting.pop(0)
        yield current
        for name in current.input:
            maker = makers.get(name)
            if maker is not None and name in observed and maker.op_type not in _LAYERS and id(maker) not in seen:
                seen.add(id(maker))
                waiting.append(maker)


def _spelled_out(operators: Sequence[str]) -> str | None:
    """Return the layer that these operators are, spelled out."""
    kinds = set(operators)
    if kinds & RANDOM:
        return min(kinds & RANDOM)
    if {"ReduceMean"} & kinds and kinds & _ROOTS:
        return "LayerNorm" if "Sub" in kinds else "RMSNorm"
    if {"ReduceL2", "LpNormalization"} & kinds or ("ReduceSum" in kinds and kinds & _ROOTS):
        return "L2 norm"
    if "Erf" in kinds:
        return "Gelu"
    if "Softplus" in kinds or {"Exp", "Log"} <= kinds:
        return "Mish" if "Tanh" in kinds else "Softplus"
    if operators[0] in ("Mul", "Div") and kinds & {"HardSigmoid", "Clip"}:
        return "HardSwish"
    if operators.count("Sigmoid") >= 2 and {"Tanh", "Mul"} <= kinds:
        return "LSTM" if operators.count("Tanh") >= 2 else "GRU"
    if "Tanh" in kinds and ("Pow" in kinds or operators.count("Mul") > 3):
        return "Gelu"
    return None
