"""A measurement of some actors of the Control Suite keeps what is stored of others, and says where versions differ."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks import measure_dm_control
from benchmarks.measure_dm_control import check_episodes, document_of, slot, text_of
from benchmarks.places import DOCS, RESULTS
from benchmarks.reference_table import versions_beside
from tests.test_reference_table import record

ALL = ("sigma-delta 0.02", "IF T=8 α=0", "IF T=8 α=0.3", "IF T=16 α=0", "IF T=16 α=1.0")


def records_of(actor: str, *variants: str, value: float = 90.0, version: str = "1") -> list[dict[str, Any]]:
    made = [record("ANN", [100.0] * 4), *(record(variant, [value] * 4) for variant in variants)]
    for one in made:
        one["actor"] = actor
        one["evaluation"]["versions"] = {"numpy": version}
    return made


STORED = document_of([*records_of("one", *ALL), *records_of("two", *ALL), *records_of("three", *ALL)], {})


def rows(document: dict[str, Any], actor: str) -> dict[str, float]:
    return {row["variant"]: row["return_mean"] for row in document["rows"] if row["actor"] == actor}


@pytest.mark.parametrize("measured", ["one", "two", "three"])
def test_a_run_for_some_actors_keeps_the_others_rows_to_the_byte(measured: str) -> None:
    document = document_of(records_of(measured, *ALL, value=80.0), STORED)
    assert list(dict.fromkeys(row["actor"] for row in document["rows"])) == ["one", "two", "three"]
    for actor in ("one", "two", "three"):
        expected = 80.0 if actor == measured else 90.0
        assert rows(document, actor) == dict.fromkeys(ALL, expected)
        same = [json.dumps(row) for row in document["rows"] if row["actor"] == actor]
        assert (same == [json.dumps(row) for row in STORED["rows"] if row["actor"] == actor]) is (actor != measured)
        section = text_of(document).split(f"### {actor} on")[1].partition("###")[0]
        assert section.count("against α=0") == 2


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        (("IF T=8 α=0", "IF T=8 α=1.0"), {"sigma-delta 0.02": 90, "IF T=8 α=0": 80, "IF T=8 α=1.0": 80,
                                          "IF T=16 α=0": 90, "IF T=16 α=1.0": 90}),
        (("IF T=32 α=0", "IF T=32 α=0.6"), {**dict.fromkeys(ALL, 90), "IF T=32 α=0": 80, "IF T=32 α=0.6": 80}),
        (("sigma-delta 0.02",), {**dict.fromkeys(ALL, 90), "sigma-delta 0.02": 80}),
        (("trained directly T=8",), {**dict.fromkeys(ALL, 90), "trained directly T=8": 80}),
    ],
)  # fmt: skip
def test_rows_that_were_not_measured_now_stay_and_another_choice_of_alpha_replaces_the_first(
    variants: tuple[str, ...], expected: dict[str, float]
) -> None:
    document = document_of(records_of("two", *variants, value=80.0), STORED)
    assert rows(document, "two") == expected
    assert rows(document, "one") == dict.fromkeys(ALL, 90.0)
    times = {variant.partition(" α=")[0] for variant in expected if variant.startswith("IF")}
    assert set(document["effects"]["two"]) == times
    assert "slot" not in document["rows"][0]


@pytest.mark.parametrize(("version", "said"), [("1", "1"), ("2", "mixed")])
def test_versions_of_rows_that_stay_are_not_those_of_the_new_ones(version: str, said: str) -> None:
    assert document_of(records_of("two", *ALL, version=version), STORED)["versions"] == {"numpy": said}
    everything = [*records_of("one", *ALL, version=version), *records_of("two", *ALL, version=version),
                  *records_of("three", *ALL, version=version)]  # fmt: skip
    assert document_of(everything, STORED)["versions"] == {"numpy": version}
    assert versions_beside(everything, {"versions": {"numpy": "1"}}) == {"numpy": said}
    assert versions_beside(everything, {}) == {"numpy": version}


@pytest.mark.parametrize(
    ("variant", "place"),
    [
        ("IF T=8 α=0", "IF T=8 α=0"),
        ("IF T=8 α=0.3", "IF T=8 α chosen"),
        ("IF T=8 α=1.0", "IF T=8 α chosen"),
        ("sigma-delta 0.02 plain", "sigma-delta 0.02 plain"),
    ],
)
def test_a_chosen_alpha_has_one_place(variant: str, place: str) -> None:
    assert slot({"variant": variant}) == place


@pytest.mark.parametrize(("episodes", "actors", "refused"), [
    (2, ["one"], True), (3, ["three", "two"], True), (4, ["one"], False), (100, ["one"], False), (2, ["four"], False),
])  # fmt: skip
def test_fewer_episodes_replace_no_stored_rows(episodes: int, actors: list[str], refused: bool) -> None:
    if refused:
        with pytest.raises(typer.BadParameter, match=r"4 episodes there; .*--out"):
            check_episodes(episodes, actors, STORED)
    else:
        check_episodes(episodes, actors, STORED)


def test_the_command_writes_stored_and_new_rows_into_its_own_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dm_control.json").write_text(json.dumps(STORED))
    monkeypatch.setattr(measure_dm_control, "Measured", lambda: None)
    monkeypatch.setattr(measure_dm_control, "cells_of", lambda name, *_: records_of(name, *ALL, value=70.0))
    measure_dm_control.main(episodes=20, actors="sac-finger-spin", timesteps="8,16", out=tmp_path, tables_only=False)
    document = json.loads((tmp_path / "dm_control.json").read_text())
    assert list(dict.fromkeys(row["actor"] for row in document["rows"])) == ["one", "two", "three", "sac-finger-spin"]
    page = (tmp_path / "dm_control.md").read_text()
    assert page.count("### ") == 4
    assert "| 70.0 ± 0.0 |" in page


def test_the_page_says_what_is_stored() -> None:
    document = json.loads((RESULTS / "dm_control.json").read_text())
    assert text_of(document).strip() in (DOCS / "dm_control.md").read_text()
