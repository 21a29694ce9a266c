"""The server itself: listens, lets clients in, keeps named sessions on disk, and leaves in good order."""

import asyncio
import functools
import hmac
import http
import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from snn_policy.serving.batching import Batcher
from snn_policy.serving.connections import Connection
from snn_policy.serving.logs import Seldom
from snn_policy.serving.metrics import Metrics
from snn_policy.serving.sessions import Servable, Sessions
from snn_policy.serving.settings import Settings
from snn_policy.serving.snapshot import StateFileLock, restore, take_snapshot, write_snapshot
from snn_policy.serving.sockets import CLOSE_WITHIN, MeteredSocket
from snn_policy.serving.wire import OBSERVATION_KEYS, encode_array, most_bytes, pack

log = logging.getLogger("snn_policy.serving.serve")
SCHEMES = ("bearer", "api-key")
HANDSHAKES = 64
"""Connections beyond the limit that may be open while they are being answered, health checks for one."""
UPKEEP_EVERY, DRAIN_WITHIN = 0.25, 5.0


class PolicyServer:
    """Serve one policy; `async with` starts and drains it.

    Attributes:
        metrics: what has been counted.
        port: where it listens, once started.
    """

    def __init__(
        self, policy: Servable, settings: Settings, metadata: dict[str, Any], digest: str = "",
        most_sockets: int | None = None,
    ) -> None:  # fmt: skip
        """Read the sessions of the state file, where there is one; serve nobody yet.

        Args:
            metadata: added to the message that greets a client.
            digest: identifies the policy in the state file.
            most_sockets: open at the same time; by default as many as there may be connections, and some.

        Raises:
            SourceError: a state file that is not this policy's, or damaged.
            OSError: a state file that another server uses.
        """
        self.metrics, self.settings, self._policy, self._digest = Metrics(), settings, policy, digest
        self.sessions = Sessions(policy, settings.max_sessions, settings.max_envs, settings.session_ttl)
        self.batcher = Batcher(policy, self.sessions, self.metrics, settings.batch_window, settings.max_batch)
        self._most_sockets = most_sockets or settings.max_connections + HANDSHAKES
        self.restored, self._lock = 0, StateFileLock(settings.state_file)
        if settings.state_file is not None:
            try:
                self.restored = restore(settings.state_file, self.sessions, policy, digest)
            except BaseException:
                self._lock.release()
                raise
        self._greeting = pack({**_described(policy, settings), **metadata})
        self._connections: set[Connection] = set()
        self._sockets: set[ServerConnection] = set()
        self._refused_tokens = Seldom()
        self._draining, self._writing = False, threading.Lock()
        self._server: Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._dismissing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "PolicyServer":
        try:
            await self._start()
        except BaseException:
            self._lock.release()
            raise
        return self

    async def _start(self) -> None:
        settings, server = self.settings, self

        class Counted(MeteredSocket):
            """Refuse bare TCP connections beyond any need before they cost more than a socket."""

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                server._sockets.add(self)
                if len(server._sockets) > server._most_sockets:
                    server.metrics.refused["too_many_connections"] += 1
                    self.transport.abort()

            def connection_lost(self, exc: Exception | None) -> None:
                server._sockets.discard(self)
                super().connection_lost(exc)

        self._server = await serve(
            self._run_connection,
            settings.host,
            settings.port,
            process_request=self._respond,
            create_connection=functools.partial(  # pyright: ignore[reportArgumentType]
                Counted, rate=settings.rate_limit, metrics=self.metrics
            ),
            origins=[None],
            compression=None,
            max_size=most_bytes(self._policy.observation_shape),
            max_queue=16,
            open_timeout=10,
            close_timeout=CLOSE_WITHIN,
            server_header=None,
        )
        self.port: int = next(iter(self._server.sockets)).getsockname()[1]
        try:
            self.save()
        except OSError:
            self._server.close()
            raise
        self._tasks = [asyncio.create_task(self._sweep())]
        if settings.state_file is not None:
            self._tasks.append(asyncio.create_task(self._save_regularly()))

    async def __aexit__(self, *_: object) -> None:
        """Answer what has been received, close every connection with 1001, store the sessions."""
        try:
            await self._stop()
        finally:
            self._lock.release()

    async def _stop(self) -> None:
        assert self._server is not None
        self._draining = True
        self._server.close(close_connections=False)
        deadline = time.monotonic() + DRAIN_WITHIN
        await asyncio.sleep(0.01)  # handlers take what the sockets have delivered
        while not self.batcher.idle and time.monotonic() < deadline:
            self.batcher.flush()
            await asyncio.sleep(0)
        self._dismiss(self._connections, "the server is shutting down")
        await asyncio.gather(*self._dismissing, return_exceptions=True)
        for socket in self._sockets:  # those that never finished their handshake
            socket.transport.abort()
        await self._server.wait_closed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.save()

    async def _run_connection(self, socket: ServerConnection) -> None:
        assert isinstance(socket, MeteredSocket)
        if self._draining:
            return
        connection = Connection(socket, self.settings, self.batcher, self.metrics, self._policy.observation_shape)
        self._connections.add(connection)
        self.metrics.connections += 1
        try:
            await connection.run(self._greeting)
        finally:
            self._connections.discard(connection)
            self.sessions.leave(connection)

    def _respond(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP, and refuse who may not come in; None lets the WebSocket open."""
        path, method = request.path.partition("?")[0], getattr(request, "method", "GET")
        if path in ("/healthz", "/metrics") and method not in ("GET", "HEAD"):
            refusal = self._reply(socket, 405, f"{path}: only GET and HEAD")
            refusal.headers["Allow"] = "GET, HEAD"
            return refusal
        response = self._respond_to(path, socket, request)
        if response is not None and method == "HEAD":
            response.body = b""  # the headers tell of the body that GET would give
        return response

    def _respond_to(self, path: str, socket: ServerConnection, request: Request) -> Response | None:
        if path == "/healthz":
            return self._reply(socket, 503, "draining") if self._draining else self._reply(socket, 200, "ok")
        if not self._knows_token(request.headers.get_all("Authorization")):
            self.metrics.refused["token"] += 1
            if (count := self._refused_tokens.count()) is not None:
                log.warning("%s: refused, no valid token (%d such request(s) since last said)", socket, count)
            return self._reply(socket, 401, "a valid token is required: Authorization: Bearer TOKEN")
        if path == "/metrics":
            return self._reply(socket, 200, self.metrics.text(self._gauges()).removesuffix("\n"))
        if path != "/":
            return self._reply(socket, 404, "not found; there are / (WebSocket), /healthz and /metrics")
        if self._draining:
            return self._reply(socket, 503, "shutting down")
        if len(self._connections) >= self.settings.max_connections:
            self.metrics.refused["too_many_connections"] += 1
            return self._reply(socket, 503, f"{self.settings.max_connections} connections are open, the limit")
        return None

    def _reply(self, socket: ServerConnection, status: int, text: str) -> Response:
        return socket.respond(http.HTTPStatus(status), text + "\n")

    def _knows_token(self, given: list[str]) -> bool:
        token = self.settings.token
        if token is None:
            return True
        scheme, _, presented = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        same = hmac.compare_digest(presented.strip().encode("utf-8", "surrogateescape"), token.encode())
        return same and scheme.lower() in SCHEMES

    def _gauges(self) -> dict[str, tuple[str, float]]:
        sessions = self.sessions
        return {
            "open_connections": ("Clients connected now.", len(self._connections)),
            "open_sessions": ("Memories held now.", sessions.memories.used),
            "named_sessions": ("Of these, those that outlive their connection.", len(sessions.named)),
        }

    async def _sweep(self) -> None:
        """Send idle clients away, forget sessions that nobody came back for."""
        while True:
            await asyncio.sleep(min(UPKEEP_EVERY, self.settings.idle_timeout))
            self.sessions.expire()
            oldest = time.monotonic() - self.settings.idle_timeout
            idle = [
                connection
                for connection in self._connections
                if connection.last_message < oldest and not connection.closed
            ]
            self.metrics.refused["idle"] += len(idle)
            self._dismiss(idle, "no message within the idle timeout")

    def _dismiss(self, connections: Iterable[Connection], reason: str) -> None:
        """Close with 1001, waiting for nobody; what still arrives from them is dropped."""
        for connection in list(connections):
            connection.leave()
            task = asyncio.create_task(connection.socket.dismiss(CloseCode.GOING_AWAY, reason))
            self._dismissing.add(task)
            task.add_done_callback(self._dismissing.discard)

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(self.settings.snapshot_interval)
            if not self.sessions.changed:
                continue
            self.sessions.changed = False
            try:
                await asyncio.to_thread(self._write, take_snapshot(self.sessions, self._policy))
            except OSError as error:
                self.sessions.changed = True
                log.error("the state file cannot be written: %s", error)

    def _write(self, snapshot: Any) -> None:
        assert self.settings.state_file is not None
        with self._writing:
            write_snapshot(self.settings.state_file, snapshot, self._digest)
        self.metrics.snapshots += 1

    def save(self) -> None:
        """Write the state file, if there is to be one."""
        if self.settings.state_file is not None:
            self._write(take_snapshot(self.sessions, self._policy))


def _described(policy: Servable, settings: Settings) -> dict[str, Any]:
    return {
        "server": "snn-policy",
        "protocol": 1,
        "observation_shape": list(policy.observation_shape),
        "observation_keys": list(OBSERVATION_KEYS),
        "action_shape": list(policy.action_shape),
        "action_low": encode_array(policy.low),
        "action_high": encode_array(policy.high),
        "action_horizon": 1,
        "discrete": policy.discrete,
        "timesteps": policy.timesteps,
        "max_message_bytes": most_bytes(policy.observation_shape),
        "max_envs": settings.max_envs,
        "rate_limit": settings.rate_limit,
    }
