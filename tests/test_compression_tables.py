"""docs/compression.md says what the stored figures say, and rewriting its tables changes nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compression, compression_tables
from benchmarks.compression_tables import PAGE, TEXTS, at_target, read_lines
from benchmarks.markers import between

LINE: dict[str, Any] = {
    "actor": "sac-Walker2d-v3", "target": "energy:0.02", "steps": 12_000, "block": 16, "count": "spikes", "seed": 0,
    "cpu_seconds": 75, "episodes": 100, "retention": 0.9954, "standard_error": 0.0021, "failed": 0.01,
    "ann_failed": 0.0, "student_retention": 1.0049, "student_standard_error": 0.0016, "student_failed": 0.02,
    "energy": 0.0197, "student_energy": 0.083, "zero_skipping_energy": 0.304, "events_of_zero_skipping": 0.217,
    "events_of_student": 0.79, "int8_sram_of_student": 0.72, "density": [0.58, 0.14, 0.54],
    "record": {
        "steps": 9600, "states": 52_000, "density": 0.17, "retention": 0.991, "standard_error": 0.0044, "episodes": 50,
    },
}  # fmt: skip


def measured(monkeypatch: pytest.MonkeyPatch, folder: Path, *lines: dict[str, Any]) -> None:
    file = folder / "compression.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(compression_tables, "MEASURED", file)


@pytest.mark.parametrize("marker", TEXTS)
def test_the_page_says_what_is_stored(marker: str) -> None:
    assert between(PAGE.read_text(), marker) == TEXTS[marker]().strip()


@pytest.mark.parametrize("actor", compression.WANTED)
def test_every_actor_has_a_line_at_its_target_over_a_hundred_episodes_of_seeds_of_their_own(actor: str) -> None:
    (line,) = [line for line in at_target(read_lines(), block=16, count="spikes") if line["actor"] == actor]
    assert line["episodes"] >= 100
    assert line["record"]["teacher"] == actor
    assert line["record"]["target"] == line["target"]
    assert line["energy"] <= 1.01 * float(line["target"].partition(":")[2])


def test_a_row_has_the_lines_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured(monkeypatch, tmp_path, LINE)
    (row,) = compression_tables.targets().splitlines()[2:]
    for cell in ("sac-Walker2d-v3", "0.02", "0.020", "0.304", "0.083", "0.995 ± 0.002", "1.005 ± 0.002",
                 "0 % · 1 % · 2 %", "0.58 · 0.14 · 0.54", "9,600 · 52,000", "75"):  # fmt: skip
        assert f" {cell} " in row


def test_of_the_same_run_the_latest_line_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured(monkeypatch, tmp_path, LINE, {**LINE, "retention": 0.5}, {**LINE, "retention": 0.75})
    (row,) = compression_tables.targets().splitlines()[2:]
    assert " 0.750 ± 0.002 " in row


@pytest.mark.parametrize("other", [{"seed": 1}, {"block": 8}, {"count": "events"}, {"target": "energy:0.03"}])
def test_other_runs_are_in_no_row_of_the_targets(
    other: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured(monkeypatch, tmp_path, {**LINE, **other})
    assert len(compression_tables.targets().splitlines()) == 2


def test_spikes_and_events_are_shares_of_the_original(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured(monkeypatch, tmp_path, LINE, {**LINE, "count": "events", "energy": 0.0304})
    spikes, events = compression_tables.counts().splitlines()[2:]
    assert "| spikes | 0.33 | 0.22 | 0.79 | 0.72 |" in spikes  # 0.0197·4.6/0.9/0.304
    assert "| events | 0.51 | 0.22 |" in events


def test_blocks_are_shown_where_several_were_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured(monkeypatch, tmp_path, LINE, {**LINE, "actor": "ppo-Hopper-v3", "target": "energy:0.025"})
    assert len(compression_tables.blocks().splitlines()) == 2
    measured(monkeypatch, tmp_path, LINE, {**LINE, "block": 8}, {**LINE, "block": 32})
    assert [row.split("|")[2].strip() for row in compression_tables.blocks().splitlines()[2:]] == ["8", "16", "32"]


def test_seeds_are_shown_where_several_were_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured(monkeypatch, tmp_path, LINE, {**LINE, "actor": "ppo-Hopper-v3", "target": "energy:0.025"})
    assert len(compression_tables.seeds().splitlines()) == 2
    measured(monkeypatch, tmp_path, LINE, {**LINE, "seed": 1}, {**LINE, "seed": 1, "block": 8})
    assert [row.split("|")[3].strip() for row in compression_tables.seeds().splitlines()[2:]] == ["0", "1"]


@pytest.mark.parametrize(
    ("again", "seconds"), [({}, "75"), ({"cpu_seconds": 80}, "80"), ({"record": {**LINE["record"], "steps": 1}}, "–")]
)
def test_a_run_measured_again_keeps_its_processor_time_if_it_is_the_same_student(
    again: dict[str, Any], seconds: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured(monkeypatch, tmp_path, LINE, {**LINE, "cpu_seconds": None, **again})
    (row,) = compression_tables.targets().splitlines()[2:]
    assert row.endswith(f"| {seconds} |")


@pytest.mark.parametrize(("found", "shown"), [({}, "0.020"), ({"tolerance": 0.0439}, "0.044")])
def test_a_row_has_the_tolerance_that_its_student_was_made_for(
    found: dict[str, Any], shown: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured(monkeypatch, tmp_path, {**LINE, "record": {**LINE["record"], **found}})
    (row,) = compression_tables.targets().splitlines()[2:]
    assert f" {shown} | 0.991 ± 0.004, 50 |" in row


def test_the_curve_has_every_target_by_energy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    others = [{"target": "energy:0.05", "energy": 0.049}, {"block": 8}, {"target": "energy:0.03", "energy": 0.029}]
    measured(monkeypatch, tmp_path, LINE, *({**LINE, **other} for other in others))
    rows = [row.split(" | ") for row in compression_tables.curve().splitlines()[2:]]
    assert [row[1:3] for row in rows] == [["0.02", "0.020"], ["0.03", "0.029"], ["0.05", "0.049"]]


def test_falls_are_listed_by_steps_with_what_was_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = {"actor": "sac-Walker2d-v3", "target": "energy:0.02", "training_seed": 0, "seed": 90_000, "episodes": 4,
            "ann_failed": 0, "failed": 1, "ann_returns": [100, 100, 100, 100]}  # fmt: skip
    students = [{"steps": 32_000, "snn_returns": [100] * 4}, {"steps": 16_000, "snn_returns": [100, 100, 100, 60]}]
    (tmp_path / "falls.jsonl").write_text("".join(json.dumps({**line, **student}) + "\n" for student in students))
    monkeypatch.setattr(compression_tables, "FALLS", tmp_path / "falls.jsonl")
    rows = [row.split(" | ")[3:6] for row in compression_tables.falls().splitlines()[2:]]
    assert rows == [["16,000", "0.900 ± 0.087", "4"], ["32,000", "1.000 ± 0.000", "4"]]


@pytest.mark.parametrize(
    ("failed", "episodes", "shown"),
    [(0, 400, "0: 0.0 % [0.0, 1.0]"), (4, 400, "4: 1.0 % [0.4, 2.5]"), (1, 100, "1: 1.0 % [0.2, 5.4]")],
)
def test_falls_have_wilsons_interval(failed: int, episodes: int, shown: str) -> None:
    assert compression_tables.failed_of(failed / episodes, episodes) == shown
