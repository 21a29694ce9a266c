"""`import snn_policy` loads what converting and acting need, and nothing that only some commands use."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import snn_policy

HEAVY = (
    "rich", "multiprocessing", "concurrent.futures", "onnxruntime", "onnx", "typer", "torch", "websockets", "gymnasium",
    "matplotlib", "importlib.metadata",
)  # fmt: skip
PACKAGE: Any = snn_policy
TIMED = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"
RUNS, MOST = 5, 1.5
SLACK = 0.05
"""Seconds: a busy machine."""
ACT = """
import numpy as np
from snn_policy import Actor, convert
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
ones = np.ones((2, 2), np.float32)
actor = Actor((Linear(ones, ones[0], RELU), Linear(ones, ones[0])), Head.bounded([-1, -1], [1, 1]), (2,))
policy = convert(actor, np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32))
policy.act(np.zeros(2))
"""


def run_python(code: str, **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def loaded_after(code: str, modules: tuple[str, ...]) -> str:
    return run_python(f"{code}\nimport sys; print(*sorted(set({modules!r}) & set(sys.modules)))")


def test_the_package_loads_no_heavy_module():
    assert loaded_after("import snn_policy", HEAVY) == ""


@pytest.mark.parametrize("name", ["actor", "convert", "policy", "sources", "bundle", "progress", "protocol"])
def test_no_module_of_the_core_loads_a_heavy_one(name: str):
    assert loaded_after(f"import snn_policy.{name}", HEAVY) == ""


def test_converting_and_acting_load_none_either():
    assert loaded_after(ACT, ("rich", "multiprocessing", "onnxruntime", "onnx", "typer", "torch", "gymnasium")) == ""


def test_it_takes_no_more_than_half_as_much_again_as_numpy_and_gymnasium(tmp_path: Path):
    own, given = [], []
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}  # both as they are once installed
    for _ in range(RUNS):  # in turns: a busy moment meets both
        own.append(float(run_python(TIMED.format("snn_policy"), **bytecode)))
        given.append(float(run_python(TIMED.format("numpy, gymnasium"), **bytecode)))
    assert min(own) <= MOST * min(given) + SLACK


@pytest.mark.parametrize("name", sorted(PACKAGE._LAZY))
def test_names_loaded_at_their_first_use_are_importable_and_listed(name: str):
    found = run_python(f"from snn_policy import {name}; import snn_policy; print({name}.__name__)")
    assert found == name
    assert name in dir(snn_policy)
    assert name in PACKAGE.__all__


def test_evaluate_is_the_function_even_after_its_module_is_loaded():
    code = "import snn_policy.evaluation.evaluate as module, snn_policy; print(snn_policy.evaluate is module.evaluate)"
    assert run_python(code) == "True"


def test_the_version_is_the_installed_one_and_an_unknown_name_an_error():
    from importlib.metadata import version

    assert PACKAGE.__version__ == version("snn-policy")
    with pytest.raises(AttributeError, match=r"module 'snn_policy' has no attribute 'convert_all'"):
        _ = PACKAGE.convert_all


def test_every_public_name_can_be_imported_with_a_star():
    assert run_python("from snn_policy import *; print(callable(evaluate), callable(compare))") == "True True"
