"""No file of the package knows a folder outside it: what it reads is in it, or a user has named it."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [file for folder in ("snn_policy", "wrappers", "exported") for file in sorted((ROOT / folder).rglob("*.py"))]
UPWARDS = re.compile(r"(^|/)\.\.(/|$)")
OUTSIDE = ("shared", "examples", "tests", "docs", "benchmarks")
"""Folders beside the package in its repository."""
WRITTEN = ("examples/ControlLoop/ControlLoop.ino",)
"""Of a library folder that the user has named, and the package writes."""


def reaches(source: str) -> list[str]:
    """The expressions with which a program would look at a place outside its own folder."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr="parents"):
                found.append(ast.unparse(node))
            case ast.Attribute(value=ast.Attribute(attr="parent"), attr="parent"):
                found.append(ast.unparse(node))
            case ast.Call(func=ast.Attribute(attr="dirname"), args=[ast.Call(func=ast.Attribute(attr="dirname"))]):
                found.append(ast.unparse(node))
            case ast.Attribute(attr="pardir"):
                found.append(ast.unparse(node))
            case ast.Constant(value=str(text)) if text not in WRITTEN and (
                UPWARDS.search(text) or text.split("/")[0] in OUTSIDE
            ):
                found.append(repr(text))
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_module_looks_outside_the_package(file: Path) -> None:
    assert reaches(file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "Path(__file__).resolve().parents[3] / 'policies'",
        "Path(__file__).parent.parent",
        "os.path.dirname(os.path.dirname(__file__))",
        "open('../shared/policies/actor.json')",
        "os.path.join(os.path.dirname(__file__), os.pardir)",
        "Path.cwd() / 'shared'",
    ],
)
def test_a_look_outside_would_be_found(source: str) -> None:
    assert reaches(source)


def packaged(directory: Path) -> dict[str, str]:
    """A copy of the package as it is installed, with actors where it used to look for them, and its environment."""
    shutil.copytree(ROOT / "snn_policy", directory / "main" / "lib" / "snn_policy")
    for name in ("wrappers", "exported"):
        shutil.copytree(ROOT / name, directory / "main" / "lib" / "snn_policy" / name, dirs_exist_ok=True)
    for folder in (directory, directory / "main", directory / "main" / "lib"):
        policies = folder / "shared" / "policies"
        policies.mkdir(parents=True)
        for ending in ("safetensors", "json"):
            (policies / f"tqc-HalfCheetah-v3.{ending}").touch()
    environment = {key: value for key, value in os.environ.items() if key != "SNN_POLICY_REFERENCE_DIR"}
    return {**environment, "PYTHONPATH": str(directory / "main" / "lib")}


def expert(environment: dict[str, str], directory: Path) -> str:
    program = "from snn_policy.offline.default_sources import expert_of; print(expert_of('HalfCheetah-v5'))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_reference_actors_are_found_by_their_variable_alone(tmp_path: Path) -> None:
    environment = packaged(tmp_path)
    shipped = str(tmp_path / "main" / "lib" / "snn_policy" / "exported" / "td3-HalfCheetah-v5")
    for place in (tmp_path, tmp_path / "main", tmp_path / "main" / "lib"):
        assert expert(environment, place) == shipped
    named = {**environment, "SNN_POLICY_REFERENCE_DIR": str(tmp_path / "shared" / "policies")}
    assert expert(named, tmp_path) == str(tmp_path / "shared" / "policies" / "tqc-HalfCheetah-v3")
    assert expert({**environment, "SNN_POLICY_REFERENCE_DIR": ""}, tmp_path) == shipped
