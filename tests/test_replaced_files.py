"""A policy's directory while it is replaced: whole at any moment, whoever writes, reads or is killed meanwhile."""

import fcntl
import json
import multiprocessing
import os
import random
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from snn_policy import OnnxPolicy, SourceError, SpikingPolicy
from snn_policy.atomic_files import sole_writer, write_atomically
from snn_policy.bundle import document
from snn_policy.bundle.files import SAME_READS, name_with_sum, read_whole, replace_files, sha256
from snn_policy.commands.serve import read_policy
from snn_policy.sources import load_actor
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from tests.actors import policies
from tests.bundles import file_of

KINDS = ("sigma-delta", "mt-rate")
GRAPHS = ("decision.onnx", "step.onnx")
FEWEST_KILLS, MOST_KILLS = 25, 250
fork = multiprocessing.get_context("fork")


class Written:
    """A policy's name, and the content of its directory's files."""

    def __init__(self, kind: str, directory: Path) -> None:
        policies()[kind].export_onnx(directory)
        self.neuron = kind.removesuffix("-rate")
        self.policy, self.weights = (file_of(directory, name).read_bytes() for name in ("policy.json", "weights"))
        self.graphs = {name: (directory / name).read_bytes() for name in GRAPHS}
        self.names = sorted(path.name for path in directory.iterdir())

    def write(self, directory: Path) -> None:
        replace_files(directory, self.policy, self.weights, self.graphs)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Written, Written]:
    first, second = (Written(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS)
    return first, second


def bundled(directory: Path) -> str:
    """Which of the two policies the bundle is."""
    policy = SpikingPolicy.load(directory, engine="numpy")
    return "sigma-delta" if isinstance(policy.network.neurons, SigmaDeltaNeurons) else "mt"


def exported(directory: Path, graph: str = "decision.onnx") -> str:
    """Which of them its graph is."""
    return OnnxPolicy(directory / graph).description.neuron


def named(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def write_in_turns(directory: Path, written: tuple[Written, ...], begun: Any = None) -> None:
    while True:
        if begun is not None:
            begun.set()
        for entry in written:
            entry.write(directory)


@contextmanager
def writers(target: Callable[..., None], *arguments: Any, count: int = 1) -> Iterator[list[Any]]:
    """Processes that do nothing else; killed at the end, if not before."""
    processes = [fork.Process(target=target, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def test_a_killed_writer_leaves_one_whole_policy_and_the_next_one_removes_what_it_left(
    both: tuple[Written, Written], tmp_path: Path
) -> None:
    both[0].write(tmp_path)
    seen, left, rng, started = set[str](), 0, random.Random(0), time.monotonic()
    for element in both:
        element.write(tmp_path)
    turns = time.monotonic() - started
    for kill in range(MOST_KILLS):
        if kill >= FEWEST_KILLS and left and len(seen) == 2:
            break
        begun = fork.Event()
        with writers(write_in_turns, tmp_path, both, begun):
            assert begun.wait(20)
            time.sleep(turns * rng.random())
        whole = bundled(tmp_path)
        assert [exported(tmp_path, graph) for graph in GRAPHS] == [whole, whole]
        seen.add(whole)
        left += len(named(tmp_path)) > 4
    assert seen == {"sigma-delta", "mt"}
    assert left > 0  # else nobody was killed in the midst of it
    both[1].write(tmp_path)
    assert named(tmp_path) == both[1].names


def test_writers_take_turns_and_readers_always_find_a_whole_policy(
    both: tuple[Written, Written], tmp_path: Path
) -> None:
    both[0].write(tmp_path)
    seen = list[str]()
    with writers(write_in_turns, tmp_path, both, count=2) as processes:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            seen += [bundled(tmp_path), exported(tmp_path), exported(tmp_path, "step.onnx")]
            assert read_policy(str(tmp_path))[1] == "SNN"
            assert load_actor(tmp_path / "policy.json").observation_shape == (4,)
        assert all(process.is_alive() for process in processes)
    assert set(seen) == {"sigma-delta", "mt"}


def test_threads_that_save_into_one_directory_leave_the_policy_of_one_of_them(tmp_path: Path) -> None:
    saved = [policies()[kind] for kind in (*KINDS, "if-rate")]
    failures = list[BaseException]()

    def save(policy: SpikingPolicy) -> None:
        try:
            for _ in range(15):
                policy.save(tmp_path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(policy,)) for policy in saved * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(named(tmp_path)) == 2
    SpikingPolicy.load(tmp_path, engine="numpy")


def test_a_writer_that_stops_between_policy_and_graphs_leaves_graphs_that_fit(
    both: tuple[Written, Written], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both[0].write(tmp_path)
    replace = Path.replace

    def stops(self: Path, target: Path) -> Path:
        if target.suffix == ".onnx" and not self.name.endswith(".partial"):
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stops)
        with pytest.raises(KeyboardInterrupt):
            both[1].write(tmp_path)
    assert (tmp_path / "decision.onnx").read_bytes() == both[0].graphs["decision.onnx"]
    assert {bundled(tmp_path), exported(tmp_path), exported(tmp_path, "step.onnx")} == {"mt"}
    both[1].write(tmp_path)
    assert named(tmp_path) == both[1].names


@pytest.mark.parametrize("fails_at", ["weights", "decision", "step", "policy"])
def test_a_disk_that_is_full_at_any_file_leaves_the_policy_before(
    fails_at: str, both: tuple[Written, Written], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both[0].write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path: Path, content: bytes) -> None:
        if path.name.startswith(fails_at):
            raise OSError(28, "No space left on device", str(path))
        write_atomically(path, content)

    monkeypatch.setattr("snn_policy.bundle.files.write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        both[1].write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def as_of_the_first_releases(directory: Path) -> None:
    file_of(directory, "weights").rename(directory / "weights.safetensors")


def test_bundles_of_the_first_releases_are_read_and_replaced(both: tuple[Written, Written], tmp_path: Path) -> None:
    both[0].write(tmp_path)
    as_of_the_first_releases(tmp_path)
    assert (bundled(tmp_path), exported(tmp_path), read_policy(str(tmp_path))[1]) == (
        "sigma-delta", "sigma-delta", "SNN",
    )  # fmt: skip
    both[1].write(tmp_path)
    assert named(tmp_path) == both[1].names


def test_a_readers_old_name_for_weights_that_were_just_replaced_is_no_error(
    both: tuple[Written, Written], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both[0].write(tmp_path)
    as_of_the_first_releases(tmp_path)
    read, waiting = document._read, [both[1]]

    def replaced_in_between(path: Path, most_bytes: int) -> bytes:
        content = read(path, most_bytes)
        if waiting:
            waiting.pop().write(tmp_path)
        return content

    monkeypatch.setattr(document, "_read", replaced_in_between)
    assert bundled(tmp_path) == "mt"


@pytest.mark.parametrize("turns", [("mt", "sigma-delta"), ("sigma-delta",), ("mt", "mt", "sigma-delta")])
def test_a_policy_that_comes_back_while_it_is_read_was_replaced_all_the_same(
    turns: tuple[str, ...], both: tuple[Written, Written], tmp_path: Path
) -> None:
    by_name = {written.neuron: written for written in both}
    both[0].write(tmp_path)
    torn = list(range(12))

    def read() -> str:
        if not torn:
            return "whole"
        torn.pop()
        for name in turns:
            by_name[name].write(tmp_path)
        raise FileNotFoundError

    assert read_whole(tmp_path, read, FileNotFoundError) == "whole"


def test_a_policy_that_nobody_replaces_is_not_read_for_ever(both: tuple[Written, Written], tmp_path: Path) -> None:
    both[0].write(tmp_path)
    reads = list[int]()

    def read() -> None:
        reads.append(0)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path, read, FileNotFoundError)
    assert len(reads) == SAME_READS


def test_weights_that_are_nobodys_are_not_touched(both: tuple[Written, Written], tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"of something else")
    (tmp_path / "weights-of-mine.safetensors").write_bytes(b"mine")
    both[0].write(tmp_path)
    both[1].write(tmp_path)
    assert (tmp_path / "weights.safetensors").read_bytes() == b"of something else"
    assert (tmp_path / "weights-of-mine.safetensors").read_bytes() == b"mine"
    assert bundled(tmp_path) == "mt"


@pytest.mark.parametrize("total", [None, 3, "", "../../../etc/passwd", "0" * 63, "0" * 64 + "\n", "G" * 64])
def test_no_path_is_taken_from_the_document(total: Any, both: tuple[Written, Written], tmp_path: Path) -> None:
    both[0].write(tmp_path)
    document = json.loads(both[0].policy)
    document["weights_sha256"] = total
    del document["sha256"]
    document["sha256"] = sha256(json.dumps(document, sort_keys=True).encode())
    (tmp_path / "policy.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match="weights_sha256 is no SHA-256"):
        SpikingPolicy.load(tmp_path)


def test_without_locks_files_are_whole_and_nothing_of_another_writer_is_removed(
    both: tuple[Written, Written], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snn_policy.atomic_files.fcntl", None)
    for written in (*both, both[0]):
        written.write(tmp_path)
        assert bundled(tmp_path) == exported(tmp_path) == written.neuron
    weights = [name_with_sum("weights.safetensors", sha256(entry.weights)) for entry in both]
    assert {*weights} <= {*named(tmp_path)}


def test_an_export_without_a_step_removes_the_step_of_the_one_before(
    both: tuple[Written, Written], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both[0].write(tmp_path)
    assert "step.onnx" in named(tmp_path)
    monkeypatch.setattr("snn_policy.exporting.export.calibrates", lambda network: True)
    policies()["mt-rate"].export_onnx(tmp_path)
    assert "step.onnx" not in named(tmp_path)
    assert exported(tmp_path) == "mt"


def write_in_parts(path: Path, letter: bytes) -> None:
    while True:
        write_atomically(path, letter * 200_000)


def test_a_file_of_many_writers_is_always_one_of_theirs(tmp_path: Path) -> None:
    path, seen = tmp_path / "card.json", set[bytes]()
    write_atomically(path, b"a" * 200_000)
    with writers(write_in_parts, path, b"a", count=1), writers(write_in_parts, path, b"b", count=1):
        until = time.monotonic() + 1
        while time.monotonic() < until:
            content = path.read_bytes()
            assert content == content[:1] * 200_000
            seen.add(content[:1])
    assert seen == {b"a", b"b"}


def test_what_killed_writers_left_is_removed_by_the_next_and_what_others_write_is_not(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    for name in ("result.json.1-0123456789abcdef.partial", "result.json.99-fedcba9876543210.partial"):
        (tmp_path / name).write_bytes(b"half")
    kept = ("other.json.1-0123456789abcdef.partial", "result.json.partial", "result.json.1-xyz.partial")
    for name in kept:
        (tmp_path / name).write_bytes(b"theirs")
    held = tmp_path / "result.json.7-0000000000000000.partial"
    with held.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as its writer does until it has renamed it
        write_atomically(path, b"whole")
    assert named(tmp_path) == sorted(["result.json", held.name, *kept])


@pytest.mark.parametrize("what", ["a directory in the way", "no such directory", "a file for a directory"])
def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(what: str, tmp_path: Path) -> None:
    path = tmp_path / "place" / "file"
    if what == "a directory in the way":
        (path / "full").mkdir(parents=True)
    elif what == "a file for a directory":
        (tmp_path / "place").write_text("")
    with pytest.raises(OSError, match="bytes were to be written") as caught:
        write_atomically(path, b"x")
    assert caught.value.filename == str(path)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_private_file_is_private_from_its_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes, fsync = [], os.fsync
    monkeypatch.setattr("os.fsync", lambda fd: (modes.append(stat.S_IMODE(os.fstat(fd).st_mode)), fsync(fd)))
    write_atomically(tmp_path / "secret", b"x", mode=0o600)
    assert modes == [0o600]
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_directory_that_somebody_never_lets_go_of_is_one_line(
    both: tuple[Written, Written], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snn_policy.atomic_files.OTHERS_MAY_TAKE", 0.05)
    with sole_writer(tmp_path) as alone:
        assert alone
        with pytest.raises(TimeoutError, match="another process has been writing there"):
            both[0].write(tmp_path)
    both[0].write(tmp_path)
    shutil.rmtree(tmp_path)
