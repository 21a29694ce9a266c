"""SIGTERM, kill −9 and what comes after: the server drains, and named sessions survive in the state file."""

import asyncio
import json
import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from safetensors.numpy import load, save
from websockets.exceptions import ConnectionClosed

from snn_policy import OnnxPolicy, SourceError, SpikingPolicy
from snn_policy.cli import main
from snn_policy.serving.serve import PolicyServer, Settings
from snn_policy.serving.sessions import Name, Sessions
from snn_policy.serving.snapshot import StateFileLock, digest_of, take_snapshot, write_snapshot
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons
from tests.actors import policies
from tests.fuzz import States
from tests.serving import Client, episode, private_actions, process, running, settles

STEPS = 4000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    policies()["sigma-delta"].save(directory)
    return directory


class Robot(threading.Thread):
    """Acts until its connection ends."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__()
        self.seed, self.actions, self.code = seed, list[np.ndarray](), 0
        self._client = Client(port)

    def run(self) -> None:
        try:
            for obs in episode(self.seed, STEPS):
                reply = self._client.ask(observation=obs, session=f"robot {self.seed}")
                self.actions.append(reply["actions"])
        except ConnectionClosed:
            self.code = self._client.socket.close_code


def under_load(port: int, enough: int = 50) -> list[Robot]:
    robots = [Robot(port, seed) for seed in range(4)]
    for robot in robots:
        robot.start()
    while min(len(robot.actions) for robot in robots) < enough:
        assert all(robot.is_alive() for robot in robots)
    return robots


def finished(robots: list[Robot]) -> list[int]:
    """Decisions per robot, each checked against a private policy."""
    for robot in robots:
        robot.join(30)
        count = len(robot.actions)
        assert np.array_equal(robot.actions, private_actions(episode(robot.seed, STEPS)[:count]))
    return [len(robot.actions) for robot in robots]


def test_sigterm_answers_what_is_in_flight_and_forgets_no_decision(bundle: Path, tmp_path: Path):
    options = ("--state-file", str(tmp_path / "sessions.state"), "--rate-limit", "0")
    with process(bundle, *options) as (server, port):
        robots = under_load(port)
        server.send_signal(signal.SIGTERM)
        counts = finished(robots)
        assert server.wait(20) == 0
        assert server.stderr is not None
        lines = server.stderr.read().splitlines()
    assert {robot.code for robot in robots} == {1001}
    assert [line.split(" ", 2)[2] for line in lines] == ["info stopping: answering what is in flight"]
    with process(bundle, *options) as (_, port):
        for seed, count in enumerate(counts):
            with Client(port) as client:
                resumed = client.ask(observation=episode(seed, STEPS)[count], session=f"robot {seed}")
            assert resumed["decisions"] == count + 1
            assert np.array_equal(resumed["actions"], private_actions(episode(seed, STEPS)[: count + 1])[-1])


def test_after_kill_9_the_successor_goes_on_from_the_last_snapshot(bundle: Path, tmp_path: Path):
    state = tmp_path / "sessions.state"
    options = ("--state-file", str(state), "--snapshot-interval", "0.05", "--rate-limit", "0")
    with process(bundle, *options) as (server, port):
        robots = under_load(port, 300)
        assert settles(state.exists)
        server.kill()
        counts = finished(robots)
    stored = dict(
        zip((name for name, _ in json.loads(header(state)["names"])), snapshot(state)["decisions"], strict=True)
    )
    with process(bundle, *options) as (_, port):
        for seed, count in enumerate(counts):
            known = stored[f"robot {seed}"]
            assert 0 < known <= count + 1  # the last answer may have been lost on its way
            with Client(port) as client:
                actions = client.actions(episode(seed, STEPS)[known : known + 30], session=f"robot {seed}")
            assert np.array_equal(actions, private_actions(episode(seed, STEPS)[: known + 30])[known:])


def test_a_snapshot_holds_the_memory_to_the_bit(bundle: Path, tmp_path: Path):
    expected = private_actions(episode(1))
    state = tmp_path / "sessions.state"
    with running(state_file=state) as server, Client(server.port) as client:
        first = client.actions(episode(1)[:10], session="robot", env_id="left")
    with running(state_file=state) as server, Client(server.port) as client:
        assert server.server.restored == 1
        rest = client.actions(episode(1)[10:], session="robot", env_id="left")
    assert np.array_equal(np.concatenate([first, rest]), expected)


def test_connections_without_a_session_leave_nothing_behind(tmp_path: Path):
    with running(state_file=tmp_path / "s") as server, Client(server.port) as client:
        client.actions(episode(1))
    with running(state_file=tmp_path / "s") as server:
        assert server.server.restored == 0


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    with running(state_file=tmp_path / "s") as server, Client(server.port) as client:
        for name in ("one", "two"):
            client.actions(episode(1), session=name)
    return tmp_path / "s"


def refused(path: Path, **settings_: Any) -> str:
    with pytest.raises(SourceError) as error, running(state_file=path, **settings_):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_policys_memories_are_refused(state_file: Path):
    with pytest.raises(SourceError, match="another policy"), running(state_file=state_file, digest="another"):
        pass


def test_every_truncation_of_a_state_file_is_refused(state_file: Path):
    content = state_file.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
        state_file.write_bytes(content[:length])
        assert "move it away" in refused(state_file)


def test_a_state_file_with_more_than_fits_is_refused(state_file: Path):
    assert "no longer than the limit" in refused(state_file, max_sessions=1)
    state_file.write_bytes(bytes(2**22))
    assert "not a state file of at most" in refused(state_file, max_sessions=2)
    assert "not a state file" in refused(state_file.parent)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e31])
def test_memories_that_no_policy_could_have_are_refused(state_file: Path, value: float):
    arrays, metadata = snapshot(state_file), header(state_file)
    for name in arrays.keys() - {"decisions"}:
        forged = {key: array.copy() for key, array in arrays.items()}
        forged[name].flat[0] = value
        state_file.write_bytes(save(forged, metadata))
        assert name in refused(state_file)


@pytest.mark.parametrize(
    "names",
    ["[]", "{}", "null", "[1, 2]", '[["one", null], ["one", null]]', '[["one", null], ["", null]]',
     '[["one", null], ["two", 1.5]]', '[["one", null], ["two", true]]', '[["one", null], ["a\\nb", null]]',
     '[["one", null], ["two"]]', "[" * 5000, '["one", "two"]'],
)  # fmt: skip
def test_names_that_no_client_could_give_are_refused(state_file: Path, names: str):
    state_file.write_bytes(save(snapshot(state_file), {**header(state_file), "names": names}))
    refused(state_file)


def snapshot(path: Path) -> dict[str, np.ndarray]:
    return load(path.read_bytes())


def header(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]


def test_any_state_file_is_read_or_refused(tmp_path: Path):
    states = States(tmp_path)

    @settings(max_examples=300)
    @given(states.strategy())
    def check(content: bytes) -> None:
        states.restores_or_refuses(content)

    check()


def test_the_command_refuses_a_damaged_state_file_in_one_line(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "s").write_bytes(b"\x00" * 100)
    assert main(["serve", str(bundle), "--port", "0", "--state-file", str(tmp_path / "s")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["sessions.json", "state.safetensors", "sessions.onnx", "s"])
def test_a_state_file_may_lie_in_the_policys_directory_under_any_name(name: str, tmp_path: Path):
    policies()["sigma-delta"].save(tmp_path)
    options = ("--state-file", str(tmp_path / name))
    expected = private_actions(episode(1))
    acted = []
    for part in (episode(1)[:10], episode(1)[10:]):
        with process(tmp_path, *options) as (server, port):
            with Client(port) as client:
                acted.append(client.actions(part, session="robot"))
            server.terminate()
            assert server.wait(20) == 0
    assert np.array_equal(np.concatenate(acted), expected)


def saved_again(directory: Path) -> None:
    policy = SpikingPolicy.load(directory)
    policy.card = {"returns": [1.0]}
    policy.save(directory)


@pytest.mark.parametrize(
    "between",
    [
        lambda directory: SpikingPolicy.load(directory).export_onnx(directory),
        saved_again,
        lambda directory: (directory / "notes.json").write_text("{}"),
        lambda directory: (directory / "other.onnx").write_bytes(b"x"),
    ],
    ids=["an export", "a new card", "a note", "another graph"],
)
def test_what_does_not_change_the_policy_does_not_change_whose_memories_they_are(
    between: Callable[[Path], object], tmp_path: Path
):
    policies()["sigma-delta"].save(tmp_path)
    before = digest_of(SpikingPolicy.load(tmp_path))
    between(tmp_path)
    assert digest_of(SpikingPolicy.load(tmp_path)) == before


def test_every_other_policy_has_another_digest(tmp_path: Path):
    kinds = policies()
    kinds["if-rate"].export_onnx(tmp_path)
    others = [*kinds.values(), policies(seed=1)["sigma-delta"], kinds["if-rate"].actor, OnnxPolicy(tmp_path),
              OnnxPolicy(tmp_path, graph="step")]  # fmt: skip
    assert len({digest_of(other) for other in others}) == len(others)


def test_a_changed_threshold_makes_another_policy():
    policy = policies()["if-rate"]
    before, neurons = digest_of(policy), policy.network.neurons
    assert isinstance(neurons, MembraneNeurons)
    first, *rest = neurons.thresholds
    changed = replace(neurons, thresholds=(np.nextafter(first, np.float32(9)), *rest))
    assert digest_of(SpikingPolicy(SpikingNetwork(policy.actor, changed))) != before


def test_two_servers_do_not_share_a_state_file(state_file: Path):
    with running(state_file=state_file) as first, Client(first.port) as client:
        with pytest.raises(BlockingIOError, match="another server uses this"), running(state_file=state_file):
            pass
        assert client.ask(observation=episode(1)[0], session="one")["decisions"] == 21
    with running(state_file=state_file) as second:
        assert second.server.restored == 2


def test_the_command_says_in_one_line_that_another_server_has_the_state_file(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = (str(bundle), "--port", "0", "--state-file", str(tmp_path / "s"))
    with process(*options):
        assert main(["serve", *options]) == 2
        assert "another server uses this state file" in capsys.readouterr().err


def test_a_killed_server_holds_no_lock(bundle: Path, tmp_path: Path):
    options = ("--state-file", str(tmp_path / "s"))
    for _ in range(2):
        with process(bundle, *options) as (server, _):
            server.kill()
            server.wait()


def test_a_server_that_cannot_listen_holds_no_lock(state_file: Path):
    with running() as other:
        taken = Settings(port=other.port, state_file=state_file)
        busy = PolicyServer(policies("event")["sigma-delta"], taken, {}, "the policy")
        with pytest.raises(OSError, match="in use"):
            asyncio.run(busy.__aenter__())
    with running(state_file=state_file) as server:
        assert server.server.restored == 2


def test_where_there_are_no_locks_the_server_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("snn_policy.atomic_files.fcntl", None)
    logging.getLogger("snn_policy").propagate = True
    StateFileLock(tmp_path / "s").release()
    assert "no locks on this file system" in caplog.text


@pytest.mark.parametrize("place", ["decisions", "memory", "names", "policy"])
def test_a_plausible_value_that_nobody_wrote_is_refused(state_file: Path, place: str):
    arrays, metadata, digest = snapshot(state_file), header(state_file), "the policy"
    if place == "decisions":
        arrays["decisions"] += 1
    elif place == "memory":
        next(array for name, array in arrays.items() if name != "decisions").flat[0] += 0.5
    elif place == "names":
        metadata["names"] = metadata["names"].replace("one", "uno")
    else:
        metadata["policy"] = digest = "another"
    state_file.write_bytes(save(arrays, metadata))
    with pytest.raises(SourceError, match="checksum does not match"), running(state_file=state_file, digest=digest):
        pass


@pytest.mark.parametrize("short_of", [0, 1, 2])
def test_a_count_of_decisions_never_wraps(short_of: int):
    most = 2**63 - 1
    with running() as server, Client(server.port) as client:
        client.ask(observation=episode(1)[0], session="old")
        (entry,) = server.server.sessions.named.values()
        server.server.sessions.memories.decisions[entry.row] = most - short_of
        counts = [client.ask(observation=obs, session="old")["decisions"] for obs in episode(1)[1:4]]
    assert counts == [min(most - short_of + more, most) for more in (1, 2, 3)]


def test_the_largest_count_of_decisions_is_stored_and_comes_back(tmp_path: Path):
    path, policy = tmp_path / "s", policies("event")["sigma-delta"]
    sessions = Sessions(policy, 8, 8, 600.0)
    sessions.adopt(Name("old", None), [memory[0] for memory in policy.initial_state(1)], 2**63 - 1)
    write_snapshot(path, take_snapshot(sessions, policy), "the policy")
    with running(state_file=path) as server, Client(server.port) as client:
        assert client.ask(observation=episode(1)[0], session="old")["decisions"] == 2**63 - 1
