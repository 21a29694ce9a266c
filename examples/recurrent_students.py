"""Networks that `train_recurrent.py` trains, as torch modules and as actors: an LSTM, a GRU, a SimBa-like residual."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from snn_policy import Actor
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.cells import Elementwise, Gru, Lstm, Norm, at_rest
from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Head, Linear, Normaliser
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Connection, Stage

Memory = Tensor | None
TANH = Activation("tanh")


class GruStudent(nn.Module):
    """(rows, steps, inputs) → GRU → tanh layer → tanh of actions within ±1."""

    def __init__(self, inputs: int, actions: int, width: int = 32) -> None:
        super().__init__()
        self.memory = nn.GRU(inputs, width, batch_first=True)
        self.hidden, self.out = nn.Linear(width, width), nn.Linear(width, actions)

    def forward(self, x: Tensor, memory: Memory = None) -> tuple[Tensor, Memory]:
        h, memory = self.memory(x, memory)
        return torch.tanh(self.out(torch.tanh(self.hidden(h)))), memory

    def graph(self) -> Graph:
        cell, tensors = self.memory, dict(self.memory.named_parameters())
        connections = (
            Connection(0, linear(tensors["weight_ih_l0"], tensors["bias_ih_l0"])),
            Connection(1, linear(tensors["weight_hh_l0"], tensors["bias_hh_l0"]), delayed=True, port=1),
        )
        stages = Stage(connections, Gru(at_rest(cell.hidden_size))), following(1, self.hidden, TANH)
        return Graph(cell.input_size, (*stages, following(2, self.out)))


class Block(nn.Module):
    """x + Linear(ReLU(Linear(LayerNorm x))), four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.wide, self.back = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(torch.relu(self.wide(self.norm(x))))


class SimbaStudent(nn.Module):
    """(rows, steps, inputs) → Linear → two blocks → LayerNorm → tanh of actions within ±1 (SimBa, Lee et al. 2024)."""

    def __init__(self, inputs: int, actions: int, width: int = 48) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Linear(inputs, width), nn.ModuleList([Block(width), Block(width)])
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, actions)

    def forward(self, x: Tensor, memory: Memory = None) -> tuple[Tensor, Memory]:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return torch.tanh(self.out(self.norm(x))), None

    def graph(self) -> Graph:
        width = self.embed.out_features
        same, stages = Select.identity(width), [following(0, self.embed)]
        for block in self.blocks:
            assert isinstance(block, Block)
            x = len(stages)
            stages.append(Stage((Connection(x, same),), Elementwise(width, None, norm(block.norm))))
            stages.append(following(x + 1, block.wide, RELU))
            back = Connection(x + 2, linear(block.back.weight, block.back.bias))
            stages.append(Stage((Connection(x, same), back), Elementwise(width)))
        stages.append(Stage((Connection(len(stages), same),), Elementwise(width, None, norm(self.norm))))
        return Graph(self.embed.in_features, (*stages, following(len(stages), self.out)))


STUDENTS = {"gru": GruStudent, "simba": SimbaStudent}


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float32)


def linear(weight: Tensor, bias: Tensor) -> Linear:
    return Linear(array(weight), array(bias))


def norm(module: nn.LayerNorm) -> Norm:
    return Norm("layer", array(module.weight), array(module.bias), module.eps)


def following(source: int, module: nn.Linear, activation: Activation | None = None) -> Stage:
    """Return the stage of a linear layer that reads that stage, and of its activation."""
    return Stage(
        (Connection(source, linear(module.weight, module.bias)),), Elementwise(module.out_features, activation)
    )


def student_actor(
    module: GruStudent | SimbaStudent, mean: np.ndarray, scale: np.ndarray, low: np.ndarray, high: np.ndarray, name: str
) -> Actor:
    """Return a student as an actor; it was trained on (observation − mean) / scale, and gives actions within ±1."""
    graph = module.graph()
    return Actor(graph, Head.bounded(low, high), (graph.inputs,), Normaliser(mean, scale), name=name)


def lstm_actor(tensors: Mapping[str, Tensor], normaliser: Normaliser, name: str) -> Actor:
    """Return the actor of sb3-contrib's RecurrentPPO with one LSTM and one ReLU layer, and discrete actions."""
    weight, recurrent = tensors["lstm_actor.weight_ih_l0"], tensors["lstm_actor.weight_hh_l0"]
    nothing = torch.zeros_like(tensors["lstm_actor.bias_hh_l0"])
    connections = (
        Connection(0, linear(weight, tensors["lstm_actor.bias_ih_l0"] + tensors["lstm_actor.bias_hh_l0"])),
        Connection(1, linear(recurrent, nothing), delayed=True),
    )
    first = linear(tensors["mlp_extractor.policy_net.0.weight"], tensors["mlp_extractor.policy_net.0.bias"])
    last = linear(tensors["action_net.weight"], tensors["action_net.bias"])
    stages = (
        Stage(connections, Lstm(at_rest(recurrent.shape[1]))),
        Stage((Connection(1, first),), Elementwise(first.outputs, RELU)),
        Stage((Connection(2, last),), Elementwise(last.outputs)),
    )
    return Actor(Graph(weight.shape[1], stages), Head.argmax(last.outputs), (weight.shape[1],), normaliser, name=name)
