"""The paper's tables: transcribed as printed, planned, filled cell by cell, resumed, and written beside ours."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.paper_page import CELLS, OF_100_EPISODES, PAGE, differences, filled, with_those_of
from benchmarks.places import DOCS
from examples.paper_tables.__main__ import main
from examples.paper_tables.printed import TABLE_1, TABLE_2, Score
from examples.paper_tables.table import (
    COLUMNS,
    Cell,
    Result,
    TrainingRun,
    finished,
    last_evaluations,
    matching,
    milestones,
    plan,
    record,
)
from examples.paper_tables.table_pages import layouts, page, summary
from examples.paper_tables.table_retention import count_lines, retention_lines
from snn_policy.offline.scores import normalised_score, score_to_return
from snn_policy.offline.transitions import Transitions


def result(column: str = "QCFS", steps: int = 10, score: float = 50.0, seed: int = 0, episodes: int = 2) -> Result:
    iterations = 1.5 if column == "adaptive" else None
    return Result("Hopper-v5", "expert", column, seed, steps, (score,) * episodes, iterations, {"mujoco": "3"}, 5.0)


def test_the_papers_numbers_are_all_there():
    assert len(TABLE_1) == 16 * 6 - 4  # no ReLU on Ant
    assert len(TABLE_2) == 16 * 5
    assert TABLE_1["expert", "HalfCheetah", "direct"] == Score(59.5, 11.6)
    assert TABLE_1["medium", "HalfCheetah", "ReLU"] == Score(42.8, None)
    assert TABLE_2["medium-replay", "Ant", "adaptive"] == Score(79.74, 1.95)
    assert all(0 < score.mean < 130 for score in (*TABLE_1.values(), *TABLE_2.values()))


def test_the_cells_of_one_run_stand_together():
    cells = plan(["Hopper-v5"], ["expert", "medium"], COLUMNS, [0, 1], 10)
    assert len(cells) == 2 * 2 * 9
    runs = [cell.run for cell in cells]
    assert len(set(runs)) == 2 * 2 * 3
    assert sum(a != b for a, b in pairwise(runs)) == len(set(runs)) - 1
    assert runs[0].name == "Hopper-v5-expert-qcfs-0"
    with pytest.raises(ValueError, match="column 'I=9'"):
        plan(["Hopper-v5"], ["expert"], ["I=9"], [0], 10)


def test_a_line_cut_off_by_a_kill_is_dropped_and_the_next_one_is_whole(tmp_path: Path):
    record(tmp_path, result("QCFS"))
    with (tmp_path / "cells.jsonl").open("a") as file:
        file.write('{"task": "Hop')
    assert finished(tmp_path) == [result("QCFS")]
    record(tmp_path, result("adaptive"))
    assert finished(tmp_path) == [result("QCFS"), result("adaptive")]
    (tmp_path / "cells.jsonl").write_text('{"task": "Hopper-v5"}\n')
    with pytest.raises(ValueError, match="line 1 is no finished cell"):
        finished(tmp_path)


def test_a_cell_is_done_only_at_these_steps_and_with_enough_episodes():
    cell, results = Cell(TrainingRun("Hopper-v5", "expert", "qcfs", 0), "QCFS", 2), [result(steps=10)]
    assert matching(results, cell, 10) == results[0]
    assert matching(results, cell, 20) is None
    assert matching(results, Cell(cell.run, "QCFS", 3), 10) is None
    assert matching(results, Cell(cell.run, "I=1", 2), 10) is None


def test_the_tables_show_the_longest_run_beside_the_paper():
    results = [result("QCFS", 20_000, 60.0), result("QCFS", 10_000, 50.0), result("adaptive", 20_000, 61.0)]
    assert summary([[result(score=40.0)], [result(score=60.0, seed=1)]], "QCFS") == Score(50.0, 10.0)
    first, second = layouts(results)
    assert first.rows[0].cells[first.columns.index("QCFS")] == (Score(60.0, 0.0), Score(112.1, 1.3))
    assert second.rows[0].cells[second.columns.index("adaptive")] == (Score(61.0, 0.0), Score(112.19, 0.33))
    text = page(results)
    assert "| expert | Hopper | – / 112.2±0.2 | 60.0±0.0 / 112.1±1.3 |" in text
    assert "Adaptive I spent 1.50 iterations" in text
    assert "printed as 229.68" in text


@pytest.mark.parametrize(
    ("measured", "averaged"),
    [
        ([200], [200]),
        ([100, 200], [200]),
        ([50, 100, 150, 180, 185, 190, 195, 200], [180, 185, 190, 195, 200]),
        ([190, 200], [200]),
        ([170, 175, 180, 190, 195, 200], [190, 195, 200]),
        ([170, 175, 180, 185, 190, 195, 200], [180, 185, 190, 195, 200]),
        ([195, 200, 195], [195, 200]),
        ([197, 200], [197, 200]),
    ],
)
def test_a_score_is_the_mean_of_the_last_five_evaluations_that_are_near_each_other(
    measured: list[int], averaged: list[int]
) -> None:
    results = [result("QCFS", 1000 * steps, steps + index) for index, steps in enumerate(measured)]
    (found,) = last_evaluations(results).values()
    assert [cell.steps for cell in found] == [1000 * steps for steps in averaged]
    newest = {cell.steps: cell.scores[0] for cell in results}
    expected = [newest[1000 * steps] for steps in averaged]
    assert summary([found], "QCFS") == pytest.approx((np.mean(expected), np.std(expected)))
    (row,) = layouts(results)[0].rows
    assert row.extent == (f"{1000 * averaged[-1]:,}", str(len(averaged)), "1")


def test_retention_pairs_the_evaluations_that_both_have() -> None:
    ann = [result("QCFS", steps, score) for steps, score in ((10_000, 10.0), (15_000, 20.0), (20_000, 60.0))]
    both = [result("I=1", steps, score) for steps, score in ((15_000, 10.0), (20_000, 30.0))]
    old = [result("I=2", steps, score) for steps, score in ((10_000, 10.0), (15_000, 20.0))]
    headings, line = retention_lines([*ann, *both, *old])
    shown = dict(zip(headings, line, strict=True))
    returns = [score_to_return("Hopper-v5", [score])[0] for score in (40.0, 20.0)]
    assert shown["I=1"] == f"{returns[1] / returns[0]:.3f}"
    assert shown["I=2"] == "–"


@pytest.mark.parametrize(
    ("steps", "evaluations", "curve", "expected"),
    [
        (200_000, 5, 50_000, [50_000, 100_000, 150_000, 180_000, 185_000, 190_000, 195_000, 200_000]),
        (200_000, 1, 0, [200_000]),
        (100_000, 1, 50_000, [50_000, 100_000]),
        (12_000, 5, 50_000, [2_000, 7_000, 12_000]),
        (2, 5, 50_000, [2]),
        (0, 5, 50_000, [0]),
    ],
)
def test_a_run_is_measured_along_its_way(steps: int, evaluations: int, curve: int, expected: list[int]) -> None:
    assert milestones(steps, evaluations, curve) == expected


@pytest.mark.parametrize(
    ("seeds", "shown", "score"),
    [
        ({"QCFS": [0]}, 1, "50.0±0.0"),
        ({"QCFS": [0, 1, 2]}, 3, "51.0±0.8"),
        ({"QCFS": [0, 1], "I=1": [0]}, 1, "50.5±0.5"),
        ({"QCFS": [3, 7], "I=1": [3, 7]}, 2, "55.0±2.0"),
    ],
)
def test_a_column_says_how_many_training_seeds_a_row_has_at_least(
    seeds: dict[str, list[int]], shown: int, score: str
) -> None:
    results = [result(column, score=50.0 + seed, seed=seed) for column, given in seeds.items() for seed in given]
    rows = [row for layout in layouts(results) for row in layout.rows]
    assert [row.seeds for row in rows] == ([shown, len(seeds["I=1"])] if "I=1" in seeds else [shown])
    text = page(results)
    assert text.count("| steps | evaluations | training seeds |") == 2
    assert f"| – / 112.2±0.2 | {score} / 112.1±1.3 |" in text
    assert f"| 10 | 1 | {shown} |" in text


def test_a_learning_curve_is_one_seeds() -> None:
    results = [result("QCFS", steps, score, seed) for seed, steps, score in ((0, 10, 1.0), (0, 20, 2.0), (1, 10, 3.0),
                                                                             (1, 20, 4.0), (2, 10, 5.0))]  # fmt: skip
    lines = page(results).partition("moved with the steps")[2].split()
    assert " ".join(lines) == (
        "- expert Hopper, QCFS, seed 0: 1.0 after 10, 2.0 after 20 "
        "- expert Hopper, QCFS, seed 1: 3.0 after 10, 4.0 after 20"
    )


def table_rows(text: str, number: int) -> list[str]:
    """The rows of table `number`, of the page or of what would be written of stored cells."""
    section = text.partition(f"## Table {number}: ")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith(("| expert", "| medium"))]


def test_the_page_is_what_the_stored_cells_give() -> None:
    text = PAGE.read_text()
    assert filled(text, finished(CELLS), finished(OF_100_EPISODES)) == text
    assert len(table_rows(text, 1)) == len(table_rows(text, 2)) == len(table_rows(text, 4)) >= 4
    kept = table_rows(text, 3)
    many = table_rows(page(finished(OF_100_EPISODES)), 3)
    assert len(many) == 2
    assert [row for row in many if row not in kept] == []


def test_differences_are_those_of_the_same_episodes_and_of_whole_runs_alone() -> None:
    columns = ("QCFS", "I=0", "I=1", "I=2", "I=3", "adaptive", "sigma-delta")
    whole = [
        replace(result(column, steps), scores=(50.0 + place, 60.0 + 2 * place + steps / 5000))
        for place, column in enumerate(columns)
        for steps in range(180_000, 205_000, 5_000)
    ]
    once = [replace(cell, seed=1) for cell in whole if cell.steps == 200_000]
    heading, _, line = differences([*whole, *once])
    shown = dict(zip(heading.split("|"), line.split("|"), strict=True))
    for place, column in enumerate(columns[1:], 1):
        gains = np.array([place, 2 * place] * 5)
        assert shown[f" {column} "] == f" {gains.mean():+.1f} ± {gains.std(ddof=1) / 10**0.5:.1f} "
    assert shown[" iterations, adaptive "] == " 1.50 "


def test_new_cells_of_runs_long_enough_are_stored_once(tmp_path: Path) -> None:
    stored = [result("QCFS", 200_000), result("I=1", 200_000)]
    assert with_those_of([], stored) == stored
    for cell in (result("QCFS", 2), result("I=1", 200_000), result("QCFS", 205_000), result("QCFS", 200_000, 60.0)):
        record(tmp_path, cell)
    assert with_those_of([tmp_path], stored) == [*stored, result("QCFS", 205_000), result("QCFS", 200_000, 60.0)]
    with pytest.raises(ValueError, match="no finished cell of 50,000 gradient steps or more"):
        with_those_of([tmp_path / "nothing"], stored)


def test_every_row_of_the_page_says_its_training_seeds_and_is_explained() -> None:
    text = (DOCS / "calibrated-spiking-rl.md").read_text()
    reasons = text.partition("## Cells that fall short, one by one")[2].partition("\n## ")[0]
    rows = [row for number in (1, 2) for row in table_rows(text, number)]
    assert len(rows) >= 8
    for row in rows:
        quality, task, *_, seeds = (cell.strip() for cell in row.strip("|").split("|"))
        assert int(seeds) in (1, 2, 3)
        assert f"| {quality} {task} |" in reasons


def largest_shortfall(row: str) -> float:
    """By how much the cell of a row that falls short most does, among those that do by more than both spreads."""
    found = [0.0]
    for cell in (cell for cell in row.split("|") if " / " in cell):
        pair = [[float(value) for value in side.split("±")] for side in cell.split(" / ") if re.search(r"\d", side)]
        if len(pair) == 2:
            (ours, *spread), (theirs, *other) = pair
            if theirs - ours > sum(spread) + sum(other):
                found.append(theirs - ours)
    return max(found)


def test_the_explanations_name_what_falls_short_most() -> None:
    text = (DOCS / "calibrated-spiking-rl.md").read_text()
    reasons = text.partition("## Cells that fall short, one by one")[2].partition("\n## ")[0]
    most: dict[str, float] = {}
    for row in (row for number in (1, 2) for row in table_rows(text, number)):
        name = " ".join(cell.strip() for cell in row.strip("|").split("|")[:2])
        most[name] = max(most.get(name, 0.0), largest_shortfall(row))
    assert len(most) >= 4
    for name, points in most.items():
        (reason,) = [line for line in reasons.splitlines() if line.startswith(f"| {name} |")]
        told = max((int(value) for value in re.findall(r"(?:by|to) (\d+)", reason.split("|")[2])), default=0)
        assert abs(told - points) <= 1, f"{name}: {points:.1f} at most, {told} is told"


def test_retention_is_that_of_returns_and_only_between_equal_checkpoints():
    assert np.allclose(score_to_return("Hopper-v5", normalised_score("Hopper-v5", [3.0, 900.0])), [3.0, 900.0])
    results = [
        result("QCFS", 20, 100.0),
        result("I=1", 20, 50.0),
        result("I=2", 10, 50.0),
        result("sigma-delta", 20, 100.0),
    ]
    headings, line = retention_lines(results)
    shown = dict(zip(headings, line, strict=True))
    assert shown["I=1"] == f"{(50 * 32.54572305 - 20.272305) / 3234.3:.3f}"  # 100 is D4RL's expert, 0 its random policy
    assert shown["I=2"] == shown["I=0"] == "–"
    assert shown["sigma-delta"] == "1.000"
    assert count_lines(results) == [("quality", "task", "I=0", "I=1", "I=2", "I=3")]
    counted = replace(result("I=1", 20), equal_counts=0.99512)
    assert count_lines([counted])[1] == ("expert", "Hopper", "–", "0.9951", "–", "–")


def hopper(rows: int = 300) -> Transitions:
    rng = np.random.default_rng(0)
    observations, ends = rng.normal(size=(rows + 1, 11)).astype(np.float32), np.arange(rows) % 100 == 99
    return Transitions(
        observations[:-1],
        rng.uniform(-1, 1, (rows, 3)).astype(np.float32),
        rng.normal(size=rows).astype(np.float32),
        observations[1:],
        ends,
        np.zeros(rows, np.bool_),
        env_id="Hopper-v5",
    )


def test_the_command_fills_the_table_and_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("mujoco")
    from snn_policy.offline.datasets import save_dataset

    save_dataset(hopper(), tmp_path / "Hopper-v5-medium")
    command = ["--tasks", "Hopper-v5", "--qualities", "medium,expert", "--episodes", "1",
               "--datasets", str(tmp_path), "--out", str(tmp_path / "table")]  # fmt: skip
    assert main([*command, "--columns", "QCFS,I=0", "--steps", "2", "--json", "-"]) == 0
    captured = capsys.readouterr()
    assert "left out: Hopper-v5-expert, no dataset" in captured.err
    first = json.loads(captured.out)["cells"]
    assert [(element["column"], element["steps"]) for element in first] == [("QCFS", 2), ("I=0", 2)]
    out = tmp_path / "page.md"
    arguments = ["--columns", "QCFS,I=0,I=1,adaptive,direct", "--steps", "2", "--page", str(out), "--json", "-"]
    assert main([*command, *arguments]) == 0
    second = json.loads(capsys.readouterr().out)["cells"]
    assert second[:2] == first
    assert {element["column"] for element in second[2:]} == {"I=1", "adaptive", "direct"}
    assert {element["column"]: element["iterations"] is None for element in second}["adaptive"] is False
    assert "| medium | Hopper |" in out.read_text()


def test_a_run_is_measured_at_every_milestone_before_it_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mujoco")
    from snn_policy.offline.datasets import save_dataset

    save_dataset(hopper(), tmp_path / "Hopper-v5-medium")
    command = ["--tasks", "Hopper-v5", "--qualities", "medium", "--episodes", "1", "--columns", "ReLU,QCFS",
               "--datasets", str(tmp_path), "--out", str(tmp_path / "table"), "--json", "-"]  # fmt: skip
    for workers, steps, curve in ((1, 6, 2), (2, 10, 4)):
        more = ["--steps", str(steps), "--curve", str(curve), "--evaluations", "1", "--workers", str(workers)]
        assert main([*command, *more]) == 0
        cells = json.loads(capsys.readouterr().out)["cells"]
        for column in ("ReLU", "QCFS"):
            measured = [cell["steps"] for cell in cells if cell["column"] == column]
            assert measured == [2, 4, 6, 8, 10][: 3 if steps == 6 else None]


def test_nothing_to_do_is_a_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--datasets", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "collect datasets first" in capsys.readouterr().err
    assert main(["--seeds", "a", "--out", str(tmp_path)]) == 2
