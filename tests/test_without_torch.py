"""A robot has no torch: importing, loading a bundle and acting must not need it, nor onnx, nor Stable-Baselines3."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.actors import KINDS, dyadic_observations, policies

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "onnxscript", "stable_baselines3", "sb3_contrib"):
            raise ModuleNotFoundError(f"blocked for this test: {name}", name=name)

sys.meta_path.insert(0, Blocked())
"""
ACT = """
import json
import numpy as np
import snn_policy
import snn_policy.wrappers
from snn_policy import Actor, SpikingPolicy, convert

assert snn_policy.wrappers.SpikingPolicyEval and snn_policy.wrappers.SpikingPolicyVectorEval
observations = np.load(sys.argv[1])
answers = []
for directory in sys.argv[2:]:
    policy = SpikingPolicy.load(directory)
    answers.append([policy.act(obs).tolist() for obs in observations])
converted = convert(policy.actor, observations)
converted.act(observations[0])
assert not {"torch", "onnx", "stable_baselines3"} & set(sys.modules)
print(json.dumps(answers))
"""


def run(program: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", BLOCK + program, *arguments], capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_saved_policy_acts_alike_without_torch(tmp_path: Path) -> None:
    import json

    observations, expected = dyadic_observations(12), []
    np.save(tmp_path / "observations.npy", observations)
    for kind in KINDS:
        policy = policies("event")[kind]
        policy.save(tmp_path / kind)
        expected.append([policy.act(obs).tolist() for obs in observations])
    answers = json.loads(run(ACT, str(tmp_path / "observations.npy"), *(str(tmp_path / kind) for kind in KINDS)))
    assert answers == expected


@pytest.mark.parametrize("module", ["torch", "onnx", "stable_baselines3"])
def test_the_block_blocks(module: str) -> None:
    with pytest.raises(AssertionError, match="blocked for this test"):
        run(f"import {module}")


def test_asking_for_the_torch_engine_says_what_is_missing(tmp_path: Path) -> None:
    policies()["if-rate"].save(tmp_path)
    program = """
from snn_policy import SpikingPolicy
try:
    SpikingPolicy.load(sys.argv[1], engine="torch")
except ImportError as error:
    print(error)
"""
    assert "torch" in run(program, str(tmp_path))
