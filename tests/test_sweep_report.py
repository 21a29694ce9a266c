"""Reports of sweeps: the same bytes for the same results, every name as text, every number with where it comes from."""

import base64
import csv
import hashlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from sweep_results import ACTORS, VERSIONS, grid, made_cell, signed, write_sweep

from snn_policy.cli import main
from snn_policy.energy import PROFILES
from snn_policy.sweeps.findings import CHOSEN, Findings, conclude
from snn_policy.sweeps.pictures import pictures_of, time_picture
from snn_policy.sweeps.read_results import read_sweep
from snn_policy.sweeps.report import Report, make_report, write_report
from snn_policy.sweeps.table_files import comma_separated, markdown
from snn_policy.sweeps.table_values import Column, Table, text

ANN, SNN = "a" * 32, "b" * 32
ENERGY = PROFILES["fp32-45nm"]
HOSTILE = '<script>alert(1)</script>|"&=$\\frac{1}$[bold]`_*'


def found_in(directory: Path, delta: float = 0.01) -> Findings:
    return conclude(read_sweep(directory), ENERGY, delta)


def rows(report: Report, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(report.files[f"tables/{name}.csv"].decode())))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    cells = grid(ACTORS, [0.01, 0.1], episodes=30)
    cells[4] = {**cells[4], "sha256": "0" * 64}
    return found_in(write_sweep(tmp_path_factory.mktemp("sweep"), cells, absent=["f" * 32]))


@pytest.fixture(scope="module")
def report(found: Findings) -> Report:
    return make_report(found, draw=False)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return a report, with pictures, of actors, settings and environments with names that are markup everywhere."""
    returns = [float(value) for value in range(100, 112)]
    names: dict[str, Any] = {"actor": HOSTILE, "environment": f"_{HOSTILE}"}
    cells = [made_cell(ANN, returns, label=f"={HOSTILE}", **names),
             made_cell(SNN, returns, label=f"=1+{HOSTILE}", baseline=ANN, **names)]  # fmt: skip
    return make_report(found_in(write_sweep(tmp_path_factory.mktemp("hostile"), cells)))


def test_tables_are_the_same_bytes_for_the_same_results_at_another_time_and_place(tmp_path: Path) -> None:
    cells = grid({"a": ("Hopper-v5", 3000.0)}, [0.02], episodes=12)
    first = make_report(found_in(write_sweep(tmp_path / "here", cells)), draw=False)
    for cell in cells:
        cell["timing"] = {"microseconds": 999.0, "policy_seconds": 7.0, "environment_seconds": 3.0, "workers": 8}
    second = make_report(found_in(write_sweep(tmp_path / "elsewhere", cells)), draw=False)
    assert {name for name in first.files if first.files[name] != second.files[name]} == {
        "time.md", "time.csv", "index.html",
    }  # fmt: skip


def test_a_copy_of_the_ann_is_equivalent_in_every_table(tmp_path: Path) -> None:
    returns = [3000.0 + 10 * number for number in range(20)]
    cells = [made_cell(ANN, returns), made_cell(SNN, returns, label="IF(timesteps=8)", baseline=ANN)]
    report = make_report(found_in(write_sweep(tmp_path, cells)), draw=False)
    (row,) = rows(report, "equivalence")
    assert (row["as_good"], row["loss"], row["verdict"]) == ("1", "0", "equivalent")
    (row,) = rows(report, "overview")
    assert [row[name] for name in ("retention", "retention_low", "retention_high", "failed", "claimed")] == [
        "1", "1", "1", "0", "1",
    ]  # fmt: skip
    assert float(row["energy_share"]) == pytest.approx(9_000 * 0.9 / (40_000 * 4.6))


def test_half_the_return_is_a_loss_of_one_half_and_every_episode_fails(tmp_path: Path) -> None:
    returns = [1000.0 + number for number in range(20)]
    cells = [made_cell(ANN, returns), made_cell(SNN, [value / 2 for value in returns], label="IF", baseline=ANN)]
    report = make_report(found_in(write_sweep(tmp_path, cells)), draw=False)
    (row,) = rows(report, "equivalence")
    assert (row["as_good"], row["loss"], row["verdict"]) == ("0", "0.5", "worse")
    (row,) = rows(report, "failures")
    assert [row[name] for name in ("ann_failed", "snn_failed", "only_snn")] == ["0", "20", "20"]
    ann, snn = rows(report, "retention")
    assert ann["retention"] == ""
    assert (snn["retention"], snn["of_medians"]) == ("0.5", "0.5")


def test_the_front_holds_what_nothing_else_beats(tmp_path: Path) -> None:
    def policy(key: str, value: float, operations: float) -> dict[str, Any]:
        returns = [value] * 10
        return made_cell(key * 32, returns, label=key, baseline=ANN, synaptic_operations=operations)

    cells = [made_cell(ANN, [100.0] * 10), policy("b", 90, 1000), policy("c", 95, 2000), policy("d", 94, 3000),
             policy("e", 100, 4000)]  # fmt: skip
    shown = rows(make_report(found_in(write_sweep(tmp_path, cells)), draw=False), "energy")
    assert {row["setting"]: row["front"] for row in shown} == {
        "ANN": "no", "b": "yes", "c": "yes", "d": "no", "e": "yes",
    }  # fmt: skip


def test_cells_on_several_seeds_are_one_row_and_no_seed_counts_twice(tmp_path: Path) -> None:
    cells = []
    for number, (seed, mean) in enumerate([(5000, 100.0), (6000, 200.0), (6005, 900.0)]):
        ann = made_cell(f"{number}" * 32, [mean] * 10, seed=seed)
        cells += [ann, made_cell(f"{number}b" * 16, [mean] * 10, seed=seed, label="IF", baseline=ann["key"])]
    found = found_in(write_sweep(tmp_path, cells))
    ann, snn = rows(make_report(found, draw=False), "retention")
    assert (ann["episodes"], ann["mean"], snn["episodes"], snn["retention"]) == ("20", "150", "20", "1")
    assert sum("its seeds are in another cell" in remark for remark in found.remarks) == 2


def test_what_served_to_choose_is_in_no_other_table_and_what_was_chosen_is_taken_together(tmp_path: Path) -> None:
    cells = []
    for number, (actor, tolerance) in enumerate([("one", 0.01), ("two", 0.02)]):
        for purpose, seed in (("select", 100), ("report", 5000)):
            ann = made_cell(f"{number}{purpose[0]}a0" * 8, [50.0] * 10, actor=actor, seed=seed, purpose=purpose)
            cells += [ann, made_cell(f"{number}{purpose[0]}b0" * 8, [50.0] * 10, actor=actor, seed=seed,
                                     label=f"SigmaDelta(tolerance={tolerance})", baseline=ann["key"],
                                     purpose=purpose, tolerance=tolerance)]  # fmt: skip
    report = make_report(found_in(write_sweep(tmp_path, cells, select={"seeds": [100, 10], "chosen": {}})), draw=False)
    assert [row["seeds"] for row in rows(report, "selection")] == ["100–109"] * 4
    assert {row["seeds"] for row in rows(report, "cells")} == {"5000–5009"}
    assert next((row["setting"], row["actors"]) for row in rows(report, "overview")) == (CHOSEN, "2")


def test_an_snn_without_its_ann_has_a_return_and_nothing_that_needs_the_ann(tmp_path: Path) -> None:
    cell = made_cell(SNN, [10.0] * 10, label="IF", baseline=ANN)
    found = found_in(write_sweep(tmp_path, [cell], absent=[ANN]))
    report = make_report(found, draw=False)
    (row,) = rows(report, "retention")
    assert (row["mean"], row["retention"]) == ("10", "")
    assert rows(report, "equivalence") == rows(report, "failures") == []
    assert found.remarks == ("td3-Hopper, IF, Hopper-v5: its cell lacks the ANN on the same seeds",)


def test_settings_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    cells = [made_cell(ANN, [10.0] * 10)]
    cells += [made_cell(key * 32, [10.0] * 10, label="SD", baseline=ANN, **given)
              for key, given in {"b": {}, "c": {"tolerance": 0.1}, "d": {"engine": "event"}}.items()]  # fmt: skip
    shown = rows(make_report(found_in(write_sweep(tmp_path, cells)), draw=False), "retention")
    assert len({row["setting"] for row in shown}) == 4


def test_missing_cells_are_listed_with_their_reasons(report: Report) -> None:
    damaged, absent = rows(report, "missing")
    assert damaged["reason"] == "sha256: the digest is another one; the file was altered or damaged"
    assert absent == {"key": "f" * 32, "reason": "not computed yet"}
    page = report.files["index.html"].decode()
    assert "2 of 13 cells are missing" in page
    assert damaged["reason"] in page


def test_every_row_of_the_page_leads_to_its_cells_with_digests_seeds_and_versions(
    report: Report, found: Findings
) -> None:
    page = report.files["index.html"].decode()
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets <= set(re.findall(r' id="([^"]+)"', page))
    for run in found.runs:
        details = page.split(f'<details id="{run.anchor}">')[1].split("</details>")[0]
        (cell,) = run.cells
        for fact in (cell.place, cell.digest, cell.actor_digest, "5000–5029", *VERSIONS.values()):
            assert fact in details
    assert len(rows(report, "cells")) == len(found.runs) == 11


def test_the_page_needs_nothing_else_and_runs_its_own_script_only(hostile: Report) -> None:
    page = hostile.files["index.html"].decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("script", "style"):
        (inner,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        assert f"'sha256-{base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()}'" in policy
    assert not re.search(r"https?:|\bstyle=|\bon[a-z]+=|<link|@import|url\(", page)
    sources = re.findall(r'(?:src|srcset)="([^"]{0,26})', page)
    assert sources
    assert set(sources) == {"data:image/svg+xml;base64,"}


def test_names_are_text_wherever_they_are_shown(hostile: Report) -> None:
    page = hostile.files["index.html"].decode()
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert" in page
    for name, content in hostile.files.items():
        if name.endswith(".md"):
            assert "<" not in content.decode()
            assert not re.search(r"(?<!\\)\|\"", content.decode())  # the name's own bar begins no column
        if name.endswith(".csv"):
            entries = [entry for row in csv.reader(io.StringIO(content.decode())) for entry in row]
            assert not [entry for entry in entries if entry.startswith(("=", "+", "@"))]


def test_pictures_are_drawn_whatever_things_are_called_for_light_and_dark(hostile: Report) -> None:
    names = {name for name in hostile.files if name.startswith("pictures/")}
    stems = {re.sub(r"_(light|dark)\.(svg|png)$", "", name.removeprefix("pictures/")) for name in names}
    assert {stem.split("-")[0] for stem in stems} == {"energy", "retention", "profiles", "as", "failures", "time"}
    assert len(names) == 4 * len(stems)
    assert all(re.fullmatch(r"pictures/[A-Za-z0-9._-]+", name) for name in names)
    assert all(hostile.files[name].startswith((b"\x89PNG", b"<?xml")) for name in names)


def test_pictures_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    found = found_in(write_sweep(tmp_path, [made_cell(ANN, [1.0] * 10)]))
    first, second = time_picture(found), time_picture(found)
    assert first is not None
    assert first == second


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "＝1"])
def test_no_spreadsheet_takes_a_name_for_a_formula(name: str) -> None:
    table = Table("t", "t", "", (Column("name", ("name",), False),), ((text(name),),))
    (_, (entry,)) = list(csv.reader(io.StringIO(comma_separated(table))))
    assert entry == f"'{name}"


@pytest.mark.parametrize("name", ["a|b", "**a**", "<b>", "[x](y)", "`x`", "a_b_c", "\\|", "# a", "![x](y)", "&lt;"])
def test_markdown_shows_names_as_they_are(name: str) -> None:
    table = Table("t", "t", "", (Column("name", ("name",), False),), ((text(name),),))
    line = markdown(table).splitlines()[-1]
    shown = re.sub(r"\\([^A-Za-z0-9&\s])", r"\1", line).removeprefix("| ").removesuffix(" |")
    assert shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == name
    assert not re.search(r"(?<!\\)[|*`_\[\]]", line.removeprefix("|").removesuffix("|").replace("\\\\", ""))


def test_the_command_writes_the_report_and_prints_what_matters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_sweep(tmp_path / "s", grid({HOSTILE: ("Hopper-v5", 3000.0)}, [0.02], episodes=12), absent=["f" * 32])
    (place / "cells" / f"{'f' * 32}.json").write_text("{")
    assert main(["report", str(place), "--no-pictures", "--out", str(tmp_path / "r")]) == 0
    shown = capsys.readouterr()
    assert "[bold]" in shown.out.replace("\n", "").replace(" ", "")
    assert "1 of 3 cells are missing" in shown.out
    (warning,) = [line for line in shown.err.splitlines() if "warning" in line]
    assert f"cells/{'f' * 32}.json: not a readable JSON" in warning
    assert (tmp_path / "r" / "index.html").stat().st_size > 10_000
    assert not (tmp_path / "r" / "pictures").exists()


def test_json_has_everything_that_tables_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = write_sweep(tmp_path, grid({"a": ("Hopper-v5", 3000.0)}, [0.02], episodes=12))
    assert main(["report", str(place), "--no-pictures", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["result_of"] == "snn-policy"
    assert document["delta"] == 0.01
    assert document["tables"]["equivalence"][0]["verdict"] in ("undecided", "equivalent", "worse")
    assert (place / "report" / "tables" / "retention.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--delta", "0"], "--delta 0: expected a share"),
        (["--delta", "2"], "--delta 2: expected a share"),
        (["--delta", "nan"], "--delta nan: expected a share"),
        (["--delta", "much"], "--delta"),
        (["--profile", "tpu"], "energy profile 'tpu': expected one of fp32-45nm"),
        (["--profile", "all"], "energy profile"),
        (["--out", "{place}/sweep.json"], "not a directory"),
        (["--json", "{place}/sweep.json"], "exists and is not a result"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_sweep(tmp_path, [made_cell(ANN, [1.0] * 10)])
    given = [argument.format(place=place) for argument in arguments]
    assert main(["report", str(place), "--no-pictures", *given]) == 2
    problem = capsys.readouterr().err.splitlines()[-1]
    assert reason in problem


@pytest.mark.parametrize("place", ["nowhere", "file", "empty"])
def test_what_is_no_sweep_is_one_line(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / place)]) == 2
    (problem,) = capsys.readouterr().err.splitlines()
    assert "no such" in problem or "not a directory" in problem


@pytest.mark.parametrize("name", ["report", "report/tables", "report/pictures"])
def test_a_report_is_written_through_no_link_in_the_sweeps_directory(
    name: str, report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = write_sweep(tmp_path / "s", [made_cell(ANN, [1.0] * 10)])
    outside = tmp_path / "outside"
    outside.mkdir()
    (place / name).parent.mkdir(exist_ok=True)
    (place / name).symlink_to(outside)
    if name == "report/pictures":
        with pytest.raises(ValueError, match="a link"):
            write_report(report._replace(files={"pictures/x.svg": b""}), place / "report")
    else:
        assert main(["report", str(place), "--no-pictures"]) == 2
        assert ": a link;" in capsys.readouterr().err
    assert list(outside.iterdir()) == []


def test_without_matplotlib_the_error_names_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_sweep(tmp_path, [made_cell(ANN, [1.0] * 10)])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(place)]) == 2
    problem = capsys.readouterr().err.splitlines()[-1]
    assert "pip install 'snn-policy[report]'" in problem
    assert "--no-pictures" in problem
    assert not (place / "report").exists()
    assert main(["report", str(place), "--no-pictures"]) == 0


@pytest.mark.parametrize("change", [{"dense_multiply_accumulates": 0}, {"label": "x" * 1000}, {"actor": "é" * 900}])
def test_odd_cells_make_a_report_all_the_same(change: dict[str, Any], tmp_path: Path) -> None:
    cells = [made_cell(ANN, [0.0] * 3, multiply_accumulates=0), made_cell(SNN, [0.0] * 3, label="IF", baseline=ANN)]
    for cell in cells:
        cell["cell"].update({"actor": {"name": change["actor"], "digest": "0" * 64}} if "actor" in change else change)
        cell["evaluation"]["events"] = None
    report = make_report(found_in(write_sweep(tmp_path, [signed(cell) for cell in cells])), draw=False)
    assert rows(report, "equivalence")[0]["verdict"] == "too few episodes"


def cut_of(found: Findings) -> dict[str, str]:
    """Return what every picture says, in itself and below it, of rows that it leaves out."""
    said = {}
    for picture in [*pictures_of(found), time_picture(found)]:
        assert picture is not None
        drawn = {text for theme in ("light", "dark") for text in
                 re.findall(r"<!-- (.*; all in the table) -->", picture.files[theme, "svg"].decode())}  # fmt: skip
        (said[picture.name],) = drawn or {""}
        assert ("all in the table" in picture.caption) is bool(drawn)
        assert said[picture.name] in picture.caption
    return said


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Two actors, each in an environment of its own, with three settings."""
    actors = {"one": ("Hopper-v5", 3000.0), "two": ("Walker2d-v5", 4000.0)}
    return found_in(write_sweep(tmp_path_factory.mktemp("six"), grid(actors, [0.01, 0.02, 0.1], episodes=10)))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, {}),
        ({"MOST_ROWS": 6}, {"time": "6 of 8 policies; all in the table"}),
        (
            {"MOST_ROWS": 2},
            {
                "time": "2 of 8 policies; all in the table",
                **dict.fromkeys(("retention", "as-good", "failures"), "2 of 6 policies; all in the table"),
            },
        ),
        ({"MOST_LINES": 3}, {"profiles": "3 of 4 rows; all in the table"}),
        ({"MOST_ENVIRONMENTS": 1}, {"energy-1-Hopper-v5": "1 of 2 environments; all in the table"}),
    ],
)
def test_a_picture_with_fewer_rows_than_its_table_says_so(
    limits: dict[str, int], expected: dict[str, str], six: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, limit in limits.items():
        monkeypatch.setattr(f"snn_policy.sweeps.pictures.{name}", limit)
    said = cut_of(six)
    assert {name: text for name, text in said.items() if text} == expected


def test_policies_that_a_picture_cannot_show_are_counted(tmp_path: Path) -> None:
    returns = [100.0 + number for number in range(10)]
    cells = [made_cell(ANN, returns)]
    cells += [made_cell(key * 32, returns, label=key, baseline=ANN, tolerance=tolerance)
              for key, tolerance in {"b": 0.1, "c": 0.2, "d": 0.3}.items()]  # fmt: skip
    cells[1]["evaluation"].update(events=None, synaptic_operations=0.0)
    cells[2]["cell"]["baseline"] = "e" * 32
    cells[3]["timing"] = None
    found = found_in(write_sweep(tmp_path, [signed(cell) for cell in cells], absent=["e" * 32]))
    said = cut_of(found)
    assert said["energy-1-Hopper-v5"] == "3 of 4 policies; all in the table"
    assert said["retention"] == "2 of 3 policies; all in the table"
    assert said["time"] == "3 of 4 policies; all in the table"
    assert said["failures"] == said["as-good"] == ""


@pytest.mark.parametrize("damaged", [3, 20, 21, 40])
def test_the_page_says_how_many_damaged_cells_it_does_not_name(damaged: int, tmp_path: Path) -> None:
    keys = [f"{number:04x}" + "d" * 28 for number in range(damaged)]
    place = write_sweep(tmp_path, [made_cell(ANN, [1.0] * 10)], absent=keys)
    for key in keys:
        (place / "cells" / f"{key}.json").write_text("{")
    page = make_report(found_in(place), draw=False).files["index.html"].decode()
    assert ("more damaged cells" in page) is (damaged > 20)
    assert damaged <= 20 or f"and {damaged - 20} more damaged cells" in page
