"""Random actors whose networks are graphs of stages, one of every structure that robots' policies have."""

from collections.abc import Callable

import numpy as np

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.cells import Elementwise, Gru, Lstm, Norm, Product, at_rest
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Head, Linear, Normaliser
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Connection, Stage

ELU, TANH, SILU = Activation("elu", 1.0), Activation("tanh"), Activation("silu")
INPUTS = 12


class Weights:
    """Draw weights; `dyadic` ones are whole multiples of 1/16, whose sums are exact."""

    def __init__(self, seed: int, dyadic: bool = False) -> None:
        self.rng, self.dyadic = np.random.default_rng(seed), dyadic

    def drawn(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        values = self.rng.normal(size=shape) * scale
        return (np.round(values * 16) / 16 if self.dyadic else values).astype(np.float32)

    def linear(self, inputs: int, outputs: int) -> Linear:
        return Linear(self.drawn(outputs, inputs, scale=inputs**-0.5), self.drawn(outputs, scale=0.1))

    def norm(self, kind: str, width: int, epsilon: float = 1e-5) -> Norm:
        return Norm(kind, 1 + self.drawn(width, scale=0.1), self.drawn(width, scale=0.1), epsilon)  # pyright: ignore


def plain(source: int, linear: Linear, activation: Activation | None = None, norm: Norm | None = None) -> Stage:
    return Stage((Connection(source, linear),), Elementwise(linear.outputs, activation, norm))


def lstm(w: Weights) -> Graph:
    cell = Stage((Connection(0, w.linear(INPUTS, 32)), Connection(1, w.linear(8, 32), delayed=True)), Lstm(at_rest(8)))
    return Graph(INPUTS, (cell, plain(1, w.linear(8, 9), ELU), plain(2, w.linear(9, 3))))


def gru(w: Weights) -> Graph:
    """With a start that was learned."""
    start = w.drawn(8, scale=0.5)
    connections = Connection(0, w.linear(INPUTS, 24)), Connection(1, w.linear(8, 24), delayed=True, port=1)
    return Graph(INPUTS, (Stage(connections, Gru(start), start), plain(1, w.linear(8, 3))))


def elman(w: Weights) -> Graph:
    """A plain recurrent layer, which also reads a later stage of the decision before."""
    both = Connection(0, w.linear(INPUTS, 10)), Connection(1, w.linear(10, 10), delayed=True)
    late = Connection(2, w.linear(6, 10), delayed=True)
    return Graph(INPUTS, (Stage((*both, late), Elementwise(10, TANH)), plain(1, w.linear(10, 6), RELU),
                          plain(2, w.linear(6, 3))))  # fmt: skip


def concatenation(w: Weights) -> Graph:
    """An estimator of velocity and latent, the latent of length one, beside part of the observation (HIM)."""
    estimated = w.linear(10, 7)
    velocity = Linear(estimated.weight[:3], estimated.bias[:3])
    latent = Linear(estimated.weight[3:], estimated.bias[3:])
    newest = Select(np.arange(5), INPUTS)
    whole = w.linear(5 + 3 + 4, 16)
    parts = [Linear(whole.weight[:, columns], whole.bias * (columns.start == 5))
             for columns in (slice(5, 8), slice(8, 12))]  # fmt: skip
    of_observation = np.zeros((16, INPUTS), np.float32)
    of_observation[:, newest.indices] = whole.weight[:, :5]
    joined = (Connection(0, Linear(of_observation, 0 * whole.bias)), Connection(2, parts[0]), Connection(3, parts[1]))
    unit = Norm("l2", np.ones(4, np.float32), np.zeros(4, np.float32), 1e-12)
    return Graph(INPUTS, (plain(0, w.linear(INPUTS, 10), ELU), plain(1, velocity), plain(1, latent, norm=unit),
                          Stage(joined, Elementwise(16, ELU)), plain(4, w.linear(16, 3))))  # fmt: skip


def residual(w: Weights) -> Graph:
    """Blocks of x + Linear(ReLU(Linear(norm x))), as SimBa has them."""
    same = Select.identity(8)
    stages = [plain(0, w.linear(INPUTS, 8))]
    for kind in ("layer", "rms"):
        x = len(stages)
        stages.append(Stage((Connection(x, same),), Elementwise(8, None, w.norm(kind, 8))))
        stages.append(plain(x + 1, w.linear(8, 16), RELU))
        stages.append(Stage((Connection(x, same), Connection(x + 2, w.linear(16, 8))), Elementwise(8)))
    stages.append(plain(len(stages), w.linear(8, 3)))
    return Graph(INPUTS, tuple(stages))


def normalised(w: Weights) -> Graph:
    """Linear, layer norm, activation; twice."""
    first = plain(0, w.linear(INPUTS, 16), SILU, w.norm("layer", 16))
    return Graph(INPUTS, (first, plain(1, w.linear(16, 16), TANH, w.norm("layer", 16)), plain(2, w.linear(16, 3))))


def gated(w: Weights) -> Graph:
    """A product of two projections of which one goes through an activation, and a slice of the observation."""
    gate = (Connection(0, w.linear(INPUTS, 8)), Connection(0, w.linear(INPUTS, 8), port=1))
    picked = Select(np.array([3, 1, 11, 3]), INPUTS)
    last = Connection(1, w.linear(8, 3)), Connection(2, w.linear(4, 3))
    chosen = Stage((Connection(0, picked),), Elementwise(4, TANH))
    return Graph(INPUTS, (Stage(gate, Product(8, (SILU, None))), chosen, Stage(last, Elementwise(3))))


def history(w: Weights) -> Graph:
    """A convolution along time, (channels, 1, steps), beside what the observation holds last."""
    first = Conv2d(w.drawn(4, 3, 1, 2, scale=0.4), w.drawn(4, scale=0.1), (3, 1, 4), (1, 2))
    joined = Connection(1, w.linear(first.outputs, 10)), Connection(0, w.linear(INPUTS, 10))
    return Graph(INPUTS, (Stage((Connection(0, first),), Elementwise(first.outputs, ELU)),
                          Stage(joined, Elementwise(10, RELU)), plain(2, w.linear(10, 3))))  # fmt: skip


def branches(w: Weights) -> Graph:
    """Two towers whose actions stand side by side."""
    left, right = np.zeros((3, 9), np.float32), np.zeros((3, 7), np.float32)
    left[:2], right[2:] = w.drawn(2, 9, scale=0.3), w.drawn(1, 7, scale=0.3)
    bias = np.zeros(3, np.float32)
    return Graph(INPUTS, (plain(0, w.linear(INPUTS, 9), ELU), plain(0, w.linear(INPUTS, 7), ELU),
                          Stage((Connection(1, Linear(left, bias)), Connection(2, Linear(right, bias))),
                                Elementwise(3))))  # fmt: skip


GRAPHS: dict[str, Callable[[Weights], Graph]] = {
    function.__name__: function
    for function in (lstm, gru, elman, concatenation, residual, normalised, gated, history, branches)
}
RECURRENT = ("lstm", "gru", "elman")


def graph_actor(kind: str, seed: int = 0, dyadic: bool = False) -> Actor:
    """Return an actor of that structure: 12 observations, three actions, a normaliser."""
    w = Weights(seed, dyadic)
    graph = GRAPHS[kind](w)
    normaliser = None if dyadic else Normaliser(w.drawn(INPUTS), 1 + abs(w.drawn(INPUTS)))
    head = Head.clip(np.full(3, -4), np.full(3, 4)) if dyadic else Head.bounded(np.full(3, -2), np.full(3, 2))
    return Actor(graph, head, (INPUTS,), normaliser, name=kind)


def walk(decisions: int, rows: int = 1, seed: int = 1) -> np.ndarray:
    """Return consecutive observations (decisions, rows, 12) that wander."""
    steps = np.random.default_rng(seed).normal(size=(decisions, rows, INPUTS)) * 0.3
    smooth = np.zeros_like(steps)
    for k in range(1, decisions):
        smooth[k] = 0.95 * smooth[k - 1] + steps[k]
    return smooth.astype(np.float32)
