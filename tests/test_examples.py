"""Every example runs from the command line, on any bundle and environment."""

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NEEDS = {"sb3_evaluate_policy.py": "stable_baselines3", "dm_env_loop.py": "dm_env"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small untrained policy for Pendulum."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    layers = (Linear(weights(16, 3), weights(16), RELU), Linear(weights(1, 16), weights(1)))
    actor = Actor(layers, Head.bounded([-2], [2]), (3,), env_id="Pendulum-v1")
    directory = tmp_path_factory.mktemp("bundle")
    convert(actor, actor.collect("Pendulum-v1", steps=400)).save(directory)
    return str(directory)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gymnasium_loop.py", "in 200 decisions"),
        ("sb3_evaluate_policy.py", "SNN: "),
        ("cleanrl_vector_loop.py", "length 200"),
        ("dm_env_loop.py", "returns ["),
    ],
)
def test_example_runs(name, says, bundle, monkeypatch, capsys):
    needed = NEEDS.get(name)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    monkeypatch.setattr(sys, "argv", [name, bundle, "Pendulum-v1"])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert says in capsys.readouterr().out


def run_example(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)})  # fmt: skip


def test_the_step_host_runs_as_it_is() -> None:
    pytest.importorskip("onnx")
    done = run_example("step_host.py")
    assert done.returncode == 0, done.stderr
    actions = [float(line) for line in done.stdout.splitlines()]
    assert len(actions) == 200
    assert np.ptp(actions) > 0.5


def test_the_step_host_decides_like_the_policy_it_was_given(bundle: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    policy = SpikingPolicy.load(bundle)
    policy.export_onnx(tmp_path)
    recorded = policy.actor.collect("Pendulum-v1", steps=30)
    np.save(tmp_path / "observations.npy", recorded)
    done = run_example("step_host.py", str(tmp_path / "step.onnx"), str(tmp_path / "observations.npy"))
    assert np.allclose([float(line) for line in done.stdout.splitlines()], [policy.act(obs)[0] for obs in recorded],
                       atol=1e-4)  # fmt: skip


def test_the_step_host_names_what_it_expects() -> None:
    done = run_example("step_host.py", "step.onnx")
    assert (done.returncode, done.stderr) == (1, "step_host.py: expected STEP.onnx OBSERVATIONS.npy, or nothing\n")
