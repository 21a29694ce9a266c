"""Whose memory is whose: rows of state, owned by connections or by named sessions that outlive them."""

import time
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from snn_policy.protocol import Decision, Shaped
from snn_policy.serving.wire import EnvId, MessageError, Request

MOST_DECISIONS = np.iinfo(np.int64).max


class Servable(Shaped, Protocol):
    """Describe what the server needs of a policy: every `StatefulPolicy` has it, and `Actor`."""

    def decide(self, obs: npt.ArrayLike, state: Any) -> tuple[npt.NDArray[Any], Any, Decision]: ...


class Name(NamedTuple):
    """Name a memory that outlives connections."""

    session: str
    env_id: EnvId


class Memories:
    """Hand out rows of a policy's state one by one; grow up to `most` rows.

    Attributes:
        arrays: one (capacity, width) array per named array of the state.
        decisions: (capacity,) decisions since the row's last reset.
    """

    def __init__(self, policy: Servable, most: int) -> None:
        self.most, self._fresh = most, policy.initial_state(1)
        self.arrays = [np.empty((0, *array.shape[1:]), array.dtype) for array in self._fresh]
        self.decisions = np.zeros(0, np.int64)
        self._free: list[int] = []

    @property
    def used(self) -> int:
        return len(self.decisions) - len(self._free)

    @property
    def full(self) -> bool:
        return self.used >= self.most

    def take(self) -> int:
        """Return a row of its own, at its start; `MessageError` when all are taken."""
        if self.full:
            raise MessageError(f"the server holds {self.most} memories already, its limit; try again later")
        if not self._free:
            self._grow()
        row = self._free.pop()
        self.clear(row)
        return row

    def _grow(self) -> None:
        old = len(self.decisions)
        more = min(max(old, 16), self.most - old)
        self.arrays = [np.concatenate([a, np.zeros((more, *a.shape[1:]), a.dtype)]) for a in self.arrays]
        self.decisions = np.concatenate([self.decisions, np.zeros(more, np.int64)])
        self._free = list(range(old + more - 1, old - 1, -1))

    def give_back(self, row: int) -> None:
        self._free.append(row)

    def clear(self, row: int) -> None:
        """Start the row from zero."""
        self.decisions[row] = 0
        for array, fresh in zip(self.arrays, self._fresh, strict=True):
            array[row] = fresh[0]

    def gather(self, rows: Sequence[int]) -> Any:
        """Return the state of these rows, a copy."""
        return type(self._fresh)(*(array[rows] for array in self.arrays)) if self.arrays else self._fresh

    def scatter(self, rows: Sequence[int], state: Any) -> None:
        """Store the state of these rows after one more decision."""
        self.decisions[rows] = np.minimum(self.decisions[rows], MOST_DECISIONS - 1) + 1  # never wraps
        for array, new in zip(self.arrays, state, strict=True):
            array[rows] = new


class Named:
    """Hold a named session's memory: its row, which connection uses it, and when it was last used."""

    def __init__(self, row: int, owner: Hashable) -> None:
        self.row, self.owner, self.used_at = row, owner, time.monotonic()


class Sessions:
    """Find the row that a request means.

    Attributes:
        memories: the rows.
        named: the memories that outlive connections.
        changed: whether a named memory has changed since the flag was last put down.
    """

    def __init__(self, policy: Servable, most: int, most_per_connection: int, ttl: float) -> None:
        self.memories, self.named = Memories(policy, most), dict[Name, Named]()
        self._most_per_connection, self._ttl = most_per_connection, ttl
        self._own: dict[Hashable, dict[EnvId | Name, int]] = {}
        self.changed = False

    def find(self, connection: Hashable, request: Request) -> int:
        """Return the row that the request means, taken and zeroed if it is new.

        Raises:
            MessageError: too many memories, or a session that another connection has taken over.
        """
        own = self._own.setdefault(connection, {})
        key = request.env_id if request.session is None else Name(request.session, request.env_id)
        if key in own:
            if isinstance(key, Name):
                self._use(key, connection)
            return own[key]
        if len(own) >= self._most_per_connection:
            raise MessageError(f"env_id: this connection uses {len(own)} memories already, its limit; reset some alone")
        own[key] = self._attach(key, connection) if isinstance(key, Name) else self._new_row()
        return own[key]

    def _use(self, name: Name, connection: Hashable) -> None:
        entry = self.named.get(name)
        if entry is None or entry.owner is not connection:
            raise MessageError(f"session {name.session!r}: another connection has taken it over; reconnect to take it")
        entry.used_at, self.changed = time.monotonic(), True

    def _attach(self, name: Name, connection: Hashable) -> int:
        """Return an existing session goes to the connection that names it last."""
        entry = self.named.get(name)
        if entry is None:
            entry = self.named[name] = Named(self._new_row(), connection)
        entry.owner, entry.used_at, self.changed = connection, time.monotonic(), True
        return entry.row

    def _new_row(self) -> int:
        """Return a row, if need be that of the unattached session that was unused for longest."""
        if self.memories.full:
            unattached = [name for name, entry in self.named.items() if entry.owner is None]
            if unattached:
                self._drop(min(unattached, key=lambda name: self.named[name].used_at))
        return self.memories.take()

    def _drop(self, name: Name) -> None:
        self.memories.give_back(self.named.pop(name).row)
        self.changed = True

    def forget(self, connection: Hashable, request: Request) -> None:
        """Give the memory back, after a reset alone; it starts anew when it is next used."""
        row = self.find(connection, request)
        if request.session is None:
            self.memories.give_back(row)
            del self._own[connection][request.env_id]
            return
        name = Name(request.session, request.env_id)
        self._drop(name)
        del self._own[connection][name]

    def leave(self, connection: Hashable) -> None:
        """Let a connection go: its own memories go, its named sessions stay."""
        for key, row in self._own.pop(connection, {}).items():
            if not isinstance(key, Name):
                self.memories.give_back(row)
            elif (entry := self.named.get(key)) is not None and entry.owner is connection:
                entry.owner, entry.used_at = None, time.monotonic()

    def expire(self) -> None:
        """Forget named sessions that no connection has used for the time to live."""
        oldest = time.monotonic() - self._ttl
        for name in [
            name for name, session in self.named.items() if session.owner is None and session.used_at < oldest
        ]:
            self._drop(name)

    def adopt(self, name: Name, state: Sequence[npt.NDArray[Any]], decisions: int) -> None:
        """Put a restored session in place; `state` holds its row of every array."""
        row = self.memories.take()
        for array, value in zip(self.memories.arrays, state, strict=True):
            array[row] = value
        self.memories.decisions[row] = decisions
        self.named[name] = Named(row, None)
