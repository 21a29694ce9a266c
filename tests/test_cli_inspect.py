"""`snn-policy inspect` answers for every file: what it is, and how to convert it or why not; never with a traceback."""

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from torch import nn

from snn_policy.cli import main
from tests.actors import policies
from tests.test_sources_sb3 import Arm
from tests.test_sources_torchscript import Lstm, Plain, mlp, saved


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["inspect", *arguments])
    out, error = capsys.readouterr()
    assert "Traceback" not in out + error
    return code, out, error


def script(path: Path) -> None:
    saved(mlp(48, 32, 16, 12), path, "scripted", 48)


def onnx(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(mlp(5, 8, 2), (torch.zeros(1, 5),), str(path), dynamo=False)


GOOD: dict[str, tuple[str, Callable[[Path], Any], tuple[str, ...], str, list[int]]] = {
    "script": ("p.pt", script, (), "a TorchScript archive", [48, 32, 16, 12]),
    "checkpoint": ("p.pth", lambda path: torch.save({"model": mlp(6, 8, 2).state_dict()}, path),
                   ("--activation", "elu"), "a checkpoint", [6, 8, 2]),
    "sb3": ("p.zip", lambda path: PPO("MlpPolicy", Arm(), policy_kwargs={"net_arch": [8]}).save(path), (),
            "a Stable-Baselines3 zip", [5, 8, 2]),
    "onnx": ("p.onnx", onnx, (), "an ONNX graph", [5, 8, 2]),
    "bundle": ("p", lambda path: policies()["sigma-delta"].save(path), (), "a bundle", [4, 8, 6, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_converts_is_shown_with_the_command_that_does_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file, write, options, what, sizes = GOOD[name]
    path = str(tmp_path / file)
    write(tmp_path / file)
    code, out, _ = run(capsys, path, *options)
    assert code == 0
    assert what in out
    assert f"0 Linear: {sizes[0]} → {sizes[1]}" in out
    assert f"to convert: snn-policy convert {path}" in out
    code, out, _ = run(capsys, path, *options, "--json")
    document = json.loads(out)
    assert (code, document["converts"], document["result_of"]) == (0, True, "snn-policy")
    assert [document["layers"][0]["inputs"], *(layer["outputs"] for layer in document["layers"])] == sizes
    assert "sigma-delta" in document["neurons"]
    assert " ".join(options) in document["command"]


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("executed",)


BAD: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "several": ("p.pt", lambda path: saved(Plain(), path, "scripted", 4), "--output NAME"),
    "no activation": ("p.pt", lambda path: torch.save(mlp(6, 8, 2).state_dict(), path), "--activation elu"),
    "networks": ("p.pt", lambda path: torch.save(
        {"actor": mlp(6, 8, 2).state_dict(), "estimator": mlp(6, 8, 2).state_dict()}, path), "--prefix NAME"),
    "module": ("p.pt", lambda path: torch.save(mlp(6, 8, 2), path), "a pickled module"),
    "bomb": ("p.pkl", lambda path: path.write_bytes(pickle.dumps(Bomb())), "not opened"),
    "text": ("p.pt", lambda path: path.write_text("hello"), "unknown"),
    "empty": ("p.onnx", lambda path: path.write_bytes(b""), "cannot be converted"),
    "random": ("p.zip", lambda path: path.write_bytes(np.random.default_rng(0).bytes(999)), "cannot be converted"),
    "folder": ("p", lambda path: path.mkdir(), "a folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_convert_says_why_with_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file, write, message = BAD[name]
    write(tmp_path / file)
    code, out, _ = run(capsys, str(tmp_path / file))
    assert code == 1
    assert message in out
    code, out, _ = run(capsys, str(tmp_path / file), "--json")
    document = json.loads(out)
    assert (code, document["converts"]) == (1, False)
    assert document["reason"]
    assert str(tmp_path) not in document["reason"].replace(str(tmp_path / file), "")


def test_a_recurrent_program_is_shown_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(Lstm(nn.LSTM, 2), tmp_path / "p.pt", "scripted", 6)
    code, out, _ = run(capsys, str(tmp_path / "p.pt"))
    print(out)
    assert code == 0
    assert "lstm" in out
    assert "recurrent" in out


def test_a_missing_file_is_a_mistake_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = run(capsys, str(tmp_path / "absent.pt"))
    assert code == 2
    assert "no such file" in error
