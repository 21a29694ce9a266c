"""`load_actor` knows a source by what it is, and says so when it does not."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.errors import SourceError
from snn_policy.sources import load_actor


@pytest.fixture
def actor() -> Actor:
    one = np.ones((1, 1), np.float32)
    layers = (Linear(one, one[0], RELU), Linear(one, one[0]))
    return Actor(layers, Head.clip([-1], [1]), (1,))


def test_an_actor_and_whatever_holds_one_come_back_as_they_are(actor: Actor) -> None:
    assert load_actor(actor) is actor
    assert load_actor(SimpleNamespace(actor=actor)) is actor


@pytest.mark.parametrize("source", [3, None, {"weights": 1}, np.zeros(3), SimpleNamespace(actor=1)])
def test_anything_else_is_a_type_error_that_names_what_is_accepted(source: object) -> None:
    with pytest.raises(TypeError, match=rf"{type(source).__name__}.*zip.*torch.nn.Module.*onnx.*safetensors"):
        load_actor(source)


@pytest.mark.parametrize("name", ["absent.zip", "absent.onnx", "absent.safetensors", "absent.json", "absent"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"absent.*: no such file"):
        load_actor(tmp_path / name)


def test_directories_and_unknown_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"directory without policy\.json"):
        load_actor(tmp_path)
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(SourceError, match="an empty file"):
        load_actor(str(tmp_path / "weights.pt"))
    (tmp_path / "weights.bin").write_text("weights")
    with pytest.raises(SourceError, match="unknown ending"):
        load_actor(tmp_path / "weights.bin")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(SourceError, match="not a file"):
        load_actor(tmp_path / "folder.onnx")


def test_an_argument_that_a_source_does_not_take_is_an_error(actor: Actor, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="vecnormalize: an ONNX file does not take"):
        load_actor(tmp_path / "policy.onnx", vecnormalize="statistics.pkl")
    with pytest.raises(TypeError, match="low: an Actor does not take"):
        load_actor(actor, low=-1)


def test_importing_the_sources_imports_no_framework() -> None:
    code = (
        "import sys, snn_policy.sources; print([m for m in ('torch', 'onnx', 'stable_baselines3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_a_missing_framework_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from torch import nn

    (tmp_path / "policy.onnx").write_bytes(b"")
    source = nn.Linear(1, 1) if name == "torch" else tmp_path / "policy.onnx"  # torch imports itself while it makes one
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"snn-policy\[convert\]"):
        load_actor(source)
