"""Compiled code: cached where that is possible, never stale, and working where it is not possible."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import pytest

from snn_policy.engines import compilation, event_program

ROOT = Path(__file__).resolve().parents[1]


def double(x: float) -> float:
    return 2 * x


def test_without_a_place_for_the_cache_it_compiles_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_to_cache(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(compilation, "numba", SimpleNamespace(njit=refuse_to_cache))
    assert compilation.entry(double)(21.0) == 42.0


def test_the_cached_program_belongs_to_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    now = event_program._fingerprint()
    assert now == event_program._fingerprint()
    monkeypatch.setattr(event_program.Path, "read_bytes", lambda self: b"changed")
    assert event_program._fingerprint() != now


class Faulty:
    """A cache whose files are in no state to be used."""

    cache_path = "/somewhere/__pycache__"

    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    def load_overload(self, *_: Any) -> None:
        raise self.fault

    save_overload = load_overload


@pytest.fixture
def unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_said", set())


@pytest.mark.parametrize(
    "fault",
    [EOFError("Ran out of input"), pickle.UnpicklingError("pickle data was truncated"),
     OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EACCES, "denied"), KeyError("stamp")],
    ids=lambda fault: type(fault).__name__,
)  # fmt: skip
@pytest.mark.usefixtures("unsaid")
def test_a_cache_in_no_state_to_be_used_is_one_warning_that_names_the_folder(
    fault: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (compilation.entry(lambda x: 2 * x) for _ in range(2))
    first._cache, second._cache = (compilation.SafeCache(Faulty(fault)) for _ in range(2))
    with pytest.warns(UserWarning, match="/somewhere/__pycache__") as warned:
        assert (first(21.0), second(4.0)) == (42.0, 8.0)
    assert len(warned) == 1
    assert capsys.readouterr().err.count("compiling") == 1


@pytest.mark.usefixtures("unsaid")
def test_what_is_in_the_cache_is_not_announced(tmp_path: Path) -> None:
    assert "compiling" in ran(tmp_path).stderr
    again = ran(tmp_path)
    assert (again.stdout, again.stderr) == ("42.0\n", "")


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_damaged_file_in_the_cache_blocks_no_start(ending: str, share: float, tmp_path: Path) -> None:
    ran(tmp_path)
    (file,) = (tmp_path / "cache").rglob(f"*.{ending}")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    done = ran(tmp_path)
    assert (done.returncode, done.stdout) == (0, "42.0\n")
    assert str(file.parent) in done.stderr
    assert done.stderr.count("Warning") == 1
    assert "compiling" in done.stderr


def test_a_cache_that_cannot_be_written_blocks_no_start(tmp_path: Path) -> None:
    full = "def full(*_):\n    raise OSError(28, 'No space left on device')\n"
    done = ran(tmp_path, f"import numba.core.caching as c\n{full}c.IndexDataCacheFile._save_data = full\n")
    assert (done.returncode, done.stdout) == (0, "42.0\n")
    assert str(tmp_path / "cache") in done.stderr
    assert "No space left" in done.stderr


def ran(directory: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """A process that compiles one small function, with its cache in the directory."""
    program = directory / "program.py"
    if not program.is_file() or before:
        program.write_text(f"{before}from snn_policy.engines.compilation import entry\n\n"
                           "@entry\ndef double(x):\n    return 2 * x\n\nprint(double(21.0))\n")  # fmt: skip
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(directory / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True)
