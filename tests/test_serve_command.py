"""`snn-policy serve` as an operator sees it, and the examples that go with it."""

import logging
import re
import resource
import runpy
import socket
import sys
import urllib.request
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from snn_policy import OnnxPolicy
from snn_policy.cli import main
from snn_policy.policy import SpikingPolicy
from snn_policy.serving.descriptors import make_room
from snn_policy.serving.logs import MOST_LINES_PER_SECOND, OneLine, Seldom, Sparing
from snn_policy.serving.serve import PolicyServer, Settings, serve
from tests.actors import policies
from tests.bundles import file_of
from tests.serving import Client, episode, private_actions, process, running
from tests.test_serve_hostile import ATTACKS, raw

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TOKEN = "a-long-enough-token"
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (info|warning|error) \S.*")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bundle")
    policies()["sigma-delta"].save(directory)
    return directory


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["serve", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_serve_explains_itself_with_an_example(capsys: pytest.CaptureFixture[str]):
    assert main(["serve", "--help"]) == 0
    assert "snn-policy serve td3-HalfCheetah-v5" in " ".join(capsys.readouterr().out.split())


def test_under_attack_the_log_has_one_line_per_event_and_the_server_goes_on(bundle: Path):
    with process(bundle) as (server, port):
        for _ in range(2):
            for opened, content in ATTACKS.values():
                with raw(port, opened) as connection, suppress(OSError):
                    connection.sendall(content)
                    connection.settimeout(0.05)
                    connection.recv(65536)
        with Client(port) as client:
            assert np.array_equal(client.actions(episode(1)), private_actions(episode(1)))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
            peak = re.search(rb"peak_memory_bytes (\d+)", reply.read())
        assert peak is not None
        assert int(peak[1]) < 500e6
        server.terminate()
        assert server.wait(20) == 0
        assert server.stderr is not None
        lines = server.stderr.read().splitlines()
    assert lines
    assert not [line for line in lines if not LINE.fullmatch(line)]


def test_an_unfinished_handshake_does_not_hold_up_the_end(bundle: Path):
    with process(bundle) as (server, port), socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\n")
        with Client(port) as client:
            client.ask(observation=episode(1)[0])
        server.terminate()
        assert server.wait(5) == 0


@pytest.mark.parametrize("from_file", [True, False])
def test_the_token_comes_from_a_file_or_the_environment(bundle: Path, tmp_path: Path, from_file: bool):
    (tmp_path / "token").write_text(TOKEN + "\n")
    options = ("--token-file", str(tmp_path / "token")) if from_file else ()
    variables: dict[str, Any] = {} if from_file else {"SNN_POLICY_TOKEN": TOKEN}
    with process(bundle, *options, **variables) as (_, port):
        with pytest.raises(InvalidStatus, match="401"):
            Client(port)
        with Client(port, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            assert client.metadata["kind"] == "SNN"


def test_mistakes_are_one_line(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "token").write_text("")
    assert "token: expected" in mistake(capsys, str(bundle), "--token-file", str(tmp_path / "token"))
    assert "nowhere" in mistake(capsys, str(bundle), "--token-file", str(tmp_path / "nowhere"))
    assert "nowhere" in mistake(capsys, "nowhere")
    assert "no such directory" in mistake(capsys, str(bundle), "--state-file", str(tmp_path / "no" / "s"))
    (tmp_path / "s.lock").mkdir()
    assert "s.lock: Is a directory" in mistake(capsys, str(bundle), "--state-file", str(tmp_path / "s"), "--port", "0")
    policies()["if-rate"].export_onnx(tmp_path / "graphs", batch=2)
    file_of(tmp_path / "graphs", "weights").unlink()
    assert "batches of 2" in mistake(capsys, str(tmp_path / "graphs"))
    with running() as server:
        assert "in use" in mistake(capsys, str(bundle), "--port", str(server.port))


def test_a_graph_of_one_row_is_asked_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    served = []

    async def note(server: PolicyServer, _: object) -> None:
        served.append(server.settings.max_batch)

    monkeypatch.setattr("snn_policy.serving.serve._serve", note)
    policies()["if-rate"].export_onnx(tmp_path, batch=1)
    serve(OnnxPolicy(tmp_path), Settings())
    assert served == [1]


def test_an_unknown_host_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    async def fail(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("snn_policy.serving.serve._serve", fail)
    with pytest.raises(ValueError, match=r"host 'robot\.invalid': Name"):
        serve(SpikingPolicy.load(bundle), Settings("robot.invalid"))


def test_an_open_door_is_mentioned(bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    async def nothing(*_: object) -> None: ...

    monkeypatch.setattr("snn_policy.serving.serve._serve", nothing)
    logging.getLogger("snn_policy").propagate = True
    policy = SpikingPolicy.load(bundle)
    for settings in (Settings("127.0.0.1"), Settings("::1"), Settings("localhost"), Settings("0.0.0.0", token=TOKEN)):
        serve(policy, settings)
    assert not caplog.records
    serve(policy, Settings("0.0.0.0"))
    assert "no token is set" in caplog.text


def test_a_log_line_has_no_traceback_and_a_flood_is_cut_short():
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "failed", None, sys.exc_info())
    assert OneLine().format(record).endswith("error failed: ValueError: first second")
    sparing = Sparing()
    assert sum(sparing.filter(record) for _ in range(1000)) <= 2 * MOST_LINES_PER_SECOND


@pytest.mark.parametrize(
    ("program", "arguments", "says"),
    [
        ("examples/control_loop.py", ["--hz", "100", "--seconds", "0.3"], "30 periods of 10 ms"),
        ("benchmarks/measure_serving.py", ["--clients", "10", "--decisions", "20"], "differing actions            0"),
    ],
)
def test_program_runs(
    program: str, arguments: list[str], says: str, bundle: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    where = ["--policy", str(bundle)] if "serving" in program else [str(bundle)]
    monkeypatch.setattr(sys, "argv", [program, *where, *arguments])
    with suppress(SystemExit):
        runpy.run_path(str(EXAMPLES.parent / program), run_name="__main__")
    assert says in capsys.readouterr().out


def test_the_deadline_monitor_counts_late_answers_and_skipped_periods(monkeypatch: pytest.MonkeyPatch):
    loop = runpy.run_path(str(EXAMPLES / "control_loop.py"))
    monitor, clock = loop["DeadlineMonitor"](period=1.0), [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monitor.start()
    for seconds in (0.25, 1.5, 3.25, 0.5):
        monitor.wait()
        clock[0] += seconds
        monitor.decided()
    assert monitor.responses == [0.25, 1.5, 3.75, 1.25]
    assert (monitor.misses, monitor.skipped) == (3, 2)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The soft and the hard limit of open files, as the server sees and sets them; ten files are open."""
    given = [1024, 4096]
    monkeypatch.setattr("resource.getrlimit", lambda _: tuple(given))
    monkeypatch.setattr("resource.setrlimit", lambda _, pair: given.__setitem__(slice(None), pair))
    monkeypatch.setattr("snn_policy.serving.descriptors._open_files", lambda: 10)
    logging.getLogger("snn_policy").propagate = True
    logging.getLogger("snn_policy").setLevel(logging.INFO)
    return given


@pytest.mark.parametrize(
    ("soft", "hard", "fitting", "after", "says"),
    [
        (1024, 4096, 320, 1024, ""),
        (256, 4096, 320, 354, "raised their limit from 256 to 354"),
        (256, resource.RLIM_INFINITY, 320, 354, "raised their limit"),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 320, resource.RLIM_INFINITY, ""),
        (64, 128, 94, 128, "94 of the 320 sockets asked for fit into 128"),
        (64, 64, 30, 64, "30 of the 320 sockets asked for fit into 64"),
    ],
)
def test_few_file_descriptors_are_raised_and_told_of(
    soft: int, hard: int, fitting: int, after: int, says: str, limits: list[int], caplog: pytest.LogCaptureFixture
):
    limits[:] = [soft, hard]
    assert make_room(320) == fitting
    assert limits == [after, hard]
    assert bool(says) == bool(caplog.records)
    assert says in caplog.text


def test_a_limit_that_cannot_be_raised_is_lived_with(limits: list[int], monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    limits[:] = [256, 4096]
    monkeypatch.setattr("resource.setrlimit", refuse)
    assert make_room(320) == 222
    limits[:] = [34, 34]
    with pytest.raises(OSError, match="34 file descriptors are too few for a server"):
        make_room(320)


def test_a_server_with_few_file_descriptors_says_so_and_serves_as_many_as_fit(bundle: Path):
    with process(bundle, limit=80) as (server, port):
        clients = list[Client]()
        with ExitStack() as opened, suppress(InvalidStatus, OSError):
            for _ in range(80):
                clients.append(opened.enter_context(Client(port)))
            pytest.fail("more clients than file descriptors")
        assert 15 < len(clients) < 60
        with Client(port) as client:
            assert np.array_equal(client.actions(episode(1)), private_actions(episode(1)))
        server.terminate()
        assert server.wait(20) == 0
        assert server.stderr is not None
        lines = server.stderr.read().splitlines()
    assert "few file descriptors" in lines[0]
    assert not [line for line in lines if "Too many open files" in line or "out of system resource" in line]


def test_refused_tokens_are_told_of_seldom_and_never_shown(caplog: pytest.LogCaptureFixture):
    logging.getLogger("snn_policy").propagate = True
    with running(token=TOKEN) as server:
        for wrong in ("not-the-token-1", "not-the-token-2", TOKEN[:-1], TOKEN + "x", ""):
            for _ in range(4):
                with pytest.raises(InvalidStatus, match="401"):
                    Client(server.port, additional_headers={"Authorization": f"Bearer {wrong}"})
    told = [record.getMessage() for record in caplog.records if "no valid token" in record.getMessage()]
    assert 1 <= len(told) <= 10
    assert re.match(r"127\.0\.0\.1:\d+: refused, no valid token \(1 ", told[0])
    assert "token-" not in "".join(told)


def test_what_happens_often_is_told_of_once_a_second_with_how_often(monkeypatch: pytest.MonkeyPatch):
    now = [50.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    seldom = Seldom()
    assert [seldom.count() for _ in range(4)] == [1, None, None, None]
    now[0] += 1
    assert [seldom.count() for _ in range(2)] == [4, None]


def answer_to(port: int, method: str, path: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, headers=dict(header.split(": ") for header in headers))
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "NONSENSE", "get"])
@pytest.mark.parametrize("path", ["/healthz", "/healthz?x=1", "/metrics"])
def test_health_and_metrics_are_read_only(method: str, path: str):
    with running() as server:
        status, headers, _ = answer_to(server.port, method, path)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nowhere"])
def test_head_is_get_without_the_body(path: str):
    with running() as server:
        (status, headers, body), (of_head, its_headers, nothing) = (
            answer_to(server.port, method, path) for method in ("GET", "HEAD")
        )
    assert (of_head, nothing) == (status, b"")
    assert body
    assert its_headers.keys() == headers.keys()


@pytest.mark.parametrize("host", ["", " ", "127.0.0.1 ", "\n"])
def test_a_host_that_is_no_name_is_refused(host: str, bundle: Path, capsys: pytest.CaptureFixture[str]):
    assert "expected a name or an address" in mistake(capsys, str(bundle), "--host", host)
