"""Verification finds graphs that are not the policy; on reference actors it finds nothing but rounding."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from snn_policy import OnnxPolicy, SpikingPolicy, convert
from snn_policy.cli import main
from snn_policy.exporting.verification import FEW_FLIPS, Verification, plausible_observations, verify
from tests.actors import KINDS, dyadic_observations, policies, random_actor, reference_actor, walk
from tests.graphs import about, host, onnx_runtime

ROOT = Path(__file__).resolve().parent.parent
REFERENCES = ("tqc-HalfCheetah-v3", "ppo-Hopper-v3", "sac-Walker2d-v3", "tqc-Swimmer-v3", "trpo-Swimmer-v3",
              "sac-Pendulum-v1", "sac-MountainCarContinuous-v0", "dqn-CartPole-v1", "ppo-go1")  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "sigma-delta": {},
    "if": {"neuron": "if", "timesteps": 16},
    "snm": {"neuron": "snm", "timesteps": 8},
    "mt-differential": {"neuron": "mt", "coding": "differential", "timesteps": 4},
}
RELU_REFERENCES = tuple(name for name in REFERENCES if name not in ("trpo-Swimmer-v3", "ppo-go1"))
"""Those that membrane neurons stand for."""


@pytest.mark.parametrize("kind", KINDS)
def test_exports_pass(kind: str, graphs_of_kind: Callable[[str], Path]) -> None:
    policy = policies()[kind]
    for path in (graphs_of_kind(kind) / "decision.onnx", graphs_of_kind(kind) / "step.onnx"):
        found = verify(policy.network, path, dyadic_observations(100))
        assert found.passed
        assert (found.decisions, found.flips, found.action_difference) == (200, 0, 0)
        assert not any(found.memory_differences.values())


@pytest.mark.parametrize("options", [{"batch": 2}, {"counts": False}])
def test_exports_of_every_form_are_verified(options: Any, tmp_path: Path) -> None:
    policy = policies()["sigma-delta"]
    for path in policy.export_onnx(tmp_path, **options).files:
        assert verify(policy.network, path, dyadic_observations(20)).passed


@pytest.mark.parametrize("name", ["decision.onnx", "step.onnx"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_weight_is_found(kind: str, name: str, graphs_of_kind: Callable[[str], Path], tmp_path: Path) -> None:
    policy = policies()[kind]
    model = onnx.load(graphs_of_kind(kind) / name)
    weights = [tensor for tensor in model.graph.initializer if list(tensor.dims) == [6, 2]]
    assert weights, "the last layer's"
    changed = numpy_helper.to_array(weights[0]) + np.float32(1 / 16)
    weights[0].CopyFrom(numpy_helper.from_array(changed, weights[0].name))
    onnx.save(model, tmp_path / name)
    assert not verify(policy.network, tmp_path / name, dyadic_observations(50)).passed


def test_plausible_observations_have_the_normalisers_scale() -> None:
    actor = random_actor(normalised=True)
    policy = convert(actor, walk(300))
    seen = actor.inputs(plausible_observations(policy.network, 2000))
    assert seen.shape == (2000, 11)
    assert 0.3 < seen.std() < 2


@pytest.mark.parametrize(
    ("name", "settings"),
    [(name, setting) for setting in SETTINGS for name in (REFERENCES if setting == "sigma-delta" else RELU_REFERENCES)],
)
def test_reference_actors(name: str, settings: str, reference_dir: Path, tmp_path: Path) -> None:
    actor = reference_actor(reference_dir, name)
    observations = walk(400, actor.observation_shape)
    if actor.normaliser is not None:
        observations = observations * actor.normaliser.scale + actor.normaliser.mean
    policy = convert(actor, observations, **SETTINGS[settings])
    for path in policy.export_onnx(tmp_path).files:
        found = verify(policy.network, path, observations[:50])
        assert found.passed, found
        assert found.flip_rate < 1e-4
        assert found.action_difference <= 1e-5


def test_whole_episodes_return_as_much(tmp_path: Path) -> None:
    from snn_policy import evaluate
    from snn_policy.exported import names, path

    if "td3-Pendulum-v1" not in names():
        pytest.skip("no policy for Pendulum is shipped")
    policy = SpikingPolicy.load(path("td3-Pendulum-v1"))
    policy.export_onnx(tmp_path)
    ours, exported = (evaluate(case, "Pendulum-v1", episodes=8, seed=3) for case in (policy, OnnxPolicy(tmp_path)))
    assert abs(ours.mean - exported.mean) < 0.05 * abs(ours.mean)
    assert exported.spikes_per_decision == pytest.approx(ours.spikes_per_decision, rel=0.05)


def test_a_few_flips_of_a_small_network_are_chance() -> None:
    few = Verification("decision", 400, FEW_FLIPS, 1e-3, 0.0, 0.5, {})
    assert few.passed
    assert not replace(few, flips=FEW_FLIPS + 1).passed
    assert not replace(few, action_difference=1e-3).passed


def test_the_command_exports_and_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies()["if-rate"].save(tmp_path / "bundle")
    assert main(["export", str(tmp_path / "bundle"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["files"] == ["decision.onnx", "step.onnx"]
    assert [record["graph"] for record in document["verification"]] == ["decision", "step"]
    assert all(record["passed"] and record["decisions"] >= 200 for record in document["verification"])
    out, recording = tmp_path / "out", tmp_path / "observations.npy"
    np.save(recording, dyadic_observations(20))
    options = ["--out", str(out), "--batch", "1", "--no-counts", "--observations", str(recording)]
    assert main(["export", str(tmp_path / "bundle"), *options]) == 0
    assert "flip rate 0.0e+00" in capsys.readouterr().out
    assert about(out / "step.onnx").batch == 1


def test_the_command_fails_where_the_graph_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from snn_policy.exporting import export

    policies()["if-rate"].save(tmp_path)
    other = policies(seed=5)["if-rate"].network
    monkeypatch.setattr(export, "trace_decision", lambda _, *given, real=export.trace_decision: real(other, *given))
    assert main(["export", str(tmp_path)]) == 2
    assert "differ from the policy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{tmp}/nothing", "--out", "{tmp}/out"], "no such file"),
        (["td3-Pendulum-v1"], "--out"),
        (["{tmp}/bundle", "--observations", "{tmp}/none.npy"], "No such file"),
        (["{tmp}/bundle", "--observations", "{tmp}/bundle/policy.json"], "policy.json: not an array"),
        (["{tmp}/bundle", "--control-period", "-1"], "control_period"),
    ],
)
def test_mistakes_are_one_line(arguments: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies()["if-rate"].save(tmp_path / "bundle")
    assert main(["export", *(argument.format(tmp=tmp_path) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_eval_and_compare_take_exported_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    actor = random_actor(shape=(3,), widths=(16,), outputs=1)
    actor.env_id = "Pendulum-v1"
    policy = convert(actor, walk(200, (3,)))
    policy.save(tmp_path / "bundle")
    policy.export_onnx(tmp_path / "both")
    (tmp_path / "graphs").mkdir()
    shutil.copy(tmp_path / "both" / "decision.onnx", tmp_path / "graphs")
    for path in ("graphs", "both/step.onnx", "both"):
        assert main(["eval", str(tmp_path / path), "--episodes", "1", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["kind"] == "SNN"
        assert document["spikes_per_decision"] > 0
    assert main(["compare", str(tmp_path / "bundle"), str(tmp_path / "graphs"), "--episodes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["snn"]["decisions"] == 200


def test_the_python_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import runpy
    import sys

    observations = dyadic_observations(6)
    np.save(tmp_path / "observations.npy", observations)
    policy = policies()["mt-rate"]
    for path in policy.export_onnx(tmp_path).files[1:]:
        monkeypatch.setattr(sys, "argv", ["step_host.py", str(path), str(tmp_path / "observations.npy")])
        runpy.run_path(str(ROOT / "examples" / "step_host.py"), run_name="__main__")
        printed = [[float(part) for part in line.split()] for line in capsys.readouterr().out.splitlines()]
        assert np.array_equal(np.array(printed, np.float32), [policy.act(obs) for obs in observations])


def test_the_node_host(tmp_path: Path) -> None:
    node, place = shutil.which("node"), Path(os.environ.get("SNN_POLICY_NODE_HOST", ROOT / "examples" / "node"))
    if node is None or not (place / "node_modules" / "onnxruntime-node").is_dir():
        pytest.skip("needs node, and `npm install --ignore-scripts` in examples/node")
    observations = dyadic_observations(6)
    for kind in ("sigma-delta", "if-rate", "mt-differential"):
        for path in policies()[kind].export_onnx(tmp_path).files:
            done = subprocess.run([node, place / "host.mjs", path], input=json.dumps(observations.tolist()), text=True,
                                  capture_output=True, timeout=60)  # fmt: skip
            assert done.returncode == 0, done.stderr
            wanted = host(onnx_runtime(path), about(path), observations)
            assert np.allclose(json.loads(done.stdout), [record["action"][0] for record in wanted], atol=1e-6)
