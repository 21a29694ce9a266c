"""What the speed baseline is held to: no node that changes nothing, no slower than `torch.onnx.export`'s graph."""

import io
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from snn_policy.actor import Actor
from snn_policy.ann.convolution import Conv2d

NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1, "Pow": 1, "Max": -np.inf, "Min": np.inf}
ALWAYS_NEEDLESS = ("Identity", "Dropout", "Constant")


def no_ops(model: onnx.ModelProto) -> list[str]:
    """The nodes that hand on one of their inputs as it is, or that undo each other."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    types = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
    makers = {name: node for node in graph.node for name in node.output}

    def shape(name: str) -> Any:
        return [value.dim_param or value.dim_value for value in types[name].shape.dim]

    def idle(node: onnx.NodeProto) -> bool:
        constants = [known[name] for name in node.input if name in known]
        source, target = node.input[0], node.output[0]
        before = makers.get(source)
        match node.op_type:
            case "Add" | "Mul" | "Max" | "Min":
                return any((constant == NEUTRAL[node.op_type]).all() for constant in constants)
            case "Sub" | "Div" | "Pow":
                return node.input[1] in known and bool((known[node.input[1]] == NEUTRAL[node.op_type]).all())
            case "Clip":
                return not any(np.isfinite(constant).all() for constant in constants)
            case "Cast":
                return types[source].elem_type == types[target].elem_type
            case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" | "Slice" | "Tile":
                return shape(source) == shape(target) or (
                    before is not None and before.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
                )
            case "Transpose":
                return shape(source) == shape(target) or (before is not None and before.op_type == "Transpose")
            case "Concat" | "Sum":
                return len(node.input) == 1
            case "LeakyRelu":
                return any(attribute.name == "alpha" and attribute.f == 1 for attribute in node.attribute)
            case "Relu":
                return before is not None and before.op_type in ("Relu", "Sigmoid")
            case _:
                return node.op_type in ALWAYS_NEEDLESS

    return [f"{node.op_type} → {node.output[0]}" for node in graph.node if idle(node)]


def torch_network(actor: Actor) -> Any:
    """The actor as torch modules, in the form that a user would export: no module of it is needless."""
    import torch
    from torch import nn

    from benchmarks.torch_baselines import MODULES, Elementwise, TorchPolicy

    modules: list[Any] = []
    flat = len(actor.observation_shape) == 1
    for layer in actor.layers:
        if isinstance(layer, Conv2d):
            outputs, inputs, *kernel = layer.weight.shape
            product: Any = nn.Conv2d(inputs, outputs, tuple(kernel), layer.stride, layer.padding)  # pyright: ignore
        else:
            if not flat:
                modules.append(nn.Flatten())
                flat = True
            product = nn.Linear(layer.inputs, layer.outputs)
        product.load_state_dict({"weight": torch.tensor(layer.weight), "bias": torch.tensor(layer.bias)})
        modules.append(product)
        if layer.activation is not None:
            make = MODULES.get(layer.activation.name)
            modules.append(make(layer.activation.parameter) if make else Elementwise(layer.activation))

    class Network(TorchPolicy):
        def forward(self, obs: Any) -> Any:
            if self.normaliser is not None:
                obs = (obs - self.mean) / self.scale
                if np.isfinite(self.normaliser.clip):
                    obs = torch.clamp(obs, -self.normaliser.clip, self.normaliser.clip)
            return self.finished(self.body(obs))

    return Network(actor, nn.Sequential(*modules)).eval()


def torch_graph(actor: Actor, dynamo: bool = False) -> bytes:
    """What `torch.onnx.export` makes of `torch_network`, with an open batch."""
    import torch

    example, network = torch.zeros(2, *actor.observation_shape), torch_network(actor)
    file: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(network, (example,), input_names=["obs"], output_names=["action"],
                                        dynamic_shapes=({0: "batch"},), dynamo=True, verbose=False)  # fmt: skip
            assert program is not None
            return program.model_proto.SerializeToString()
        torch.onnx.export(network, (example,), file, input_names=["obs"], output_names=["action"],
                          dynamic_axes={"obs": {0: "batch"}, "action": {0: "batch"}}, dynamo=False)  # fmt: skip
    return file.getvalue()


def session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
