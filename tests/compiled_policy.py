"""A policy exported as C, compiled and loaded for the tests: it acts, and tells its counts."""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikingPolicy
from snn_policy.engines.core import buffers, build
from snn_policy.exporting import c_source

COUNTS = ("decisions", "spikes", "events", "synaptic_operations", "multiply_accumulates")
MOST_ACTIONS = 64


class _Costs(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in COUNTS]


class CompiledPolicy:
    """Exported into the directory, compiled and reset; skips the test where there is no compiler."""

    def __init__(self, policy: SpikingPolicy, directory: Path, *flags: str) -> None:
        policy.export_c(directory, prefix="robot", verify=False)
        target = directory / "robot.so"
        try:
            build._run([*build.compiler(), "-std=c99", *(flags or ("-O1",)), "-ffp-contract=off", "-fPIC", "-shared",
                        str(directory / "policy.c"), "-o", str(target)])  # fmt: skip
        except (build.NoCompilerError, subprocess.CalledProcessError) as missing:
            pytest.skip(str(missing))
        self._library = ctypes.CDLL(str(target))
        self._library.robot_counts.restype, self._library.robot_state_size.restype = _Costs, ctypes.c_size_t
        self._state = buffers.aligned(self._library.robot_state_size(), np.uint8)
        self.reset()

    def reset(self) -> None:
        """Begin anew, with all counts at 0."""
        self._library.robot_reset(_place(self._state))

    def act(self, obs: Any) -> Any:
        """The place of the action, (64,) float32, of which the first are the policy's."""
        given, action = np.ascontiguousarray(obs.ravel(), np.float32), np.zeros(MOST_ACTIONS, np.float32)
        self._library.robot_act(_place(self._state), _place(given), _place(action))
        return action

    def counts(self) -> dict[str, int]:
        """What was counted since the reset, by name."""
        found = self._library.robot_counts(_place(self._state))
        return {name: getattr(found, name) for name in COUNTS}


def verify_at(level: str, patch: pytest.MonkeyPatch) -> None:
    """Let `export_c` compile what it verifies at that level of optimisation: -O0 takes a quarter of the time of -O2."""
    patch.setattr(c_source, "STRICT", (*c_source.STRICT, level))  # of several levels compilers take the last


def counted(policy: SpikingPolicy) -> dict[str, int]:
    """The same of the policy itself, summed over rows and stages."""
    return {name: int(getattr(policy.counters, name).sum()) for name in COUNTS}


def _place(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
