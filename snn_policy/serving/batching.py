"""Several clients' observations become one call of the policy; each row has a memory of its own."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from snn_policy.protocol import Decision
from snn_policy.serving.metrics import Metrics
from snn_policy.serving.sessions import Memories, Servable, Sessions
from snn_policy.serving.wire import MessageError, Request, encode_array, pack

log = logging.getLogger("snn_policy.serving.serve")


class Client(Hashable, Protocol):
    """Describe who waits for an answer."""

    closed: bool

    def answer(self, message: bytes | str) -> None:
        """Send a reply, or a text that says why there is none."""
        ...


class Waiting(NamedTuple):
    """Hold a message whose answer is due; where it is no request, `request` is the reason."""

    client: Client
    request: Request | MessageError
    received_at: float


class Placed(NamedTuple):
    """Hold a request that takes part in a batch: its memory, or the answer it has got without a decision."""

    waiting: Waiting
    row: int
    answer: bytes | str | None


class Batcher:
    """Collect messages for a moment, decide them together, and answer each client in its own order."""

    def __init__(
        self, policy: Servable, sessions: Sessions, metrics: Metrics, window: float = 0.0, max_batch: int = 256
    ) -> None:
        self._policy, self._sessions, self._metrics = policy, sessions, metrics
        self._window, self._max_batch = window, max_batch
        self._queue: deque[Waiting] = deque()
        self._due: asyncio.Handle | None = None

    @property
    def idle(self) -> bool:
        return not self._queue

    def submit(self, waiting: Waiting) -> None:
        """Take a message; its client is answered in a later turn of the event loop."""
        self._queue.append(waiting)
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(self._window, self.flush) if self._window else loop.call_soon(self.flush)
        elif self._window and len(self._queue) == self._max_batch:
            self._soon()

    def _soon(self) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Decide what waits now. A second message for the same memory, and all behind it, stay for the next batch."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        placed = self._place()
        deciding = [request for request in placed if request.answer is None]
        answers = iter(self._decide(deciding)) if deciding else iter(())
        for request in placed:
            request.waiting.client.answer(next(answers) if request.answer is None else request.answer)
        if self._queue:
            self._soon()

    def _place(self) -> list[Placed]:
        """Take messages off the queue, at most one per memory and in each client's order."""
        placed, kept, rows, held = list[Placed](), deque[Waiting](), set[int](), set[Client]()
        while self._queue and len(rows) < self._max_batch:
            waiting = self._queue.popleft()
            if waiting.client.closed:
                continue
            if waiting.client in held:
                kept.append(waiting)
                continue
            found = self._find(waiting, rows)
            if found is None:
                held.add(waiting.client)
                kept.append(waiting)
            else:
                placed.append(found)
                if found.answer is None:
                    rows.add(found.row)
        self._queue.extendleft(reversed(kept))
        return placed

    def _find(self, waiting: Waiting, taken: set[int]) -> Placed | None:
        """Return the request's place; None where its memory is `taken` by this batch."""
        request = waiting.request
        if isinstance(request, MessageError):
            return self._refused(waiting, request)
        try:
            row = self._sessions.find(waiting.client, request)
        except MessageError as error:
            return self._refused(waiting, error)
        if row in taken:
            return None
        if request.reset:
            self._metrics.resets += 1
            self._sessions.memories.clear(row)
        if request.observation is not None:
            return Placed(waiting, row, None)
        self._sessions.forget(waiting.client, request)
        return Placed(waiting, row, _reply(waiting, {"reset": True}))

    def _refused(self, waiting: Waiting, error: MessageError) -> Placed:
        self._metrics.refused["message"] += 1
        return Placed(waiting, -1, str(error))

    def _decide(self, placed: list[Placed]) -> list[bytes | str]:
        """Call the policy once; where it refuses the batch, on each row alone, so that one cannot harm the others."""
        memories = self._sessions.memories
        rows = [item.row for item in placed]
        obs = np.concatenate([_observation(item) for item in placed])
        started = time.perf_counter()
        try:
            actions, state, decision = self._policy.decide(obs, memories.gather(rows))
        except Exception as error:  # whatever the engine raises, every client must get an answer
            if len(placed) > 1:
                return [answer for item in placed for answer in self._decide([item])]
            memories.clear(rows[0])
            log.warning("a decision failed, its memory was reset: %s", " ".join(str(error).split()))
            self._metrics.refused["decision"] += 1
            return [f"no decision, and the memory was reset: {error}"]
        memories.scatter(rows, state)
        self._count(placed, decision, time.perf_counter() - started)
        return [_answer(item, action, memories) for item, action in zip(placed, actions, strict=True)]

    def _count(self, placed: list[Placed], decision: Decision, seconds: float) -> None:
        now = time.perf_counter()
        latencies = np.fromiter((now - item.waiting.received_at for item in placed), np.float64, len(placed))
        self._metrics.count_batch(decision, latencies, seconds)


def _observation(placed: Placed) -> npt.NDArray[np.float32]:
    request = placed.waiting.request
    assert isinstance(request, Request)
    assert request.observation is not None
    return request.observation


def _answer(placed: Placed, action: npt.NDArray[Any], memories: Memories) -> bytes:
    request = placed.waiting.request
    assert isinstance(request, Request)
    reply: dict[str, Any] = {"actions": encode_array(np.asarray(action)[None] if request.batched else action)}
    if request.session is not None:
        reply["decisions"] = int(memories.decisions[placed.row])
    return _reply(placed.waiting, reply)


def _reply(waiting: Waiting, reply: dict[str, Any]) -> bytes:
    reply["server_timing"] = {"infer_ms": 1000 * (time.perf_counter() - waiting.received_at)}
    return pack(reply)
