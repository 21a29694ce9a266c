"""SIGTERM, kill −9 and what comes after: the server drains, and named sessions survive in the state file."""

import json
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from safetensors.numpy import load, save
from websockets.exceptions import ConnectionClosed

from snn_policy import SourceError
from snn_policy.cli import main
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
