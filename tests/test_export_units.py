"""Verification's unit is the calibration's, and rounding is no difference: correct exports pass at any scale."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.layers import Head, Linear
from snn_policy.calibration.action_units import unit_name
from snn_policy.cli import main
from snn_policy.exporting.verification import ROUNDING, plausible_observations, verify
from snn_policy.spiking.neurons import MembraneNeurons
from tests.actors import make_head, random_actor, walk

ELU = Activation("elu", 1.0)
FEW = 50
"""Observations, each decided on twice, where many actors are exported."""


def scaled_actor(seed: int, head: Head | None = None, activation: Activation = ELU, shift: float = 0.0) -> Actor:
    """A small actor of four actions, of scales drawn from 1 to 300, unbounded unless there is a head."""
    rng = np.random.default_rng(seed)
    actor = random_actor(seed, activation, "clip", (12,), (24, 16), outputs=4)
    scale = np.exp(rng.uniform(0, np.log(300), 4)).astype(np.float32)
    scale *= actor.activations(walk(200, (12,)))[1].std(axis=0) ** -1
    last = actor.layers[-1]
    moved = Linear(last.weight * scale[:, None], last.bias * scale + np.float32(shift))
    return Actor((*actor.layers[:-1], moved), head or Head.clip([-np.inf] * 4, [np.inf] * 4), (12,))


@pytest.mark.parametrize("seed", range(20))
def test_correct_exports_of_unbounded_actions_pass(seed: int, tmp_path: Path) -> None:
    policy = convert(scaled_actor(seed), walk(300, (12,), seed))
    for path in policy.export_onnx(tmp_path).files:
        found = verify(policy.network, path, plausible_observations(policy.network, FEW))
        assert found.passed, found


@pytest.mark.parametrize("seed", range(3))
def test_the_command_finds_nothing_in_them_and_names_the_unit(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(scaled_actor(seed), walk(300, (12,), seed)).save(tmp_path)
    assert main(["export", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("recorded spreads of the action") == 2
    assert "half-range" not in said


@pytest.mark.parametrize("seed", range(3))
def test_actions_far_from_zero_pass(seed: int, tmp_path: Path) -> None:
    policy = convert(scaled_actor(seed, shift=3000.0), walk(300, (12,), seed))
    for path in policy.export_onnx(tmp_path).files:
        found = verify(policy.network, path, plausible_observations(policy.network, FEW))
        assert found.passed, found
        assert found.action_limit > 1e-5 or found.action_difference == 0


@pytest.mark.parametrize("seed", range(3))
def test_steep_actors_with_narrow_bounds_pass(seed: int, tmp_path: Path) -> None:
    policy = convert(scaled_actor(seed, Head.clip([-10] * 4, [10] * 4)), walk(300, (12,), seed))
    for path in policy.export_onnx(tmp_path).files:
        assert verify(policy.network, path, plausible_observations(policy.network, FEW)).passed


@pytest.mark.parametrize("seed", range(3))
def test_another_choice_between_equal_logits_is_no_difference(seed: int, tmp_path: Path) -> None:
    actor = random_actor(seed, kind="argmax", outputs=3)
    last = actor.layers[-1]
    weight: Any = last.weight[[0, 0, 0]] * 50 + np.float32(1e-6) * last.weight
    twins = Linear(weight, np.full(3, 800, np.float32))
    policy = convert(Actor((*actor.layers[:-1], twins), actor.head, (11,)), walk(300))
    for path in policy.export_onnx(tmp_path).files:
        assert verify(policy.network, path, walk(100, seed=7)).passed


@pytest.mark.parametrize("kind", ["unbounded", "argmax", "tanh"])
def test_a_wrong_weight_is_still_found(kind: Any, tmp_path: Path) -> None:
    actor = scaled_actor(0) if kind == "unbounded" else random_actor(kind=kind, shape=(12,), widths=(24, 16), outputs=4)
    policy = convert(actor, walk(300, (12,)))
    path = policy.export_onnx(tmp_path).files[0]
    model = onnx.load(path)
    last = [tensor for tensor in model.graph.initializer if list(tensor.dims) == [16, 4]]
    assert last
    for weights in last:
        changed = numpy_helper.to_array(weights) * np.array([1.02, 1, 1, 1], np.float32)
        weights.CopyFrom(numpy_helper.from_array(changed, weights.name))
    onnx.save(model, path)
    assert not verify(policy.network, path, walk(200, (12,), 3)).passed


@pytest.mark.parametrize("size", [1e-7, 1e-6, 1e-5, 1e-4])
@pytest.mark.parametrize("model", ["if", "snm"])
def test_nearly_dead_neurons_do_not_make_an_export_wrong(model: str, size: float, tmp_path: Path) -> None:
    # so small a threshold that rounding decides when the neuron fires: 600 flips of 400 decisions before
    actor, observations = random_actor(shape=(8,), widths=(32, 24)), walk(300, (8,))
    neurons = convert(actor, observations, neuron=model).network.neurons
    assert isinstance(neurons, MembraneNeurons)
    thresholds = [theta.copy() for theta in neurons.thresholds]
    for theta in thresholds:
        theta[:6] = size
    policy = convert(actor, observations, neuron=model, threshold=thresholds)
    for path in policy.export_onnx(tmp_path).files:
        found = verify(policy.network, path, plausible_observations(policy.network))
        assert found.passed, found


def test_the_unit_is_named() -> None:
    low, high = np.full(4, -1.0), np.array([1.0, 1.0, np.inf, 1.0])
    names = [unit_name(scaled_actor(0, Head.clip(low, top))) for top in (np.ones(4), high, np.full(4, np.inf))]
    assert names[0] == "half-ranges"
    assert "where unbounded" in names[1]
    assert unit_name(scaled_actor(0)) == "recorded spreads of the action"
    assert unit_name(random_actor(kind="argmax")) == "half-spreads of the logits"
    assert ROUNDING < 2e-6


def test_convert_speaks_of_the_unit_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "rows.npy", walk(300, (12,)))
    convert(scaled_actor(1), walk(300, (12,))).save(tmp_path / "first")
    options = ["--observations", str(tmp_path / "rows.npy"), "--out", str(tmp_path / "second")]
    assert main(["convert", str(tmp_path / "first"), *options]) == 0
    said = capsys.readouterr().out
    assert "recorded spreads of the action" in said
    assert "half-range" not in said


def test_json_tells_the_unit_and_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers: Any = (Linear(np.ones((4, 3), np.float32), np.zeros(4, np.float32), RELU),
                   Linear(np.ones((2, 4), np.float32), np.zeros(2, np.float32)))  # fmt: skip
    policy: SpikingPolicy = convert(Actor(layers, make_head("argmax", 2), (3,)), walk(100, (3,)))
    policy.save(tmp_path)
    assert main(["export", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["action_unit"] is None
    assert document["verification"][0]["action_limit"] >= 1e-5
