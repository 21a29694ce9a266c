"""Sigma-delta networks of every graph of stages, for the tests of the core and of what is exported from it."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from snn_policy import SpikingPolicy
from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.cells import Elementwise, Product
from snn_policy.ann.graph import Graph
from snn_policy.ann.stage import Stage
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from tests.stage_graphs import GRAPHS, INPUTS, graph_actor, walk

LEAKY = Activation("leaky_relu", 0.25)
EXACT = tuple(kind for kind in GRAPHS if kind not in ("lstm", "gru"))
"""Graphs without gates: of their connections nothing is lost where activations and norms are left out."""


def exact_graph(graph: Graph) -> Graph:
    """The same connections; activations that keep dyadic values dyadic, and no norms."""

    def exact(stage: Stage) -> Stage:
        match stage.cell:
            case Elementwise(width, activation, _):
                plain = activation if activation in (None, RELU) else LEAKY
                return replace(stage, cell=Elementwise(width, plain))
            case Product(width, activations):
                first, second = (None if activation is None else LEAKY for activation in activations)
                return replace(stage, cell=Product(width, (first, second)))
            case _:
                return stage

    return Graph(graph.inputs, tuple(map(exact, graph.stages)))


def exact_actor(kind: str, seed: int = 0) -> Actor:
    actor = graph_actor(kind, seed, dyadic=True)
    return replace(actor, graph=exact_graph(actor.graph))


def stage_network(actor: Actor, quantum: float = 2**-5, alpha: float = 0.5, seed: int = 0, base: float = 2.0,
                  digits: int = 5) -> SpikingNetwork:  # fmt: skip
    """A network with one quantum everywhere but for a dead neuron per stage, and predictors at random."""
    rng = np.random.default_rng(seed)
    quanta = [np.full(width, quantum, np.float32) for width in actor.widths]
    for own in quanta:
        own[rng.integers(len(own))] = 0
    predictor = tuple(rng.integers(0, 2, width).astype(np.float32) for width in actor.widths)
    shares = (alpha,) * len(quanta)
    offset = (rng.integers(-8, 9, INPUTS) / 16).astype(np.float32)
    counts = (digits,) * len(quanta)
    return SpikingNetwork(actor, SigmaDeltaNeurons(tuple(quanta), predictor, offset, counts, base, shares))


def stage_policy(kind: str, alpha: float = 0.5, engine: str = "event", seed: int = 0) -> SpikingPolicy:
    return SpikingPolicy(stage_network(graph_actor(kind, seed), alpha=alpha, seed=seed), engine=engine)


def dyadic_walk(decisions: int, rows: int = 1, seed: int = 1) -> Any:
    """Observations (decisions, rows, 12) in 16ths."""
    return np.round(walk(decisions, rows, seed) * 16) / 16


def exact_networks() -> Iterator[tuple[str, SpikingNetwork]]:
    """Those that the core must equal to the bit."""
    for kind in EXACT:
        for alpha in (0.0, 0.5):
            yield f"{kind}, α {alpha}", stage_network(exact_actor(kind), alpha=alpha)
    yield "elman, base 4", stage_network(exact_actor("elman"), base=4.0)
