"""What has one home is spelled nowhere else; wrong settings are found before an environment is made."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import IF, MT, SNM, Actor, SigmaDelta, UnsupportedLayerError, convert
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.layers import Head, Linear
from snn_policy.bench.baselines import VARIANTS, stand_for
from snn_policy.bundle import files
from snn_policy.cli import main
from snn_policy.engines import check_engine
from tests.actors import walk

ROOT = Path(__file__).resolve().parents[1]
NAMES = {
    files.POLICY_FILE, files.WEIGHTS_FILE, files.DECISION_FILE, files.STEP_FILE, files.RUN_FILE, files.CHECKPOINT_FILE,
}  # fmt: skip
WITHOUT_THE_PACKAGE = ["examples/step_host.py"]
"""Examples of a host that has only the graph."""


def places() -> list[Path]:
    folders = ("snn_policy", "wrappers", "benchmarks", "examples")
    return sorted(place for folder in folders for place in (ROOT / folder).rglob("*.py"))


def texts(place: Path) -> list[str]:
    tree = ast.parse(place.read_text())
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_file_names_are_spelled_in_one_module():
    spelled = {str(place.relative_to(ROOT)) for place in places() if NAMES & set(texts(place))}
    assert spelled - set(WITHOUT_THE_PACKAGE) == {"snn_policy/bundle/files.py"}


@pytest.mark.parametrize("graph", ["decision", "step"])
def test_a_graphs_file_has_its_name(graph: str):
    assert files.graph_file(graph) in files.GRAPH_FILES


def small(activation: Any = RELU) -> Actor:
    rng = np.random.default_rng(0)
    hidden = Linear(rng.normal(size=(8, 3)).astype(np.float32), np.zeros(8, np.float32), activation)
    last = Linear(rng.normal(size=(1, 8)).astype(np.float32), np.zeros(1, np.float32))
    return Actor((hidden, last), Head.bounded([-2.0], [2.0]), (3,), env_id="Pendulum-v1")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--tolerance", "3"], "tolerance 3.0"),
        (["--digits", "4,4,4,4"], "digits"),
        (["--neuron", "if", "--alpha", "0.1,0.2,0.3"], "alpha"),
        (["--alpha", "1.5"], "alpha 1.5"),
        (["--alpha", "0.5,0.5,0.5"], "alpha"),
        (["--alpha", "pilots"], "--alpha 'pilots'"),
        (["--tolerance", "pilots"], "--tolerance 'pilots'"),
        (["--tolerance", "0.1,0.2"], "tolerance [0.1, 0.2]"),
        (["--tolerance", "pilot", "--digits", "4,4,4,4"], "digits"),
        (["--tolerance", "pilot", "--alpha", "0.5,0.5,0.5"], "alpha"),
        (["--tolerance", "pilot", "--delta", "1.5"], "delta 1.5"),
        (["--delta", "0.02"], "pilot: of tolerance='pilot'"),
        (["--neuron", "if", "--tolerance", "pilot"], "tolerance: not an argument"),
        (["--neuron", "mt", "--levels", "0"], "levels 0"),
        (["--neuron", "snm", "--tolerance", "0.1"], "tolerance: not an argument"),
        (["--neuron", "lif"], "neuron 'lif'"),
        (["--neuron", "if", "--threshold", "most"], "threshold 'most'"),
        (["--neuron", "if", "--coding", "differential", "--iterations", "1"], "calibration"),
        (["--engine", "quick"], "engine 'quick'"),
        (["--engine", "torch:nowhere"], "torch:nowhere"),
    ],
)
def test_the_command_finds_a_wrong_option_before_it_makes_an_environment(
    options: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    convert(small(), walk(60, (3,))).save(tmp_path / "actor")
    monkeypatch.setattr(Actor, "collect", lambda *_, **__: pytest.fail("it has recorded"))
    assert main(["convert", str(tmp_path / "actor"), "--out", str(tmp_path / "new"), *options]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("engine", ["quick", "event:cuda", "torch:nowhere"])
def test_convert_refuses_an_engine_before_it_takes_an_observation(engine: str):
    def observations() -> Any:
        pytest.fail("it has taken some")
        yield

    with pytest.raises(ValueError, match=f"engine '{engine}'"):
        convert(small(), observations(), engine=engine)


def test_an_engine_is_checked_against_the_actor():
    check_engine(small(), "event")
    check_engine(small(), "auto")
    check_engine(small(), "numpy")


@pytest.mark.parametrize("settings", [IF(), MT(), SNM()])
def test_benchmarks_time_what_stands_for_the_actor_and_ask_convert(settings: Any):
    assert stand_for(small(), settings)
    assert not stand_for(small(Activation("tanh")), settings)
    assert stand_for(small(Activation("tanh")), SigmaDelta())
    with pytest.raises(UnsupportedLayerError):
        convert(small(Activation("tanh")), walk(60, (3,)), neuron=settings)


def test_the_settings_of_benchmarks_are_settings_that_convert_takes():
    timesteps = {
        name: convert(small(), walk(60, (3,)), neuron=settings).timesteps for name, settings in VARIANTS.items()
    }
    assert timesteps.pop("sigma-delta 0.02") == 12
    assert {name for name, steps in timesteps.items() if f"T={steps}" not in name} == set()


def test_sources_know_nothing_of_training():
    imported = {
        node.module or ""
        for place in (ROOT / "snn_policy" / "sources").glob("*.py")
        for node in ast.walk(ast.parse(place.read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    assert {name for name in imported if name.startswith("snn_policy.offline")} == set()
