"""What clients do to the server, on purpose or not, is theirs alone: a bystander's actions stay right to the bit."""

import logging
import resource
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from snn_policy.policy import SpikingPolicy
from tests.actors import policies
from tests.serving import Client, Running, episode, packed, policy, private_actions, running, settles

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK = b"\x00\x00\x00\x00"
BINARY = packed(observation=episode(0)[0])


def frame(payload: bytes, first: int = 0x82, length: int | None = None) -> bytes:
    """A masked frame (with a mask of zeros), its length as announced."""
    return bytes([first, 0x80 | 127]) + struct.pack("!Q", len(payload) if length is None else length) + MASK + payload


@contextmanager
def raw(port: int, opened: bool = True) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        if opened:
            connection.sendall(HANDSHAKE)
            received = b""
            while b"server" not in received:
                received += connection.recv(65536)
        yield connection


@contextmanager
def bystander(server: Running) -> Iterator[None]:
    """A client that is in the middle of its episode while things happen to others."""
    expected = private_actions(episode(9, 40))
    with Client(server.port) as client:
        first = client.actions(episode(9, 40)[:20])
        yield
        rest = client.actions(episode(9, 40)[20:])
    assert np.array_equal(np.concatenate([first, rest]), expected)


@pytest.fixture(scope="module")
def server():
    with running() as server:
        yield server


ATTACKS = {
    "not HTTP": (False, b"\x16\x03\x01\x02\x00" + bytes(400)),
    "an endless header": (False, b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000),
    "ten thousand headers": (False, b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 10_000),
    "a body of a gigabyte": (False, b"GET /metrics HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n"),
    "another method": (False, b"POST / HTTP/1.1\r\n\r\n"),
    "half a handshake": (False, HANDSHAKE[:40]),
    "a frame of a gigabyte": (True, frame(b"abc", length=2**30)),
    "a frame of 2^63 bytes": (True, frame(b"abc", length=2**63)),
    "half a frame": (True, frame(BINARY)[:-5]),
    "a frame without a mask": (True, bytes([0x82, 4]) + b"abcd"),
    "a reserved opcode": (True, frame(b"abc", 0x83)),
    "a compressed frame nobody agreed on": (True, frame(b"abc", 0xC2)),
    "a continuation of nothing": (True, frame(b"abc", 0x80)),
    "fragments without end": (True, frame(b"", 0x02) + frame(b"", 0x00) * 5000),
    "fragments that grow too large": (True, frame(bytes(3000), 0x02) + frame(bytes(3000), 0x00) * 3),
    "text that is not UTF-8": (True, frame(b"\xff\xfe", 0x81)),
    "a long ping": (True, frame(bytes(126), 0x89)),
    "a thousand pings": (True, frame(b"?", 0x89) * 1000),
    "a close frame of one byte": (True, frame(b"\x03", 0x88)),
    "close, then a message": (True, frame(b"\x03\xe8", 0x88) + frame(BINARY)),
    "a gigabyte of msgpack announced": (True, frame(b"\x81\xa3obs\xc6\x40\x00\x00\x00") * 3),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_bytes_that_are_no_protocol_disturb_nobody(name: str, server: Running, caplog: pytest.LogCaptureFixture):
    opened, content = ATTACKS[name]
    caplog.set_level(logging.DEBUG, "snn_policy")
    with bystander(server):
        for _ in range(3):
            with raw(server.port, opened) as connection:
                try:
                    connection.sendall(content)
                    connection.settimeout(0.1)
                    while connection.recv(65536):
                        pass
                except (TimeoutError, ConnectionError):
                    pass
    assert not [record for record in caplog.records if record.name == "snn_policy.serving.serve" and record.exc_info]


def test_a_connection_that_breaks_while_its_answer_is_made_harms_nobody(server: Running):
    with bystander(server):
        for _ in range(20):
            with raw(server.port) as connection:
                connection.sendall(frame(BINARY) * 10)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert settles(lambda: server.server.sessions.memories.used == 0)


def test_a_client_that_reads_nothing_is_cut_off_and_costs_little():
    with running(rate_limit=0.0) as server, bystander(server), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(HANDSHAKE)
        with suppress(ConnectionError):
            connection.sendall(frame(packed(reset=True)) * 20_000)
        assert settles(lambda: server.server.metrics.refused["slow_reader"] == 1)
        assert server.server.metrics.resets < 15_000
        assert settles(lambda: len(server.server._connections) == 1)


def test_a_client_that_makes_mistakes_keeps_its_memory(server: Running):
    expected = private_actions(episode(3))
    with Client(server.port) as client:
        for index, obs in enumerate(episode(3)):
            for wrong in ({"observation": obs * np.float32(np.nan)}, {"observation": obs[:2]}, {"env_id": []}):
                with pytest.raises(RuntimeError):
                    client.ask(**wrong)
            assert np.array_equal(client.ask(observation=obs)["actions"], expected[index])


def test_text_and_garbage_are_answered_with_one_line(server: Running):
    with Client(server.port) as client:
        for message in ("hello", b"", b"\xc1", bytes(100)):
            client.socket.send(message)
            with pytest.raises(RuntimeError, match=r"^message: [^\n]*$"):
                client.answer()


def test_a_message_beyond_the_limit_closes_its_connection_only(server: Running):
    with bystander(server), Client(server.port) as client:
        with pytest.raises(ConnectionClosed):
            client.ask(observation=np.zeros(10_000))
        assert client.socket.close_code == 1009


def test_one_row_that_the_policy_refuses_does_not_spoil_the_batch():
    class Touchy(SpikingPolicy):
        def decide(self, obs, state):
            if (np.asarray(obs) == 7).any():
                raise ValueError("seven")
            return super().decide(obs, state)

    touchy = Touchy(policies("event")["sigma-delta"].network)
    with running(touchy, batch_window=0.02) as server, Client(server.port) as client:
        for obs in episode(2):
            client.socket.send(packed(observation=obs))
            client.socket.send(packed(observation=np.full(4, 7.0), env_id="bad"))
        good = []
        for _ in episode(2):
            good.append(client.answer()["actions"])
            with pytest.raises(RuntimeError, match="memory was reset: seven"):
                client.answer()
    assert np.array_equal(good, private_actions(episode(2)))


def test_extreme_observations_keep_a_client_in_bounds_and_others_right(server: Running):
    bounds = policy()
    with bystander(server), Client(server.port) as client:
        for value in (1e30, -1e30, 1e-45, 3e29, 0.0):
            action = client.ask(observation=np.full(4, value))["actions"]
            assert ((bounds.low <= action) & (action <= bounds.high)).all()


def test_bare_sockets_are_refused_beyond_any_need_and_do_not_stay():
    with running(max_connections=1) as server:
        sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        assert settles(lambda: server.server.metrics.refused["too_many_connections"] >= 30)
        for socket_ in sockets:
            socket_.close()
        with bystander(server):
            pass


def test_the_server_stops_while_a_client_has_far_too_much_waiting():
    with running(batch_window=0.5) as server, raw(server.port) as connection:
        connection.sendall(frame(BINARY) * 400)
        assert settles(lambda: not server.server.batcher.idle)
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 10


def test_memory_stays_bounded_under_all_of_it(server: Running):
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    content = b"".join(content for opened, content in ATTACKS.values() if opened)
    before = peak()
    for _ in range(100):
        with raw(server.port) as connection:
            try:
                connection.sendall(content)
            except ConnectionError:
                continue
    assert peak() - before < 64 * 1024
    assert settles(lambda: not server.server.sessions.memories.used)
