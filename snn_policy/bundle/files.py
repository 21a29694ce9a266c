"""The files of a policy's directory, replaced so that at any moment they are one whole policy.

Weights are named by their SHA-256 and written first; `policy.json`, which names that sum, is renamed over the old one;
what it no longer names is removed last. Graphs have fixed names that other runtimes know: they are written under a name
with their sum, which readers fall back to, and renamed once `policy.json` names them. Writers take turns; one that is
killed leaves the old policy or the new one, and at worst files that the next writer removes.
"""

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from snn_policy.atomic_files import remove_abandoned, sole_writer, write_atomically

POLICY_FILE, WEIGHTS_FILE = "policy.json", "weights.safetensors"
"""Bundles of the first releases have their weights under this very name."""
XZ = ".xz"
"""After the name of weights that are compressed (`snn_policy.bundle.xz`); the sum in the name is of what they hold."""
DECISION_FILE, STEP_FILE = GRAPH_FILES = ("decision.onnx", "step.onnx")
RUN_FILE, CHECKPOINT_FILE = "td3bc.json", "checkpoint.safetensors"
"""Of a training run's directory, which is no policy's yet: what it is, and where it stands."""
SUMS_KEY = "sha256"
"""Of the graphs, in `policy.json`."""
MOST_JSON_BYTES = 16 * 2**20
SUM = re.compile(r"[0-9a-f]{64}")
NAMED_BY_SUM = re.compile(r"weights-[0-9a-f]{12}\.safetensors(\.xz)?|(decision|step)-[0-9a-f]{12}\.onnx")
MOST_READS, SAME_READS, PAUSE = 200, 4, 0.005
Result = TypeVar("Result")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def name_with_sum(name: str, total: str) -> str:
    """Return the name of a file with that SHA-256: weights.safetensors → weights-0123456789ab.safetensors."""
    stem, dot, ending = name.rpartition(".")
    return f"{stem}-{total[:12]}{dot}{ending}"


def graph_file(graph: str) -> str:
    """Return the file of a graph, "decision" or "step"."""
    return f"{graph}.onnx"


def holds_weights(directory: Path) -> bool:
    """Return whether a bundle's weights, of this release or of the first ones, lie in the directory."""
    return (directory / WEIGHTS_FILE).is_file() or any(
        NAMED_BY_SUM.fullmatch(file.name) and file.is_file() for file in directory.glob("weights-*.safetensors*")
    )


def weights_place(directory: Path, total: str) -> Path:
    """Return where the weights with that SHA-256 are, or should be."""
    named = directory / name_with_sum(WEIGHTS_FILE, total)
    places = (named, named.with_name(named.name + XZ), directory / WEIGHTS_FILE)
    return next((place for place in places if place.is_file()), named)


def read_whole(
    directory: Path, read: Callable[[], Result], retried: type[Exception] | tuple[type[Exception], ...]
) -> Result:
    """Call `read`; anew while it fails because a writer replaces the directory's files meanwhile.

    Args:
        read: reads `policy.json` and what it names; fails with `retried` where these do not belong together.

    Raises:
        what `read` raised last: the files have stayed as they are, or are replaced all the time.
    """
    before, reads, same = _policy_file(directory), 0, 0
    while True:
        try:
            return read()
        except retried:
            after, reads = _policy_file(directory), reads + 1
            same = same + 1 if after == before else 0
            if after is None or same == SAME_READS or reads == MOST_READS:
                raise
        before = after
        time.sleep(PAUSE)


def _policy_file(directory: Path) -> tuple[int, ...] | None:
    """Return which file `policy.json` is: not its content, which comes back where writers take turns."""
    try:
        found = (directory / POLICY_FILE).stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def _policy_content(directory: Path) -> bytes | None:
    try:
        with (directory / POLICY_FILE).open("rb") as file:
            return file.read(MOST_JSON_BYTES)
    except OSError:
        return None


def read_document(directory: Path) -> dict[str, Any] | None:
    """Return what `policy.json` says, unchecked; None where there is none that could be read."""
    try:
        document = json.loads(_policy_content(directory) or b"")
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def named_graphs(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of every graph that the policy was exported as, by file name."""
    graphs = document.get("onnx")
    sums = graphs.get(SUMS_KEY) if isinstance(graphs, dict) else None
    given = sums if isinstance(sums, dict) else {}
    return {name: total for name, total in given.items() if isinstance(total, str) and SUM.fullmatch(total)}


def replace_files(
    directory: Path, policy: bytes, weights: bytes, graphs: Mapping[str, bytes], *, packed: bytes | None = None
) -> None:
    """Make the directory (made if missing) hold this policy instead of the one before.

    Args:
        policy: content of `policy.json`; names the sums of the weights and graphs.
        graphs: content by file name.
        packed: the weights as xz, to be stored instead.

    Raises:
        OSError: a file cannot be written, or another writer does not end; what is there is one whole policy still.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with sole_writer(directory) as alone:
        named = directory / name_with_sum(WEIGHTS_FILE, sha256(weights))
        forms = [named, named.with_name(named.name + XZ)]
        place = forms.pop(packed is not None)
        superseded = [*forms, *_old_weights(directory)]
        staged = {name: directory / name_with_sum(name, sha256(content)) for name, content in graphs.items()}
        try:
            write_atomically(place, weights if packed is None else packed)
            for name, content in graphs.items():
                write_atomically(staged[name], content)
            write_atomically(directory / POLICY_FILE, policy)
            for name, written in staged.items():
                written.replace(directory / name)
            for other in superseded:
                other.unlink(missing_ok=True)
        finally:
            if alone:
                _flush(directory)
                _remove_unnamed(directory)


def _old_weights(directory: Path) -> list[Path]:
    """Return the weights of the policy that is there, where they still have the name of the first releases."""
    total = (read_document(directory) or {}).get("weights_sha256")
    place = directory / WEIGHTS_FILE
    if not isinstance(total, str) or not SUM.fullmatch(total) or weights_place(directory, total) != place:
        return []
    return [place] if sha256(place.read_bytes()) == total else []


def _remove_unnamed(directory: Path) -> None:
    """Remove weights and graphs that `policy.json` does not name, those of killed writers included."""
    document = read_document(directory)
    if document is None and (directory / POLICY_FILE).exists():
        return
    sums, weights = named_graphs(document or {}), str((document or {}).get("weights_sha256"))
    named = {name_with_sum(name, total) for name, total in ((WEIGHTS_FILE, weights), *sums.items())}
    named.add(name_with_sum(WEIGHTS_FILE, weights) + XZ)
    for name in os.listdir(directory):  # what a killed writer of another policy had begun
        begun = NAMED_BY_SUM.match(name)
        if begun and begun.group() != name:
            remove_abandoned(directory / begun.group())
    unnamed = [name for name in os.listdir(directory) if NAMED_BY_SUM.fullmatch(name) and name not in named]
    if sums:
        unnamed += [name for name in GRAPH_FILES if name not in sums]
    for name in unnamed:
        with contextlib.suppress(OSError):  # what cannot be removed does no harm
            (directory / name).unlink()


def _flush(directory: Path) -> None:
    """See that the new names reach the disk before the old ones go."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
