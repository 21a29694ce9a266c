"""What is wrong with a recording's observations is said with its file's name, by every command that takes one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import convert, load_actor
from snn_policy.cli import main
from snn_policy.exported import path as shipped
from snn_policy.offline.datasets import save_dataset
from tests.actors import walk
from tests.test_td3bc import transitions

ROWS = walk(400, (3,))
ROWS_WITH_NAN = np.where(np.arange(ROWS.size).reshape(ROWS.shape) == 16, np.nan, ROWS)
NO_RECORDING: dict[str, tuple[Any, str]] = {
    "empty": (ROWS[:0], "the batch is empty, shape (0, 3)"),
    "NaN": (ROWS_WITH_NAN, "not finite, or beyond ±1e+30, at index (5, 1): nan"),
    "infinite": (ROWS * np.float32(np.inf), "not finite, or beyond ±1e+30, at index (0, 0)"),
    "another shape": (walk(400, (5,)), "expected shape (3,)"),
    "complex numbers": (ROWS.astype(np.complex64), "expected numbers of shape (3,)"),
    "texts": (np.array(["a", "b", "c"]), "expected numbers of shape (3,)"),
}


@pytest.mark.parametrize("command", ["convert", "compress", "export", "export --c"])
@pytest.mark.parametrize("kind", NO_RECORDING)
def test_a_recording_that_cannot_be_used_is_named(
    command: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording, said = NO_RECORDING[kind]
    file, source = tmp_path / "log.npy", str(shipped("td3-Pendulum-v1"))
    np.save(file, recording)
    if command.startswith("export"):
        source = str(tmp_path / "policy")
        convert(load_actor(shipped("td3-Pendulum-v1")), ROWS).save(source)
    name, *options = command.split()
    options += ["--target", "energy:0.1"] if name == "compress" else []
    assert main([name, source, "--out", str(tmp_path / "out"), "--observations", str(file), *options]) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert f"{file}: observations: {said}" in printed[-1]


@pytest.mark.parametrize("rows", [ROWS[:20], np.zeros((300, 3), np.float32), ROWS[:300] * 1e-30])
def test_a_recording_too_short_or_too_still_to_learn_from_is_named(
    rows: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log.npy"
    np.save(file, rows)
    command = ["compress", "td3-Pendulum-v1", "--out", str(tmp_path / "out"), "--target", "energy:0.1"]
    assert main([*command, "--observations", str(file)]) == 2
    assert f"snn-policy: {file}: observations: " in capsys.readouterr().err


def test_a_folder_of_transitions_for_another_actor_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_dataset(transitions(), tmp_path / "data-v0")
    command = ["convert", "td3-Hopper-v5", "--out", str(tmp_path / "out"), "--observations", str(tmp_path / "data-v0")]
    assert main(command) == 2
    assert f"{tmp_path / 'data-v0'}: observations: expected shape (11,)" in capsys.readouterr().err
