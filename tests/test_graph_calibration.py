"""Calibration of graphs of stages: sensitivities, sequences, the tolerance, and what converted graphs do."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snn_policy import IF, MT, SNM, Actor, SpikeCalibration, SpikingPolicy, compress, convert
from snn_policy.ann.activations import RELU
from snn_policy.ann.cells import Elementwise
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Head, Linear
from snn_policy.ann.select import Select
from snn_policy.calibration import graph_sensitivity
from snn_policy.calibration.episodes import EpisodeRecording
from snn_policy.calibration.graph_sensitivity import DECISIONS_BACK, graph_sensitivities
from snn_policy.calibration.half_precision import as_float16, change_of_actions, rounded
from snn_policy.calibration.open_loop import Recording
from snn_policy.calibration.sensitivity import _head_jacobian, _quantum_shapes, _sensitivities
from snn_policy.calibration.trajectories import trajectory
from snn_policy.errors import UnsupportedLayerError
from snn_policy.progress import Passes
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from tests.actors import random_actor
from tests.actors import walk as chain_walk
from tests.stage_graphs import GRAPHS, RECURRENT, graph_actor, walk

FEED_FORWARD = tuple(kind for kind in GRAPHS if kind not in RECURRENT)
ROWS, TOLERANCE = 600, 0.02
EPISODES = np.isin(np.arange(ROWS), (0, 150, 290, 450))


def recorded(rows: int = ROWS, seed: int = 1) -> EpisodeRecording:
    return EpisodeRecording(walk(rows, seed=seed)[:, 0], EPISODES[:rows])


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def acted(policy: Any, observations: Any, starts: Any) -> Any:
    actions = []
    for obs, begins in zip(observations, starts, strict=True):
        if begins:
            policy.reset()
        actions.append(policy.act(obs))
    return np.array(actions, np.float64)


class Exact:
    """The graph in float64, with what a stage tells in one decision nudged; row by row another nudge."""

    def __init__(self, actor: Actor, inputs: Any, unit: Any) -> None:
        self.graph, self.inputs, self.unit, self.head = actor.graph, inputs.astype(np.float64), unit, actor.head

    def judged(self, t: int, ends: int, states: list[Any], nudges: list[Any] | None) -> Any:
        """(decisions, rows, actions) from decision t on, in which stages tell the nudges more."""
        found, told, cells = [], states[t][0], states[t][1]
        for now in range(t, ends):
            before, told, at = told, [np.repeat(self.inputs[now][None], len(cells), axis=0)], 0
            kept = []
            for index, stage in enumerate(self.graph.stages):
                if nudges is not None and now == t:
                    told[index] = told[index] + nudges[index]
                size = stage.cell.memory_width
                memory = cells[:, at : at + size] if size else None
                h, after = stage.cell.advance(stage.received(told, before), memory)
                at += size
                kept += [] if after is None else [after]
                told.append(h)
            cells = np.concatenate([cells[:, :0], *kept], axis=1)
            action = np.clip(told[-1], self.head.low, self.head.high)
            if self.head.kind == "tanh":
                action = np.tanh(told[-1]) * self.head.scale + self.head.offset
            found.append(action / self.unit)
        return np.array(found)

    def states(self, starts: Any, rows: int) -> list[Any]:
        """What was told before and the cells' memories at every decision, `rows` times."""
        found, rest = [], [np.repeat(self.graph.start_of(source)[None].astype(np.float64), rows, axis=0)
                           for source in range(len(self.graph.widths))]  # fmt: skip
        still = np.zeros((rows, self.graph.memory_width))
        told, cells = rest, still
        for t, begins in enumerate(starts):
            told, cells = (rest, still) if begins else (told, cells)
            found.append((told, cells))
            told, before, at, kept = [np.repeat(self.inputs[t][None], rows, axis=0)], told, 0, []
            for stage in self.graph.stages:
                size = stage.cell.memory_width
                h, after = stage.cell.advance(stage.received(told, before), cells[:, at : at + size] if size else None)
                at += size
                kept += [] if after is None else [after]
                told.append(h)
            cells = np.concatenate([cells[:, :0], *kept], axis=1)
        return found


@pytest.mark.parametrize("kind", GRAPHS)
def test_sensitivities_equal_finite_differences_also_through_decisions(kind: str) -> None:
    rows, delta = 36, 1e-3 if kind == "history" else 1e-6  # convolutions compute in float32
    actor, starts = graph_actor(kind), np.isin(np.arange(rows), (0, 21, 23))
    recording = Recording(actor, EpisodeRecording(walk(rows)[:, 0], starts))
    assert recording.run is not None
    widths = actor.graph.widths
    total = sum(widths)
    nudges = np.split(np.concatenate([np.eye(total), -np.eye(total)]) * delta, np.cumsum(widths)[:-1], axis=1)
    exact = Exact(actor, recording.inputs, recording.unit)
    states, ends = exact.states(starts, 2 * total), np.append(np.flatnonzero(starts), rows)
    squares = np.zeros(total)
    for t in range(rows):
        last = min(int(ends[ends > t].min()), t + (DECISIONS_BACK if actor.recurrent else 1))
        found = exact.judged(t, last, states, nudges)
        squares += (((found[:, :total] - found[:, total:]) / (2 * delta)) ** 2).sum(axis=(0, 2))
    wanted = np.split(squares / rows, np.cumsum(widths)[:-1])
    got = graph_sensitivities(recording.run, lambda y: _head_jacobian(recording, y))
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(np.sqrt(one), np.sqrt(other), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["tanh", "clip", "argmax"])
def test_a_chain_s_sensitivities_are_those_of_its_graph(kind: Any) -> None:
    recording = Recording(random_actor(kind=kind, widths=(9, 8, 7)), chain_walk(300))
    run = trajectory(recording.actor.graph, recording.inputs, None, Passes())
    squares = graph_sensitivities(run, lambda y: _head_jacobian(recording, y))
    for one, other in zip(squares, _sensitivities(recording), strict=True):
        np.testing.assert_allclose(np.sqrt(one), other, rtol=1e-5)


@pytest.mark.parametrize("kind", RECURRENT)
def test_what_is_read_later_adds_to_the_sensitivity(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recording, means = Recording(graph_actor(kind), recorded(120)), []
    assert DECISIONS_BACK >= 8
    for decisions in (1, 2, 8, DECISIONS_BACK):
        monkeypatch.setattr(graph_sensitivity, "DECISIONS_BACK", decisions)
        means.append(_sensitivities(recording)[1].mean())
    assert means[1] > 1.01 * means[0]
    assert means == sorted(means)
    assert means[3] < 1.1 * means[2]


@pytest.mark.parametrize("kind", GRAPHS)
def test_stages_that_the_last_one_reads_are_resolved_finest(kind: str) -> None:
    actor = graph_actor(kind)
    recording, last = Recording(actor, recorded(80)), {one.source for one in actor.graph.stages[-1].connections}
    for stage, (g, shape) in enumerate(zip(_sensitivities(recording), _quantum_shapes(recording), strict=True)):
        share = 0.02 if stage == 0 else 0.01 if stage in last else 0.03
        np.testing.assert_allclose(shape, share / np.maximum(g, 1e-3 * g.max()))


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_recording_is_seen_as_the_actor_acts_in_its_episodes(kind: str) -> None:
    actor, observations = graph_actor(kind), recorded()
    outputs = Recording(actor, observations).outputs
    np.testing.assert_allclose(actor.head(outputs), acted(actor, observations, EPISODES), atol=2e-6)


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_converted_graph_errs_by_the_tolerance_and_hardly_spikes(kind: str) -> None:
    actor, observations = graph_actor(kind), recorded()
    policy = convert(actor, observations, engine="numpy")
    assert policy.conversion["open_loop_error"] == pytest.approx(TOLERANCE, rel=0.1)
    difference = acted(policy, observations, EPISODES) - acted(actor, observations, EPISODES)
    assert rms(difference / actor.high) == pytest.approx(policy.conversion["open_loop_error"], rel=0.1)
    spikes = np.array(policy.conversion["open_loop_spikes"])
    most = np.array(policy.conversion["digits"]) * actor.widths
    assert spikes.sum() < most.sum() / 3
    assert (spikes > 0).all()
    policy.reset()
    actor.reset()
    unseen = [policy.act(obs) - actor.act(obs) for obs in walk(300, seed=5)[:, 0]]
    assert rms(unseen / actor.high) <= 2 * TOLERANCE


@pytest.mark.parametrize("kind", ["lstm", "concatenation"])
def test_discrete_actions_are_judged_by_their_logits(kind: str) -> None:
    actor = replace(graph_actor(kind), head=Head.argmax(3))
    policy = convert(actor, recorded(300), tolerance=0.05, engine="numpy")
    assert policy.conversion["open_loop_error"] == pytest.approx(0.05, rel=0.1)
    wrong = acted(policy, recorded(300), EPISODES[:300]) != acted(actor, recorded(300), EPISODES[:300])
    assert policy.conversion["changed_choices"] == pytest.approx(wrong.mean(), abs=0.02)
    assert 0 < wrong.mean() < 0.1


def test_an_action_at_its_bound_is_judged_before_it() -> None:
    actor = graph_actor("gru")
    *stages, last = actor.graph.stages
    linear = last.connections[0].map
    assert isinstance(linear, Linear)
    pushed = replace(last.connections[0], map=Linear(linear.weight, linear.bias + np.array([9, 0, 0], np.float32)))
    graph = Graph(12, (*stages, replace(last, connections=(pushed,))))
    with pytest.warns(UserWarning, match="action 0 is at a bound"):
        policy = convert(replace(actor, graph=graph), recorded(300), tolerance=0.05, engine="numpy")
    assert policy.conversion["open_loop_error"] == pytest.approx(0.05, rel=0.1)


def test_a_flat_stage_is_taken_for_linear_and_said() -> None:
    actor = graph_actor("history")
    first, *stages = actor.graph.stages
    conv = first.connections[0].map
    assert isinstance(conv, Conv2d)
    silent = replace(first.connections[0], map=replace(conv, bias=conv.bias - 50))
    cell = Elementwise(conv.outputs, RELU)
    graph = Graph(12, (replace(first, connections=(silent,), cell=cell), *stages))
    with pytest.warns(UserWarning, match="hidden layer 1 is silent or saturated"):
        policy = convert(replace(actor, graph=graph), recorded(300), engine="numpy")
    assert all((quanta > 0).all() for quanta in policy.network.neurons.quanta)  # pyright: ignore


@pytest.mark.parametrize("kind", ["gru", "residual"])
def test_a_smaller_tolerance_is_met_with_more_spikes(kind: str) -> None:
    policies = [convert(graph_actor(kind), recorded(300), tolerance=wanted, engine="numpy") for wanted in (0.005, 0.05)]
    fine, coarse = (sum(policy.conversion["open_loop_spikes"]) for policy in policies)
    assert fine > 1.3 * coarse
    for policy, wanted in zip(policies, (0.005, 0.05), strict=True):
        assert policy.conversion["open_loop_error"] == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("kind", ["lstm", "branches"])
def test_given_quanta_are_kept(kind: str) -> None:
    actor = graph_actor(kind)
    quanta = coarse_quanta(actor)
    policy = convert(actor, recorded(200), threshold=quanta, engine="numpy")
    for one, other in zip(policy.network.neurons.quanta, quanta, strict=True):  # pyright: ignore
        np.testing.assert_array_equal(one, other)
    assert 0.001 < policy.conversion["open_loop_error"] < 0.1


@pytest.mark.parametrize("kind", ["gru", "concatenation"])
def test_the_predictor_may_be_given(kind: str) -> None:
    policy = convert(graph_actor(kind), recorded(200), predictor=1, engine="numpy")
    assert all((gamma == 1).all() for gamma in policy.network.neurons.predictor)  # pyright: ignore


def coarse_quanta(actor: Actor) -> Any:
    return [np.full(width, 0.05, np.float32) for width in actor.widths]


def coarse_network(actor: Actor) -> SpikingNetwork:
    quanta = tuple(coarse_quanta(actor))
    neurons = SigmaDeltaNeurons(quanta, quanta, np.zeros(12, np.float32), (4,) * len(quanta))
    return SpikingNetwork(actor, neurons)


@pytest.mark.parametrize("kind", RECURRENT)
def test_starts_beside_the_observations_do_as_a_recording_that_has_them(kind: str) -> None:
    actor, observations = graph_actor(kind), recorded(200)
    settings = {"engine": "numpy", "threshold": coarse_quanta(actor)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = convert(actor, observations, **settings)
        other = convert(actor, np.asarray(observations), EPISODES[:200], **settings)
    assert one.conversion["open_loop_error"] == other.conversion["open_loop_error"]
    assert one.conversion["open_loop_spikes"] == other.conversion["open_loop_spikes"]


@pytest.mark.parametrize("kind", RECURRENT)
def test_without_starts_a_recurrent_recording_is_one_episode_and_says_so(kind: str) -> None:
    actor, observations = graph_actor(kind), walk(200)[:, 0]
    settings = {"engine": "numpy", "threshold": coarse_quanta(actor)}
    with pytest.warns(UserWarning, match="does not say where its episodes begin, and is taken for one"):
        one = convert(actor, observations, **settings)
    errors = [convert(actor, observations, starts, **settings).conversion["open_loop_error"]
              for starts in (np.arange(200) == 0, np.arange(200) % 20 == 0)]  # fmt: skip
    assert one.conversion["open_loop_error"] == errors[0] != errors[1]


@pytest.mark.parametrize("kind", FEED_FORWARD[:3])
def test_graphs_without_memory_need_no_starts(kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(graph_actor(kind), walk(200)[:, 0], engine="numpy")


@pytest.mark.parametrize("neuron", ["sigma-delta", "if"])
def test_chains_do_not_look_at_starts(neuron: str) -> None:
    actor, observations = random_actor(), chain_walk(200)
    one = convert(actor, observations, neuron=neuron)
    other = convert(actor, observations, np.arange(200) % 50 == 0, neuron=neuron)
    assert one.conversion == other.conversion


FIRST = {"lstm": "stage 1 of 3 (lstm)", "gru": "stage 1 of 2 (gru)", "elman": "stage 1 of 3 (reads 3 stages)",
         "concatenation": "stage 2 of 5 (linear without an activation)",
         "residual": "stage 1 of 8 (linear without an activation)", "normalised": "stage 1 of 3 (layer norm silu)",
         "gated": "stage 1 of 3 (product)", "history": "stage 2 of 3 (reads 2 stages)",
         "branches": "stage 2 of 3 (reads stage 0)"}  # fmt: skip
REFUSE: dict[str, Any] = {
    "if": lambda actor: convert(actor, recorded(50), neuron="if"),
    "snm": lambda actor: convert(actor, recorded(50), neuron=SNM()),
    "mt": lambda actor: convert(actor, recorded(50), neuron=MT()),
    "spike calibration": lambda actor: convert(
        actor, recorded(50), neuron=IF(calibration=SpikeCalibration(iterations=1))),
    "nir": lambda actor: SpikingPolicy(coarse_network(actor), engine="numpy").export_nir("unwritten.nir"),
    "compress": lambda actor: compress(actor, observations=walk(2000)[:, 0]),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSE)
@pytest.mark.parametrize("kind", GRAPHS)
def test_what_serves_chains_names_the_first_stage_that_is_no_layer(kind: str, what: str) -> None:
    with pytest.raises(UnsupportedLayerError) as refusal:
        REFUSE[what](graph_actor(kind))
    assert str(refusal.value).startswith(FIRST[kind])
    assert "\n" not in str(refusal.value)
    assert ("TorchScript" if what == "nir" else "sigma-delta") in str(refusal.value)


@pytest.mark.parametrize("kind", GRAPHS)
def test_rounding_to_float16_leaves_the_policy_as_it_is(kind: str) -> None:
    actor = graph_actor(kind)
    other = rounded(coarse_network(actor))
    assert 0 < change_of_actions(actor, other.actor, np.asarray(recorded(60))) < 2e-3
    for stage in other.actor.graph.stages:
        for one in stage.connections:
            if not isinstance(one.map, Select):
                np.testing.assert_array_equal(one.map.weight, one.map.weight.astype(np.float16))


@pytest.mark.parametrize(("kind", "stage"), [("gru", 1), ("residual", 3), ("concatenation", 4)])
def test_a_weight_too_large_for_float16_names_its_stage(kind: str, stage: int) -> None:
    actor = graph_actor(kind)
    stages = list(actor.graph.stages)
    first, *others = stages[stage - 1].connections
    assert isinstance(first.map, Linear)
    large = replace(first, map=Linear(first.map.weight * 1e6, first.map.bias))
    stages[stage - 1] = replace(stages[stage - 1], connections=(large, *others))
    network = coarse_network(replace(actor, graph=replace(actor.graph, stages=tuple(stages))))
    with pytest.raises(ValueError, match=f"stage {stage}: a weight beyond 65504"):
        as_float16(network)
