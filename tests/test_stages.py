"""Graphs of stages: the ANN's own memory, and sigma-delta neurons on every structure, by the NumPy definition."""

import numpy as np
import pytest

from snn_policy.ann.cells import Elementwise
from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Linear
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Connection, Stage
from snn_policy.errors import UnsupportedLayerError
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from tests.stage_graphs import GRAPHS, INPUTS, RECURRENT, graph_actor, walk


def fine_network(kind: str, quantum: float, alpha: float, seed: int = 0) -> SpikingNetwork:
    actor = graph_actor(kind, seed)
    rng = np.random.default_rng(seed)
    quanta = tuple(np.full(width, quantum, np.float32) for width in actor.widths)
    predictor = tuple(rng.integers(0, 2, width).astype(np.float32) for width in actor.widths)
    digits, shares = (24,) * len(quanta), (alpha,) * len(quanta)
    return SpikingNetwork(actor, SigmaDeltaNeurons(quanta, predictor, np.ones(INPUTS, np.float32), digits, 2.0, shares))


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("kind", GRAPHS)
def test_the_error_vanishes_with_the_quanta_also_in_a_running_state(kind: str, alpha: float) -> None:
    errors = []
    for quantum in (1e-2, 1e-4):
        network = fine_network(kind, quantum, alpha)
        state, memory, worst = network.initial_state(3), network.actor.initial_state(3), 0.0
        for obs in walk(120, rows=3):
            action, state, decision = network.decide(obs, state)
            wanted, memory = network.actor.step(obs, memory)
            worst = max(worst, float(abs(action - wanted).max()))
            assert (decision.multiply_accumulates == network.actor.graph.cell_macs).all()
        errors.append(worst)
    assert errors[1] < 2e-3
    assert errors[1] < errors[0] / 20


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_row_is_decided_as_if_it_were_alone(kind: str) -> None:
    network, observations = fine_network(kind, 1e-2, 0.5), walk(20, rows=4)
    together, alone = network.initial_state(4), network.initial_state(1)
    for obs in observations:
        actions, together, _ = network.decide(obs, together)
        action, alone, _ = network.decide(obs[2:3], alone)
        np.testing.assert_array_equal(actions[2:3], action)


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_recurrent_actor_remembers_until_it_is_reset(kind: str) -> None:
    actor, observations = graph_actor(kind), walk(12, rows=2)
    first = [actor.act(obs) for obs in observations]
    again = [actor.act(obs) for obs in observations]
    assert abs(first[0] - again[0]).max() > 1e-4
    actor.reset(np.array([True, False]))
    once = actor.act(observations[0])
    np.testing.assert_array_equal(once[0], first[0][0])
    assert abs(once[1] - first[0][1]).max() > 1e-4
    with pytest.raises(ValueError, match="reset"):
        actor.act(observations[0][:1])


@pytest.mark.parametrize("kind", RECURRENT)
def test_predict_is_pure_where_it_is_given_a_state(kind: str) -> None:
    actor, observations = graph_actor(kind), walk(6, rows=2)
    wanted = [actor.act(obs) for obs in observations]
    state, starts = None, np.ones(2, bool)
    for obs, expected in zip(observations, wanted, strict=True):
        action, state = actor.predict(obs, state=state, episode_start=starts)
        np.testing.assert_array_equal(action, expected)
        starts = np.zeros(2, bool)
    np.testing.assert_array_equal(actor.predict(observations[0], state, np.ones(2, bool))[0], wanted[0])


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_paused_actor_goes_on_from_its_state(kind: str) -> None:
    actor, observations = graph_actor(kind), walk(10, rows=2)
    for obs in observations[:5]:
        actor.act(obs)
    saved = actor.state
    wanted = [actor.act(obs) for obs in observations[5:]]
    other = graph_actor(kind)
    other.state = saved
    for obs, expected in zip(observations[5:], wanted, strict=True):
        np.testing.assert_array_equal(other.act(obs), expected)


def test_rows_at_rest_keep_their_memory() -> None:
    actor, observations = graph_actor("lstm"), walk(3, rows=2)
    actor.act(observations[0])
    before = actor.state
    actor.act(observations[1], active=np.array([True, False]))
    np.testing.assert_array_equal(actor.state.cell[1], before.cell[1])
    assert abs(actor.state.cell[0] - before.cell[0]).max() > 0


def test_graphs_that_are_no_chain_say_so_where_layers_are_asked_for() -> None:
    for kind in GRAPHS:
        with pytest.raises(UnsupportedLayerError, match="chains of layers only"):
            _ = graph_actor(kind).layers


def one(source: int = 0, inputs: int = 4, outputs: int = 4, delayed: bool = False, port: int = 0) -> Connection:
    linear = Linear(np.eye(outputs, inputs, dtype=np.float32), np.zeros(outputs, np.float32))
    return Connection(source, linear, delayed, port)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ((), "no stages"),
        ((Stage((one(1),), Elementwise(4)),), "told nothing by then"),
        ((Stage((one(0, delayed=True),), Elementwise(4)),), "decision before"),
        ((Stage((one(0, inputs=3),), Elementwise(4)),), "a connection maps 3 to 4"),
        ((Stage((one(0), one(0, port=1)), Elementwise(4)),), "do not fit its cell"),
        ((Stage((), Elementwise(4)),), "port without a connection"),
        ((Stage((Connection(0, Select(np.array([0, 1]), 4)),), Elementwise(4)),), "expected"),
    ],
)
def test_what_does_not_fit_is_refused(stages: tuple[Stage, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph(4, stages)


def test_selections_refuse_entries_that_are_not_there() -> None:
    for indices in ([4], [-1], [], [0.5]):
        with pytest.raises(ValueError, match="select"):
            Select(np.array(indices), 4)
