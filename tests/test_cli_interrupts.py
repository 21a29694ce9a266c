"""Ctrl-C at any moment is one line and exit code 130, also before the command has begun."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from snn_policy.cli import main

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "module": ["-m", "snn_policy.cli", "list"],
    "program": ["-c", "from snn_policy.cli import main; raise SystemExit(main(['list']))"],
    "script": ["snn-policy", "list"],
}


def interrupted(arguments: list[str], slow: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """A process that is sent SIGINT while it imports the package named `slow`."""
    (directory / f"{slow}.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    (directory / "snn-policy").write_text("from snn_policy.cli import main\nraise SystemExit(main())\n")
    environment = {**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"}
    process = subprocess.Popen([sys.executable, *arguments], env=environment, cwd=directory, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.mark.parametrize("slow", ["numpy", "safetensors", "rich", "typer"])
@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_while_importing_exits_with_130_and_one_line(way: str, slow: str, tmp_path: Path) -> None:
    done = interrupted(WAYS[way], slow, tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (130, "snn-policy: interrupted\n", "")


@pytest.mark.parametrize(
    ("command", "slow"),
    [
        (["demo"], "gymnasium"),
        (["eval", "td3-Pendulum-v1"], "gymnasium"),
        (["eval", "td3-Pendulum-v1", "--workers", "2"], "gymnasium"),
        (["compare", "td3-Pendulum-v1"], "gymnasium"),
        (["bench", "td3-Pendulum-v1"], "gymnasium"),
        (["export", "td3-Pendulum-v1", "--out", "run"], "onnx"),
    ],
)
def test_an_interrupt_while_a_command_imports_exits_with_130_and_one_line(
    command: list[str], slow: str, tmp_path: Path
) -> None:
    done = interrupted(["-m", "snn_policy.cli", *command], slow, tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.endswith("snn-policy: interrupted\n")
    assert "Traceback" not in done.stderr


def test_a_program_that_uses_the_package_is_interrupted_as_ever(tmp_path: Path) -> None:
    done = interrupted(["-c", "import snn_policy"], "numpy", tmp_path)
    assert done.returncode != 130
    assert done.stderr.endswith("KeyboardInterrupt\n")


def test_a_command_can_clean_up_after_an_interrupt() -> None:
    program = ("import signal, snn_policy; from snn_policy.commands import interrupts as i; i.is_command = lambda: 1\n"
               "i.quit_quietly_while_importing(); assert signal.getsignal(2) is i._quit\n"
               "i.raise_from_now_on(); assert signal.getsignal(2) is signal.default_int_handler")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_a_program_that_ignores_interrupts_goes_on_ignoring_them() -> None:
    program = ("import signal; signal.signal(2, signal.SIG_IGN)\n"
               "from snn_policy.cli import main; assert signal.getsignal(2) is signal.SIG_IGN")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_a_file_that_ends_too_early_is_a_mistake_and_no_interrupt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def truncated(*_: object, **__: object) -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr("snn_policy.commands.measure.read_actor", truncated)
    np.save(tmp_path / "actor.npy", np.zeros(3))
    assert main(["eval", str(tmp_path / "actor.npy")]) == 2
    assert capsys.readouterr().err.strip() == "snn-policy: a file ends too early: Ran out of input"
