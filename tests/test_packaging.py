"""What is installed: the folders at the top level under the package's names, types, and the shipped bundles."""

import contextlib
import importlib
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
import zlib
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from snn_policy.engines.core.build import LIBRARY, SOURCES, NoCompilerError, compiler
from tests.bundles import BUNDLE_FILES, file_of

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MOST_BYTES = 4_000_000
"""Of a wheel. Weights are most of it: shipped bundles have theirs as xz (`SpikingPolicy.save(…, xz=True)`)."""


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this tree (from a copy, which is left with the products)."""
    try:
        found = int(version("setuptools").split(".")[0])
    except PackageNotFoundError:
        found = 0
    if found < 77:
        pytest.skip(f"building a wheel without network needs setuptools 77 or newer here, found {found or 'none'}")
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "snn_policy", "wrappers", "exported"):
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", directory, source]
    environment = dict(os.environ)
    with contextlib.suppress(NoCompilerError):  # nothing here runs the core: compiled without optimisation, in a third
        quick = directory / "cc"
        quick.write_text(f'#!/bin/sh\nexec {shlex.join(compiler())} "$@" -O0\n')
        quick.chmod(0o755)
        environment["CC"] = str(quick)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> set[str]:
    """The names of the files in it."""
    return set(zipfile.ZipFile(wheel_file).namelist())


def packed_files() -> dict[Path, int]:
    """Return what a wheel has of this tree, and the bytes that each takes there: deflated, its name twice, its sum."""
    tools = PROJECT["tool"]["setuptools"]
    files = [ROOT / "README.md", ROOT / "LICENSE"]
    for package in tools["packages"]:
        folder = ROOT / tools["package-dir"].get(package, package.replace(".", "/"))
        files += [
            file for pattern in ("*.py", *tools["package-data"].get(package, ())) for file in folder.glob(pattern)
        ]
    files += [SOURCES / LIBRARY] * (SOURCES / LIBRARY).exists()
    return {file: len(zlib.compress(file.read_bytes())) + 2 * len(str(file.relative_to(ROOT))) + 130 for file in files}


def test_the_wheel_takes_less_than_four_megabytes() -> None:
    sizes = packed_files()
    largest = sorted(sizes, key=lambda file: -sizes[file])[:5]
    named = ", ".join(f"{file.relative_to(ROOT)} {sizes[file]:,}" for file in largest)
    assert sum(sizes.values()) < MOST_BYTES, named


def test_the_sum_is_that_of_a_wheel(wheel_file: Path) -> None:
    """But for the library, which is another one here (not optimised)."""
    with zipfile.ZipFile(wheel_file) as wheel:
        library = sum(entry.compress_size for entry in wheel.infolist() if entry.filename.endswith(LIBRARY))
    counted = sum(size for file, size in packed_files().items() if file.name != LIBRARY)
    assert counted == pytest.approx(wheel_file.stat().st_size - library, rel=0.01)


def test_shipped_weights_are_compressed() -> None:
    weights = sorted((ROOT / "exported").rglob("weights*"))
    assert len(weights) == len(list((ROOT / "exported").glob("*/policy.json"))) >= 13
    assert {"".join(place.suffixes) for place in weights} == {".safetensors.xz"}


def test_types_are_shipped(wheel: set[str]):
    assert resources.files("snn_policy").joinpath("py.typed").is_file()
    assert "snn_policy/py.typed" in wheel


def test_one_wheel_serves_every_python_3_of_its_platform(wheel_file: Path, wheel: set[str]):
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel_file.name.endswith(f"-py3-none-{platform}.whl")
    if shutil.which("cc"):
        assert f"snn_policy/engines/core/{LIBRARY}" in wheel


def test_cibuildwheel_builds_one_wheel_per_platform_and_none_without_the_core():
    config = PROJECT["tool"]["cibuildwheel"]
    assert {selector.split("-")[0] for selector in config["build"]} == {"cp311"}
    assert {selector.split("-")[1].split("_")[0] for selector in config["build"]} == {"manylinux", "macosx", "win"}
    assert [config[system]["archs"] for system in ("linux", "macos", "windows")] == [
        ["x86_64", "aarch64"], ["x86_64", "arm64"], ["AMD64"],
    ]  # fmt: skip
    assert config["environment"] == {"SNN_POLICY_REQUIRE_CORE": "1"}


def test_cibuildwheels_own_test_runs():
    command = shlex.split(PROJECT["tool"]["cibuildwheel"]["test-command"])
    assert command[:2] == ["python", "-c"]
    if not (SOURCES / LIBRARY).exists():
        pytest.skip("the core is not built here")
    done = subprocess.run([sys.executable, *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert -2 <= float(done.stdout.strip().strip("[]")) <= 2


@pytest.mark.parametrize(("required", "compiler", "code"), [("", "false", 0), ("1", "false", 1),
                                                            ("1", "/nonexistent/cc", 1)])  # fmt: skip
def test_only_a_build_for_others_fails_without_a_compiler(
    required: str, compiler: str, code: int, tmp_path: Path
) -> None:
    environment = {**os.environ, "CC": compiler, "SNN_POLICY_REQUIRE_CORE": required}
    command = [sys.executable, "setup.py", "-q", "build_ext", "-b", tmp_path / "built", "-t", tmp_path / "scratch"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == code
    assert "the compiled core is not built" in done.stderr
    assert not list(tmp_path.rglob(LIBRARY))


@pytest.mark.parametrize(
    ("flags", "tag"),
    [
        ("-arch arm64", "macosx_11_0_arm64"),
        ("-arch x86_64", "macosx_11_0_x86_64"),
        ("-arch arm64 -arch x86_64", "macosx_11_0_universal2"),
    ],
)
def test_a_wheel_for_one_of_apples_processors_does_not_claim_both(
    flags: str, tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pytest.importorskip("setuptools"), "setup", lambda **_: None)
    monkeypatch.chdir(ROOT)
    command = runpy.run_path(str(ROOT / "setup.py"))["AnyPython"]
    monkeypatch.setattr(command.__base__, "get_tag", lambda self: ("cp311", "cp311", "macosx_11_0_universal2"))
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("ARCHFLAGS", flags)
    assert command.get_tag(object.__new__(command)) == ("py3", "none", tag)


def test_top_level_folders_are_installed_under_the_package(wheel: set[str]):
    assert {"snn_policy/wrappers/__init__.py", "snn_policy/exported/__init__.py"} <= wheel
    beside = ("wrappers/", "exported/", "tests/", "examples/", "benchmarks/", "docs/")
    assert not [name for name in wheel if name.startswith(beside)]


def test_every_module_of_the_tree_is_in_the_wheel(wheel: set[str]):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "snn_policy").rglob("*.py")}
    modules |= {f"snn_policy/wrappers/{path.name}" for path in (ROOT / "wrappers").glob("*.py")}
    assert modules <= wheel


def test_shipped_bundles_are_in_the_wheel(wheel: set[str]):
    from snn_policy.exported import names

    for name in names():
        files = [file_of(ROOT / "exported" / name, file).name for file in BUNDLE_FILES]
        assert {f"snn_policy/exported/{name}/{file}" for file in files} <= wheel


def test_extras_that_all_names_exist():
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = everything.removeprefix("snn-policy[").removesuffix("]").split(",")
    assert set(named) == extras.keys() - {"all", "test", "docs"}


def test_citation_and_changelog_name_the_version():
    version = PROJECT["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    releases = [line.split()[1] for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert releases[:2] == ["Unreleased", version]


def test_constraints_pin_every_direct_dependency_and_no_place():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 and "/" not in line and "@" not in line for line in lines)
    pinned = {_normal(line.split("==")[0]) for line in lines}
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(requirement for extra in extras for requirement in extra)]
    missing = {_normal(requirement.split(">=")[0].split("[")[0]) for requirement in wanted} - pinned - {"snn-policy"}
    assert not missing


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def test_the_console_script_is_the_cli():
    module, function = PROJECT["project"]["scripts"]["snn-policy"].split(":")
    assert callable(getattr(importlib.import_module(module), function))
