"""Convolutional spiking policies: every neuron and coding, per-channel parameters, exact counts, any form alike."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from snn_policy import SpikeCalibration, SpikingPolicy, convert
from snn_policy.actor import Actor
from snn_policy.ann.activations import Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Linear
from snn_policy.calibration import recordings
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons
from tests.actors import (
    IMAGE,
    dyadic_image_actor,
    every_policy,
    image_walk,
    label,
    membrane_neurons,
    same_state,
    sigma_delta_neurons,
)
from tests.bundles import file_of
from tests.independent import MembraneProgram, SigmaDeltaProgram

ACTOR, RECORDING = dyadic_image_actor(), image_walk(150)
POLICIES = {label(policy): policy for policy in every_policy(ACTOR, "numpy")}
CALIBRATIONS = (SpikeCalibration(2), SpikeCalibration(1, simulation_steps=5), SpikeCalibration(adaptive=(0, 2)))
NETWORKS = {kind: policy.network for kind, policy in POLICIES.items()} | {
    f"calibrated-{i}": SpikingNetwork(ACTOR, membrane_neurons(ACTOR, calibration=element))
    for i, element in enumerate(CALIBRATIONS)
}
CONVERSIONS: dict[str, dict[str, Any]] = {
    "sigma-delta": {},
    **{f"{n}-{c}": {"neuron": n, "coding": c} for n in ("if", "snm", "mt") for c in ("rate", "differential")},
    **{f"calibrated-{i}": {"neuron": "if", "calibration": element} for i, element in enumerate(CALIBRATIONS)},
}


def told(policy: SpikingPolicy) -> list[np.ndarray]:
    """What the neurons of each stage have told, in the first row."""
    state: Any = policy.state
    return np.split(state.memory[0], np.cumsum(policy.actor.widths)[:-1])


def random_images(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, *IMAGE), dtype=np.uint8)


def as_matrices(actor: Actor) -> Actor:
    """The same actor with its convolutions written out, synapse by synapse."""
    layers = []
    for layer in actor.layers:
        if isinstance(layer, Conv2d):
            matrix = np.zeros((layer.outputs, layer.inputs), np.float32)
            for (o, y, x), (i, u, v) in synapses(layer):
                target = np.ravel_multi_index((o, y, x), layer.output_shape)
                row, column = y * layer.stride[0] + u - layer.padding[0], x * layer.stride[1] + v - layer.padding[1]
                matrix[target, np.ravel_multi_index((i, row, column), layer.input_shape)] = layer.weight[o, i, u, v]
            layer = Linear(matrix, layer.unit_bias, layer.activation)
        layers.append(layer)
    return Actor(tuple(layers), actor.head, actor.observation_shape, actor.normaliser)


def synapses(layer: Conv2d) -> Any:
    """Every synapse: (output channel, row, column) and (input channel, kernel row, kernel column)."""
    channels, height, width = layer.input_shape
    for o, y, x in itertools.product(*map(range, layer.output_shape)):
        for i, u, v in itertools.product(range(channels), *map(range, layer.weight.shape[2:])):
            row, column = y * layer.stride[0] + u - layer.padding[0], x * layer.stride[1] + v - layer.padding[1]
            if 0 <= row < height and 0 <= column < width:
                yield (o, y, x), (i, u, v)


def fan_out(layer: Any) -> np.ndarray:
    """Synapses of every input neuron, counted one by one."""
    if isinstance(layer, Linear):
        return np.count_nonzero(layer.weight, axis=0)
    counts = np.zeros(layer.input_shape, np.int64)
    for (channel, y, x), (i, u, v) in synapses(layer):
        counts[i, y * layer.stride[0] + u - layer.padding[0], x * layer.stride[1] + v - layer.padding[1]] += (
            layer.weight[channel, i, u, v] != 0
        )
    return counts.ravel()


@pytest.mark.parametrize("kind", POLICIES)
def test_decisions_are_those_of_the_equations_on_written_out_matrices(kind: str) -> None:
    policy, neurons = POLICIES[kind], POLICIES[kind].network.neurons
    dense = as_matrices(ACTOR)
    if isinstance(neurons, SigmaDeltaNeurons):
        twin: Any = SigmaDeltaProgram(dense, neurons.quanta, neurons.predictor, neurons.offset, neurons.digits,
                                      alpha=neurons.alpha)  # fmt: skip
    else:
        settings = neurons.timesteps, neurons.thresholds, neurons.alpha[0], neurons.alpha_clip
        twin = MembraneProgram(dense, neurons.model, neurons.coding, *settings)
    policy.reset()
    for obs in image_walk(25, seed=3):
        assert np.array_equal(policy.act(obs), twin.decide(obs))


@pytest.mark.parametrize("kind", NETWORKS)
def test_numpy_and_torch_are_equal_to_the_bit_on_dyadic_weights(kind: str) -> None:
    pytest.importorskip("torch")
    first, second = (SpikingPolicy(NETWORKS[kind], engine=engine) for engine in ("numpy", "torch"))
    for obs in random_images(30).reshape(10, 3, *IMAGE):
        assert np.array_equal(first.act(obs), second.act(obs))
        assert same_state(first.state, second.state)
        for name in ("spikes", "synaptic_operations", "multiply_accumulates", "iterations", "error_spikes"):
            assert np.array_equal(getattr(first.last_decision, name), getattr(second.last_decision, name))


@pytest.mark.parametrize("name", CONVERSIONS)
def test_every_neuron_converts_and_follows_the_actor(name: str) -> None:
    options = dict(CONVERSIONS[name])
    if name != "sigma-delta":
        options |= {"timesteps": 64, "threshold": "max", "alpha": 0}
    policy, chosen = convert(ACTOR, RECORDING, **options), RECORDING[::5]
    exact = ACTOR.act(chosen)
    share = 1 if name == "if-differential" else 0.35  # IF neurons cannot take back what they have told
    assert np.sqrt(np.mean((policy.act(chosen) - exact) ** 2)) < share * np.sqrt(np.mean(exact**2))
    assert policy.counters.spikes.sum() > 0


def test_acting_on_the_recorded_images_errs_by_the_tolerance() -> None:
    policy = convert(ACTOR, RECORDING, tolerance=0.02)
    policy.reset()
    half = (ACTOR.high - ACTOR.low) / 2
    error = (np.array([policy.act(obs) for obs in RECORDING]) - ACTOR.act(RECORDING)) / half
    assert np.sqrt(np.mean(error**2)) == pytest.approx(policy.conversion["open_loop_error"], rel=0.02)
    assert policy.conversion["open_loop_error"] == pytest.approx(0.02, rel=0.05)
    spikes = policy.counters.spikes[0] / len(RECORDING)
    assert np.allclose(spikes, policy.conversion["open_loop_spikes"], rtol=0.02)


def grouped(values: Any, groups: Any) -> Any:
    return np.asarray(values).reshape(groups)


def test_a_channel_has_one_threshold_one_quantum_and_one_predictor() -> None:
    for rule in ("max", "percentile:99", "mse"):
        neurons = convert(ACTOR, RECORDING, neuron="if", threshold=rule).network.neurons
        assert isinstance(neurons, MembraneNeurons)
        for index, (threshold, layer) in enumerate(zip(neurons.thresholds, ACTOR.hidden, strict=True)):
            per_channel = grouped(threshold, layer.groups)
            assert (per_channel == per_channel[:, :1]).all()
            if rule == "max":
                largest = grouped(ACTOR.activations(RECORDING.astype(np.float32))[0][index + 1].max(0), layer.groups)
                assert np.allclose(per_channel[:, 0], largest.max(axis=1))
    neurons = convert(ACTOR, RECORDING).network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    for values, groups in zip((*neurons.quanta, *neurons.predictor), ACTOR.groups * 2, strict=True):
        assert (grouped(values, groups) == grouped(values, groups)[:, :1]).all()
    assert len(np.unique(neurons.quanta[1])) > 1


def test_thresholds_may_be_given_per_channel() -> None:
    given = [np.linspace(0.5, 1, 5), np.linspace(1, 2, 4), np.ones(6)]
    neurons = convert(ACTOR, RECORDING, neuron="if", threshold=given).network.neurons
    assert isinstance(neurons, MembraneNeurons)
    for threshold, layer, values in zip(neurons.thresholds, ACTOR.hidden, given, strict=True):
        assert np.array_equal(grouped(threshold, layer.groups)[:, 0], values.astype(np.float32))


def test_synaptic_operations_of_sigma_delta_neurons_are_counted_one_by_one() -> None:
    drawn = sigma_delta_neurons(ACTOR)
    neurons = SigmaDeltaNeurons(drawn.quanta, drawn.predictor, drawn.offset, (1,) * len(drawn.quanta))
    policy = SpikingPolicy(SpikingNetwork(ACTOR, neurons), engine="numpy")
    for obs in random_images(5):
        policy.reset()
        policy.act(obs)
        stages = [memory != 0 for memory in told(policy)]  # one digit: each spike stays told
        expected = sum(int(fan_out(layer)[spiked].sum()) for layer, spiked in zip(ACTOR.layers, stages, strict=True))
        assert policy.last_decision is not None
        assert policy.last_decision.spikes[0].tolist() == [int(stage.sum()) for stage in stages]
        assert policy.last_decision.synaptic_operations[0] == expected
        assert policy.last_decision.multiply_accumulates[0] == 0


def test_synaptic_operations_of_membrane_neurons_are_counted_one_by_one() -> None:
    neurons = membrane_neurons(ACTOR, timesteps=1)
    policy = SpikingPolicy(SpikingNetwork(ACTOR, neurons), engine="numpy")
    dense = as_matrices(ACTOR)
    for obs in random_images(5):
        policy.reset()
        policy.act(obs)
        signal, expected = ACTOR.inputs(obs[None].astype(np.float32))[0], 0
        for index, threshold in enumerate(neurons.thresholds):
            layer = dense.layers[index]
            signal = threshold * (threshold / 2 + layer.weight @ signal + layer.bias > threshold)
            expected += int(fan_out(ACTOR.layers[index + 1])[signal > 0].sum())
        assert expected > 0
        assert policy.last_decision is not None
        assert policy.last_decision.synaptic_operations[0] == expected
        assert policy.last_decision.multiply_accumulates[0] == fan_out(ACTOR.layers[0]).sum()


def test_a_still_image_costs_nothing_after_the_first_decision_where_no_residual_is_carried() -> None:
    policy = convert(ACTOR, RECORDING, predictor=1, digits=40, alpha=0.0)
    policy.reset()
    still = RECORDING[7].copy()
    policy.act(still)
    for _ in range(3):
        policy.act(still)
        assert policy.last_decision is not None
        assert policy.last_decision.spikes.sum() == 0
        assert policy.last_decision.synaptic_operations.sum() == 0
    still[1, 4, 4] ^= 255
    policy.act(still)
    neurons = policy.network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    left = ACTOR.inputs(still[None].astype(np.float32))[0] - neurons.offset - told(policy)[0]
    assert policy.last_decision is not None
    assert 0 < policy.last_decision.spikes[0, 0] <= 40  # of one pixel
    assert (abs(left) <= neurons.quanta[0]).all()


@pytest.mark.parametrize("name", CONVERSIONS)
def test_a_saved_policy_is_the_same_to_the_bit_and_compact(name: str, tmp_path: Path) -> None:
    policy = convert(ACTOR, RECORDING, engine="numpy", **CONVERSIONS[name])
    policy.save(tmp_path)
    again = SpikingPolicy.load(tmp_path, engine="numpy")
    policy.reset()
    for obs in image_walk(20, seed=5).reshape(5, 4, *IMAGE):
        assert np.array_equal(policy.act(obs), again.act(obs))
        assert same_state(policy.state, again.state)
    shapes = {key: array.shape for key, array in load_file(file_of(tmp_path, "weights")).items()}
    if name == "sigma-delta":
        assert [shapes[f"stages.{i}.quantum"] for i in range(4)] == [(3,), (5,), (4,), (6,)]
        assert shapes["stages.0.predictor"] == (3,)
    else:
        assert [shapes[f"layers.{i}.threshold"] for i in range(3)] == [(5,), (4,), (6,)]
    assert shapes["normaliser.mean"] == (1, 1, 1)


@pytest.mark.parametrize("kind", POLICIES)
def test_a_batch_is_as_many_single_rows_and_a_mask_resets_its_own(kind: str) -> None:
    network = POLICIES[kind].network
    batch, masked = SpikingPolicy(network, engine="numpy"), np.array([False, True, False])
    singles = [SpikingPolicy(network, engine="numpy") for _ in range(3)]
    for step, obs in enumerate(random_images(18).reshape(6, 3, *IMAGE)):
        if step == 3:
            batch.reset(masked)
            singles[1].reset()
        actions = batch.act(obs)
        for row, single in enumerate(singles):
            assert np.array_equal(single.act(obs[row]), actions[row])
            assert all(np.array_equal(a[row], b[0]) for a, b in zip(batch.state, single.state, strict=True))


@pytest.mark.parametrize("options", [{}, {"neuron": "if"}, {"neuron": "if", "threshold": "percentile:99"}])
def test_bytes_and_floats_and_files_give_the_same_parameters(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def parameters(images: Any) -> list[np.ndarray]:
        neurons: Any = convert(ACTOR, images, **options).network.neurons
        sigma_delta = isinstance(neurons, SigmaDeltaNeurons)
        return [*neurons.quanta, *neurons.predictor, neurons.offset] if sigma_delta else [*neurons.thresholds]

    expected = parameters(RECORDING)
    monkeypatch.setattr(recordings, "CHUNK_VALUES", 40 * int(np.prod(IMAGE)))
    in_pieces = parameters(RECORDING)
    for given in (RECORDING.astype(np.float32), list(RECORDING), [RECORDING[:70], RECORDING[70:].astype(np.float64)]):
        assert all(np.array_equal(a, b) for a, b in zip(in_pieces, parameters(given), strict=True))
    monkeypatch.setattr(recordings, "MOST_SCRATCH_BYTES", 0)
    assert isinstance(recordings.scratch(2, 3), np.memmap)
    assert all(np.array_equal(a, b) for a, b in zip(in_pieces, parameters(RECORDING), strict=True))
    assert all(np.allclose(a, b, rtol=0.02) for a, b in zip(expected, in_pieces, strict=True))


def test_a_qcfs_encoder_brings_its_own_thresholds() -> None:
    actor = dyadic_image_actor(activation=Activation("qcfs", 2.0, levels=4))
    policy = convert(actor, RECORDING, neuron="if", alpha=0)
    assert policy.timesteps == 4
    neurons = policy.network.neurons
    assert isinstance(neurons, MembraneNeurons)
    assert all((threshold == 2).all() for threshold in neurons.thresholds)


def test_a_policy_of_convolutions_alone_acts() -> None:
    whole = Conv2d(np.full((2, *IMAGE), 1 / 64, np.float32), np.zeros(2, np.float32), IMAGE)
    actor = Actor((whole,), ACTOR.head, IMAGE, ACTOR.normaliser)
    policy = convert(actor, RECORDING, engine="numpy")
    assert policy.act(RECORDING[0]).shape == (2,)
    assert [memory.shape for memory in policy.state] == [(1, actor.widths[0]), (1, 0), (1, 1), (1, actor.widths[0])]
