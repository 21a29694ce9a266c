"""`--json FILE` is written whole or not at all, by every command."""

import ast
import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snn_policy.cli import main
from snn_policy.commands import common

ROOT = Path(__file__).resolve().parents[1]
EARLIER = '{"result_of": "snn-policy", "precious": 1}'


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The result of an earlier run."""
    (tmp_path / "result.json").write_text(EARLIER)
    return tmp_path / "result.json"


def test_a_result_is_replaced_and_nothing_is_left_beside_it(earlier: Path) -> None:
    assert main(["list", "--json", str(earlier)]) == 0
    assert json.loads(earlier.read_text())["result_of"] == "snn-policy"
    assert [path.name for path in earlier.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_leaves_the_earlier_result(
    fault: int, earlier: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "fsync", full)
    assert main(["list", "--json", str(earlier)]) == 2
    assert os.strerror(fault) in capsys.readouterr().err
    assert earlier.read_text() == EARLIER
    assert [path.name for path in earlier.parent.iterdir()] == ["result.json"]


def test_a_limit_on_the_size_of_files_leaves_the_earlier_result(earlier: Path) -> None:
    command = [sys.executable, "-m", "snn_policy.cli", "list", "--json", str(earlier)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)))  # fmt: skip
    assert done.returncode == 2
    assert "result.json" in done.stderr
    assert "Traceback" not in done.stderr
    assert earlier.read_text() == EARLIER


def test_an_interrupt_while_writing_leaves_the_earlier_result(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    assert main(["list", "--json", str(earlier)]) == 130
    assert earlier.read_text() == EARLIER
    assert [path.name for path in earlier.parent.iterdir()] == ["result.json"]


def test_a_link_goes_on_pointing_to_the_result(earlier: Path) -> None:
    link = earlier.parent / "latest.json"
    link.symlink_to(earlier)
    assert main(["list", "--json", str(link)]) == 0
    assert link.is_symlink()
    assert "policies" in json.loads(earlier.read_text())


def test_what_cannot_be_json_leaves_the_earlier_result(earlier: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        common.write_json({"mean": float("nan")}, str(earlier))
    assert earlier.read_text() == EARLIER


def written_in_place(source: str) -> list[str]:
    """Calls that would write a file where it stands."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name: Any = getattr(node.func, "attr", getattr(node.func, "id", ""))
        modes = [arg.value for arg in [*node.args, *(k.value for k in node.keywords)] if isinstance(arg, ast.Constant)]
        if name in ("write_text", "write_bytes") or (name == "open" and {"w", "wb", "x", "xb"} & {*map(str, modes)}):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("file", sorted((ROOT / "snn_policy" / "commands").glob("*.py")), ids=lambda file: file.name)
def test_no_command_writes_a_file_in_place(file: Path) -> None:
    assert written_in_place(file.read_text()) == []


@pytest.mark.parametrize("source", ["Path(t).write_text('')", "open(t, 'w')", "t.open(mode='wb')"])
def test_writing_in_place_would_be_found(source: str) -> None:
    assert written_in_place(source)
