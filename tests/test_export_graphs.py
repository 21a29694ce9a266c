"""Exported graphs are the policy: every neuron, coding, activation, head and setting, in several runtimes.

On dyadic networks every sum is exact, so that states and counts must be equal; only tanh and the like may round.
"""

import dataclasses
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from snn_policy import OnnxPolicy, SpikeCalibration, SpikingPolicy
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Linear, Normaliser
from snn_policy.exporting.model import model_bytes
from snn_policy.exporting.sigma_delta import HALF, REACH, _left_over
from snn_policy.exporting.tracing import Graph
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import LEAST_RESIDUAL, sigma_delta_residual
from tests.actors import (
    CODINGS,
    HEAD_KINDS,
    HEADS_AND_ACTIVATIONS,
    KINDS,
    MODELS,
    dyadic_actor,
    dyadic_observations,
    membrane_neurons,
    policies,
    random_actor,
    sigma_delta_neurons,
    walk,
)
from tests.graphs import about, expected, host, onnx_runtime, openvino_runtime, reference_evaluator, worst_differences

ROUNDING = 1e-6
RUNTIMES = {"onnxruntime": onnx_runtime, "reference": reference_evaluator, "openvino": openvino_runtime}


def spiking(actor: Any, neurons: Any) -> SpikingPolicy:
    return SpikingPolicy(SpikingNetwork(actor, neurons), engine="numpy")


def assert_same(policy: SpikingPolicy, directory: Path, observations: Any, rounding: float = ROUNDING,
                runtime: Any = onnx_runtime, rows: int = 1, **options: Any) -> None:  # fmt: skip
    """Both graphs give the policy's actions, memories and counts."""
    wanted = expected(policy, observations, rows)
    for path in policy.export_onnx(directory, **options).files:
        worst = worst_differences(host(runtime(path), about(path), observations, rows), wanted)
        assert {"action", "counts"} < worst.keys()
        assert worst.pop("action") <= rounding
        assert all(element == 0 for element in worst.values()), worst


@pytest.mark.parametrize("kind", KINDS)
def test_every_neuron_and_coding(kind: str, tmp_path: Path) -> None:
    assert_same(policies()[kind], tmp_path, dyadic_observations(40), rounding=0)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_runtime(kind: str, runtime: str, tmp_path: Path) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    assert_same(policies()[kind], tmp_path, dyadic_observations(12), runtime=RUNTIMES[runtime])


@pytest.mark.parametrize(("activation", "kind"), HEADS_AND_ACTIVATIONS, ids=lambda value: getattr(value, "name", value))
def test_every_activation_and_head_of_sigma_delta(activation: Activation, kind: Any, tmp_path: Path) -> None:
    actor = dyadic_actor(1, activation, kind)
    assert_same(spiking(actor, sigma_delta_neurons(actor)), tmp_path, dyadic_observations(20))


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("model", MODELS)
def test_every_head_of_membrane_neurons(model: str, coding: str, kind: Any, tmp_path: Path) -> None:
    actor = dyadic_actor(2, kind=kind)
    neurons = membrane_neurons(actor, model=model, coding=coding, timesteps=4 if coding == "rate" else 2)
    assert_same(spiking(actor, neurons), tmp_path, dyadic_observations(20))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("residual", ["bounded", "plain"])
@pytest.mark.parametrize("model", MODELS)
def test_every_carried_residual(model: str, residual: str, alpha: float, tmp_path: Path) -> None:
    actor = dyadic_actor(3)
    neurons = membrane_neurons(actor, model=model, alpha=alpha, residual=residual)
    assert_same(spiking(actor, neurons), tmp_path, dyadic_observations(20), rounding=0)


@pytest.mark.parametrize("rule", ["first-pass", "literal"])
@pytest.mark.parametrize(
    "settings", [{"iterations": 1}, {"iterations": 3, "simulation_steps": 5}, {"adaptive": (0, 2)}], ids=str
)
def test_spike_calibration_is_in_the_decision(settings: Any, rule: Any, tmp_path: Path) -> None:
    actor = dyadic_actor(4)
    calibration = SpikeCalibration(rule=rule, epsilon=1 / 64, **settings)
    policy = spiking(actor, membrane_neurons(actor, calibration=calibration))
    observations = dyadic_observations(30)
    assert_same(policy, tmp_path, observations, rounding=0)
    path = tmp_path / "decision.onnx"
    counts = np.concatenate(
        [record["counts"] for record in host(onnx_runtime(path), about(path), observations[:, None])]
    )
    state, network = policy.initial_state(1), policy.network
    for row, obs in zip(counts, observations, strict=True):
        _, state, decision = network.decide(obs[None], state)
        assert row[-2:].tolist() == [decision.iterations[0], decision.error_spikes[0]]


def test_spike_calibration_has_no_timestep_graph_and_says_why(tmp_path: Path) -> None:
    actor = dyadic_actor(4)
    spiking(actor, membrane_neurons(actor)).export_onnx(tmp_path)
    exported = spiking(actor, membrane_neurons(actor, calibration=SpikeCalibration())).export_onnx(tmp_path)
    assert not (tmp_path / "step.onnx").exists()
    noted = json.loads((tmp_path / "policy.json").read_text())["onnx"]
    assert "calibration" in noted["step_left_out"]
    assert noted["step_left_out"] == exported.step_left_out
    assert SpikingPolicy.load(tmp_path).network.neurons.calibration == SpikeCalibration()  # pyright: ignore


@pytest.mark.parametrize("widths", [(), (5,), (6, 5, 4)], ids=str)
@pytest.mark.parametrize("neurons", [sigma_delta_neurons, membrane_neurons])
def test_any_number_of_hidden_layers(neurons: Any, widths: tuple[int, ...], tmp_path: Path) -> None:
    actor = dyadic_actor(5, widths=widths)
    assert_same(spiking(actor, neurons(actor)), tmp_path, dyadic_observations(15), rounding=0)


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("widths", [(), (8, 6)], ids=str)
@pytest.mark.parametrize("settings", [{"predictor": 0}, {"predictor": 1}, {"quanta": 0}], ids=str)
def test_what_is_known_beforehand_keeps_its_shape(
    settings: dict[str, float], widths: tuple[int, ...], batch: int | None, tmp_path: Path
) -> None:
    actor = dyadic_actor(9, widths=widths)
    neurons = sigma_delta_neurons(actor)
    for name, number in settings.items():
        values = tuple(np.full_like(entry, number) for entry in getattr(neurons, name))
        neurons = dataclasses.replace(neurons, **{name: values})
    observations = np.stack([dyadic_observations(10, seed=seed) for seed in range(3)], axis=1)
    assert_same(spiking(actor, neurons), tmp_path, observations, rounding=0, rows=3, batch=batch)


@pytest.mark.parametrize("settings", [{"coding": "differential"}, {"calibration": SpikeCalibration(adaptive=(0, 2))}])
def test_outputs_that_nothing_changes_have_all_rows(settings: Any, tmp_path: Path) -> None:
    actor = dyadic_actor(10, widths=())
    policy = spiking(actor, membrane_neurons(actor, **settings))
    observations = np.stack([dyadic_observations(5, seed=seed) for seed in range(3)], axis=1)
    for path in policy.export_onnx(tmp_path).files:
        exported = OnnxPolicy(path)
        assert np.array_equal([exported.act(obs) for obs in observations], [policy.act(obs) for obs in observations])
        policy.reset()


@pytest.mark.parametrize("base", [2**0.5, 1.5, 4.0])
def test_other_bases_than_two(base: float, tmp_path: Path) -> None:
    actor = dyadic_actor(6)
    policy = spiking(actor, sigma_delta_neurons(actor, base=base))
    observations = dyadic_observations(20)
    wanted = expected(policy, observations)
    for path in policy.export_onnx(tmp_path).files:
        worst = worst_differences(host(onnx_runtime(path), about(path), observations), wanted)
        assert max(worst.values()) < 1e-5


def test_images_normalisers_and_shaped_observations(tmp_path: Path) -> None:
    normaliser = Normaliser(np.full((2, 3), 0.5, np.float32), np.full((2, 3), 2, np.float32), clip=1.5)  # pyright: ignore
    actor = random_actor(shape=(2, 3), widths=(8,))
    actor.normaliser = normaliser
    for neurons in (sigma_delta_neurons(actor), membrane_neurons(actor, model="mt")):
        policy, observations = spiking(actor, neurons), 3 * walk(25, (2, 3))
        wanted = expected(policy, observations)
        for path in policy.export_onnx(tmp_path).files:
            worst = worst_differences(host(onnx_runtime(path), about(path), observations), wanted)
            assert max(worst.values()) < 1e-5


@pytest.mark.parametrize("neurons", [sigma_delta_neurons, membrane_neurons])
def test_convolutions(neurons: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel, bias = rng.integers(-8, 9, (3, 2, 3, 3)) / 64, rng.integers(-8, 9, 3) / 64
    image = Conv2d(kernel.astype(np.float32), bias.astype(np.float32), (2, 6, 5), (2, 1), (1, 0), RELU)
    small = dyadic_actor(0, shape=(image.outputs,), widths=(7,))
    small = replace(small, graph=(image, *small.layers), observation_shape=(2, 6, 5))
    assert isinstance(small.layers[1], Linear)
    assert_same(spiking(small, neurons(small)), tmp_path, dyadic_observations(8, (2, 6, 5)), rounding=0)


@pytest.mark.parametrize("factor", [1.0, 64.0, float(2 * REACH), 1e9, 1e25])
def test_observations_far_beyond_the_tables_are_decided_as_defined(factor: float, tmp_path: Path) -> None:
    actor = dyadic_actor(7, kind="tanh")
    policy = spiking(actor, sigma_delta_neurons(actor))
    observations = dyadic_observations(16) * np.float32(factor)
    wanted = expected(policy, observations)
    for path in policy.export_onnx(tmp_path).files:
        worst = worst_differences(host(onnx_runtime(path), about(path), observations), wanted)
        assert worst["action"] < 1e-5
        assert worst["counts"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_rows(kind: str, tmp_path: Path) -> None:
    observations = np.stack([dyadic_observations(10, seed=seed) for seed in range(3)], axis=1)
    assert_same(policies()[kind], tmp_path, observations, rounding=0, rows=3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 3])
def test_static_shapes(batch: int, kind: str, tmp_path: Path) -> None:
    observations = np.stack([dyadic_observations(10, seed=seed) for seed in range(batch)], axis=1)
    assert_same(policies()[kind], tmp_path, observations, rounding=0, rows=batch, batch=batch)
    for name in ("decision.onnx", "step.onnx"):
        graph = onnx.load(tmp_path / name).graph
        values = (*graph.input, *graph.output)
        assert all(size.dim_value for value in values for size in value.type.tensor_type.shape.dim)


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_sound_and_reproducible(kind: str, tmp_path: Path) -> None:
    first, second = (policies()[kind].export_onnx(tmp_path / part).files for part in ("one", "two"))
    for one, other in zip(first, second, strict=True):
        content = one.read_bytes()
        assert content == other.read_bytes()
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version >= 18
        assert model.ir_version <= 9, "ONNX Runtime 1.17 reads up to 9"
        assert not re.search(rb"/(work|home|tmp|root|usr)/|\.py\b|site-packages", content)
        assert not any(tensor.external_data for tensor in model.graph.initializer)


@pytest.mark.parametrize("kind", KINDS)
def test_names_dtypes_and_zero_start(kind: str, tmp_path: Path) -> None:
    policy = policies()[kind]
    for path in policy.export_onnx(tmp_path, control_period=0.02).files:
        model = onnx.load(path)
        inputs, outputs = ([value.name for value in side] for side in (model.graph.input, model.graph.output))
        described = about(path)
        names = [name for name, _ in described.memories]
        assert inputs == ["obs", *(f"memory.{name}.in" for name in names)]
        assert outputs == ["action", *(f"memory.{name}.out" for name in names), "counts"]
        assert ("timestep" in names) == (path.name == "step.onnx")
        kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
        assert all(kinds[name] == onnx.TensorProto.FLOAT for name in kinds if name.startswith("memory"))
        properties = {prop.key: prop.value for prop in model.metadata_props}
        assert float(properties["update_rate"]) == 50
        assert json.loads(properties["snn_policy"])["timesteps"] == policy.timesteps


@pytest.mark.parametrize("kind", KINDS)
def test_the_timestep_graph_counts_itself_and_starts_again(kind: str, tmp_path: Path) -> None:
    policy = policies()[kind]
    path = policy.export_onnx(tmp_path).files[1]
    run, described, seen = onnx_runtime(path), about(path), []
    memory = {f"memory.{name}.in": np.zeros((1, width), np.float32) for name, width in described.memories}
    for _ in range(2 * policy.timesteps + 1):
        out = run({"obs": dyadic_observations(1), **memory})
        memory = {f"{name[:-4]}.in": value for name, value in out.items() if name.startswith("memory.")}
        seen.append(float(memory["memory.timestep.in"][0, 0]))
    once = [*range(1, policy.timesteps), 0]
    assert seen == [*once, *once, 1 % policy.timesteps]


def test_without_counts_the_graph_has_none(tmp_path: Path) -> None:
    for path in policies()["sigma-delta"].export_onnx(tmp_path, counts=False).files:
        assert [value.name for value in onnx.load(path).graph.output][-1].startswith("memory.")


def operators(path: Path) -> list[str]:
    """The operators that a usual decision runs: those of the graph and of its If's first branch."""
    graph = onnx.load(path).graph
    branches = [attribute.g for node in graph.node for attribute in node.attribute if attribute.name == "then_branch"]
    return [node.op_type for part in (graph, *branches) for node in part.node]


@pytest.mark.parametrize("widths", [(8,), (8, 6), (8, 6, 7, 5)], ids=len)
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_usual_decision_takes_thirteen_nodes_per_stage_and_few_others(
    alpha: float, widths: tuple[int, ...], tmp_path: Path
) -> None:
    actor = dyadic_actor(1, widths=widths)
    spiking(actor, sigma_delta_neurons(actor, alpha=alpha)).export_onnx(tmp_path)
    run = operators(tmp_path / "decision.onnx")
    assert not {"Where", "And", "Or", "Abs", "Sign"} & set(run)  # several times slower than the others
    assert len(run) <= (13 if alpha else 12) * len(actor.layers) + (27 if alpha else 20)
    assert run.count("Shrink") == (2 if alpha else 0)  # once for all stages


@pytest.mark.parametrize("edge", [3.0, 4 * LEAST_RESIDUAL])
def test_residuals_are_left_over_as_defined_to_the_last_bit(edge: float) -> None:
    near = np.float32(edge) * (1 + np.arange(-64, 65, dtype=np.float32) * np.float32(2.0**-24))
    quarters = np.concatenate([near, -near, [0, 1e-30, -2.5, 7.25, 1e30]]).astype(np.float32)
    given = Graph(1).input("x", (len(quarters),))
    model = model_bytes("rest", [given], {"rest": _left_over(given)}, {})
    rest = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": quarters[None]})[0]
    sent = abs(quarters) >= 3
    expected_rest = sigma_delta_residual(quarters[None] / 4, sent[None], np.ones(len(quarters), np.float32)) * 4
    assert np.array_equal(np.asarray(rest), expected_rest)
    assert 0 < np.count_nonzero(expected_rest) < len(quarters)


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_without_counts_nothing_is_counted(batch: int | None, tmp_path: Path) -> None:
    policy = policies()["sigma-delta"]
    counting = policy.export_onnx(tmp_path / "counting", batch=batch).files
    silent = policy.export_onnx(tmp_path / "silent", batch=batch, counts=False).files
    for with_counts, without in zip(counting, silent, strict=True):
        assert len(operators(without)) <= len(operators(with_counts)) - 4
    assert operators(silent[0]).count("GatherElements") == len(policy.actor.layers)
    assert counting[0].stat().st_size - silent[0].stat().st_size > 4 * 2 * HALF  # the table of spikes


@pytest.mark.parametrize("factor", [1.0, 64.0, float(2 * REACH), 1e9])
def test_without_counts_the_tables_end_where_they_do_with_them(factor: float, tmp_path: Path) -> None:
    policy = spiking(actor := dyadic_actor(7), sigma_delta_neurons(actor, alpha=0.5))
    path = policy.export_onnx(tmp_path, counts=False).files[0]
    run, state = onnx_runtime(path), policy.network.initial_state(1)
    memory = {f"memory.{name}.in": np.zeros((1, width), np.float32) for name, width in about(path).memories}
    for obs in dyadic_observations(16) * np.float32(factor):
        action, state, _ = policy.network.decide(obs[None], state)
        out = run({"obs": obs[None], **memory})
        memory = {f"{name[:-4]}.in": value for name, value in out.items() if name.startswith("memory.")}
        assert np.array_equal(out["action"], action)
        assert np.array_equal(memory["memory.memory.in"], state.memory)  # pyright: ignore


@pytest.mark.parametrize("options", [{"batch": 0}, {"batch": 1.5}, {"control_period": 0}, {"control_period": "fast"}])
def test_wrong_options_are_refused(options: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        policies()["if-rate"].export_onnx(tmp_path, **options)
