"""Say under what conditions something was measured: versions, processor, date, and what else the machine was doing."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snn_policy.evaluation.workers import usable_cores
from snn_policy.versions import installed_versions

CPUINFO = Path("/proc/cpuinfo")
NAMED = {"python": "Python", "numpy": "NumPy", "onnxruntime": "ONNX Runtime", "torch": "torch", "mujoco": "MuJoCo"}
"""Versions that a document names, by the name it uses."""
Conditions = dict[str, Any]


def processor() -> str:
    """Return the processor's name, with the widest vector instructions that it has."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    known = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = known.get("model name") or platform.processor() or platform.machine()
    flags = known.get("flags", "").split()
    widest = next((text for flag, text in (("avx512f", ", AVX-512"), ("avx2", ", AVX2")) if flag in flags), "")
    return f"{name}{widest}"


def load() -> float | None:
    """Return the machine's load average over a minute, None where it has none."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def conditions(load_before: float | None) -> Conditions:
    """Return what to store beside figures; the load before they were measured is given, that after it is asked for."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor(),
        "cores": usable_cores(),
        "load_before": load_before,
        "load_after": load(),
        "versions": installed_versions(),
    }


def told(found: Conditions) -> str:
    """Return the conditions as a sentence for a document."""
    versions = ", ".join(f"{name} {found['versions'][key]}" for key, name in NAMED.items() if key in found["versions"])
    busy = "" if found["load_before"] is None else f", load average {found['load_before']:g} before"
    return f"Measured on {found['date']}: {found['processor']}, {found['cores']} cores, one thread{busy}; {versions}."
