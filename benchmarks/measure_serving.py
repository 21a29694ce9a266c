"""Many clients at once against `snn-policy serve`: are their actions those of private policies, and how fast is it?

    python -m benchmarks.measure_serving                             # 100 clients × 200 decisions, as fast as they can
    python -m benchmarks.measure_serving --hz 50                     # the same, each in a 50 Hz control loop
    python -m benchmarks.measure_serving --policy BUNDLE --clients 20 --json load.json

The server runs in a process of its own, started here; this process holds all clients. Each client has its own
episode and sends its next observation when it has its action (with --hz: not before the next period begins).
Exits with 1 if any action differs, by a bit, from that of a policy which is the client's alone.
"""

import argparse
import heapq
import json
import os
import selectors
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from snn_policy import SpikingPolicy
from snn_policy.atomic_files import write_atomically
from snn_policy.commands.common import place_of
from snn_policy.serving.wire import encode_array, pack
from snn_policy.versions import installed_versions


class LoadClient:
    """One robot: a connection without threads, its episode, and the actions that it should get."""

    def __init__(self, port: int, observations: np.ndarray, expected: np.ndarray) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/"), max_size=None)
        self.protocol.send_request(self.protocol.connect())
        self._flush()
        self._requests = [pack({"observation": encode_array(obs)}) for obs in observations]
        self._expected = [action.tobytes() for action in expected]
        self.latencies: list[float] = []
        self.differing = self.sent = 0
        while not any(isinstance(event, Frame) for event in self._events()):
            pass
        self.due = time.perf_counter()

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            self.socket.sendall(data)

    def _events(self) -> list[Any]:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection")
        self.protocol.receive_data(data)
        return self.protocol.events_received()

    @property
    def done(self) -> bool:
        return len(self.latencies) == len(self._requests)

    def send(self) -> None:
        self.protocol.send_binary(self._requests[self.sent])
        self.sent += 1
        self._sent_at = time.perf_counter()
        self._flush()

    def receive(self) -> bool:
        """Read what has arrived; whether the action was there."""
        for event in self._events():
            if event.opcode is Opcode.TEXT:
                raise ValueError(bytes(event.data).decode())
            if event.opcode is Opcode.BINARY:
                self.latencies.append(time.perf_counter() - self._sent_at)
                actions = msgpack.unpackb(event.data, strict_map_key=False)["actions"]
                self.differing += actions[b"data"] != self._expected[len(self.latencies) - 1]
                return True
        self._flush()
        return False


def run(clients: list[LoadClient], hz: float) -> float:
    """Drive all clients to the end of their episodes; returns the seconds it took."""
    selector = selectors.DefaultSelector()
    for index, client in enumerate(clients):
        selector.register(client.socket, selectors.EVENT_READ, index)
        client.due = time.perf_counter() + (index / len(clients) / hz if hz else 0.0)
    started = time.perf_counter()
    sleeping = [(client.due, index) for index, client in enumerate(clients)]
    running = len(clients)
    while running:
        now = time.perf_counter()
        while sleeping and sleeping[0][0] <= now:
            clients[heapq.heappop(sleeping)[1]].send()
        timeout = max(sleeping[0][0] - now, 0.0) if sleeping else None
        for key, _ in selector.select(timeout):
            client = clients[key.data]
            if not client.receive():
                continue
            if client.done:
                running -= 1
            elif not hz:
                client.send()
            else:
                client.due += 1 / hz
                heapq.heappush(sleeping, (client.due, key.data))
    return time.perf_counter() - started


@contextmanager
def server(policy: str, options: list[str]) -> Iterator[int]:
    """`snn-policy serve` on a free port."""
    command = [sys.executable, "-m", "snn_policy.cli", "serve", policy, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "ws://" not in line:
            raise SystemExit(f"the server did not start: {line}")
        yield int(line.split("ws://")[1].split()[0].rstrip(",").rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


def metrics(port: int) -> dict[str, float]:
    """Return what the server has counted so far."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        lines = [line.rsplit(" ", 1) for line in reply.read().decode().splitlines() if line[0] != "#"]
    return {name.removeprefix("snn_policy_"): float(value) for name, value in lines}


def episodes(policy: SpikingPolicy, clients: int, decisions: int) -> np.ndarray:
    """(clients, decisions, *observation_shape) of the policy's own environment, else of a random walk."""
    if policy.actor.env_id is not None:
        observations = policy.actor.collect(policy.actor.env_id, steps=clients * decisions, progress=True)
    else:
        shape = (clients * decisions, *policy.observation_shape)
        observations = np.sin(np.random.default_rng(0).normal(size=shape).cumsum(axis=0) / 10).astype(np.float32)
    return observations.reshape(clients, decisions, *policy.observation_shape)


def private(policy: SpikingPolicy, observations: np.ndarray) -> np.ndarray:
    """Return the actions of a policy that nobody else uses, one observation at a time."""
    policy.reset(num_envs=1)
    return np.stack([policy.act(obs) for obs in observations])


def main() -> int:
    parser = argparse.ArgumentParser(description="Many clients at once against `snn-policy serve`.")
    parser.add_argument("--policy", default="td3-HalfCheetah-v5", help="a shipped policy's name or a bundle")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--decisions", type=int, default=200, help="per client")
    parser.add_argument("--hz", type=float, default=0.0, help="each client's control rate; 0: as fast as it can")
    parser.add_argument("--batch-window", default="0", metavar="MS")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    policy = SpikingPolicy.load(place_of(given.policy))
    observations = episodes(policy, given.clients, given.decisions)
    expected = [private(policy, observation) for observation in observations]
    options = ["--batch-window", given.batch_window, "--max-connections", str(given.clients), "--rate-limit", "0",
               "--max-sessions", str(given.clients)]  # fmt: skip
    with server(given.policy, options) as port:
        clients = [LoadClient(port, *entry) for entry in zip(observations, expected, strict=True)]
        before, cpu = metrics(port), time.process_time()
        seconds = run(clients, given.hz)
        counted, cpu = metrics(port), time.process_time() - cpu
    latencies = np.concatenate([client.latencies for client in clients]) * 1000
    result = {
        "policy": given.policy,
        "clients": given.clients,
        "decisions": len(latencies),
        "hz": given.hz,
        "differing_actions": sum(client.differing for client in clients),
        "decisions_per_second": len(latencies) / seconds,
        "p50_ms": float(np.quantile(latencies, 0.5)),
        "p99_ms": float(np.quantile(latencies, 0.99)),
        "server_p50_ms": 1000 * counted['latency_seconds{quantile="0.5"}'],
        "server_p99_ms": 1000 * counted['latency_seconds{quantile="0.99"}'],
        "observations_per_batch": counted["decisions_total"] / counted["batches_total"],
        "policy_share_of_time": counted["policy_seconds_total"] / seconds,
        "server_cpu_us_per_decision": 1e6
        * (counted["cpu_seconds_total"] - before["cpu_seconds_total"])
        / len(latencies),
        "clients_cpu_us_per_decision": 1e6 * cpu / len(latencies),
        "server_peak_memory_mb": counted["peak_memory_bytes"] / 2**20,
        "versions": installed_versions(),
    }
    for name, value in result.items():
        if name != "versions":
            print(f"{name.replace('_', ' '):28} {f'{value:.2f}' if isinstance(value, float) else value}")
    if given.json:
        write_atomically(Path(given.json), json.dumps(result, indent=1).encode())
    return int(result["differing_actions"] > 0)


if __name__ == "__main__":
    sys.exit(main())
