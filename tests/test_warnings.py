"""Warnings point at the line of the user's that asked, whatever way the package took to them."""

import ast
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import convert, load_actor
from snn_policy.cli import main
from snn_policy.errors import warn
from tests.actors import random_actor, walk

ROOT = Path(__file__).parent.parent


def lines_of(act: Callable[[], Any]) -> list[tuple[str, int, str]]:
    """The file, the line and the text of everything that is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    return [(warning.filename, warning.lineno, str(warning.message)) for warning in caught]


def assert_here(act: Any, text: str) -> None:
    """Every warning is of the lambda's own line, and one of them says so."""
    found = lines_of(act)
    assert {(Path(file), line) for file, line, _ in found} == {(Path(__file__), act.__code__.co_firstlineno)}
    assert any(text in message for _, _, message in found)


def test_warnings_of_convert_point_at_its_call() -> None:
    actor, rows = random_actor(), walk(300)
    assert_here(lambda: convert(actor, rows[:1]), "only 1 different")
    assert_here(lambda: convert(actor, rows[:3], neuron="if"), "only 3 different")
    assert_here(lambda: convert(actor, rows[:3], neuron="mt", threshold="max"), "only 3 different")
    assert_here(lambda: convert(actor, rows, digits=1, tolerance=0.001), "not reached")


def test_warnings_of_modules_point_at_the_call() -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    hooked = torch.nn.Sequential(*net)
    hooked[0].register_forward_hook(lambda *_: None)
    assert_here(lambda: load_actor(hooked), "hooks on")
    assert_here(lambda: convert(hooked, walk(300)[:, :3]), "hooks on")


def test_warnings_of_zips_point_at_the_call(tmp_path: Path) -> None:
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    env = VecNormalize(make_vec_env("Pendulum-v1"))
    model = stable_baselines3.PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, device="cpu").learn(16)
    model.save(tmp_path / "model")
    assert_here(lambda: load_actor(tmp_path / "model.zip"), "VecNormalize")
    assert_here(lambda: load_actor(str(tmp_path / "model")), "VecNormalize")


@pytest.mark.parametrize("names", [("action", "value"), ("mean", "log_std"), ("mu", "std")])
def test_warnings_of_graphs_point_at_the_call(names: tuple[str, str], tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 2]) for name in names]
    nodes = [helper.make_node("MatMul", ["obs", "w"], [names[0]]), helper.make_node("Exp", [names[0]], [names[1]])]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("obs", TensorProto.FLOAT, ["b", 3])], outputs, [weight]
    )
    path = tmp_path / "policy.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert_here(lambda: load_actor(path), f"output '{names[0]}' is read as the action")


def test_the_way_through_python_itself_is_not_the_users_line() -> None:
    namespace: dict[str, Any] = {"__name__": "snn_policy.made_up", "warn": warn, "functools": functools}
    code = "@functools.singledispatch\ndef ask(x):\n warn('told')\ndef further(x):\n return [ask(x) for _ in range(1)]"
    exec(compile(code, "inside.py", "exec"), namespace)
    assert_here(lambda: namespace["further"](1), "told")
    assert_here(lambda: namespace["ask"](1), "told")


def test_a_module_that_only_begins_like_the_package_is_the_users() -> None:
    namespace: dict[str, Any] = {"__name__": "snn_policy_study", "warn": warn}
    exec(compile("def ask():\n    warn('told')", "study.py", "exec"), namespace)
    assert lines_of(namespace["ask"]) == [("study.py", 2, "told")]


def test_every_line_is_warned_of_once() -> None:
    actor, rows = random_actor(), walk(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        for _ in range(3):
            convert(actor, rows)
        convert(actor, rows)
    assert [warning.lineno for warning in caught] == sorted({warning.lineno for warning in caught})
    assert len(caught) == 2


def test_nothing_in_the_package_counts_frames() -> None:
    for folder in ("snn_policy", "wrappers", "exported"):
        for file in (ROOT / folder).rglob("*.py"):
            calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
            named = {ast.unparse(call.func) for call in calls}
            assert "warnings.warn" not in named, file
            assert not any(keyword.arg == "stacklevel" for call in calls for keyword in call.keywords), file


def test_the_command_shows_a_warning_in_one_line_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(random_actor(), walk(300)).save(tmp_path / "policy")
    np.save(tmp_path / "rows.npy", walk(2))
    shown = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, filename, lineno, file=None, line=None: print(
            warnings.formatwarning(message, category, filename, lineno, line), end=""
        )
        main(["convert", str(tmp_path / "policy"), "--observations", str(tmp_path / "rows.npy"), "--out",
              str(tmp_path / "out")])  # fmt: skip
        warnings.showwarning = shown
    out = capsys.readouterr()
    (line,) = [line for line in (out.out + out.err).splitlines() if "too little" in line]
    assert line.startswith("snn-policy: warning: the recording says too little")
    assert "UserWarning" not in out.out + out.err
