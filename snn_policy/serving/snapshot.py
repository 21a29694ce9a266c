"""Named sessions in a file: written whole or not at all, and believed only after every value has been checked.

The file is safetensors: one array per named array of the policy's state, the decision counts, and metadata with
the sessions' names, the digest of the policy that the memories belong to, and a checksum over all of it. One server at
a time has it: a lock file beside it says so.
"""

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from snn_policy.actor import Actor
from snn_policy.atomic_files import try_lock, write_atomically
from snn_policy.bundle import describe_actor, describe_network
from snn_policy.errors import SourceError
from snn_policy.exporting.onnx_policy import OnnxPolicy
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import LARGEST_OBSERVATION
from snn_policy.serving.sessions import Name, Servable, Sessions
from snn_policy.serving.wire import MessageError, valid_env_id, valid_name
from snn_policy.untrusted_files import content_digest, is_sealed, sealed

log = logging.getLogger("snn_policy.serving.serve")
FORMAT, DECISIONS = "snn-policy-sessions-2", "decisions"
MOST_NAME_BYTES = 1024
LABELS = ("name", "env_id")
"""What an actor's description says that no decision depends on."""


class Snapshot(NamedTuple):
    """Hold copies of all named sessions at one moment."""

    names: list[Name]
    arrays: dict[str, npt.NDArray[Any]]


class StateFileLock:
    """Keep other servers off a state file until `release`; the system releases it too when the process ends.

    The lock is on a file of its own, `NAME.lock`, which stays: the state file is another one after each writing.
    """

    def __init__(self, path: Path | None) -> None:
        """Lock the state file.

        Raises:
            OSError: another server has it, or the lock file cannot be made.
        """
        self._descriptor: int | None = None
        if path is None:
            return
        place = path.with_name(path.name + ".lock")
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        held = try_lock(descriptor)
        if held is False:
            os.close(descriptor)
            raise BlockingIOError(errno.EAGAIN, "another server uses this state file; give each one its own", str(path))
        if held is None:
            log.warning("%s: no locks on this file system; let no other server use the state file", place)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others have it; does nothing the second time."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def digest_of(policy: Servable) -> str:
    """Return the SHA-256 of what a policy's decisions depend on: memories of another one mean nothing to it.

    Neither its card, nor its name, nor files beside it count, so that it may be saved or exported again.
    """
    if isinstance(policy, OnnxPolicy):
        return policy.sha256
    if isinstance(policy, SpikingPolicy):
        described, arrays = describe_network(policy.network)
    elif isinstance(policy, Actor):
        actor, arrays = describe_actor(policy)
        described = {"actor": actor}
    else:
        return ""
    described["actor"] = {key: value for key, value in described["actor"].items() if key not in LABELS}
    return content_digest(described, arrays)


def field_names(state: Any) -> tuple[str, ...]:
    """Return the names of a state's arrays."""
    return getattr(state, "_fields", tuple(str(index) for index in range(len(state))))


def take_snapshot(sessions: Sessions, policy: Servable) -> Snapshot:
    """Copy all named sessions; does not touch any file."""
    names, memories = list(sessions.named), sessions.memories
    rows = [sessions.named[name].row for name in names]
    fields = field_names(policy.initial_state(1))
    arrays = {name: array[rows] for name, array in zip(fields, memories.arrays, strict=True)}
    return Snapshot(names, {**arrays, DECISIONS: memories.decisions[rows]})


def write_snapshot(path: Path, snapshot: Snapshot, digest: str) -> None:
    """Replace the file, readable by its owner only."""
    metadata = {"format": FORMAT, "policy": digest, "names": json.dumps(snapshot.names)}
    arrays = {name: np.ascontiguousarray(array) for name, array in snapshot.arrays.items()}
    content = save(arrays, sealed(metadata, arrays))
    write_atomically(path, content, mode=0o600)


def restore(path: Path, sessions: Sessions, policy: Servable, digest: str) -> int:
    """Put the file's sessions in place, if it exists; returns how many.

    Raises:
        SourceError: truncated, of another policy, too large, or holding anything but a snapshot's values.
    """
    if not path.exists():
        return 0
    fresh, most = policy.initial_state(1), sessions.memories.most
    row_bytes = 8 + sum(array.nbytes for array in fresh)
    if not path.is_file() or path.stat().st_size > most * (row_bytes + MOST_NAME_BYTES) + 2**16:
        raise SourceError(f"{path}: not a state file of at most {most} sessions; move it away to start without it")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        names = _names(metadata, digest, most)
        _check_arrays(arrays, fresh, len(names))
        if not is_sealed(metadata, arrays):
            raise ValueError("its checksum does not match; the file was altered")
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise SourceError(f"{path}: not a usable state file ({error}); move it away to start without it") from None
    for index, name in enumerate(names):
        state = [arrays[field][index] for field in field_names(fresh)]
        sessions.adopt(name, state, int(arrays[DECISIONS][index]))
    return len(names)


def _names(metadata: dict[str, str], digest: str, most: int) -> list[Name]:
    if metadata.get("format") != FORMAT:
        raise ValueError(f"not of the format {FORMAT}, which this release writes")
    if metadata.get("policy") != digest:
        raise ValueError("its memories belong to another policy")
    entries = json.loads(metadata["names"])
    if not isinstance(entries, list) or len(entries) > most:
        raise ValueError("names: expected a list no longer than the limit of sessions")
    names = []
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 2 or not valid_name(entry[0]):
            raise ValueError("names: expected pairs of a session and an env_id")
        try:
            names.append(Name(entry[0], valid_env_id(entry[1])))
        except MessageError as error:
            raise ValueError(str(error)) from None
    if len(set(names)) != len(names):
        raise ValueError("names: one of them appears twice")
    return names


def _check_arrays(arrays: dict[str, npt.NDArray[Any]], fresh: Any, rows: int) -> None:
    expected = {name: (array.dtype, array.shape[1:]) for name, array in zip(field_names(fresh), fresh, strict=True)}
    expected[DECISIONS] = (np.dtype(np.int64), ())
    if arrays.keys() != expected.keys():
        raise ValueError(f"arrays {sorted(arrays)}, expected {sorted(expected)}")
    for name, (dtype, shape) in expected.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != (rows, *shape):
            raise ValueError(f"{name}: expected {dtype} {(rows, *shape)}, got {array.dtype} {array.shape}")
        if not (abs(array) <= LARGEST_OBSERVATION).all():
            raise ValueError(f"{name}: holds NaN, infinity or values beyond ±{LARGEST_OBSERVATION:.0e}")
    if (arrays[DECISIONS] < 0).any():
        raise ValueError(f"{DECISIONS}: negative")
