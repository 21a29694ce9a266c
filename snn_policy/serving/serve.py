"""The policy server: a policy behind a WebSocket, spoken to as openpi's policies are; see docs/serving.md.

    serve(SpikingPolicy.load("run/cheetah"), Settings(port=8000))

Needs the extra `serve` (websockets, msgpack).
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from snn_policy.checks import require
from snn_policy.exporting.onnx_policy import OnnxPolicy
from snn_policy.serving.descriptors import make_room
from snn_policy.serving.server import HANDSHAKES, PolicyServer
from snn_policy.serving.sessions import Servable
from snn_policy.serving.settings import Settings
from snn_policy.serving.snapshot import digest_of

__all__ = ["PolicyServer", "Settings", "serve"]

log = logging.getLogger("snn_policy.serving.serve")


def serve(
    policy: Servable,
    settings: Settings,
    *,
    metadata: dict[str, Any] | None = None,
    ready: Callable[[PolicyServer], None] = lambda server: None,
) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is in flight, close with 1001, and return.

    Args:
        metadata: added to the message that greets a client.
        ready: called once the server listens.

    Raises:
        SourceError: a state file that is damaged or another policy's.
        OSError: the address is taken or not this machine's, the state file cannot be written or is another server's,
            or there are too few file descriptors.
        ValueError: a graph that was exported for batches of several rows, or a host that is not known.
    """
    fixed = policy.description.batch if isinstance(policy, OnnxPolicy) else None
    if fixed is not None:
        require(fixed == 1, f"the graph was exported for batches of {fixed}; serve one that takes any, or a batch of 1")
        settings = replace(settings, max_batch=1)
    if not settings.on_loopback and settings.token is None:
        log.warning("%s can be reached from other machines, and no token is set: anybody may act", settings.host)
    sockets = make_room(settings.max_connections + HANDSHAKES)
    settings = replace(settings, max_connections=min(settings.max_connections, sockets - min(HANDSHAKES, sockets // 4)))
    digest = digest_of(policy) if settings.state_file is not None else ""
    try:
        asyncio.run(_serve(PolicyServer(policy, settings, metadata or {}, digest, sockets), ready))
    except socket.gaierror as problem:
        raise ValueError(f"host {settings.host!r}: {problem.strerror}") from None


async def _serve(server: PolicyServer, ready: Callable[[PolicyServer], None]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.set_exception_handler(lambda _, context: log.error("%s", context.get("exception") or context["message"]))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with server:
        ready(server)
        await stop.wait()
        log.info("stopping: answering what is in flight")
