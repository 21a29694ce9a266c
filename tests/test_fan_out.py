"""Fan-out counts weights that are not zero: in every engine, exported graph and C policy, and in the ANN's products."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from snn_policy import Actor, OnnxPolicy, SpikingPolicy
from snn_policy.ann.activations import RELU
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Head, Linear
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import (
    dyadic_actor,
    dyadic_image_actor,
    dyadic_observations,
    image_walk,
    membrane_neurons,
    pruned,
    sigma_delta_neurons,
)
from tests.compiled_policy import CompiledPolicy, counted
from tests.graphs import exported_once

NEURONS: dict[str, Any] = {
    "sigma-delta": sigma_delta_neurons,
    "if": membrane_neurons,
    "if differential": lambda actor: membrane_neurons(actor, coding="differential", timesteps=2),
    "snm": lambda actor: membrane_neurons(actor, model="snm"),
    "mt": lambda actor: membrane_neurons(actor, model="mt", timesteps=4),
}
CASES = [*((name, block, False) for name in NEURONS for block in (1, 4)), ("sigma-delta", 1, True), ("if", 1, True)]


def case(name: str, block: int, images: bool, seed: int = 0) -> tuple[SpikingNetwork, Any]:
    whole = dyadic_image_actor(seed) if images else dyadic_actor(seed, widths=(21, 18), outputs=5)
    actor = pruned(whole, 0.4, block, seed)
    observations = image_walk(8) if images else dyadic_observations(30)
    return SpikingNetwork(actor, NEURONS[name](actor)), np.asarray(observations, np.float32)


def synapses(layer: Any) -> Any:
    """(inputs,) outputs that each input reaches, found by products with ones in the place of weights."""
    ones = replace(layer, weight=layer.weight != 0, bias=0 * layer.bias)
    return np.array([int(ones.product(row[None])[0].sum()) for row in np.eye(layer.inputs, dtype=np.float32)])


def linear(weight: npt.ArrayLike, activation: Any = None) -> Linear:
    """A layer without a bias."""
    values = np.asarray(weight, np.float32)
    return Linear(values, 0 * values[:, 0], activation)


def spent(policy: Any, observations: Any) -> list[dict[str, Any]]:
    policy.reset()
    found = []
    for obs in observations:
        policy.act(obs)
        found.append({name: values.tolist() for name, values in policy.last_decision.named().items()})
    return found


def test_a_zero_weight_is_no_synapse() -> None:
    layer = linear([[1, 0, 0, -0.0], [2, 3, 0, 0]])
    assert layer.fan_out.tolist() == [2, 1, 0, 0]
    assert (layer.synapses, layer.macs, layer.uniform_fan_out) == (3, 8, None)
    assert layer.operations(np.array([[1, 2, 9, 9], [0, 0, 5, 0]])).tolist() == [4, 0]
    assert linear(np.ones((3, 2))).uniform_fan_out == 3
    assert linear(np.zeros((3, 2))).uniform_fan_out == 0


def test_of_a_convolution_every_place_of_the_kernel_counts_by_itself() -> None:
    kernel, none = np.zeros((2, 1, 3, 3), np.float32), np.zeros(2, np.float32)
    kernel[0, 0, 1, 1] = kernel[1, 0, 0, 0] = 1  # the second reaches down and to the right: no output for the border
    layer = Conv2d(kernel, none, (1, 3, 3), padding=(1, 1))
    assert layer.fan_out.reshape(3, 3).tolist() == [[2, 2, 1], [2, 2, 1], [1, 1, 1]]
    assert (layer.synapses, layer.macs) == (13, 2 * 49)
    assert Conv2d(0 * kernel, none, (1, 3, 3)).fan_out.tolist() == [0] * 9


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("images", [False, True])
def test_an_ann_that_skips_zeros_skips_weights_of_zero(images: bool, seed: int) -> None:
    network, observations = case("sigma-delta", 1, images, seed)
    actor = network.actor
    stages, _ = actor.activations(observations)
    wanted: Any = sum((h != 0) @ synapses(layer) for h, layer in zip(stages, actor.layers, strict=True))
    actor.act(observations)
    assert actor.last_decision is not None
    assert actor.last_decision.multiply_accumulates.tolist() == wanted.tolist()
    assert actor.synapses == sum(int(synapses(layer).sum()) for layer in actor.layers) < actor.dense_macs


@pytest.mark.parametrize(("name", "block", "images"), CASES)
def test_every_engine_counts_the_same(name: str, block: int, images: bool) -> None:
    network, observations = case(name, block, images)
    wanted, *others = [spent(SpikingPolicy(network, engine=engine), observations)
                       for engine in ("numpy", "torch", "event")]  # fmt: skip
    assert all(found == wanted for found in others)
    assert len({tuple(record["synaptic_operations"]) for record in wanted}) > 3
    dense = SpikingNetwork(with_no_zero(network.actor), network.neurons)
    assert spent(SpikingPolicy(dense, engine="event"), observations) != wanted


def with_no_zero(actor: Actor) -> Actor:
    tiny = tuple(replace(layer, weight=np.where(layer.weight == 0, 2.0**-20, layer.weight)) for layer in actor.layers)
    return replace(actor, graph=tiny)


@pytest.fixture(scope="module")
def graphs_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """See `exported_once`."""
    return exported_once(lambda *of: case(*of)[0], tmp_path_factory)


@pytest.mark.parametrize("graph", ["decision", "step"])
@pytest.mark.parametrize(("name", "block", "images"), CASES)
def test_graphs_count_the_same(name: str, block: int, images: bool, graph: str, graphs_of: Any) -> None:
    network, observations = case(name, block, images)
    policy = SpikingPolicy(network, engine="numpy")
    directory, step_left_out = graphs_of(name, block, images)
    if step_left_out and graph == "step":
        return
    found, wanted = spent(OnnxPolicy(directory, graph=graph), observations), spent(policy, observations)
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine == {kind: values for kind, values in theirs.items() if kind in mine}
        assert {"spikes", "synaptic_operations", "multiply_accumulates"} <= mine.keys()


@pytest.mark.parametrize(("name", "block", "images"), CASES)
def test_exported_c_counts_the_same(name: str, block: int, images: bool, tmp_path: Path) -> None:
    network, observations = case(name, block, images)
    policy = SpikingPolicy(network, engine="numpy")
    robot = CompiledPolicy(policy, tmp_path, "-O0")
    policy.reset()
    for obs in observations:
        expected = policy.act(obs)
        assert np.array_equal(robot.act(obs)[: expected.size], expected)
    assert robot.counts() == counted(policy)


@pytest.mark.parametrize("empty", [0, 1, 2])
@pytest.mark.parametrize("name", NEURONS)
def test_a_layer_of_zeros_costs_nothing(name: str, empty: int) -> None:
    actor = with_no_zero(dyadic_actor(1, widths=(12, 9), outputs=3))
    layers: Any = tuple(replace(layer, weight=0 * layer.weight) if index == empty else layer
                   for index, layer in enumerate(actor.layers))  # fmt: skip
    network = SpikingNetwork(replace(actor, graph=layers), NEURONS[name](actor))
    found = [spent(SpikingPolicy(network, engine=engine), dyadic_observations(12)) for engine in ("numpy", "event")]
    assert found[0] == found[1]
    first = 0 if name == "sigma-delta" else 1
    for record in found[0]:
        synapses_of = [layer.uniform_fan_out or 0 for layer in layers[first:]]
        sends = sum(count * per_spike for count, per_spike in zip(record["spikes"][0], synapses_of, strict=True))
        assert record["synaptic_operations"] == [sends]
        if first:
            assert record["multiply_accumulates"] == [layers[0].synapses]


def test_a_zero_by_accident_is_counted_and_changes_nothing_else() -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(1, 9, (6, 4)) / 64
    weight[2, 1] = 0
    head = Head.clip(-np.ones(2), np.ones(2))
    actor = Actor((linear(weight, RELU), linear(np.ones((2, 6)))), head, (4,))
    assert actor.layers[0].operations(np.ones((1, 4), np.int64)).tolist() == [23]
    network = SpikingNetwork(actor, sigma_delta_neurons(actor))
    found = [spent(SpikingPolicy(network, engine=engine), dyadic_observations(20)) for engine in ("numpy", "event")]
    assert found[0] == found[1]
