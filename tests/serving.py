"""A server in this process or in its own, and a client, for the tests of `snn_policy.serving.serve`."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from websockets.sync.client import ClientConnection, connect

from snn_policy.policy import SpikingPolicy
from snn_policy.serving.serve import PolicyServer, Settings
from snn_policy.serving.wire import encode_array
from tests.actors import dyadic_observations, policies

SHAPE = (4,)


def policy(kind: str = "sigma-delta") -> SpikingPolicy:
    return policies("event")[kind]


def episode(seed: int, steps: int = 20) -> np.ndarray:
    return dyadic_observations(steps, SHAPE, seed)


def private_actions(observations: np.ndarray, kind: str = "sigma-delta") -> np.ndarray:
    alone = policy(kind)
    alone.reset()
    return np.stack([alone.act(obs) for obs in observations])


def as_packed(value: Any) -> Any:
    return encode_array(value) if isinstance(value, np.ndarray) else value


def packed(**fields: Any) -> bytes:
    message = msgpack.packb({key: as_packed(value) for key, value in fields.items()})
    assert message is not None
    return message


def unpacked(message: bytes) -> dict[str, Any]:
    def array(value: dict[Any, Any]) -> Any:
        if b"__ndarray__" not in value:
            return value
        return np.frombuffer(value[b"data"], value[b"dtype"]).reshape(value[b"shape"])

    return msgpack.unpackb(message, object_hook=array, strict_map_key=False)


def settles(condition: Callable[[], bool]) -> bool:
    """Whether it becomes true within ten seconds."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


class Client:
    """Speaks the protocol; a refusal is a `RuntimeError`, as with openpi's client."""

    def __init__(self, port: int, **options: Any) -> None:
        self._open = ExitStack()
        connecting = connect(f"ws://127.0.0.1:{port}", compression=None, **options)
        self.socket: ClientConnection = self._open.enter_context(connecting)
        self.metadata = unpacked(self.socket.recv(timeout=20))  # pyright: ignore[reportArgumentType]

    def ask(self, **fields: Any) -> dict[str, Any]:
        self.socket.send(packed(**fields))
        return self.answer()

    def answer(self) -> dict[str, Any]:
        reply = self.socket.recv(timeout=20)
        if isinstance(reply, str):
            raise RuntimeError(reply)
        return unpacked(reply)

    def actions(self, observations: np.ndarray, **fields: Any) -> np.ndarray:
        return np.stack([self.ask(observation=obs, **fields)["actions"] for obs in observations])

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Running:
    """A server in a thread of its own."""

    def __init__(self, served: Any, settings: Settings, digest: str) -> None:
        self._served, self._settings, self._digest = served, settings, digest
        self._ready, self._failed = threading.Event(), None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failed = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with PolicyServer(self._served, self._settings, {"name": "dyadic"}, self._digest) as server:
            self.server, self.port = server, server.port
            self._ready.set()
            await self._stop.wait()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(30)
        if self._failed:
            raise self._failed

    def stop(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._failed:
            raise self._failed


@contextmanager
def running(served: Any = None, digest: str = "the policy", **settings: Any) -> Iterator[Running]:
    """A server on a free port; drained at the end."""
    server = Running(policy() if served is None else served, Settings(port=0, **settings), digest)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def process(
    directory: Path | str, *options: str, limit: int | None = None, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`snn-policy serve` in a process of its own, with at most `limit` open files, and its port."""
    command = [sys.executable, "-m", "snn_policy.cli", "serve", str(directory), "--port", "0", *options]
    if limit is not None:
        command = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *command]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )  # fmt: skip
    try:
        assert server.stdout is not None
        assert server.stderr is not None
        line = server.stdout.readline()
        assert line.startswith("serving "), server.stderr.read()
        yield server, int(line.split("ws://")[1].split()[0].rstrip(",").rpartition(":")[2])
    finally:
        if server.poll() is None:
            server.kill()
        server.communicate()
