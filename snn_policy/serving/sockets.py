"""What one client's socket may cost: its frames count against its rate, and what it does not read against its room.

The library answers a ping as soon as it has parsed it, and keeps the fragments of a message until the last one; so
both are counted here, before they reach anybody else. Little is read at a time, so that clients take turns.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode, Frame, Opcode

from snn_policy.serving.metrics import Metrics

log = logging.getLogger("snn_policy.serving.serve")
MOST_UNREAD = 2**16
"""Bytes that a client may leave unread, in the system's send buffer and again as many in this process, before it is
cut off."""
MOST_OVERDRAWN = 100
"""Control frames beyond the rate limit after which a client is cut off."""
MOST_FRAGMENTS, FREE_FRAGMENT = 1024, 1024
"""Fragments of one message, and the bytes from which one costs nothing."""
LEAST_READ, MOST_READ = 2**10, 2**14
CLOSE_WITHIN = 2.0
"""Seconds that a client gets to answer a close frame, or to read what is left."""


class Bucket:
    """Hold one second's worth of messages; refilled at the rate, 0 for no limit."""

    def __init__(self, rate: float) -> None:
        self._rate, self._most = rate, max(rate, 1.0)
        self._level, self._refilled_at = self._most, time.monotonic()

    def admit(self) -> bool:
        """Take one message's worth, if there is as much."""
        self._refill()
        if self._rate and self._level < 1:
            return False
        self._level -= 1
        return True

    def charge(self, cost: float) -> bool:
        """Take it even if there is less; whether no more is owed than `MOST_OVERDRAWN`."""
        self._refill()
        self._level -= cost
        return not self._rate or self._level >= -MOST_OVERDRAWN

    def _refill(self) -> None:
        now = time.monotonic()
        self._level = min(self._level + (now - self._refilled_at) * self._rate, self._most)
        self._refilled_at = now


class MeteredSocket(ServerConnection, asyncio.BufferedProtocol):
    """Cut a WebSocket off once it costs too much.

    Attributes:
        bucket: what messages, control frames and small fragments are taken from.
        is_cut: whether it was cut off; nothing that still arrives is read.
        when_cut: called once at that moment.
    """

    def __init__(self, *arguments: Any, rate: float, metrics: Metrics, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.bucket, self.is_cut = Bucket(rate), False
        self.when_cut: Callable[[], None] = lambda: None
        self._metrics, self._fragments, self._frames = metrics, 0, 0
        self._buffer = bytearray(LEAST_READ)

    def __str__(self) -> str:
        address = self.remote_address
        return f"{address[0]}:{address[1]}" if address else "a client"

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where the next bytes go: few, unless a large frame is on its way."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what has arrived, and look at what it has led to."""
        if self.is_cut:
            return
        frames = self._frames
        self.data_received(bytes(memoryview(self._buffer)[:nbytes]))
        self.check_unread()
        if frames != self._frames:
            wanted = LEAST_READ
        else:
            wanted = min(2 * nbytes, MOST_READ) if nbytes == len(self._buffer) else len(self._buffer)
        if wanted != len(self._buffer):
            self._buffer = bytearray(wanted)

    def process_event(self, event: Any) -> None:
        """Count a frame; then treat it as ever."""
        if self.is_cut:
            return
        if isinstance(event, Frame):
            self._frames += 1
            if not self._count(event):
                return
        super().process_event(event)

    def _count(self, frame: Frame) -> bool:
        """Return whether the frame is in the limits. A message's first frame counts as a message, by its reader."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._fragments = 0
            return True
        cost = 1.0
        if frame.opcode is Opcode.CONT:
            self._fragments += 1
            if self._fragments > MOST_FRAGMENTS:
                self._end("fragments", "too many fragments of one message")
                return False
            cost = max(0.0, 1 - len(frame.data) / FREE_FRAGMENT)
        if self.bucket.charge(cost):
            return True
        self._end("control_frames", "too many control frames or small fragments")
        return False

    def check_unread(self) -> None:
        """Cut a client off that leaves too much unread, whatever it is."""
        if not self.is_cut and self.transport.get_write_buffer_size() > MOST_UNREAD:
            self._cut("slow_reader", "it does not read its answers")
            self.transport.abort()

    def _end(self, reason: str, what: str) -> None:
        """Send a close frame, read no more, and hang up."""
        self._cut(reason, what)
        self.protocol.fail(CloseCode.POLICY_VIOLATION, what)
        self.send_data()
        self.transport.pause_reading()
        self.loop.call_later(CLOSE_WITHIN, self.transport.abort)

    def _cut(self, reason: str, what: str) -> None:
        self.is_cut = True
        self._metrics.refused[reason] += 1
        log.warning("%s: cut off, %s", self, what)
        self.when_cut()

    async def dismiss(self, code: CloseCode, reason: str) -> None:
        """Close in good order, or, where the client does not let that happen, without."""
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await self.close(code, reason)
        except TimeoutError:
            self.transport.abort()
