"""Sources of error of IF networks: each is what its definition says, and without all of them the ANN is left."""

from typing import Any

import numpy as np
import pytest

from snn_policy import UnsupportedLayerError
from snn_policy.actor import Actor
from snn_policy.analysis.ablated_network import SOURCES, AblatedPolicy
from snn_policy.analysis.error_sources import ablation
from snn_policy.analysis.traces import answers, record_traces
from snn_policy.ann.activations import RELU, quantised
from snn_policy.ann.layers import Head, Linear
from snn_policy.convert import convert
from snn_policy.policy import SpikingPolicy
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons
from snn_policy.spiking.spike_calibration import SpikeCalibration
from tests.actors import dyadic_actor, dyadic_observations, membrane_neurons, random_actor, walk
from tests.synthetic import Line, line_actor


def one_layer(threshold: float, drive: float, **settings: Any) -> SpikingNetwork:
    """One IF neuron that is driven by `drive`·observation; the action is what it stands for."""
    hidden = Linear(np.array([[drive]], np.float32), np.zeros(1, np.float32), RELU)
    actor = Actor(
        (hidden, Linear(np.ones((1, 1), np.float32), np.zeros(1, np.float32))), Head.clip([-9.0], [9.0]), (1,)
    )
    quanta = [np.array([threshold], np.float32)]
    return convert(actor, np.ones((4, 1)), neuron="if", threshold=quanta, **settings).network


def value(network: SpikingNetwork, without: Any, observation: float = 1.0) -> float:
    return float(AblatedPolicy(network, without).act(np.array([observation]))[0])


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("rule", ["bounded", "plain"])
def test_with_nothing_switched_off_it_acts_as_converted_to_the_bit(alpha: float, rule: Any):
    actor = dyadic_actor()
    network = SpikingNetwork(actor, membrane_neurons(actor, alpha=alpha, residual=rule))
    seen = [dyadic_observations(50, seed=seed) for seed in (1, 2)]
    np.testing.assert_array_equal(
        np.stack(answers(AblatedPolicy(network), seen)), np.stack(answers(SpikingPolicy(network, engine="numpy"), seen))
    )


@pytest.mark.parametrize(("drive", "as_is", "unlimited"), [(0.6, 0.625, 0.625), (1.7, 1.0, 1.75), (4.0, 1.0, 4.0)])
def test_without_clipping_a_rate_has_no_upper_limit(drive: float, as_is: float, unlimited: float):
    network = one_layer(1.0, drive, timesteps=8, alpha=0.0)
    assert value(network, "none") == pytest.approx(as_is)
    assert value(network, "clipping") == pytest.approx(unlimited, abs=0.126)
    assert value(network, "clipping") >= value(network, "none")


@pytest.mark.parametrize(("drive", "exact"), [(0.3, 0.3), (0.61, 0.61), (1.7, 1.0), (-0.4, 0.0)])
def test_without_quantisation_the_rate_is_exact_and_clipped(drive: float, exact: float):
    assert value(one_layer(1.0, drive, timesteps=8, alpha=0.0), "quantisation") == pytest.approx(exact)


@pytest.mark.parametrize("timesteps", [2, 5, 16])
def test_without_unevenness_it_is_the_qcfs_network(timesteps: int):
    actor, observations = random_actor(), walk(60)
    policy = convert(actor, observations, neuron="if", timesteps=timesteps, alpha=0.0, threshold="max")
    neurons, shadow = policy.network.neurons, observations
    assert isinstance(neurons, MembraneNeurons)
    for layer, threshold in zip(actor.layers, neurons.thresholds, strict=False):
        shadow = quantised(layer(shadow), threshold, timesteps)
    found = answers(AblatedPolicy(policy.network, "unevenness"), [observations])[0]
    expected = actor.head(actor.layers[-1](shadow))
    assert (abs(found - expected).max(axis=1) < 1e-5).mean() > 0.95  # elsewhere rounding decides a tie


def test_without_the_residual_a_decision_does_not_know_of_the_one_before():
    network = one_layer(1.0, 0.35, timesteps=4, alpha=1.0)
    seen = [np.full((12, 1), 1.0, np.float32)]
    carried, reset = (answers(AblatedPolicy(network, without), seen)[0] for without in ("none", "residual"))
    assert len(np.unique(reset)) == 1
    assert len(np.unique(carried)) > 1
    assert carried.mean() == pytest.approx(0.375)
    assert reset[0] == pytest.approx(0.25)
    assert np.array_equal(reset, answers(AblatedPolicy(one_layer(1.0, 0.35, timesteps=4, alpha=0.0)), seen)[0])


def test_quantisation_off_and_thresholds_that_nothing_reaches_leave_the_ann():
    actor, observations = random_actor(), walk(50)
    high = [np.full(width, 100.0, np.float32) for width in actor.widths[1:]]
    policy = convert(actor, observations, neuron="if", threshold=high, alpha=0.5)
    found = answers(AblatedPolicy(policy.network, "quantisation"), [observations])[0]
    assert found == pytest.approx(actor.act(observations), abs=1e-4)


@pytest.mark.parametrize("without", SOURCES)
def test_dead_neurons_never_spike_and_rows_do_not_mix(without: Any):
    actor = dyadic_actor()
    policy = AblatedPolicy(SpikingNetwork(actor, membrane_neurons(actor)), without)
    seen = [dyadic_observations(20, seed=seed) for seed in range(3)]
    together = answers(policy, seen)
    for alone, row in zip(seen, together, strict=True):
        np.testing.assert_allclose(answers(policy, [alone])[0], row, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"neuron": "snm"}, "rate snm"),
        ({"neuron": "if", "coding": "differential"}, "differential if"),
        ({"neuron": "sigma-delta"}, "sigma-delta"),
        ({"neuron": "if", "calibration": SpikeCalibration()}, "spike calibration"),
    ],
)
def test_other_networks_are_refused_by_name(settings: dict[str, Any], named: str):
    network = convert(random_actor(), walk(30), **settings).network
    with pytest.raises(UnsupportedLayerError, match=named):
        AblatedPolicy(network, "clipping")


@pytest.mark.parametrize(
    ("settings", "largest"),
    [
        ({"timesteps": 2, "threshold": [np.full(4, 2.0, np.float32)]}, "quantisation"),
        ({"timesteps": 64, "threshold": [np.full(4, 0.2, np.float32)]}, "clipping"),
    ],
)
def test_the_source_that_is_largest_by_construction_is_found(settings: dict[str, Any], largest: str):
    actor = line_actor()
    policy = convert(actor, actor.collect(Line, steps=100), neuron="if", alpha=0.0, **settings)
    traces = record_traces(policy, actor, Line, episodes=3, seed=0)
    ann = record_traces(actor, actor, Line, episodes=3, seed=0)
    done: list[int] = []
    found = ablation(policy, traces, ann, Line, seed=0, advance=lambda: done.append(1)).summary
    errors = {source: found[f"error_{source}"].mean for source in SOURCES}
    assert min(errors, key=lambda source: errors[source]) == largest
    assert errors[largest] < 0.2 * errors["none"]
    ann_return = found["ann_return"].mean
    assert abs(found[f"return_{largest}"].mean - ann_return) < 0.5 * abs(found["return_none"].mean - ann_return)
    gained = found[f"return_{largest}"].mean - found["return_none"].mean
    assert found[f"gain_{largest}"].mean == pytest.approx(100 * gained / abs(ann_return))
    assert gained != 0
    assert found[f"gain_{largest}"].episodes == 3
    assert found["return_none"].mean == pytest.approx(np.mean([episode.rewards.sum() for episode in traces]), rel=1e-3)
    assert len(done) == len(SOURCES)
