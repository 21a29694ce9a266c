"""From a sweep's directory to the tables of a page: one command, the same bytes, and nothing lost on the way."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from benchmarks import fill_page, open_loop
from benchmarks.fill_page import (
    LIST,
    TABLES,
    check_episodes,
    read_stored,
    replaced_tables,
    still_older,
    stored_in,
)
from benchmarks.markers import between
from benchmarks.places import DOCS
from benchmarks.stored_cells import gathered, rows_of, written
from snn_policy.sweeps.plan import read_plan
from snn_policy.sweeps.sweep import sweep
from tests.sweep_results import made_cell, signed
from tests.sweep_results import write_sweep as write_results
from tests.sweeping import write_sweep

SETTINGS = """
[[settings]]
tolerance = [0.02, 0.05]
[[settings]]
neuron = "if"
timesteps = 8
alpha = [0.0, 0.6]
"""


def command(*arguments: object) -> tuple[int, str]:
    app = Typer()
    app.command()(fill_page.main)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "300"})
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of a small actor, called dm_control."""
    folder = tmp_path_factory.mktemp("swept")
    plan = read_plan(write_sweep(folder, SETTINGS, name="dm_control", seeds=[5000], episodes=4))
    sweep(plan, folder / "out", workers=1)
    return folder / "out"


def table_of_states(folder: Path) -> str:
    """What stands between the markers of the sweep called dm_control; the page has the table of pictures, too."""
    return (folder / "dm_control.md").read_text().split("<!-- results: begin -->")[1].split("<!-- results: end -->")[0]


def test_the_command_stores_the_cells_and_fills_the_pages(swept: Path, tmp_path: Path) -> None:
    code, said = command(swept, "--out", tmp_path)
    assert (code, said.split(" 0.0")[0]) == (0, "dm_control: 5 cells (5 of 4 episodes),")
    document = json.loads((tmp_path / "dm_control.json").read_bytes())
    assert [cell["variant"] for cell in document["cells"]] == [
        "ANN", "sigma-delta 0.02", "sigma-delta 0.05", "IF T=8 α=0", "IF T=8 α=0.6"
    ]  # fmt: skip
    keys = json.loads((swept / "sweep.json").read_bytes())["cells"]
    assert [cell["key"] for cell in document["cells"]] == keys
    assert len(document["code"]) == len(document["versions"]) == 1
    assert len(document["code"][0]["snn_policy"]) >= 16
    assert {"numpy", "gymnasium"} < set(document["versions"][0])
    page, of_states = (tmp_path / "dm_control.md").read_text(), table_of_states(tmp_path)
    assert of_states.count("### ") == 1
    assert "### small on CartPole-v1" in of_states
    assert "- IF T=8 α=0.6 against α=0: " in of_states
    assert page.partition("## From pixels")[2].count("### pixels-") == 3
    assert page.splitlines()[0] == "# Results on the DeepMind Control Suite"
    assert "| 96 at most, of which it reports 30 | 1,344 | 0.00, measured |" in (tmp_path / LIST.name).read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["dm_control.json", "dm_control.md", LIST.name]


def test_the_same_cells_make_the_same_bytes_and_the_stored_rows_say_what_the_cells_say(
    swept: Path, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        assert command(swept, "--out", tmp_path / name)[0] == 0
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()
    cells = {cell["key"]: cell for cell in json.loads((tmp_path / "first" / "dm_control.json").read_bytes())["cells"]}
    for file in (swept / "cells").iterdir():
        given = json.loads(file.read_bytes())
        assert cells[given["key"]]["returns"] == given["evaluation"]["returns"]
        assert cells[given["key"]]["synaptic_operations"] == given["evaluation"]["synaptic_operations"]


OLD = {"cells": [{"actor": "one", "variant": name, "episodes": 20} for name in ("ANN", "SNM T=8")]}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"ANN": 20, "SNM T=8": 20}, None),
        ({"ANN": 100, "SNM T=8": 20, "IF T=8 α=0": 2}, None),
        ({"ANN": 100}, "one, SNM T=8: 20 episodes are stored, the sweep has 0; finish it"),
        ({"ANN": 19, "SNM T=8": 20}, "one, ANN: 20 episodes are stored, the sweep has 19; .*--out"),
        ({}, "one, ANN: 20 episodes are stored, the sweep has 0"),
    ],
)
def test_fewer_episodes_replace_no_stored_cells(found: dict[str, int], told: str | None) -> None:
    new = {"cells": [{"actor": "one", "variant": name, "episodes": count} for name, count in found.items()]}
    if told is None:
        check_episodes(new, OLD)
        return
    with pytest.raises(ValueError, match=told):
        check_episodes(new, OLD)


def test_a_smaller_sweep_is_refused_in_one_line_and_changes_nothing(swept: Path, tmp_path: Path) -> None:
    assert command(swept, "--out", tmp_path)[0] == 0
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    document = json.loads((swept / "sweep.json").read_bytes())
    smaller = tmp_path.parent / "smaller"
    (smaller / "cells").mkdir(parents=True)
    (smaller / "sweep.json").write_text(json.dumps({**document, "cells": document["cells"][:2]}))
    for key in document["cells"][:2]:
        (smaller / "cells" / f"{key}.json").write_bytes((swept / "cells" / f"{key}.json").read_bytes())
    code, said = command(smaller, "--out", tmp_path)
    assert code == 2
    assert "small, sigma-delta 0.05: 4 episodes are stored, the sweep has 0; finish it, or give a trial a" in said
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("older", "left"),
    [
        (["small/sigma-delta 0.02 plain", "small/SNM T=8", "other/SNM T=8"], ["small/SNM T=8", "other/SNM T=8"]),
        (["small/IF T=8 α=0", "small/IF T=8 α=1.0", "small/IF T=16 α=1.0"], ["small/IF T=16 α=1.0"]),
        (["small/sigma-delta 0.05", "small/sigma-delta 0.02"], []),
    ],
)
def test_older_rows_go_when_a_cell_has_taken_their_place(
    older: list[str], left: list[str], swept: Path, tmp_path: Path
) -> None:
    row = rows_of(gathered(swept))[0]
    rows = [{**row, "actor": name.partition("/")[0], "variant": name.partition("/")[2]} for name in older]
    before = {"sweep": "dm_control", "cells": [], "older": {"what": "measured by hand", "effects": {}, "rows": rows}}
    (tmp_path / "dm_control.json").write_text(json.dumps(before))
    assert command(swept, "--out", tmp_path)[0] == 0
    after = json.loads((tmp_path / "dm_control.json").read_bytes())
    found = [f"{row['actor']}/{row['variant']}" for row in after.get("older", {}).get("rows", [])]
    assert found == left
    assert table_of_states(tmp_path).count("(older)") == len(left)
    assert after.get("older", {"what": "measured by hand"})["what"] == "measured by hand"


def test_older_energies_go_with_their_policy() -> None:
    older = {"rows": [{"policy": name} for name in ("one", "two", "three")]}
    for measured in (["one"], ["one", "three"], []):
        cells = [{"actor": name} for name in measured]
        left = still_older(older, {"cells": cells})["rows"]
        assert [row["policy"] for row in left] == [name for name in ("one", "two", "three") if name not in measured]


def damage(cell: dict[str, Any]) -> dict[str, Any]:
    return {**cell, "sha256": "0" * 64}


def another_setting(cell: dict[str, Any]) -> dict[str, Any]:
    settings = {**(cell["cell"]["settings"] or {}), "base": 4.0}
    changed = {**cell, "cell": {**cell["cell"], "settings": settings if cell["cell"]["baseline"] else None}}
    return signed({name: value for name, value in changed.items() if name != "sha256"})


@pytest.mark.parametrize(
    ("change", "name", "told"),
    [
        (damage, "results", "sha256: the digest is another one"),
        (another_setting, "results", "ANN: no table has a name for it"),
        (lambda cell: cell, "tolerances", "no page has tables of a sweep called 'tolerances', only of results, dm_con"),
    ],
)
def test_cells_that_no_table_can_be_made_of_are_one_line(change: Any, name: str, told: str, tmp_path: Path) -> None:
    cells = [made_cell("ann0", [1.0, 2.0]), made_cell("snn0", [1.0, 2.0], baseline="ann0")]
    place = write_results(tmp_path / "sweep", [cells[0], change(cells[1])])
    about = json.loads((place / "sweep.json").read_text())
    (place / "sweep.json").write_text(json.dumps({**about, "name": name}))
    code, said = command(place, "--out", tmp_path / "out")
    assert code == 2
    assert told in said
    assert list((tmp_path / "out").iterdir()) == []


def test_a_cell_whose_ann_is_not_there_yet_waits_for_it(tmp_path: Path) -> None:
    cells = [made_cell("ann0", [1.0, 2.0]), made_cell("snn0", [1.0, 2.0], baseline="ann0"),
             made_cell("snn1", [1.0, 2.0], baseline="ann1", actor="other")]  # fmt: skip
    document = gathered(write_results(tmp_path / "sweep", cells, absent=["ann1"]))
    assert [cell["key"] for cell in document["cells"]] == ["ann0", "snn0"]
    assert document["missing"] == 1


@pytest.mark.parametrize("name", list(TABLES))
def test_a_page_says_what_is_stored(name: str) -> None:
    document = read_stored(name)
    assert stored_in(name).read_bytes() == written(document)
    pages = replaced_tables(name, document)
    assert LIST in pages
    assert len(pages) >= 2
    for page, content in pages.items():
        assert page.read_bytes() == content, f"{page.name}: run python -m benchmarks.fill_page"


@pytest.mark.parametrize("name", list(TABLES))
def test_a_page_that_differs_in_one_figure_would_be_found(name: str) -> None:
    document = read_stored(name)
    rows = document["cells"] or document["older"]["rows"]
    row = next(row for row in reversed(rows) if row.get("baseline", "") is not None)
    if "returns" in row:
        row["synaptic_operations"] = 2 * row["synaptic_operations"] + 1000
        row["returns"] = [value + 1e6 for value in row["returns"]]
    elif "return_mean" in row:
        row["return_mean"] += 1e6
    else:
        row["snn"]["events"] += 1e6
    assert any(page.read_bytes() != content for page, content in replaced_tables(name, document).items())


def test_the_open_loop_table_says_what_is_stored() -> None:
    rows = json.loads(open_loop.STORED.read_text())["rows"]
    assert between((DOCS / "results.md").read_text(), open_loop.MARKER) == open_loop.table(rows).strip()
    assert len(rows) == 6
