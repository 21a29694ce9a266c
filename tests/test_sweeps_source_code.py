"""Results of a checkout that was edited, and of environments that were, are told apart where versions stay the same."""

import contextlib
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from snn_policy.cli import main
from snn_policy.sweeps import source_code
from snn_policy.sweeps.digests import digest_of
from snn_policy.sweeps.places import Place
from snn_policy.sweeps.plan import read_plan
from snn_policy.sweeps.source_code import CodeSeen, code_of, package_digest
from snn_policy.sweeps.sweep import sweep
from snn_policy.sweeps.work import Job
from tests import sweep_results
from tests.odd_env import OddEnv
from tests.sweeping import CELLS, InlineEngine, cells_of, files_of, write_sweep

OLD, NEW = {"snn_policy": "0a" * 16}, {"snn_policy": "1b" * 16}
Edit = Callable[[dict[str, str]], None]


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch) -> Edit:
    """A function that makes the source code one with other digests; it is OLD at first."""

    def edit(code: dict[str, str]) -> None:
        monkeypatch.setattr(source_code, "code_of", lambda place: code)

    edit(OLD)
    return edit


def stopped_after(jobs: int) -> InlineEngine:
    done = iter(range(jobs))

    def before(job: Job) -> None:
        if next(done, None) is None:
            raise KeyboardInterrupt

    return InlineEngine(before)


def run(folder: Path, engine: InlineEngine | None = None, **options: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("snn_policy.sweeps.sweep.make_engine", lambda *_: engine or InlineEngine())
        return sweep(read_plan(write_sweep(folder)), folder / "out", **options)


# --- what the digest is of


def package(folder: Path) -> Path:
    (folder / "robots" / "legs").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "walker.py": "GRAVITY = 9.8\n",
        "legs/__init__.py": "",
        "legs/knee.c": "//\n",
    }.items():
        (folder / "robots" / name).write_text(text)
    return folder / "robots"


EDITS: dict[str, Callable[[Path], Any]] = {
    "a number": lambda place: (place / "walker.py").write_text("GRAVITY = 9.9\n"),
    "a C source": lambda place: (place / "legs/knee.c").write_text("// bent\n"),
    "a new module": lambda place: (place / "legs/foot.py").write_text(""),
    "a module that is gone": lambda place: (place / "walker.py").unlink(),
    "another name": lambda place: (place / "walker.py").rename(place / "runner.py"),
    "two files exchanged": lambda place: ((place / "__init__.py").write_text("GRAVITY = 9.8\n"),
                                          (place / "walker.py").write_text("")),
}  # fmt: skip
NO_EDITS: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda place: None,
    "compiled files": lambda place: (
        (place / "__pycache__").mkdir(),
        (place / "__pycache__/walker.pyc").write_bytes(b"x"),
    ),
    "data": lambda place: (place / "notes.txt").write_text("x"),
    "line ends": lambda place: (place / "walker.py").write_bytes(b"GRAVITY = 9.8\r\n"),
}


@pytest.mark.parametrize("edit", [*EDITS, *NO_EDITS])
def test_a_digest_is_another_one_after_every_edit_of_sources_and_nothing_else(
    edit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = package_digest("robots")
    assert before is not None
    assert len(before) == 32
    (EDITS | NO_EDITS)[edit](place)
    assert (package_digest("robots") == before) is (edit in NO_EDITS)


def test_a_checkout_and_an_installed_wheel_of_one_code_have_one_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import snn_policy
    import snn_policy.exported
    import snn_policy.wrappers

    here = package_digest("snn_policy")
    wheel = tmp_path / "snn_policy"
    shutil.copytree(Path(str(snn_policy.__file__)).parent, wheel, ignore=shutil.ignore_patterns("__pycache__"))
    for part in (snn_policy.wrappers, snn_policy.exported):
        name = part.__name__.rpartition(".")[2]
        shutil.copytree(Path(str(part.__file__)).parent, wheel / name, dirs_exist_ok=True)
    found = {
        "snn_policy": [wheel],
        "snn_policy.wrappers": [wheel / "wrappers"],
        "snn_policy.exported": [wheel / "exported"],
    }
    monkeypatch.setattr(source_code, "_folders", found.get)
    assert package_digest("snn_policy") == here
    (wheel / "wrappers" / "__init__.py").write_text("# edited\n")
    assert package_digest("snn_policy") != here


@pytest.mark.parametrize(
    ("identifier", "others"),
    [
        ("CartPole-v1", []),
        ("Hopper-v5", []),
        ("dm_control/cartpole-swingup-v0", []),
        ("tests.odd_env:Odd-v0", ["tests"]),
        ("no_such_package:Robot-v0", []),
        ("Nothing-v0", []),
    ],
)
def test_an_environment_of_a_package_without_a_version_is_in_it(identifier: str, others: list[str]) -> None:
    assert list(code_of(Place(identifier))) == ["snn_policy", *others]


def test_neither_a_partial_nor_who_has_registered_it_changes_whose_code_an_environment_is() -> None:
    if "dm_control/cartpole-swingup-v0" not in gymnasium.registry:
        pytest.importorskip("shimmy").register_gymnasium_envs()
    assert list(code_of(Place("dm_control/cartpole-swingup-v0"))) == ["snn_policy"]
    for depth in range(1, 4):
        entry: Any = OddEnv
        for _ in range(depth):
            entry = functools.partial(entry)
        gymnasium.register("Wrapped-v0", entry)
        assert list(code_of(Place("Wrapped-v0"))) == ["snn_policy", "tests"]
        del gymnasium.registry["Wrapped-v0"]


def test_code_is_seen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    seen = CodeSeen()
    before = seen.at(Place("robots:Walker-v0"))
    (place / "walker.py").write_text("")
    assert seen.at(Place("robots:Walker-v0")) == before != CodeSeen().at(Place("robots:Walker-v0"))


# --- what a sweep does


def test_cells_say_what_they_were_computed_with_and_their_names_do_not(tmp_path: Path, edited: Edit) -> None:
    run(tmp_path)
    first = cells_of(tmp_path / "out")
    assert all(cell["evaluation"]["code"] == [OLD] for cell in first)
    shutil.rmtree(tmp_path / "out")
    edited(NEW)
    run(tmp_path)
    assert [cell["key"] for cell in cells_of(tmp_path / "out")] == [cell["key"] for cell in first]


@pytest.mark.parametrize(
    ("jobs", "told"),
    [
        (1, ["1 of its batches were"]),
        (5, ["1 of its cells, 1 of its batches, 1 of its policies were"]),
        (12, ["3 of its cells", "1 of its policies"]),
        (10**6, [f"{CELLS} of its cells"]),
    ],
)
def test_results_of_other_code_are_refused_in_one_line_and_kept_on_request(
    jobs: int, told: list[str], tmp_path: Path, edited: Edit, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    engine = stopped_after(jobs)
    with contextlib.suppress(KeyboardInterrupt):
        run(tmp_path, engine)
    before = files_of(tmp_path / "out")
    edited(NEW)
    monkeypatch.setattr("snn_policy.sweeps.sweep.make_engine", lambda *_: InlineEngine())
    command = ["sweep", str(write_sweep(tmp_path)), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert [
        part for part in (*told, "0a0a0a0a0a", "1b1b1b1b1b", "--accept-other-code", "--out") if part not in said
    ] == []
    assert files_of(tmp_path / "out") == before
    assert main([*command, "--accept-other-code"]) == 0
    assert "they were kept" in capsys.readouterr().err
    states = [cell["evaluation"]["code"] for cell in cells_of(tmp_path / "out")]
    assert all(OLD in found or NEW in found for found in states)
    assert any(OLD in found for found in states)
    assert jobs == 10**6 or any(NEW in found for found in states)


def test_a_cell_whose_episodes_are_of_two_codes_says_so(tmp_path: Path, edited: Edit) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stopped_after(5))
    edited(NEW)
    found = run(tmp_path, accept_other_code=True)
    assert "other source code" in found.other_code
    assert [OLD, NEW] in [cell["evaluation"]["code"] for cell in cells_of(tmp_path / "out")]
    edited(OLD)
    with pytest.raises(ValueError, match="other source code"):
        run(tmp_path)


@pytest.mark.parametrize("codes", [None, [], [{}], "0a", [{"snn_policy": 3}]])
def test_results_that_do_not_say_their_code_are_none_of_ours(codes: Any, tmp_path: Path) -> None:
    run(tmp_path)
    for place in (tmp_path / "out" / "cells").iterdir():
        document = json.loads(place.read_bytes())
        document["evaluation"]["code"] = codes
        document["evaluation"] = {name: value for name, value in document["evaluation"].items() if value is not None}
        place.write_text(json.dumps({**document, "sha256": digest_of(document)}))
    with pytest.raises(ValueError, match=r"8 of its cells .*unknown code"):
        run(tmp_path)


def test_the_same_code_is_not_mentioned(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stopped_after(9))
    assert run(tmp_path).other_code is None
    assert run(tmp_path).computed == 0


def test_an_edit_of_an_environment_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "swings.py").write_text(
        "import gymnasium as gym\nfrom gymnasium.envs.classic_control import CartPoleEnv\nGRAVITY = 9.8\n"
        "gym.register('Swing-v0', entry_point=CartPoleEnv, max_episode_steps=20)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("snn_policy.sweeps.sweep.make_engine", lambda *_: InlineEngine())
    file = write_sweep(tmp_path, "", environments=["swings:Swing-v0"])
    sweep(read_plan(file), tmp_path / "out")
    assert {tuple(state) for cell in cells_of(tmp_path / "out") for state in cell["evaluation"]["code"]} == {
        ("snn_policy", "swings")
    }
    source = (tmp_path / "swings.py").read_text()
    (tmp_path / "swings.py").write_text(source.replace("9.8", "3.7"))
    with pytest.raises(ValueError, match=r"2 of its cells .*swings"):
        sweep(read_plan(file), tmp_path / "out")
    (tmp_path / "swings.py").write_text(source)
    assert sweep(read_plan(file), tmp_path / "out").computed == 0


@pytest.mark.parametrize("after", [0, 1, 7])
def test_a_worker_with_other_code_than_the_sweep_began_with_ends_it(after: int, tmp_path: Path, edited: Edit) -> None:
    jobs = iter(range(10**6))
    engine = InlineEngine()

    def before(job: Job) -> None:
        if next(jobs) == after:
            edited(NEW)
            engine._performer = type(engine._performer)()  # a worker that was killed, and its successor

    engine._before = before
    with pytest.raises(ValueError, match=r"a worker has other source code \(snn_policy 1b1b1b1b1b\).*0a0a0a0a0a"):
        run(tmp_path, engine)
    assert engine.closed


# --- what a report says


def coded(cell: dict[str, Any], *codes: dict[str, str]) -> dict[str, Any]:
    document = {**cell, "evaluation": {**cell["evaluation"], "code": list(codes)}}
    return sweep_results.signed({name: value for name, value in document.items() if name != "sha256"})


@pytest.mark.parametrize(
    ("codes", "remark"),
    [
        ([(), ()], None),
        ([(OLD,), (OLD,)], None),
        ([(OLD,), (NEW,)], "2 states of the source code of snn_policy"),
        ([(OLD,), (OLD, NEW)], "2 states of the source code of snn_policy"),
        ([(), (NEW,)], "2 states of the source code of snn_policy"),
        ([(OLD,), ({**OLD, "robots": "22" * 16},)], None),
        ([({**OLD, "robots": "33" * 16},), ({**OLD, "robots": "22" * 16},)], "2 states of the source code of robots"),
    ],
)
def test_a_report_says_where_code_was_edited_between_cells(codes: Any, remark: str | None, tmp_path: Path) -> None:
    made = sweep_results.grid({"td3-Hopper": ("Hopper-v5", 3400.0)}, [0.02])
    cells = [coded(cell, *found) for cell, found in zip(made, codes, strict=True)]
    directory = sweep_results.write_sweep(tmp_path / "out", cells)
    assert main(["report", str(directory), "--no-pictures"]) == 0
    page = (directory / "report" / "index.html").read_text()
    assert (remark or "states of the source code") in page or remark is None
    assert ("states of the source code" in page) is (remark is not None)
    assert all(digest[:10] in page for found in codes for code in found for digest in code.values())


@pytest.mark.parametrize("codes", ["x", [3], [{"a b": "0a" * 16}], [{"snn_policy": "<script>"}], [{}] * 1001])
def test_a_code_that_is_none_makes_a_cell_a_damaged_one(
    codes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sweep_results.grid({"td3-Hopper": ("Hopper-v5", 3400.0)}, [0.02])
    spoilt = {**made[1], "evaluation": {**made[1]["evaluation"], "code": codes}}
    spoilt.pop("sha256")
    directory = sweep_results.write_sweep(tmp_path / "out", [made[0], sweep_results.signed(spoilt)])
    assert main(["report", str(directory), "--no-pictures"]) == 0
    assert "evaluation.code: expected" in capsys.readouterr().err
