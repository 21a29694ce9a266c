"""Exported graphs of stages: both files decide as the policy does, from a reset and from a running state."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import OnnxPolicy, SpikingPolicy
from snn_policy.exporting.export import exported_graphs
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from tests.stage_graphs import GRAPHS, INPUTS, graph_actor, walk

DECISIONS = 200


def network(kind: str, alpha: float = 0.5, seed: int = 0, dyadic: bool = False) -> SpikingNetwork:
    """Mixed predictors, an offset, other digits per stage."""
    actor, rng = graph_actor(kind, seed, dyadic), np.random.default_rng(seed)
    quanta = tuple(np.full(width, 2.0 ** -(4 + stage % 2), np.float32) for stage, width in enumerate(actor.widths))
    predictor = tuple(rng.integers(0, 2, width).astype(np.float32) for width in actor.widths)
    digits, shares = tuple(4 + stage % 3 for stage in range(len(quanta))), (alpha,) * len(quanta)
    offset = np.round(rng.normal(size=INPUTS) * 8).astype(np.float32) / 16
    return SpikingNetwork(actor, SigmaDeltaNeurons(quanta, predictor, offset, digits, 2.0, shares))


def exported(of: SpikingNetwork, folder: Path, **options: Any) -> Path:
    for name, content in exported_graphs(of, **options).items():
        (folder / name).write_bytes(content)
    return folder


def observed(dyadic: bool = False, rows: int = 1, decisions: int = DECISIONS) -> np.ndarray:
    values = walk(decisions, rows)
    return (np.round(values * 16) / 16).astype(np.float32) if dyadic else values


@pytest.mark.parametrize("graph", ["decision", "step"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("kind", GRAPHS)
def test_an_exported_graph_acts_as_the_policy(kind: str, alpha: float, graph: str, tmp_path: Path) -> None:
    of = network(kind, alpha)
    policy, robot = SpikingPolicy(of, engine="numpy"), OnnxPolicy(exported(of, tmp_path), graph=graph)
    flipped = 0
    for obs in observed()[:, 0]:
        state, memory = policy.state, {name: getattr(policy.state, name, None) for name in robot.state._fields}
        robot.state = type(robot.state)(*(np.zeros_like(own) if memory[name] is None else memory[name]
                                          for name, own in robot.state._asdict().items()))  # fmt: skip
        wanted, found = policy.act(obs), robot.act(obs)
        same = (robot.last_decision.spikes == policy.last_decision.spikes).all()  # pyright: ignore
        flipped += not same
        if same:
            np.testing.assert_allclose(found, wanted, atol=1e-5)
            np.testing.assert_allclose(robot.state.memory, policy.state.memory, atol=1e-5)
            assert robot.last_decision.synaptic_operations == policy.last_decision.synaptic_operations  # pyright: ignore
            assert robot.last_decision.events == policy.last_decision.events  # pyright: ignore
            assert robot.last_decision.multiply_accumulates == of.actor.graph.cell_macs  # pyright: ignore
        assert state is not None
    assert flipped <= 4
