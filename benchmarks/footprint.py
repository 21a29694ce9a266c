"""Measure what using the package takes beyond a decision: a cold start, the size installed, and the dependencies."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.places import ROOT

PACKAGE = "snn-policy"
SHIPPED = "td3-HalfCheetah-v5"
STARTS = 7
FIRST_ACTION = f"""
import time
begin = time.perf_counter()
import numpy as np
from snn_policy import SpikingPolicy
from snn_policy.exported import path
imported = time.perf_counter()
policy = SpikingPolicy.load(path("{SHIPPED}"))
loaded = time.perf_counter()
policy.act(np.zeros(policy.observation_shape, np.float32))
print(imported - begin, loaded - imported, time.perf_counter() - loaded)
"""


def cold_start(starts: int = STARTS) -> dict[str, Any]:
    """Return the median seconds of import, load and first action in fresh processes, and of the whole processes."""
    rows = []
    for _ in range(starts):
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", FIRST_ACTION], cwd=ROOT, capture_output=True, text=True, check=True
        )
        rows.append([*map(float, done.stdout.split()), time.perf_counter() - begin])
    names = ("import", "load", "first action", "process")
    return dict(zip(names, (float(value) for value in np.median(rows, axis=0)), strict=True))


def installed() -> dict[str, Any]:
    """Return the mebibytes of the package's own files and of all that it needs, and the names of the dependencies."""
    own = sum(file.stat().st_size for folder in ("snn_policy", "wrappers", "exported")
              for file in (ROOT / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts)  # fmt: skip
    direct, all_needed = set(_required(PACKAGE)), _closure(PACKAGE)
    size = sum(_size(name) for name in all_needed)
    return {"own": own / 2**20, "needed": size / 2**20, "direct": sorted(direct), "all": sorted(all_needed)}


def _required(name: str) -> Iterator[str]:
    """Yield the installed packages that this one asks for, without its extras."""
    for line in distribution(name).requires or []:
        requirement, _, marker = line.partition(";")
        required = re.split(r"[\s\[<>=!~(;]", requirement.strip())[0].lower().replace("_", "-")
        if "extra" not in marker and _is_installed(required):
            yield required


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _closure(name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        fresh = set(_required(waiting.pop())) - found
        found |= fresh
        waiting += fresh
    return found


def _size(name: str) -> int:
    files = (Path(str(file.locate())) for file in distribution(name).files or [] if "__pycache__" not in file.parts)
    return sum(file.stat().st_size for file in files if file.is_file())
