"""Costs: sums, masks and means, and events that are the same in every engine, exported graph and C policy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import Actor, OnnxPolicy, SpikeCalibration, SpikingPolicy
from snn_policy.evaluation.evaluate import compare
from snn_policy.protocol import Costs, Counters, Decision
from snn_policy.serving.metrics import Metrics
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import (
    dyadic_actor,
    dyadic_image_actor,
    dyadic_observations,
    image_walk,
    membrane_neurons,
    sigma_delta_neurons,
)
from tests.compiled_policy import CompiledPolicy, counted
from tests.graphs import exported_once

LINEAR: dict[str, Any] = {
    "sigma-delta": sigma_delta_neurons,
    "sigma-delta base 3": lambda actor: sigma_delta_neurons(actor, base=3.0),
    "if": membrane_neurons,
    "if differential": lambda actor: membrane_neurons(actor, coding="differential", timesteps=4),
    "snm": lambda actor: membrane_neurons(actor, model="snm"),
    "mt differential": lambda actor: membrane_neurons(actor, model="mt", coding="differential", timesteps=3),
    "adaptive": lambda actor: membrane_neurons(actor, calibration=SpikeCalibration(adaptive=(0, 2), epsilon=1 / 64)),
}
KINDS = [*((name, False) for name in LINEAR), *((name, True) for name in ("sigma-delta", "if", "snm"))]
KNOWN_BY_STEPS = ("sigma-delta", "sigma-delta base 3", "if", "if differential")


def case(name: str, images: bool) -> tuple[SpikingNetwork, Any]:
    actor = dyadic_image_actor() if images else dyadic_actor(3)
    observations = image_walk(12) if images else dyadic_observations(40)
    return SpikingNetwork(actor, LINEAR[name](actor)), np.asarray(observations, np.float32)


def fan_outs(actor: Actor) -> list[Any]:
    """Per stage that sends, (neurons,): synapses, found by asking each layer which outputs a neuron reaches."""
    return [np.array([int(layer.operations(row[None])[0]) for row in np.eye(layer.inputs, dtype=np.int64)])
            for layer in actor.layers]  # fmt: skip


def decided(policy: Any, observations: Any) -> list[Decision]:
    policy.reset()
    decisions = []
    for obs in observations:
        policy.act(obs)
        decisions.append(policy.last_decision)
    return decisions


def events(decisions: list[Decision]) -> list[Any]:
    return [None if decision.events is None else decision.events.tolist() for decision in decisions]


@pytest.mark.parametrize(("name", "images"), KINDS)
def test_events_are_the_same_in_every_engine(name: str, images: bool) -> None:
    network, observations = case(name, images)
    found = [events(decided(SpikingPolicy(network, engine=engine), observations))
             for engine in ("numpy", "torch", "event")]  # fmt: skip
    assert found[0] == found[1] == found[2]
    assert len({element[0] for element in found[0]}) > 3


@pytest.fixture(scope="module")
def graphs_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """See `exported_once`."""
    return exported_once(lambda *of: case(*of)[0], tmp_path_factory)


@pytest.mark.parametrize("graph", ["decision", "step"])
@pytest.mark.parametrize(("name", "images"), KINDS)
def test_graphs_count_the_same_events_or_none(name: str, images: bool, graph: str, graphs_of: Any) -> None:
    network, observations = case(name, images)
    policy = SpikingPolicy(network, engine="numpy")
    directory, step_left_out = graphs_of(name, images)
    if graph == "step" and step_left_out:
        return
    robot = OnnxPolicy(directory, graph=graph)
    found, wanted = events(decided(robot, observations)), events(decided(policy, observations))
    if graph == "decision" or name in KNOWN_BY_STEPS:
        assert found == wanted
        assert robot.counters.events is not None
        assert robot.counters.events.tolist() == [sum(row[0] for row in wanted)]
    else:
        assert found == [None] * len(wanted)
        assert robot.counters.events is None
        assert "events" not in robot.description.counted


@pytest.mark.parametrize(("name", "images"), [(name, images) for name, images in KINDS if name != "adaptive"])
def test_exported_c_counts_what_the_policy_counts(name: str, images: bool, tmp_path: Path) -> None:
    network, observations = case(name, images)
    policy = SpikingPolicy(network)
    robot = CompiledPolicy(policy, tmp_path, "-O0")
    for obs in observations:
        policy.act(obs)
        robot.act(obs)
    assert robot.counts() == counted(policy)
    assert robot.counts()["events"] > 0


@pytest.mark.parametrize("images", [False, True])
def test_an_event_is_a_neuron_that_changed_its_memory_by_its_fan_out(images: bool) -> None:
    """Greedy digits never add up to nothing: who spiked is seen in what the neurons have sent."""
    network, observations = case("sigma-delta", images)
    state, synapses = network.initial_state(1), np.concatenate(fan_outs(network.actor))
    kept = np.concatenate(network.neurons.predictor)  # pyright: ignore
    assert (len(set(synapses[: network.actor.layers[0].inputs])) > 1) == images  # borders
    for obs in observations:
        _, after, decision = network.decide(obs[None], state)
        sent = np.asarray(after[0] - kept * state[0]) != 0
        assert decision.events is not None
        assert decision.events.tolist() == [int(synapses[sent[0]].sum())]
        assert decision.events[0] < decision.synaptic_operations[0]
        state = after


@pytest.mark.parametrize("images", [False, True])
def test_an_anns_events_are_its_zero_skipping_products(images: bool) -> None:
    network, observations = case("if", images)
    actor = network.actor
    stages, _ = actor.activations(observations)
    wanted = sum((h != 0) @ synapses for h, synapses in zip(stages, fan_outs(actor), strict=True))
    actor.act(observations)
    assert actor.last_decision is not None
    assert actor.last_decision.events is not None
    assert np.array_equal(actor.last_decision.events, wanted)
    assert np.array_equal(actor.last_decision.multiply_accumulates, wanted)


def test_with_one_timestep_every_spike_is_an_event() -> None:
    actor = dyadic_actor(5)
    for model in ("if", "snm", "mt"):
        policy = SpikingPolicy(SpikingNetwork(actor, membrane_neurons(actor, model=model, timesteps=1)))
        for element in decided(policy, dyadic_observations(20)):
            assert element.events is not None
            assert np.array_equal(element.events, element.synaptic_operations)


def costs(rows: int = 3, start: int = 0, known: bool = True) -> Costs:
    spikes = np.arange(start, start + 2 * rows).reshape(rows, 2)
    others = [np.arange(start + k, start + k + rows) for k in range(5)]
    return Costs(spikes, *others) if known else Costs(spikes, *others[:4])


def plain(given: Costs) -> dict[str, Any]:
    return {name: values.tolist() for name, values in given.named().items()}


def test_costs_add_row_by_row_and_change_nothing() -> None:
    one, other = costs(), costs(start=10)
    assert plain(one + other)["spikes"] == [[10, 12], [14, 16], [18, 20]]
    assert plain(one + other)["events"] == [18, 20, 22]
    assert plain(one) == plain(costs())
    assert plain(one + other) == plain(other + one)
    assert (one + other).energy == pytest.approx(one.energy + other.energy)


def test_masked_costs_count_nothing_in_other_rows() -> None:
    mask = np.array([True, False, True])
    found = plain(costs() + costs(start=10).masked(mask))
    assert found["spikes"] == [[10, 12], [2, 3], [18, 20]]
    assert found["events"] == [18, 5, 22]
    assert plain(costs().masked(mask) + costs().masked(~mask)) == plain(costs())


def test_means_are_per_decision_of_a_row_or_of_all() -> None:
    assert plain(costs().total())["spikes"] == [6, 9]
    assert plain(costs().total().mean(3))["events"] == 5
    assert plain(costs().mean(np.array([1, 2, 0])))["spikes"] == [[0, 1], [1, 1.5], [4, 5]]
    assert plain(costs().mean(2))["iterations"] == [1, 1.5, 2]


@pytest.mark.parametrize("order", [(True, False), (False, True), (False, False)])
def test_unknown_events_stay_unknown_in_sums(order: tuple[bool, bool]) -> None:
    one, other = (costs(known=known) for known in order)
    total = one + other
    assert total.events is None
    assert "events" not in total.named()
    assert total.masked(np.ones(3, np.bool_)).total().mean(2).events is None
    assert total.synaptic_operations.tolist() == [0, 2, 4]
    counters = Counters.zeros(3, 2)
    for given in (one, other):
        counters.add(given)
    assert counters.events is None
    assert counters.copy().events is None
    assert counters.spikes.tolist() == total.spikes.tolist()


def test_counters_are_the_sum_of_all_records_of_the_rows_that_ran() -> None:
    network, observations = case("adaptive", False)
    for engine in ("numpy", "event"):
        policy, total = SpikingPolicy(network, engine=engine), Costs.zeros(2, len(network.layer_names))
        for step, batch in enumerate(observations.reshape(20, 2, -1)):
            running = np.array([True, step % 3 == 0])
            policy.act(batch.reshape(2, *policy.observation_shape), active=running)
            assert policy.last_decision is not None
            total = total + policy.last_decision.masked(running)
        assert policy.counters.decisions.tolist() == [20, 7]
        assert plain(policy.counters) == plain(total)
        assert policy.counters.iterations[0] > 0
        policy.counters.clear(np.array([True, False]))
        assert policy.counters.events is not None
        assert (policy.counters.events > 0).tolist() == [False, True]


def test_graphs_of_before_there_were_events_act_as_they_did(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    network, observations = case("sigma-delta", False)
    policy = SpikingPolicy(network)
    policy.export_onnx(tmp_path / "new")
    model = onnx.load(tmp_path / "new" / "decision.onnx")
    kept = len(network.layer_names) + 1
    for node in model.graph.node:
        node.output[:] = ["counts_and_events" if name == "counts" else name for name in node.output]
    columns = onnx.numpy_helper.from_array(np.arange(kept), "columns")
    model.graph.initializer.append(columns)
    model.graph.node.append(onnx.helper.make_node("Gather", ["counts_and_events", "columns"], ["counts"], axis=1))
    next(value for value in model.graph.output if value.name == "counts").type.tensor_type.shape.dim[1].dim_value = kept
    described = next(prop for prop in model.metadata_props if prop.key == "snn_policy")
    assert ', "events"' in described.value
    described.value = described.value.replace(', "events"', "")
    onnx.save(model, tmp_path / "old.onnx")
    old = OnnxPolicy(tmp_path / "old.onnx")
    found, wanted = decided(old, observations), decided(policy, observations)
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.events is None
        assert {**plain(mine), "events": plain(theirs)["events"]} == plain(theirs)
    assert old.counters.events is None


def test_a_comparison_shows_the_events_of_both() -> None:
    from snn_policy import load_actor
    from snn_policy.exported import path

    bundle = path("td3-Pendulum-v1")
    actor, policy = load_actor(bundle), SpikingPolicy.load(bundle)
    found = compare(actor, policy, "Pendulum-v1", episodes=2, num_envs=2)
    ann, snn = found.as_dict()["ann"], found.as_dict()["snn"]
    assert ann["events"] == ann["multiply_accumulates"] > 0
    assert 0 < snn["events"] < snn["synaptic_operations"]
    assert policy.counters.events is not None


@pytest.mark.parametrize("known", [True, False])
def test_the_servers_metrics_have_events_where_they_are_known(known: bool) -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.count_batch(Decision(**costs(known=known).named()), np.zeros(3), 0.0)
    lines = metrics.text({}).splitlines()
    assert ("snn_policy_events_total 30" in lines) == known
    assert "snn_policy_spikes_total 30" in lines
    assert "snn_policy_synaptic_operations_total 6" in lines
