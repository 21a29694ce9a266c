"""The core dependencies alone are enough to load a policy and act: tested where nothing else can be imported.

The environment is a folder of links to exactly the distributions that snn-policy's core requires, directly or
not; Python runs isolated from every other one (`-I -S`).
"""

import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from snn_policy import SpikingPolicy
from snn_policy.exported import names, path

PROJECT = Path(__file__).resolve().parent.parent
ACT = """
import sys
sys.path[:0] = sys.argv[1].split(":")
import json
import numpy as np
import snn_policy
from snn_policy import SpikingPolicy
try:
    import torch
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("torch is there after all")
policy = SpikingPolicy.load(sys.argv[2])
print(json.dumps([policy.act(obs).tolist() for obs in np.load(sys.argv[3])]))
"""


def core_distributions() -> dict[str, list[str]]:
    """The files at the top of every distribution that the core needs, by its name."""
    found: dict[str, list[str]] = {}
    waiting = ["snn-policy"]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            here = distribution(name)
        except PackageNotFoundError:  # for another platform or Python
            continue
        found[name] = sorted({file.parts[0] for file in here.files or () if not file.parts[0].startswith("..")})
        waiting += [
            match[0]
            for line in here.requires or ()
            if "extra ==" not in line and (match := re.match(r"[A-Za-z0-9._-]+", line))
        ]
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that serves as site-packages."""
    folder = tmp_path_factory.mktemp("site-packages")
    for name, tops in core_distributions().items():
        for top in tops if name != "snn-policy" else ():
            installed = Path(sysconfig.get_path("purelib")) / top
            if installed.exists() and not (folder / top).exists():
                (folder / top).symlink_to(installed)
    (folder / "snn_policy").mkdir()
    for part in (PROJECT / "snn_policy").iterdir():
        (folder / "snn_policy" / part.name).symlink_to(part)
    (folder / "snn_policy" / "wrappers").symlink_to(PROJECT / "wrappers")
    (folder / "snn_policy" / "exported").symlink_to(PROJECT / "exported")
    metadata = next(Path(entry) for entry in sys.path for entry in Path(entry or ".").glob("snn_policy-*.dist-info"))
    (folder / metadata.name).symlink_to(metadata.resolve())
    return folder


def run(environment: Path, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ACT, str(environment), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.skipif(not names(), reason="no policies are shipped")
def test_a_shipped_policy_acts_where_only_the_core_is_installed(environment: Path, tmp_path: Path) -> None:
    name = names()[0]
    policy = SpikingPolicy.load(path(name))
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(20, *policy.observation_shape)).astype(np.float32)
    np.save(tmp_path / "observations.npy", observations)
    answers = json.loads(run(environment, str(path(name)), str(tmp_path / "observations.npy")))
    assert np.array_equal(np.float32(answers), [policy.act(obs) for obs in observations])


def test_the_environment_really_lacks_the_extras(environment: Path) -> None:
    assert not {"torch", "onnx", "stable_baselines3", "mujoco"} & {entry.name for entry in environment.iterdir()}
