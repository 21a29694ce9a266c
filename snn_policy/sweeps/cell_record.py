"""One cell's result as a file holds it, checked before anything is made of it.

A file may come from anywhere: every value is checked for its type, its size and whether it fits the others, texts that
will be shown hold nothing but printable characters, and what a file says of itself (means, intervals) is not read but
computed anew.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, TypeGuard

from snn_policy.checks import whole
from snn_policy.errors import SourceError
from snn_policy.evaluation.results import Evaluation
from snn_policy.sweeps.digests import canonical, digest_of
from snn_policy.sweeps.files import FORMAT
from snn_policy.sweeps.source_code import Code, is_code

KEY = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{3,127}")
DIGEST = re.compile(r"[0-9a-f]{16,128}")
LONGEST_TEXT, MOST_VERSIONS, MOST_EPISODES, MOST_LAYERS, MOST_CODES = 1_000, 200, 100_000, 10_000, 1_000
LARGEST = 1e15
"""No count and no return is larger: sums over a sweep stay finite."""
ANN, SNN = "ann", "snn"
REPORT, SELECT = "report", "select"
NO_SETTING = (
    "actor", "environment", "environment_options", "engine", "seed", "episodes", "batch", "baseline", "purpose",
    "versions", "dense_multiply_accumulates",
)  # fmt: skip
"""What a cell's record says beside its setting."""
COSTS = ("synaptic_operations", "multiply_accumulates", "iterations", "error_spikes")


@dataclass(frozen=True)
class CellResult:
    """Hold one policy's episodes in one environment, and all that they depend on.

    Attributes:
        key: the cell's name; its file is `cells/KEY.json`.
        digest: SHA-256 of what the file says, times left out.
        actor, actor_digest: its name, and the digest of its bytes.
        role: "ann" or "snn".
        label: how its setting is written.
        record: all that the file says of the cell, as canonical JSON; options: of the environment.
        setting: the part of the record that says how the actor is converted.
        engine: which one decided; empty where the file does not say.
        baseline: key of the ANN's cell on the same seeds; None for an ANN.
        purpose: "report", or "select" where the episodes served to choose a setting.
        timed: whether times were recorded; they are zeros in `evaluation` otherwise.
        code: states of the source code that it was computed with; none where the file does not say.
    """

    key: str
    digest: str
    actor: str
    actor_digest: str
    role: str
    label: str
    record: str
    setting: str
    engine: str
    baseline: str | None
    environment: str
    options: str
    seed: int
    purpose: str
    dense_multiply_accumulates: int
    evaluation: Evaluation
    timed: bool
    code: tuple[Code, ...] = ()

    @property
    def place(self) -> str:
        """Return its file, as seen from the sweep's directory."""
        return f"cells/{self.key}.json"


def cell_result(document: dict[str, Any], key: str) -> CellResult:
    """Return what a file named `key` holds.

    Raises:
        SourceError: naming the value that is missing, of another kind, or contradicts another one.
    """
    if document.get("format") != FORMAT:
        raise SourceError(f"format {_shown(document.get('format'))}: expected {FORMAT}")
    if document.get("key") != key:
        raise SourceError(f"key {_shown(document.get('key'))}: expected that of the file's name")
    if document.get("sha256") != digest_of(document):
        raise SourceError("sha256: the digest is another one; the file was altered or damaged")
    cell, actor = _object(document, "cell"), _object(_object(document, "cell"), "actor")
    for name in ("settings", "compression"):
        if cell.get(name) is not None:
            _object(cell, name)
    role = _one_of(cell, "role", (ANN, SNN))
    baseline = None if role == ANN and cell.get("baseline") is None else _matching(cell, "baseline", KEY, role == ANN)
    seed = _count(cell, "seed", 2**63)
    episodes = _count(cell, "episodes", MOST_EPISODES, least=1)
    timing = document.get("timing")
    return CellResult(
        key=key,
        digest=document["sha256"],
        actor=_text(actor, "name"),
        actor_digest=str(_matching(actor, "digest", DIGEST)),
        role=role,
        label=_text(cell, "label"),
        record=canonical(cell),
        setting=canonical({name: value for name, value in cell.items() if name not in NO_SETTING}),
        engine="" if cell.get("engine") is None else _text(cell, "engine"),
        baseline=baseline,
        environment=_text(cell, "environment"),
        options=canonical(_object(cell, "environment_options")),
        seed=seed,
        purpose=_one_of(cell, "purpose", (REPORT, SELECT)),
        dense_multiply_accumulates=_count(cell, "dense_multiply_accumulates", int(LARGEST)),
        evaluation=_evaluation(_object(document, "evaluation"), cell, range(seed, seed + episodes), timing),
        timed=timing is not None,
        code=_code(_object(document, "evaluation")),
    )


def _evaluation(values: dict[str, Any], cell: dict[str, Any], seeds: range, timing: Any) -> Evaluation:
    if values.get("seeds") != list(seeds):
        raise SourceError(f"evaluation.seeds: expected {len(seeds)} seeds from {seeds.start} on")
    events = values.get("events")
    return Evaluation(
        environment=_text(values, "environment", "evaluation."),
        seeds=tuple(seeds),
        returns=_numbers(values, "returns", len(seeds), -LARGEST),
        lengths=tuple(int(length) for length in _numbers(values, "lengths", len(seeds), 1)),
        num_envs=_count(values, "num_envs", MOST_EPISODES, 1) if "num_envs" in values else 1,
        decisions=_count(values, "decisions", int(LARGEST), 1),
        spikes=_numbers(values, "spikes", None),
        events=None if events is None else _amount(values, "events"),
        versions=_versions(cell),
        **{name: _amount(values, name) for name in COSTS},
        **_times(timing),
    )


def _times(timing: Any) -> dict[str, Any]:
    if timing is None:
        return {"microseconds": 0.0}
    if not isinstance(timing, dict):
        raise SourceError("timing: expected an object")
    names = ("microseconds", "policy_seconds", "environment_seconds")
    seconds = {name: 0.0 if timing.get(name) is None else _amount(timing, name) for name in names}
    workers = _count(timing, "workers", MOST_EPISODES, 1) if "workers" in timing else 1
    return {**seconds, "workers": workers}


def _versions(cell: dict[str, Any]) -> dict[str, str]:
    versions = _object(cell, "versions")
    if len(versions) > MOST_VERSIONS:
        raise SourceError(f"versions: more than {MOST_VERSIONS}")
    return {_printable(name, "versions"): _text(versions, name, "versions.") for name in sorted(versions)}


def _code(evaluation: dict[str, Any]) -> tuple[Code, ...]:
    codes = evaluation.get("code", [])
    if not isinstance(codes, list) or len(codes) > MOST_CODES or not all(is_code(code) for code in codes):
        raise SourceError(f"evaluation.code: expected at most {MOST_CODES} tables of digests by package")
    return tuple(codes)


def _object(values: dict[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    if not isinstance(value, dict):
        raise SourceError(f"{name}: expected an object, got {type(value).__name__}")
    return value


def _text(values: dict[str, Any], name: str, of: str = "") -> str:
    return _printable(values.get(name), f"{of}{name}")


def shows(value: Any) -> TypeGuard[str]:
    """Return whether it is a text that can be shown: neither blank nor huge, and no control characters in it."""
    return isinstance(value, str) and bool(value.strip()) and len(value) <= LONGEST_TEXT and value.isprintable()


def _printable(value: Any, name: str) -> str:
    if not shows(value):
        raise SourceError(f"{name} {_shown(value)}: expected 1 to {LONGEST_TEXT} printable characters")
    return value


def _matching(values: dict[str, Any], name: str, pattern: re.Pattern[str], forbidden: bool = False) -> str:
    value = values.get(name)
    if forbidden:
        raise SourceError(f"{name} {_shown(value)}: an ANN has none")
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise SourceError(f"{name} {_shown(value)}: expected {pattern.pattern}")
    return value


def _one_of(values: dict[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = values.get(name)
    if value not in known:
        raise SourceError(f"{name} {_shown(value)}: expected {' or '.join(known)}")
    return str(value)


def _count(values: dict[str, Any], name: str, most: int, least: int = 0) -> int:
    value = values.get(name)
    if not whole(value, least, most):
        raise SourceError(f"{name} {_shown(value)}: expected a whole number from {least} to {most}")
    return int(values[name])


def _amount(values: dict[str, Any], name: str) -> float:
    return _finite(values.get(name), name, 0.0)


def _numbers(values: dict[str, Any], name: str, count: int | None, least: float = 0.0) -> tuple[float, ...]:
    value = values.get(name)
    if not isinstance(value, list) or len(value) > (count or MOST_LAYERS) or len(value) != (count or len(value)):
        wanted = f"{count} numbers" if count else f"at most {MOST_LAYERS:,} numbers"
        raise SourceError(f"evaluation.{name}: expected {wanted}")
    return tuple(_finite(entry, f"evaluation.{name}[{place}]", least) for place, entry in enumerate(value))


def _finite(value: Any, name: str, least: float) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not math.isfinite(value) or not least <= value <= LARGEST:
        raise SourceError(f"{name} {_shown(value)}: expected a number from {least:g} to {LARGEST:g}")
    return float(value)


def _shown(value: Any) -> str:
    """Return a value that is wrong, short enough for one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
