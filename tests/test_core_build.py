"""Building and loading the core: without a compiler nothing breaks, and a library of other sources is never used."""

import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikingPolicy, convert
from snn_policy.calibration.encode_sequence import encode_sequence, encode_with_numpy
from snn_policy.engines import ReferenceEngine, make_engine
from snn_policy.engines.core import build, library
from tests.actors import random_actor, walk


@pytest.fixture
def without_core(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As on a machine where the library was not built."""
    monkeypatch.setattr(library, "LIBRARY", "nowhere.so")
    library.core.cache_clear()
    library.available.cache_clear()
    yield
    library.core.cache_clear()
    library.available.cache_clear()


def test_without_the_core_one_line_says_so_and_numpy_decides(without_core: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policies = [convert(random_actor(widths=(8,)), walk(20)) for _ in range(2)]
    (said,) = [str(warning.message) for warning in caught if "compiled core" in str(warning.message)]
    assert "\n" not in said
    assert "python -m snn_policy.engines.core.build" in said
    assert isinstance(make_engine(policies[0].network, "auto"), ReferenceEngine)
    assert np.isfinite(policies[0].act(walk(1)[0])).all()


def test_who_asks_for_the_core_by_name_is_told_why_there_is_none(without_core: Any) -> None:
    policy = convert(random_actor(widths=(8,)), walk(20), engine="numpy")
    with pytest.raises(library.NoCoreError, match=r"not built.*install a C compiler"):
        SpikingPolicy(policy.network, engine="event")


def test_a_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "fingerprint", lambda: 1)
    with pytest.raises(library.NoCoreError, match="not built from the sources beside it"):
        library.load(build.SOURCES / build.LIBRARY)


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "core.so").write_bytes(b"\x7fELF nothing")
    with pytest.raises(library.NoCoreError, match="does not load here"):
        library.load(tmp_path / "core.so")


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false", "cc --no-such-flag"])
def test_a_compiler_that_fails_is_one_error(compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(build.NoCompilerError, match=compiler.split()[0]):
        build.build(tmp_path / build.LIBRARY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_core_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    strict = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
    for number, variant in enumerate(build.variants()):  # every one by either compiler, optimised fully by one of them
        level = () if (number + (compiler == "gcc")) % 2 == 0 else ("-O1",)
        macros = [f"-D{name}={value}" for name, value in build.definitions(variant).items()]
        command = [compiler, *build.FLAGS, *level, *build.VARIANTS[variant], *strict, *macros]
        source = ["-c", str(build.SOURCES / "library.c"), "-o", str(tmp_path / "out.o")]
        done = subprocess.run([*command, *source], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_core_needs_neither_libm_nor_a_heap() -> None:
    if sys.platform != "linux" or not shutil.which("nm"):
        pytest.skip("needs nm")
    listed = subprocess.run(["nm", "-D", "--undefined-only", str(build.SOURCES / build.LIBRARY)],
                            capture_output=True, text=True, check=True).stdout  # fmt: skip
    names = {line.split()[-1].split("@")[0] for line in listed.splitlines()}
    assert names <= {"memcpy", "memset", "memmove", "__cxa_finalize", "__gmon_start__", "__stack_chk_fail",
                     "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable"}  # fmt: skip


def test_the_core_loads_on_every_linux_since_2012() -> None:
    if sys.platform != "linux" or not shutil.which("objdump"):
        pytest.skip("needs objdump")
    listed = subprocess.run(["objdump", "-T", str(build.SOURCES / build.LIBRARY)],
                            capture_output=True, text=True, check=True).stdout  # fmt: skip
    versions = [tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", listed)]
    assert versions
    assert max(versions) <= (2, 17)  # manylinux2014


@pytest.mark.parametrize(("flags", "expected"), [("", build.VARIANTS), ("-arch x86_64", build.VARIANTS),
                                                 ("-arch arm64", ["plain"]),
                                                 ("-arch x86_64 -arch arm64", ["plain"])])  # fmt: skip
def test_on_macos_the_copies_are_those_of_the_processors_asked_for(
    flags: str, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("ARCHFLAGS", flags)
    assert list(build.variants()) == list(expected)


@pytest.mark.parametrize("base", [2.0, 3.0])
def test_the_calibrations_encoder_is_the_same_without_the_core(base: float) -> None:
    rng, neurons = np.random.default_rng(0), 300
    powers = (base ** np.arange(20)).astype(np.float32)
    h = np.cumsum(rng.normal(size=(40, neurons)), axis=0).astype(np.float32) * np.float32(0.1)
    quantum = (rng.uniform(0.01, 0.3, neurons) * (rng.random(neurons) > 0.1)).astype(np.float32)
    gamma = rng.integers(0, 2, neurons).astype(np.float32)
    found = []
    for encode in (encode_sequence, encode_with_numpy):
        memory, sent, spikes = np.zeros(neurons, np.float32), np.empty_like(h), np.zeros(neurons, np.int64)
        encode(h, quantum, gamma, memory, 4, powers, sent, spikes)
        found.append((memory, sent, spikes))
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
