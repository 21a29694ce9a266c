"""Floods of frames that carry no request: they cost the flooder its connection, and the others nothing they notice."""

import re
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from snn_policy.serving.sockets import LEAST_READ, MOST_FRAGMENTS, MOST_OVERDRAWN, Bucket, MeteredSocket
from tests.actors import policies
from tests.serving import Client, episode, packed, private_actions, process, running, settles
from tests.test_serve_hostile import HANDSHAKE, MASK, bystander, raw


def short(payload: bytes, first: int) -> bytes:
    """A masked frame (with a mask of zeros) with the short form of its length."""
    return bytes([first, 0x80 | len(payload)]) + MASK + payload


PING, PONG = short(b"", 0x89), short(b"", 0x8A)
BEGIN, GOES_ON, TEXT_BEGINS = short(b"", 0x02), short(b"", 0x00), short(b"", 0x01)
FLOODS = {
    "pings": (b"", PING * 500),
    "long pings": (b"", short(bytes(125), 0x89) * 100),
    "pongs nobody asked for": (b"", PONG * 500),
    "pings and pongs": (b"", (PING + PONG) * 250),
    "pings among the fragments of a message": (BEGIN, PING * 500),
    "empty fragments": (BEGIN, GOES_ON * 500),
    "empty fragments of a text": (TEXT_BEGINS, GOES_ON * 500),
    "fragments of a byte": (BEGIN, short(b"x", 0x00) * 300),
    "messages in empty fragments": (b"", BEGIN + GOES_ON * 500 + short(b"", 0x80)),
    "requests among pings": (b"", short(packed(reset=True), 0x82) + PING * 200),
}


def unread(port: int) -> socket.socket:
    """An open WebSocket that will never be read, and that has little room in the system for what it does not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    connection.sendall(HANDSHAKE)
    return connection


def is_cut(connection: socket.socket, content: bytes, seconds: float = 20.0) -> bool:
    """Send it over and over; whether the connection is cut within that time."""
    until = time.monotonic() + seconds
    with suppress(ConnectionError):
        while time.monotonic() < until:
            connection.sendall(content)
        return False
    return True


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_cut_off_by_the_rate_limit_though_nobody_reads_its_answers(name: str) -> None:
    first, content = FLOODS[name]
    with running() as server, bystander(server), unread(server.port) as connection:
        connection.sendall(first)
        assert is_cut(connection, content)
        assert settles(lambda: len(server.server._connections) == 1)
        refused = server.server.metrics.refused
        assert refused["control_frames"] + refused["fragments"] + refused["slow_reader"] == 1
        assert refused["protocol"] == 0


@pytest.mark.parametrize("name", ["pings", "long pings", "pings among the fragments of a message"])
def test_without_a_rate_limit_a_pinger_that_does_not_read_is_cut_off_by_its_buffer(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, content = FLOODS[name]
    with running(rate_limit=0) as server, bystander(server), unread(server.port) as connection:
        sizes = list[int]()
        check = MeteredSocket.check_unread

        def note(self: MeteredSocket) -> None:
            sizes.append(self.transport.get_write_buffer_size())
            check(self)

        monkeypatch.setattr(MeteredSocket, "check_unread", note)
        connection.sendall(first)
        assert is_cut(connection, content)
        assert settles(lambda: server.server.metrics.refused["slow_reader"] == 1)
        assert 2**16 < max(sizes) < 2**16 + LEAST_READ
        assert settles(lambda: len(server.server._connections) == 1)


@pytest.mark.parametrize("piece", [b"", b"x"], ids=["empty", "of a byte"])
def test_a_message_never_has_more_fragments_than_the_limit(piece: bytes) -> None:
    with running(rate_limit=0) as server, bystander(server), raw(server.port) as connection:
        connection.sendall(BEGIN + short(piece, 0x00) * MOST_FRAGMENTS)
        time.sleep(0.1)
        assert not server.server.metrics.refused["fragments"]
        with suppress(ConnectionError):
            connection.sendall(short(piece, 0x00))
        assert settles(lambda: server.server.metrics.refused["fragments"] == 1)


def test_a_flooder_that_reads_is_told_why() -> None:
    with running(rate_limit=50) as server, raw(server.port) as connection:
        connection.sendall(PING * 400)
        received = b""
        with suppress(ConnectionError):
            while piece := connection.recv(65536):
                received += piece
        assert received.endswith(b"\x03\xf0too many control frames or small fragments")


def test_pings_within_the_limit_are_answered_and_cost_messages() -> None:
    with running(rate_limit=0.01) as server, Client(server.port) as client:
        assert client.socket.ping().wait(10)
        with pytest.raises(RuntimeError, match=r"at most 0\.01 messages per second"):
            client.ask(observation=episode(0)[0])
        for _ in range(MOST_OVERDRAWN - 5):
            assert client.socket.ping().wait(10)
        assert not server.server.metrics.refused["control_frames"]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_request_in_fragments_is_a_request(size: int) -> None:
    expected = private_actions(episode(4)[:5])
    with running() as server, Client(server.port) as client:
        for obs, action in zip(episode(4)[:5], expected, strict=True):
            message = packed(observation=obs)
            client.socket.send(message[start : start + size] for start in range(0, len(message), size))
            assert np.array_equal(client.answer()["actions"], action)


def test_a_large_message_in_large_fragments_costs_no_more_than_a_message() -> None:
    bucket = Bucket(rate=10)
    assert all(bucket.charge(0.0) for _ in range(10_000))
    assert [bucket.admit() for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize(("rate", "most"), [(1, 1), (10, 10), (200, 200), (0.1, 1)])
def test_a_bucket_is_overdrawn_by_so_much_and_no_more(rate: float, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bucket = Bucket(rate)
    assert [bucket.charge(1) for _ in range(most + MOST_OVERDRAWN + 1)] == [True] * (most + MOST_OVERDRAWN) + [False]
    assert not bucket.admit()
    now[0] += (MOST_OVERDRAWN + 3) / rate
    assert bucket.admit()


def test_without_a_limit_a_bucket_never_ends() -> None:
    bucket = Bucket(0)
    assert all(bucket.charge(1) and bucket.admit() for _ in range(1000))


def test_clients_that_do_not_let_themselves_be_closed_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    close, stubborn = MeteredSocket.close, list[int]()

    async def hangs(self: MeteredSocket, code: int = 1000, reason: str = "") -> None:
        if not stubborn:
            stubborn.append(id(self))
            await self.loop.create_future()  # as while the write buffer is full
        await close(self, code, reason)

    monkeypatch.setattr(MeteredSocket, "close", hangs)
    with running(idle_timeout=0.3) as server, Client(server.port):
        assert settles(lambda: bool(stubborn))
        with Client(server.port) as other:
            started = time.monotonic()
            with pytest.raises(ConnectionClosed):
                other.answer()
            assert time.monotonic() - started < 1.5  # closing the first one takes two seconds
            assert other.socket.close_code == 1001
        assert settles(lambda: not server.server._connections)


def test_the_server_stops_though_flooders_do_not_read() -> None:
    with running(rate_limit=0) as server:
        connections = [unread(server.port) for _ in range(3)]
        for connection in connections:
            connection.sendall(short(bytes(125), 0x89) * 800)
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 8
        for connection in connections:
            connection.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    policies()["sigma-delta"].save(directory)
    return directory


@contextmanager
def flooding(port: int, content: bytes, reads: bool) -> Iterator[None]:
    """A thread that floods, and comes back when it is cut off."""
    goes_on = threading.Event()

    def flood() -> None:
        while not goes_on.is_set():
            with suppress(OSError), unread(port) as connection:
                connection.settimeout(0.2)
                while not goes_on.is_set():
                    connection.sendall(content)
                    if reads:
                        connection.recv(2**20)

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        yield
    finally:
        goes_on.set()
        thread.join(20)


def median_latency(port: int, seconds: float) -> float:
    latencies, until = [], time.monotonic() + seconds
    with Client(port) as client:
        while time.monotonic() < until:
            started = time.perf_counter()
            client.ask(observation=episode(0)[0])
            latencies.append(time.perf_counter() - started)
    return float(np.median(latencies))


def peak_memory(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        found = re.search(rb"peak_memory_bytes (\d+)", reply.read())
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("reads", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("name", ["pings", "empty fragments"])
def test_others_hardly_notice_a_flood_and_memory_stays(name: str, reads: bool, bundle: Path) -> None:
    first, content = FLOODS[name]
    with process(bundle) as (_, port):
        calm, before = median_latency(port, 1), peak_memory(port)
        with flooding(port, first + content, reads):
            stormy = median_latency(port, 2)
        assert stormy < 10 * calm + 0.02
        assert peak_memory(port) - before < 16e6
