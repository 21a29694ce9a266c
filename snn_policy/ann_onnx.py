"""An actor as a plain ONNX graph: the ANN that spiking decisions are timed against. Needs `onnx`."""

from typing import Any

import numpy as np

from snn_policy.activations import Activation
from snn_policy.actor import Actor
from snn_policy.convolution import Conv2d

OPSET, IR_VERSION = 18, 8
OPERATORS = {"relu": "Relu", "tanh": "Tanh", "elu": "Elu", "leaky_relu": "LeakyRelu"}


class _Graph:
    """Nodes and constants in the making; every node takes the value before it first."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.value = "obs"

    def constant(self, array: Any) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array), name))
        return name

    def add(self, operator: str, *constants: Any, **attributes: Any) -> None:
        from onnx import helper

        inputs = [self.value, *(each if isinstance(each, str) else self.constant(each) for each in constants)]
        self.value = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [self.value], **attributes))

    def clip(self, low: Any, high: Any) -> None:
        self.add("Max", np.asarray(low, np.float32))
        self.add("Min", np.asarray(high, np.float32))


def actor_onnx(actor: Actor) -> bytes:
    """The actor's forward pass, normaliser and head included: input `obs` (N, *shape), output `action`.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
        ValueError: a QCFS actor, which has no operator of its own.
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    if actor.normaliser is not None:
        graph.add("Sub", actor.normaliser.mean)
        graph.add("Div", actor.normaliser.scale)
        if np.isfinite(actor.normaliser.clip):
            graph.clip(-actor.normaliser.clip, actor.normaliser.clip)
    flat = len(actor.observation_shape) == 1
    for layer in actor.layers:
        if isinstance(layer, Conv2d):
            _convolve(graph, layer)
            flat = False
        else:
            if not flat:
                graph.add("Flatten", axis=1)
                flat = True
            graph.add("Gemm", layer.weight, layer.bias, transB=1)
        if layer.activation is not None:
            _activate(graph, layer.activation)
    _finish(graph, actor)
    kind = TensorProto.INT64 if actor.discrete else TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        "actor",
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["batch", *actor.observation_shape])],
        [helper.make_tensor_value_info("action", kind, ["batch", *actor.action_shape])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return model.SerializeToString()


def _convolve(graph: _Graph, layer: Conv2d) -> None:
    graph.add("Reshape", np.array([-1, *layer.input_shape]))
    graph.add("Conv", layer.weight, layer.bias, strides=layer.stride, pads=[*layer.padding, *layer.padding])


def _activate(graph: _Graph, activation: Activation) -> None:
    if activation.name == "silu":
        before = graph.value
        graph.add("Sigmoid")
        graph.add("Mul", before)
    elif activation.name in OPERATORS:
        alpha = {"alpha": activation.parameter} if activation.name in ("elu", "leaky_relu") else {}
        graph.add(OPERATORS[activation.name], **alpha)
    else:
        raise ValueError(f"{activation.name}: no ONNX operator for it here")


def _finish(graph: _Graph, actor: Actor) -> None:
    """The head; the last value is named `action`."""
    head = actor.head
    if head.kind == "argmax":
        graph.add("ArgMax", axis=1, keepdims=0)
    else:
        if head.kind == "tanh":
            graph.clip(-head.pre_clip, head.pre_clip)
            graph.add("Tanh")
            graph.add("Mul", head.scale)
            graph.add("Add", head.offset)
        graph.clip(head.low, head.high)
    graph.nodes[-1].output[0] = "action"
