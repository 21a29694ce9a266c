"""Files that belong together are all of before or all new, whatever fails, interrupts or kills their writer."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snn_policy.analysis.process_copy import can_copy_process, in_a_copy
from snn_policy.atomic_files import write_together
from snn_policy.sweeps.report import Report, write_report

NAMES = ("index.html", "findings.txt", "a_light.png", "a_dark.png")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_together(report(tmp_path, b"old"))
    (tmp_path / "b_light.png").write_bytes(b"old")
    (tmp_path / "notes.md").write_bytes(b"mine")
    return tmp_path


def report(place: Path, content: bytes) -> dict[Path, bytes]:
    return {place / name: content for name in NAMES}


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir()}


def after(count: int, fault: Callable[[], Any], real: Callable[..., Any]) -> Callable[..., Any]:
    """Return what does as `real` so many times, and then fails for good."""
    calls: Iterator[int] = iter(range(10**6))
    return lambda *given: fault() if next(calls) >= count else real(*given)


def disk_full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt() -> None:
    raise KeyboardInterrupt


def test_new_files_take_the_place_of_the_old_and_what_is_nobodys_stays(place: Path) -> None:
    write_together(report(place, b"new"), [place / "b_light.png", place / "c_light.png"])
    assert contents(place) == {**dict.fromkeys(NAMES, b"new"), "notes.md": b"mine"}


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("fault", [disk_full, interrupt])
def test_a_fault_at_any_file_leaves_all_of_before(
    count: int, fault: Callable[[], None], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(place)
    monkeypatch.setattr(os, "fsync", after(count, fault, os.fsync))
    with pytest.raises((OSError, KeyboardInterrupt)) as stopped:
        write_together(report(place, b"new"), [place / "b_light.png"])
    assert contents(place) == before
    if fault is disk_full:
        assert str(stopped.value).startswith(f"[Errno {errno.ENOSPC}] No space left on device, 3 bytes")
        assert NAMES[count] in str(stopped.value)


@pytest.mark.parametrize("count", [0, 2, 3])
def test_an_interrupt_when_all_is_on_disk_waits_for_the_last_file(
    count: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, calls = Path.replace, iter(range(100))

    def interrupted(self: Path, target: Path) -> Path:
        if next(calls) == count:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_together(report(place, b"new"), [place / "b_light.png"])
    assert contents(place) == {**dict.fromkeys(NAMES, b"new"), "notes.md": b"mine"}


def test_a_directory_in_the_way_of_the_last_file_leaves_all_of_before(place: Path) -> None:
    (place / NAMES[-1]).unlink()
    (place / NAMES[-1] / "within").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=NAMES[-1]):
        write_together(report(place, b"new"))
    assert {(place / name).read_bytes() for name in NAMES[:-1]} == {b"old"}
    assert not list(place.glob("*.partial"))


@pytest.mark.skipif(not can_copy_process(), reason="no copies of a process on this system")
@pytest.mark.parametrize("count", [0, 2, 3])
def test_a_killed_writer_leaves_all_of_before_and_the_next_one_clears_up(count: int, place: Path) -> None:
    before = contents(place)

    def killed() -> None:
        os.fsync = after(count, lambda: os._exit(1), os.fsync)
        write_together(report(place, b"new"))

    with pytest.raises(RuntimeError):
        in_a_copy(killed)
    left = contents(place)
    assert {name: content for name, content in left.items() if not name.endswith(".partial")} == before
    assert len(left) == len(before) + count + 1
    write_together(report(place, b"newer"))
    assert contents(place) == {**before, **dict.fromkeys(NAMES, b"newer")}


@pytest.mark.parametrize("count", [1, 2])
def test_a_sweeps_report_is_replaced_as_a_whole(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(content: bytes) -> Any:
        return Report((), None, {"index.html": content, "tables/x.md": content, "pictures/x.svg": content})  # pyright: ignore[reportArgumentType]

    write_report(made(b"old"), tmp_path)
    monkeypatch.setattr(os, "fsync", after(count, disk_full, os.fsync))
    with pytest.raises(OSError, match="No space left"):
        write_report(made(b"new"), tmp_path)
    assert {path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == {b"old"}


@pytest.mark.parametrize("step", ["open", "fsync", "fstat"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_interrupt_right_after_a_file_is_made_leaves_nothing_behind(
    place: Path, monkeypatch: pytest.MonkeyPatch, step: str, count: int
) -> None:
    real, before, calls = getattr(os, step), contents(place), iter(range(10**6))

    def interrupted(*given: Any) -> Any:
        made = real(*given)
        if step == "open" and not str(given[0]).endswith(".partial"):
            return made
        if next(calls) == count:
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(os, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_together(report(place, b"new"))
    monkeypatch.undo()
    assert contents(place) == before
