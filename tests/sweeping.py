"""Small sweeps for tests: a tiny actor for CartPole, a file, an engine without processes, what a directory holds."""

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy import Actor, convert
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.layers import Head, Linear
from snn_policy.sweeps.engine import Lost
from snn_policy.sweeps.work import Job, Performer

SETTINGS = """
[[settings]]
tolerance = [0.05, 0.2]
[[settings]]
neuron = "if"
timesteps = 4
alpha = 0.3
"""
"""Three settings; with the ANN and two ranges of seeds, eight cells."""
CELLS = 8


def write_actor(folder: Path, name: str = "small", seed: int = 0, activation: Activation = RELU) -> Actor:
    """Write the bundle of a random actor for CartPole, whose episodes last ten steps."""
    rng = np.random.default_rng(seed)
    hidden = Linear(rng.normal(size=(8, 4)).astype(np.float32), np.zeros(8, np.float32), activation)
    last = Linear(rng.normal(size=(2, 8)).astype(np.float32), np.zeros(2, np.float32))
    actor = Actor((hidden, last), Head.argmax(2), (4,), env_id="CartPole-v1", name=name)
    convert(actor, rng.normal(size=(200, 4)).astype(np.float32)).save(folder / name)
    return actor


def write_sweep(folder: Path, settings: str = SETTINGS, **changes: Any) -> Path:
    """Write a sweep of a small actor; `changes` replace keys, None leaves one out."""
    if not (folder / "small").exists():
        write_actor(folder)
    values = {"episodes": 6, "batch": 2, "seeds": [1000, 2000], "recording": {"steps": 200},
              "actors": [{"source": "small"}], **changes}  # fmt: skip
    lines = [f"{key} = {toml(value)}" for key, value in values.items() if value is not None]
    place = folder / "small.toml"
    place.write_text("\n".join([*lines, settings]))
    return place


def toml(value: Any) -> str:
    """Return a value as TOML has it, inline."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(toml(item) for item in value)}]"
    return json.dumps(value)


class InlineEngine:
    """Do jobs in this process, the last one handed in first, so that their order differs from the grid's.

    Args:
        before: called with every job; returns what is answered in its place, None to do it.
    """

    workers = 2

    def __init__(self, before: Callable[[Job], Any] = lambda job: None) -> None:
        self._jobs: deque[tuple[Job, Any]] = deque()
        self._before, self._performer = before, Performer()
        self.most, self.done = 0, list[Job]()
        self.closed = False

    @property
    def free(self) -> int:
        return 4 - len(self._jobs)

    def put(self, content: Any) -> Any:
        return content

    def submit(self, job: Job, content: Any) -> None:
        self._jobs.append((job, content))
        self.most = max(self.most, len(self._jobs))

    def wait(self) -> list[tuple[Job, Any]]:
        job, content = self._jobs.pop()
        answer = self._before(job)
        if answer is None:
            answer = self._performer.perform(job, content)
        if not isinstance(answer, Lost):
            self.done.append(job)
        return [(job, answer)]

    def close(self) -> None:
        self.closed = True


def files_of(out: Path) -> dict[str, Any]:
    """Return every file of a sweep's directory as it is; cells without what they say of time."""
    found: dict[str, Any] = {}
    for place in sorted(place for place in out.rglob("*") if place.is_file()):
        content = place.read_bytes()
        if place.parent.name == "cells":
            document = json.loads(content)
            assert set(document.pop("timing")) == {
                "microseconds", "policy_seconds", "environment_seconds", "workers",
            }  # fmt: skip
            content = json.dumps(document)
        found[str(place.relative_to(out))] = content
    return found


def cells_of(out: Path) -> list[dict[str, Any]]:
    """Return the finished cells in the order of the grid."""
    keys = json.loads((out / "sweep.json").read_bytes())["cells"]
    return [json.loads((out / "cells" / f"{key}.json").read_bytes()) for key in keys]
