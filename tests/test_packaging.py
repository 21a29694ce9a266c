"""What is installed: the folders at the top level under the package's names, types, and the shipped bundles."""

import importlib
import subprocess
import sys
import tomllib
import zipfile
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.bundles import BUNDLE_FILES, file_of

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in a wheel built from this tree (from a copy, which is left with the products)."""
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
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = directory.glob("*.whl")
    return set(zipfile.ZipFile(built).namelist())


def test_types_are_shipped(wheel: set[str]):
    assert resources.files("snn_policy").joinpath("py.typed").is_file()
    assert "snn_policy/py.typed" in wheel


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
    wanted = [*PROJECT["project"]["dependencies"], *(each for extra in extras for each in extra)]
    missing = {_normal(each.split(">=")[0].split("[")[0]) for each in wanted} - pinned - {"snn-policy"}
    assert not missing


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def test_the_console_script_is_the_cli():
    module, function = PROJECT["project"]["scripts"]["snn-policy"].split(":")
    assert callable(getattr(importlib.import_module(module), function))
