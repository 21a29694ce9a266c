"""One client's connection: how fast it may send, how much may wait for it, and how it is answered."""

import asyncio
import logging
import time
from socket import SO_SNDBUF, SOL_SOCKET

from websockets.asyncio.server import broadcast
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from snn_policy.serving.batching import Batcher, Waiting
from snn_policy.serving.metrics import Metrics
from snn_policy.serving.settings import Settings
from snn_policy.serving.sockets import MOST_UNREAD, MeteredSocket
from snn_policy.serving.wire import MessageError, Request, decode_request

log = logging.getLogger("snn_policy.serving.serve")
MOST_WAITING = 64
"""Unanswered messages per connection; beyond it no more are read."""
MOST_MISTAKES = 100
"""Refused messages in a row after which a client is sent away."""


class Connection:
    """Hold a client as the batcher sees it; `run` serves it until it leaves.

    Attributes:
        closed: whether it is gone; what still waits for it is dropped.
        last_message: when it last sent something, by `time.monotonic`.
    """

    def __init__(
        self, socket: MeteredSocket, settings: Settings, batcher: Batcher, metrics: Metrics,
        observation_shape: tuple[int, ...],
    ) -> None:  # fmt: skip
        self.socket, self.closed, self.last_message = socket, socket.is_cut, time.monotonic()
        socket.when_cut, self._rate = self.leave, settings.rate_limit
        self._batcher, self._metrics, self._shape = batcher, metrics, observation_shape
        self._waiting = self._mistakes = 0
        self._room: asyncio.Future[None] | None = None
        raw = socket.transport.get_extra_info("socket")
        raw.setsockopt(SOL_SOCKET, SO_SNDBUF, MOST_UNREAD)

    async def run(self, metadata: bytes) -> None:
        """Send the metadata, then pass every message to the batcher."""
        try:
            await self.socket.send(metadata)
            while self._mistakes < MOST_MISTAKES:
                message = await self.socket.recv()
                received_at, self.last_message = time.perf_counter(), time.monotonic()
                if self.closed:
                    continue
                self._waiting += 1
                self._batcher.submit(Waiting(self, self._read(message), received_at))
                if self._waiting >= MOST_WAITING:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
            self._metrics.refused["too_many_mistakes"] += 1
            log.warning("%s: sent away after %d refused messages in a row", self, self._mistakes)
            await self.socket.dismiss(CloseCode.POLICY_VIOLATION, "too many refused messages in a row")
        except ConnectionClosed as error:
            closed = error.sent or error.rcvd
            in_order = closed is None or closed.code in (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY)
            if closed is not None and not in_order and not self.socket.is_cut:
                self._metrics.refused["protocol"] += 1
                log.warning("%s: closed with %d %s", self, closed.code, closed.reason)
        finally:
            self.leave()

    def _read(self, message: bytes | str) -> Request | MessageError:
        try:
            if not self.socket.bucket.admit():
                raise MessageError(f"too fast: at most {self._rate:g} messages per second")
            request = decode_request(message, self._shape)
        except MessageError as error:
            self._mistakes += 1
            return error
        self._mistakes = 0
        return request

    def answer(self, message: bytes | str) -> None:
        """Write without waiting; a client that does not read its answers is cut off."""
        self._waiting -= 1
        if self._waiting <= MOST_WAITING // 2:
            self._read_on()
        if self.closed:
            return
        broadcast((self.socket,), message)
        self.socket.check_unread()

    def leave(self) -> None:
        """Drop what still waits, and what still arrives."""
        self.closed = True
        self._read_on()

    def _read_on(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def __str__(self) -> str:
        return str(self.socket)
