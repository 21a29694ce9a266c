"""Sweeps on real processes, local ones and Ray's: killed workers, a killed driver, Ctrl-C; always the same files."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from snn_policy.cli import main
from snn_policy.sweeps.plan import read_plan
from snn_policy.sweeps.sweep import make_engine, sweep
from tests.sweeping import InlineEngine, files_of, write_sweep

ROOT = Path(__file__).resolve().parents[1]
ONE_SETTING = "[[settings]]\ntolerance = 0.1"
ENGINES = ["local", "ray"]


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A cluster of this machine with two cores, which takes seconds to start."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    from snn_policy.sweeps.on_ray import RayTasks

    started = RayTasks(2)
    yield
    started.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines; Ray's cluster is the module's."""
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return request.param


def odd(folder: Path, **options: Any) -> list[dict[str, Any]]:
    return [{"id": "tests.odd_env:Odd-v0", "options": {"marker": str(folder / "marker"), **options}}]


def calm_files(file: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the same sweep leaves that runs in this process, undisturbed."""
    with monkeypatch.context() as patch:
        patch.setattr("snn_policy.sweeps.sweep.make_engine", lambda *_: InlineEngine())
        sweep(read_plan(file), out)
    return files_of(out)


def start(file: Path, out: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "snn_policy.cli", "sweep", str(file), "--out", str(out), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*command, *options], env=environment, stderr=subprocess.PIPE, text=True)


def wait_for_cells(out: Path, count: int, process: "subprocess.Popen[str]") -> None:
    while len(list((out / "cells").glob("*.json"))) < count:
        assert process.poll() is None
        time.sleep(0.02)


def running(folder: Path) -> list[str]:
    """Return the command lines of processes that mention a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


def test_a_killed_workers_batch_is_run_again_and_the_files_are_those_of_a_calm_run(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_sweep(tmp_path, ONE_SETTING, environments=odd(tmp_path, fatal=1003))
    found = sweep(read_plan(file), tmp_path / "out", engine=engine, workers=2)
    assert (tmp_path / "marker").exists()
    assert (found.lost, found.failures, found.episodes) == (1, [], 24)
    assert files_of(tmp_path / "out") == calm_files(file, tmp_path / "calm", monkeypatch)


def test_a_batch_that_always_kills_its_worker_fails_alone(engine: str, tmp_path: Path) -> None:
    file = write_sweep(tmp_path, "", environments=odd(tmp_path, fatal=1003, always=True))
    found = sweep(read_plan(file), tmp_path / "out", engine=engine, workers=2, retries=1)
    assert found.computed == 1
    assert len(found.failures) == 1
    assert "episodes 1002…1003 ended 2 times with their worker" in found.failures[0]
    assert "was killed" in found.failures[0]


def test_an_environment_that_fails_is_one_line(engine: str, tmp_path: Path) -> None:
    file = write_sweep(tmp_path, "", environments=odd(tmp_path, pause="long"))
    found = sweep(read_plan(file), tmp_path / "out", engine=engine, workers=2)
    assert len(found.failures) == 2
    assert "TypeError" in found.failures[0]
    assert "\n" not in found.failures[0]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")
def test_a_killed_driver_takes_its_workers_along_and_the_sweep_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = list(range(0, 240, 6))
    file = write_sweep(tmp_path, "", seeds=seeds, environments=odd(tmp_path, pause=0.01))
    out = tmp_path / "out"
    driver = start(file, out)
    wait_for_cells(out, 3, driver)
    driver.kill()
    driver.communicate()  # ends when nobody holds the pipe any more, workers included
    before = {place: place.read_bytes() for place in (out / "cells").iterdir() if place.suffix == ".json"}
    assert 3 <= len(before) < len(seeds)
    assert running(out) == []
    found = sweep(read_plan(file), out, workers=2)
    assert found.computed == len(seeds) - len(before)
    assert all(place.read_bytes() == content for place, content in before.items())
    assert files_of(out) == calm_files(file, tmp_path / "calm", monkeypatch)


def test_ctrl_c_ends_a_sweep_with_130_and_one_line(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, "", seeds=list(range(0, 240, 6)), environments=odd(tmp_path, pause=0.01))
    driver = start(file, tmp_path / "out")
    wait_for_cells(tmp_path / "out", 2, driver)
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert said.splitlines()[-1] == "snn-policy: interrupted"
    assert "Traceback" not in said


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999", "no.such.invalid:6379"])
def test_no_cluster_at_an_address_is_one_line(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    file = write_sweep(tmp_path, "")
    assert main(["sweep", str(file), "--out", str(tmp_path / "out"), "--engine", "ray", "--address", address]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"--address {address}: no Ray cluster there" in said
    assert "ray start --head" in said


def test_the_window_of_tasks_follows_the_cluster(ray_cluster: None) -> None:
    tasks = make_engine("ray", 0)
    assert (tasks.workers, tasks.free) == (2, 4)
    assert make_engine("ray", 1).free == 2
