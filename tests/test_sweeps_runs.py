"""What a sweep leaves on disk is the same, whatever stopped it on the way: nothing is lost, nothing counted twice."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snn_policy import load_actor
from snn_policy.atomic_files import write_atomically
from snn_policy.cli import main
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.evaluation.statistics import retention
from snn_policy.sweeps import directory as directories
from snn_policy.sweeps.digests import hash_of
from snn_policy.sweeps.directory import SweepDirectory
from snn_policy.sweeps.engine import Lost
from snn_policy.sweeps.plan import read_plan
from snn_policy.sweeps.sweep import Summary, sweep
from snn_policy.sweeps.watching import Watching, duration
from snn_policy.sweeps.work import Failure, Job
from tests.sweeping import CELLS, InlineEngine, cells_of, files_of, write_actor, write_sweep

Run = Callable[..., Summary]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that nothing has disturbed; to read, not to change."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("snn_policy.sweeps.sweep.make_engine", lambda *_: InlineEngine())
        found = sweep(read_plan(write_sweep(folder)), folder / "out")
    assert (found.cells, found.computed, found.episodes, found.failures) == (CELLS, CELLS, CELLS * 6, [])
    return folder / "out"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs the small sweep in this process, into tmp_path/out."""

    def run_sweep(before: Callable[[Job], Any] = lambda job: None, file: Path | None = None, **options: Any) -> Summary:
        engine = InlineEngine(before)
        monkeypatch.setattr("snn_policy.sweeps.sweep.make_engine", lambda *_: engine)
        try:
            return sweep(read_plan(file or write_sweep(tmp_path)), tmp_path / "out", **options)
        finally:
            assert engine.closed
            run_sweep.engine = engine  # pyright: ignore[reportFunctionMemberAccess]

    return run_sweep


def episodes_done(run: Any) -> int:
    return sum(job.seeds.count for job in run.engine.done if job.seeds is not None)


def stop_after(jobs: int, error: BaseException) -> Callable[[Job], Any]:
    """Return what raises the error once so many jobs are done."""
    done = iter(range(jobs))

    def before(job: Job) -> None:
        if next(done, None) is None:
            raise error

    return before


def test_a_directory_has_what_docs_say(calm: Path) -> None:
    assert sorted(place.name for place in calm.iterdir()) == ["batches", "cells", "policies", "sweep.json"]
    assert list((calm / "batches").iterdir()) == []
    document = json.loads((calm / "sweep.json").read_bytes())
    assert list(document) == ["format", "name", "file", "cells", "select"]
    assert (document["format"], document["name"], document["select"], len(document["cells"])) == (
        1,
        "small",
        None,
        CELLS,
    )
    for cell in cells_of(calm):
        assert list(cell) == ["format", "key", "cell", "evaluation", "timing", "sha256"]
        assert cell["key"] == hash_of(cell["cell"])[:32]
        assert cell["sha256"] == hash_of({name: cell[name] for name in ("format", "key", "cell", "evaluation")})
        first = cell["cell"]["seed"]
        assert cell["evaluation"]["seeds"] == list(range(first, first + 6))
        assert not [name for name in cell["evaluation"] if "seconds" in name]
    baselines = {cell["key"]: cell["cell"]["seed"] for cell in cells_of(calm) if cell["cell"]["role"] == "ann"}
    assert all(baselines[cell["cell"]["baseline"]] == cell["cell"]["seed"]
               for cell in cells_of(calm) if cell["cell"]["role"] == "snn")  # fmt: skip


def test_a_cell_holds_what_evaluate_finds(calm: Path, tmp_path: Path) -> None:
    actor = write_actor(tmp_path)
    for cell in cells_of(calm)[:2]:
        found = evaluate(actor, "CartPole-v1", episodes=6, seed=cell["cell"]["seed"]).as_dict()
        same = ("seeds", "returns", "lengths", "decisions", "mean", "interquartile_mean", "energies", "spikes")
        assert {name: cell["evaluation"][name] for name in same} == {name: found[name] for name in same}


def test_policies_of_a_sweep_are_bundles_of_the_actor(calm: Path, tmp_path: Path) -> None:
    actor = write_actor(tmp_path)
    policies = [load_actor(place) for place in (calm / "policies").iterdir()]
    assert len(policies) == 3
    assert all((policy.widths, policy.name) == (actor.widths, "small") for policy in policies)


@pytest.mark.parametrize("jobs", [0, 1, 4, 11, 20, 26])
def test_a_sweep_that_stops_at_any_moment_goes_on_without_repeating_an_episode(
    jobs: int, run: Run, calm: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(stop_after(jobs, KeyboardInterrupt()))
    before = episodes_done(run)
    found = run()
    assert before + episodes_done(run) == CELLS * 6
    assert found.episodes == episodes_done(run)
    assert files_of(tmp_path / "out") == files_of(calm)


def test_a_finished_sweep_computes_nothing(run: Run, calm: Path, tmp_path: Path) -> None:
    run()
    found = run(stop_after(0, AssertionError("there was a job")))
    assert (found.cells, found.computed, found.episodes) == (CELLS, 0, 0)


def test_jobs_at_a_time_and_open_cells_are_bounded(run: Run, tmp_path: Path) -> None:
    run(file=write_sweep(tmp_path, "", episodes=2, seeds=list(range(0, 80, 2))))
    assert run.engine.most <= 4  # pyright: ignore[reportFunctionMemberAccess]


@pytest.mark.parametrize("lost", [{1}, {2, 3}, {0, 5, 9, 14}])
def test_what_lost_workers_had_at_hand_is_run_again(lost: set[int], run: Run, calm: Path, tmp_path: Path) -> None:
    count = iter(range(10_000))
    found = run(lambda job: Lost("worker 1 was killed (SIGKILL)") if next(count) in lost else None)
    assert found.lost == len(lost)
    assert (found.failures, found.episodes) == ([], CELLS * 6)
    assert files_of(tmp_path / "out") == files_of(calm)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_batch_that_kills_every_worker_is_given_up_after_its_retries(
    retries: int, run: Run, calm: Path, tmp_path: Path
) -> None:
    tried = []

    def before(job: Job) -> Any:
        if job.setting is None and job.seeds is not None and job.seeds.first == 1002:
            tried.append(job)
            return Lost("worker 1 was killed (SIGKILL)")
        return None

    found = run(before, retries=retries)
    assert len(tried) == retries + 1
    assert len(found.failures) == 1
    assert "small in CartPole-v1, ANN, seeds 1000…1005" in found.failures[0]
    assert "episodes 1002…1003" in found.failures[0]
    assert found.computed == CELLS - 1
    run()  # with workers that live
    assert episodes_done(run) == 2
    assert files_of(tmp_path / "out") == files_of(calm)


def test_a_job_that_waited_behind_a_lost_one_is_no_try(run: Run) -> None:
    count = iter(range(10_000))
    found = run(lambda job: Lost("") if next(count) % 3 == 0 else None, retries=0)
    assert (found.lost, found.failures) == (0, [])


def test_a_cell_that_fails_is_named_and_the_others_are_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def before(job: Job) -> Any:
        spoilt = job.kind == "convert" and job.setting is not None and job.setting.label.startswith("IF")
        return Failure("the robot fell apart") if spoilt else None

    monkeypatch.setattr("snn_policy.sweeps.sweep.make_engine", lambda *_: InlineEngine(before))
    file, out = write_sweep(tmp_path), tmp_path / "out"
    assert main(["sweep", str(file), "--out", str(out)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "2 of 8 cells failed" in said
    assert "small in CartPole-v1, IF(timesteps=4, alpha=0.3), seeds 1000…1005: the robot fell apart" in said
    assert len(list((out / "cells").iterdir())) == CELLS - 2


def test_too_many_failures_stop_a_sweep(run: Run, tmp_path: Path) -> None:
    file = write_sweep(tmp_path, "", episodes=2, seeds=list(range(0, 400, 2)))
    with pytest.raises(ValueError, match="20 cells failed"):
        run(lambda job: Failure("no display"), file=file)


def test_a_worker_with_other_versions_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = read_plan(write_sweep(tmp_path))
    record = next(plan.reporting()).record
    monkeypatch.setattr("snn_policy.sweeps.sweep.make_engine", lambda *_: InlineEngine())
    monkeypatch.setattr("snn_policy.sweeps.cells.Cell.record", {**record, "versions": {"numpy": "0.0"}})
    with pytest.raises(ValueError, match=r"a worker has gymnasium .* where the sweep records none; install the same"):
        sweep(plan, tmp_path / "out")


@pytest.mark.parametrize(
    ("number", "code"), [(1, errno.ENOSPC), (3, errno.ENOSPC), (9, errno.EDQUOT), (20, errno.ENOSPC), (21, errno.EIO)]
)
def test_a_full_disk_is_one_line_and_loses_nothing(
    number: int, code: int, run: Run, calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def fail(path: Path, content: bytes, **options: Any) -> None:
        written.append(path)
        if len(written) == number:
            raise OSError(code, f"{os.strerror(code)}, 5 bytes were to be written", str(path))
        write_atomically(path, content, **options)

    with monkeypatch.context() as patch:
        patch.setattr(directories, "write_atomically", fail)
        with pytest.raises(OSError, match="what is finished is kept: make room, and run the same command") as full:
            run()
    assert full.value.errno == code
    assert Path(full.value.filename) == written[-1]
    run()
    assert files_of(tmp_path / "out") == files_of(calm)


def test_a_limit_of_file_sizes_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    program = ("import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\n"
               "from snn_policy.cli import main; sys.exit(main(sys.argv[1:]))")  # fmt: skip
    file = write_sweep(tmp_path, "", seeds=[1000])
    done = subprocess.run([sys.executable, "-c", program, "sweep", str(file), "--out", str(tmp_path / "out")],
                          capture_output=True, text=True, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "File too large; what is finished is kept" in done.stderr


def truncate(place: Path) -> None:
    place.write_bytes(place.read_bytes()[:200])


def falsify(place: Path) -> None:
    place.write_bytes(place.read_bytes().replace(b'"decisions"', b'"decision"', 1).replace(b"1.0", b"2.0", 1))


def nan(place: Path) -> None:
    place.write_text('{"key": NaN}')


def nothing(place: Path) -> None:
    place.write_bytes(b"")


def other(place: Path) -> None:
    place.write_bytes(next(file for file in sorted(place.parent.iterdir()) if file != place).read_bytes())


@pytest.mark.parametrize("damage", [truncate, falsify, nan, nothing, other])
def test_a_damaged_cell_is_computed_again(damage: Callable[[Path], None], run: Run, calm: Path, tmp_path: Path) -> None:
    shutil.copytree(calm, tmp_path / "out")
    damage(sorted((tmp_path / "out" / "cells").iterdir())[3])
    assert run().computed == 1
    assert files_of(tmp_path / "out") == files_of(calm)


@pytest.mark.parametrize("damage", [truncate, falsify, nan, nothing])
def test_a_damaged_batch_is_run_again(damage: Callable[[Path], None], run: Run, calm: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(stop_after(2, KeyboardInterrupt()))
    before = episodes_done(run)
    damage(sorted((tmp_path / "out" / "batches").glob("*/*.json"))[0])
    run()
    assert before - 2 + episodes_done(run) == CELLS * 6
    assert files_of(tmp_path / "out") == files_of(calm)


def test_a_damaged_policy_is_made_again(run: Run, calm: Path, tmp_path: Path) -> None:
    shutil.copytree(calm, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "cells")
    for place in (tmp_path / "out" / "policies").iterdir():
        truncate(place / "policy.json")
    run()
    assert files_of(tmp_path / "out") == files_of(calm)


def test_what_killed_writers_left_is_removed(run: Run, calm: Path, tmp_path: Path) -> None:
    cell = cells_of(calm)[0]["key"]
    for left in (f"cells/{cell}.json", f"batches/{cell}/1000-2.json", "sweep.json"):
        place = tmp_path / "out" / f"{left}.123-0123456789abcdef.partial"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("{")
    (tmp_path / "out" / "sweep.json").write_text("{}")
    run()
    assert files_of(tmp_path / "out") == files_of(calm)


def test_a_change_of_the_file_computes_only_what_is_new(run: Run, tmp_path: Path) -> None:
    run()
    found = run(file=write_sweep(tmp_path, seeds=[1000, 2000, 3000]))
    assert (found.cells, found.computed) == (12, 4)
    found = run(file=write_sweep(tmp_path, "", seeds=[3000]))
    assert (found.cells, found.computed) == (1, 0)
    assert len(cells_of(tmp_path / "out")) == 1


def test_a_second_sweep_on_one_directory_says_so_and_ends_with_2(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write_sweep(tmp_path), tmp_path / "out"
    with SweepDirectory(out) as held:
        held.write_sweep("small", "", [], None)
        assert main(["sweep", str(file), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "another sweep is running in this directory" in said
    run()  # once it is free


@pytest.mark.parametrize("what", ["a file", "other files", "a sweep's"])
def test_a_directory_of_something_else_is_left_alone(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / ("sweep.json" if what == "a sweep's" else "thesis.tex")).write_text("{}")
    code = main(["sweep", str(write_sweep(tmp_path, "", seeds=[0])), "--out", str(out), "--workers", "1"])
    assert code == (0 if what == "a sweep's" else 2)
    assert what == "a sweep's" or str(out) in capsys.readouterr().err


SELECT = "\n[select]\nseeds = [0, 8]\nwithin = {}"


@pytest.mark.parametrize("within", [0.0, 0.3, 1.0])
def test_settings_are_chosen_on_one_range_of_seeds_and_reported_on_others(
    within: float, run: Run, tmp_path: Path
) -> None:
    settings = f"[[settings]]\ntolerance = [0.01, 0.1, 0.9]{SELECT.format(within)}"
    found = run(file=write_sweep(tmp_path, settings))
    document = json.loads((tmp_path / "out" / "sweep.json").read_bytes())
    cells = cells_of(tmp_path / "out")
    tried, reported = (
        [cell for cell in cells if cell["cell"]["purpose"] == purpose] for purpose in ("select", "report")
    )
    assert [cell["cell"]["label"] for cell in tried] == [
        "ANN", "SigmaDelta(tolerance=0.01)", "SigmaDelta(tolerance=0.1)", "SigmaDelta(tolerance=0.9)",
    ]  # fmt: skip
    ann = tried[0]["evaluation"]["mean"]
    kept = {cell["key"]: min(1.0, float(retention(ann, cell["evaluation"]["mean"]))) for cell in tried[1:]}
    fit = [cell for cell in tried[1:] if kept[cell["key"]] >= max(kept.values()) - within]
    best = min(fit, key=lambda cell: cell["evaluation"]["energy"])
    assert document["select"]["seeds"] == [0, 8]
    (chosen,) = document["select"]["chosen"].values()
    assert (chosen["key"], chosen["label"]) == (best["key"], best["cell"]["label"])
    assert found.chosen == document["select"]["chosen"]
    assert [cell["cell"]["label"] for cell in reported] == ["ANN", "ANN", *[chosen["label"]] * 2]
    assert not {seed for cell in reported for seed in cell["evaluation"]["seeds"]} & set(range(8))


def test_one_setting_of_every_table_may_be_chosen(run: Run, tmp_path: Path) -> None:
    settings = (
        f"[[settings]]\ntolerance = [0.01, 0.1]\n[[settings]]\nneuron = 'if'\nalpha = [0.0, 0.5]{SELECT.format(0)}"
    )
    found = run(file=write_sweep(tmp_path, f"{settings}\nper = 'table'", seeds=[1000]))
    assert found.chosen is not None
    assert list(found.chosen) == [f"small in CartPole-v1, settings {number}" for number in (1, 2)]
    reported = [cell["cell"]["label"] for cell in cells_of(tmp_path / "out") if cell["cell"]["purpose"] == "report"]
    assert reported == ["ANN", *(chosen["label"] for chosen in found.chosen.values())]
    assert [label.split("(")[0] for label in reported] == ["ANN", "SigmaDelta", "IF"]


def test_a_choice_that_lacks_a_cell_is_not_made(run: Run, tmp_path: Path) -> None:
    file = write_sweep(tmp_path, f"[[settings]]\ntolerance = [0.1, 0.9]{SELECT.format(0)}")
    found = run(lambda job: Failure("no") if job.kind == "convert" else None, file=file)
    assert len(found.failures) == 2
    assert found.chosen is None
    assert json.loads((tmp_path / "out" / "sweep.json").read_bytes())["select"]["chosen"] == {}
    assert run(file=file).failures == []


def test_environments_with_options_and_pilots_run(run: Run, tmp_path: Path) -> None:
    places = [{"id": "CartPole-v1", "options": {"sutton_barto_reward": True}}]
    found = run(file=write_sweep(tmp_path, '[[settings]]\nengine = "numpy"', seeds=[0], environments=places))
    assert found.failures == []
    cells = cells_of(tmp_path / "out")
    assert all(cell["cell"]["environment_options"] == {"sutton_barto_reward": True} for cell in cells)
    assert cells[0]["evaluation"]["mean"] == -1.0
    assert cells[1]["cell"]["engine"] == "numpy"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--engine", "slurm"], "engine 'slurm': expected one of local, ray"),
        (["--address", "auto"], "add --engine ray"),
        (["--workers", "-1"], "workers"),
        (["--retries", "-1"], "retries"),
    ],
)
def test_wrong_options_are_said_in_one_line(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(write_sweep(tmp_path)), "--out", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert complaint in said


def test_ray_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["sweep", str(write_sweep(tmp_path)), "--out", str(tmp_path / "out"), "--engine", "ray"]) == 2
    assert "pip install 'snn-policy[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (119, "2 min"), (3600, "60 min"), (9000, "2 h 30 min")]
)
def test_a_time_is_said_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_says_how_much_time_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    watching = Watching("sweeping", 10, 100, lambda: None, lines=True)
    watching.advance(20)
    watching.advance(5, cell=True)
    assert watching.line(600) == "sweeping: 1 of 10 cells, 25 of 100 episodes, 30 min left"
