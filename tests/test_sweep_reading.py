"""Results of sweeps from anywhere: what is wrong is named in one line, and counts as missing."""

import copy
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from sweep_results import grid, made_cell, signed, write_sweep

from snn_policy.cli import main
from snn_policy.energy import PROFILES
from snn_policy.errors import SourceError
from snn_policy.sweeps.findings import conclude
from snn_policy.sweeps.read_results import NOT_YET, read_sweep
from snn_policy.sweeps.report import document as document_of
from snn_policy.sweeps.report import make_report
from snn_policy.sweeps.summary import print_summary

ANN, SNN = "a" * 32, "b" * 32
RETURNS = [100.0, 110.0, 120.0]


def two_cells() -> list[dict[str, Any]]:
    return [made_cell(ANN, RETURNS), made_cell(SNN, RETURNS, label="SigmaDelta(tolerance=0.02)", baseline=ANN)]


def reason_for(directory: Path, key: str = SNN) -> str:
    """Return why a cell is missing; the other one must be there."""
    found = read_sweep(directory)
    assert list(found.cells) == [k for k in (ANN, SNN) if k != key]
    (missing,) = found.missing
    assert missing.key == key
    assert "\n" not in str(missing)
    return missing.reason


def test_a_whole_sweep_is_read_in_the_order_of_its_grid(tmp_path: Path) -> None:
    cells = grid({"one": ("Hopper-v5", 3000.0), "two": ("Pendulum-v1", -150.0)}, [0.01, 0.02], episodes=12)
    found = read_sweep(write_sweep(tmp_path, cells, absent=["c" * 32]))
    assert list(found.cells) == [cell["key"] for cell in cells]
    assert [(cell.key, cell.reason, cell.damaged) for cell in found.missing] == [("c" * 32, NOT_YET, False)]
    assert found.cells[cells[1]["key"]].evaluation.returns == tuple(cells[1]["evaluation"]["returns"])


def changed(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return what sets a value deep inside a document; `del` removes it."""

    def change(document: dict[str, Any]) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            document = document[parent]
        if value is del_:
            del document[name]
        else:
            document[name] = value

    return change


del_ = object()
WRONG = [
    ("format", 2, "format 2: expected 1"),
    ("key", ANN, "key 'aaaa"),
    ("cell.role", "cnn", "role 'cnn': expected ann or snn"),
    ("cell.role", ["snn"], "role"),
    ("cell.actor", "td3", "actor: expected an object"),
    ("cell.actor.name", "a\nb", "name"),
    ("cell.actor.name", "", "name"),
    ("cell.actor.name", "x" * 1001, "name"),
    ("cell.actor.name", "bell \x1b[31m", "name"),
    ("cell.actor.name", "turned \u202e round", "name"),
    ("cell.actor.digest", "../../etc/passwd", "digest"),
    ("cell.label", 3, "label 3"),
    ("cell.settings", [1], "settings: expected an object"),
    ("cell.baseline", "../x", "baseline"),
    ("cell.baseline", None, "baseline None"),
    ("cell.baseline", SNN, "not the cell of an ANN"),
    ("cell.environment_options", None, "environment_options"),
    ("cell.seed", -1, "seed -1"),
    ("cell.seed", 1.5, "seed 1.5"),
    ("cell.seed", True, "seed True"),
    ("cell.seed", 10**30, "seed"),
    ("cell.seed", 6000, "evaluation.seeds: expected 3 seeds from 6000 on"),
    ("cell.episodes", 0, "episodes 0"),
    ("cell.episodes", 4, "evaluation.seeds"),
    ("cell.episodes", 10**9, "episodes"),
    ("cell.purpose", "fun", "purpose 'fun'"),
    ("cell.versions", {"numpy": 2}, "versions.numpy 2"),
    ("cell.dense_multiply_accumulates", -1, "dense_multiply_accumulates"),
    ("evaluation", None, "evaluation: expected an object"),
    ("evaluation.returns", [1.0, 2.0], "evaluation.returns: expected 3 numbers"),
    ("evaluation.returns", [1.0, None, 2.0], "evaluation.returns[1] None"),
    ("evaluation.returns", [1.0, "2", 2.0], "evaluation.returns[1] '2'"),
    ("evaluation.returns", [1.0, 1e300, 2.0], "evaluation.returns[1]"),
    ("evaluation.returns", [1, 10**400, 2], "not a readable result"),
    ("evaluation.lengths", [0, 1, 1], "evaluation.lengths[0]"),
    ("evaluation.decisions", 0, "decisions 0"),
    ("evaluation.synaptic_operations", -1.0, "synaptic_operations -1.0"),
    ("evaluation.spikes", {"0": 1}, "evaluation.spikes"),
    ("evaluation.events", "many", "events 'many'"),
    ("evaluation.multiply_accumulates", del_, "multiply_accumulates None"),
    ("cell", del_, "cell: expected an object"),
    ("timing", [], "timing: expected an object"),
    ("timing.microseconds", -5.0, "microseconds"),
]


@pytest.mark.parametrize(("path", "value", "reason"), WRONG, ids=[f"{path}-{n}" for n, (path, *_) in enumerate(WRONG)])
def test_what_is_wrong_in_a_cell_is_named(path: str, value: Any, reason: str, tmp_path: Path) -> None:
    ann, snn = two_cells()
    changed(path, value)(snn)
    place = write_sweep(tmp_path, [ann, {**signed(snn), "key": SNN}])
    (place / "cells" / f"{SNN}.json").write_text(json.dumps(signed(snn)))  # it keeps its name
    assert reason in reason_for(place)


@pytest.mark.parametrize(
    ("path", "value"),
    [("evaluation.returns", [100.0, 110.0, 999.0]), ("cell.actor.name", "other"), ("cell.versions", {"numpy": "1"})],
)
def test_what_was_altered_afterwards_is_known_by_its_digest(path: str, value: Any, tmp_path: Path) -> None:
    ann, snn = two_cells()
    changed(path, value)(snn)
    assert reason_for(write_sweep(tmp_path, [ann, snn])).startswith("sha256: the digest is another one")


def test_times_are_in_no_digest(tmp_path: Path) -> None:
    ann, snn = two_cells()
    snn["timing"]["microseconds"] = 1e6
    assert read_sweep(write_sweep(tmp_path, [ann, snn])).cells[SNN].evaluation.microseconds == 1e6


@pytest.mark.parametrize("kept", [0, 1, 0.5, 0.999])
def test_a_truncated_cell_is_missing(kept: float, tmp_path: Path) -> None:
    place = write_sweep(tmp_path, two_cells()) / "cells" / f"{SNN}.json"
    content = place.read_bytes()
    place.write_bytes(content[: int(kept * len(content)) if kept < 1 else 1])
    assert "not a readable" in reason_for(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 50_000, b"[]", b"NaN", b'{"format": ' + b"9" * 5000 + b"}", b"null"],
)
def test_files_of_something_else_are_missing_cells(content: bytes, tmp_path: Path) -> None:
    (write_sweep(tmp_path, two_cells()) / "cells" / f"{SNN}.json").write_bytes(content)
    assert reason_for(tmp_path)


def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    place = write_sweep(tmp_path, two_cells()) / "cells" / f"{SNN}.json"
    place.write_text(place.read_text().replace("110.0", "NaN"))
    assert "not a readable result" in reason_for(tmp_path)


def link(place: Path, outside: Path) -> None:
    shutil.move(place, outside)
    place.symlink_to(outside)


def test_links_out_of_a_sweep_are_not_followed(tmp_path: Path) -> None:
    place = write_sweep(tmp_path / "sweep", two_cells())
    link(place / "cells" / f"{SNN}.json", tmp_path / "outside.json")
    assert reason_for(place) == "a link; links out of a sweep are not followed"


@pytest.mark.parametrize("name", ["cells", "sweep.json"])
def test_a_linked_folder_or_grid_is_refused(name: str, tmp_path: Path) -> None:
    place = write_sweep(tmp_path / "sweep", two_cells())
    link(place / name, tmp_path / "outside")
    with pytest.raises(SourceError, match=f"{name}: a link"):
        read_sweep(place)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_folders_and_huge_files_are_missing_cells_and_stop_nobody(tmp_path: Path) -> None:
    place = write_sweep(tmp_path, two_cells()) / "cells" / f"{SNN}.json"
    place.unlink()
    os.mkfifo(place)
    assert "not a plain file" in reason_for(tmp_path)
    place.unlink()
    with open(place, "wb") as file:
        file.truncate(65 * 2**20)
    assert reason_for(tmp_path) == "larger than 64 MB"
    place.unlink()
    place.mkdir()
    assert reason_for(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 0}, "format 0: expected 1"),
        ({"name": "a\x00b"}, "name: expected"),
        ({"name": None}, "name: expected"),
        ({"file": 3}, "file: expected"),
        ({"cells": []}, "cells: expected a list"),
        ({"cells": ["../../etc/passwd"]}, "'../../etc/passwd' is no key"),
        ({"cells": [None]}, "None is no key"),
        ({"cells": [ANN, ANN]}, "twice"),
        ({"cells": "abc"}, "cells: expected a list"),
        ({"select": [1]}, "select: expected an object"),
        ({"sha256": "0" * 64}, "sha256: the digest is another one"),
    ],
)
def test_what_is_wrong_in_a_grid_is_an_error_of_one_line(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    place = write_sweep(tmp_path, two_cells()) / "sweep.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    with pytest.raises(SourceError, match=r"sweep\.json: ") as raised:
        read_sweep(tmp_path)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_baseline_on_other_seeds_is_a_contradiction(tmp_path: Path) -> None:
    other = made_cell(SNN, RETURNS, seed=7000, label="IF", baseline=ANN)
    assert "another environment or other seeds" in reason_for(write_sweep(tmp_path, [made_cell(ANN, RETURNS), other]))


def test_a_sweep_without_any_usable_cell_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = write_sweep(tmp_path, [], absent=[ANN, SNN])
    assert main(["report", str(place)]) == 2
    said = capsys.readouterr().err
    assert "none of its 2 cells has a usable result (run snn-policy sweep FILE.toml, again where it was stopped" in said


def leaves(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything in a document."""
    listed = enumerate(document) if isinstance(document, list) else ()
    entries = document.items() if isinstance(document, dict) else listed
    return [path, *(leaf for name, value in entries for leaf in leaves(value, (*path, name)))]


CELL = two_cells()[1]
SWEEP = {"format": 1, "name": "s", "file": "", "cells": [ANN, SNN], "select": None}
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
    st.sampled_from(["a" * 32, "snn", 10**400, -(10**18), 1e308, "<b>", "$x$", "\ud800", "=1+1", [], {}]),
)  # fmt: skip
ANYTHING = PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.text(max_size=4), PLAIN, max_size=2)


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of the document with another value at a path."""
    if not path:
        return value
    made = copy.deepcopy(document)
    inner = made
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return made


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(leaves(CELL)), value=ANYTHING, sign=st.booleans())
def test_any_value_anywhere_in_a_cell_makes_a_cell_or_a_missing_one(
    path: tuple[Any, ...], value: Any, sign: bool, tmp_path: Path
) -> None:
    document = put(CELL, path, value)
    if sign and isinstance(document, dict):
        document = signed(document)
    if not (tmp_path / "sweep.json").exists():
        write_sweep(tmp_path, two_cells())
    (tmp_path / "cells" / f"{SNN}.json").write_text(json.dumps(document))
    found = read_sweep(tmp_path)
    assert set(found.cells) | {cell.key for cell in found.missing} == {ANN, SNN}
    assert all("\n" not in str(cell) and str(cell).isprintable() for cell in found.missing)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(leaves(SWEEP)), value=ANYTHING)
def test_any_value_anywhere_in_a_grid_makes_a_sweep_or_one_line(
    path: tuple[Any, ...], value: Any, tmp_path: Path
) -> None:
    if not (tmp_path / "sweep.json").exists():
        write_sweep(tmp_path, two_cells())
    (tmp_path / "sweep.json").write_text(json.dumps(put(SWEEP, path, value)))
    problem = None
    try:
        read_sweep(tmp_path)
    except SourceError as error:
        problem = str(error)
    assert problem is None or "\n" not in problem


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(json.dumps(CELL)) - 1), written=st.binary(max_size=6))
def test_any_bytes_anywhere_in_a_cell_make_a_cell_or_a_missing_one(place: int, written: bytes, tmp_path: Path) -> None:
    content = json.dumps(CELL).encode()
    if not (tmp_path / "sweep.json").exists():
        write_sweep(tmp_path, two_cells())
    (tmp_path / "cells" / f"{SNN}.json").write_bytes(content[:place] + written + content[place + len(written) :])
    found = read_sweep(tmp_path)
    assert set(found.cells) | {cell.key for cell in found.missing} == {ANN, SNN}


ODD_NUMBERS = st.sampled_from([0.0, -0.0, 1e-300, 1.0, -1.0, 1e15, -1e15]) | st.floats(-1e15, 1e15)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    returns=st.lists(st.tuples(ODD_NUMBERS, ODD_NUMBERS), min_size=1, max_size=12),
    costs=st.fixed_dictionaries({name: st.sampled_from([0.0, 1.0, 1e15]) for name in
                                 ("synaptic_operations", "multiply_accumulates", "iterations", "error_spikes")}),
    label=st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20),
)  # fmt: skip
def test_any_numbers_and_names_that_are_allowed_make_a_report(
    returns: list[tuple[float, float]], costs: dict[str, Any], label: str, tmp_path: Path
) -> None:
    ann, snn = zip(*returns, strict=True)
    cells = [made_cell(ANN, ann), made_cell(SNN, snn, label=label, baseline=ANN, **costs)]
    found = conclude(read_sweep(write_sweep(tmp_path, cells)), PROFILES["fp32-45nm"], 0.01)
    made = make_report(found, draw=False)
    json.dumps(document_of(found, made), allow_nan=False)
    print_summary(Console(file=io.StringIO()), found)
    assert len(found.compared) == 1


def with_versions(cell: dict[str, Any], versions: dict[str, str]) -> dict[str, Any]:
    changed = copy.deepcopy({name: value for name, value in cell.items() if name != "sha256"})
    changed["cell"]["versions"] = changed["evaluation"]["versions"] = versions
    return signed(changed)


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ({"numpy": "2.3.0", "mujoco": "3.3.0"}, []),
        ({"numpy": "2.3.0"}, []),
        ({"numpy": "2.3.0", "mujoco": "3.3.0", "dm-control": "1.0"}, []),
        ({"numpy": "2.4.0", "mujoco": "3.3.0"}, ["2 versions of numpy: 2.3.0, 2.4.0"]),
        (
            {"numpy": "2.4.0", "mujoco": "3.1"},
            ["2 versions of mujoco: 3.1, 3.3.0", "2 versions of numpy: 2.3.0, 2.4.0"],
        ),
    ],
)
def test_versions_are_remarked_on_where_they_differ_not_where_an_environment_needs_fewer_packages(
    second: dict[str, str], told: list[str], tmp_path: Path
) -> None:
    first = {"numpy": "2.3.0", "mujoco": "3.3.0"}
    cells = [with_versions(cell, versions) for cell, versions in zip(two_cells(), (first, second), strict=True)]
    found = conclude(read_sweep(write_sweep(tmp_path, cells)), PROFILES["fp32-45nm"], 0.01)
    remarks = [remark for remark in found.remarks if "versions of" in remark]
    assert remarks == [f"the cells were computed with {what} (see the cells)" for what in told]
