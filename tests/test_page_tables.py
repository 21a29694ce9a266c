"""The tables of stored cells: spread of paired episodes, names of settings, and older rows beside cells."""

from typing import Any

import numpy as np
import pytest
import typer

from benchmarks.gamma import gamma_where_it_saves
from benchmarks.page_tables import actor_table, actor_tables, effects_of_alpha, energy_rows, energy_table, short_table
from benchmarks.stored_cells import (
    DEFAULT_VARIANT,
    WITHOUT_RESIDUAL,
    Document,
    rows_of,
    slot,
    standard_error,
    teacher_of,
    variant_of,
)
from snn_policy import MT, SNM, SigmaDelta, SpikeCalibration
from snn_policy.calibration import open_loop
from snn_policy.spiking.settings import IF, NeuronSettings, as_record


def cell(variant: str, returns: list[float], operations: float = 100.0, actor: str = "one") -> dict[str, Any]:
    multiplied, added = (500.0, 0.0) if variant == "ANN" else (0.0, operations)
    return {
        "key": f"{actor} {variant}", "actor": actor, "variant": variant, "teacher": teacher_of(actor),
        "baseline": None if variant == "ANN" else f"{actor} ANN", "environment": "Hopper-v5", "seed": 5000,
        "episodes": len(returns), "dense_multiply_accumulates": 1000, "seconds": 90.0, "decisions": 10 * len(returns),
        "spikes": [1.0, 2.0], "synaptic_operations": added, "multiply_accumulates": multiplied, "iterations": 1.25,
        "events": 50.0, "returns": returns,
    }  # fmt: skip


def document(*cells: dict[str, Any], older: list[dict[str, Any]] | None = None, **more: Any) -> Document:
    found = {"sweep": "results", "code": [], "versions": [], "missing": 0, "cells": list(cells)}
    return found if older is None else {**found, "older": {"rows": older, **more}}


@pytest.mark.parametrize(
    ("ann", "snn", "error"),
    [
        ((100.0, 100.0, 100.0), (90.0, 90.0, 90.0), 0.0),
        ((100.0, 200.0), (110.0, 210.0), 0.0),
        ((100.0, 100.0), (90.0, 110.0), 0.1),
        ((-100.0, -100.0), (-90.0, -110.0), 0.1),
        ((100.0, 100.0, 100.0, 100.0), (100.0, 100.0, 100.0, 0.0), 0.25),
        ((1.0,), (2.0,), None),
        ((0.0, 0.0), (1.0, 2.0), None),
    ],
)
def test_the_standard_error_is_that_of_paired_differences(ann: Any, snn: Any, error: float | None) -> None:
    assert standard_error(ann, snn) == (None if error is None else pytest.approx(error))


@pytest.mark.parametrize("variant", [DEFAULT_VARIANT, WITHOUT_RESIDUAL, "IF T=8 α=0"])
def test_a_row_shows_two_standard_errors_and_counts_failures_of_both(variant: str) -> None:
    made = document(cell("ANN", [100.0, 100.0, 100.0, 70.0]), cell(variant, [100.0, 100.0, 60.0, 70.0]))
    table = actor_table(rows_of(made))
    error = 2 * np.std([0, 0, -40, 0], ddof=1) / 2 / 92.5
    assert f"| {variant} | 82.5 ± 17.9 |" in table
    assert f"| 0.892 ± {error:.3f} · 0.850 | 2 of 4 |" in table
    assert "| 1 of 4 | 1 (or 0.500) |" in table


@pytest.mark.parametrize(("without", "shown"), [(200.0, "| 0.039 |"), (50.0, "| 0.010 |"), (None, "|  |")])
def test_the_short_table_puts_what_the_residual_costs_beside_the_default(without: float | None, shown: str) -> None:
    cells = [cell("ANN", [100.0, 100.0]), cell(DEFAULT_VARIANT, [100.0, 100.0])]
    if without is not None:
        cells.append(cell(WITHOUT_RESIDUAL, [90.0, 90.0], operations=without))
    (line,) = short_table(document(*cells)).splitlines()[2:]
    assert f"1.000 ± 0.000 · 1.000 | 0 · 0 of 2 | 0.020 {shown} 0.500 |" in line


@pytest.mark.parametrize("episodes", [2, 3, 20])
def test_failures_of_an_older_row_are_counted_of_its_own_episodes(episodes: int) -> None:
    (old,) = rows_of(document(cell("ANN", [100.0] * episodes), cell("SNM T=8", [50.0] * episodes)))
    made = document(cell("ANN", [100.0] * 50), cell(DEFAULT_VARIANT, [100.0] * 50), older=[old])
    table = actor_tables(made)
    assert "| 0 of 50 |" in table
    assert f"| SNM T=8 (older) | 50.0 ± 0.0 | 50.0 [50.0, 50.0] | 0.500 ± 0.000 · 0.500 | {episodes} of " in table


@pytest.mark.parametrize(
    ("cells", "older", "expected"),
    [
        ("a1", "a1", "a1"),
        ("a1", "a2", "a1 a2*"),
        ("b1", "a1 a2 b1 b2", "b1 b2* a1* a2*"),
        ("c1 a2", "a1 a2", "c1 a2 a1*"),
        ("", "a1 b1", "a1* b1*"),
        ("a1", "", "a1"),
    ],
)
def test_an_older_row_stays_until_a_cell_takes_its_place(cells: str, older: str, expected: str) -> None:
    made = [cell("ANN", [1.0, 1.0], actor=name) for name in "abc"]
    made += [cell(word[1], [1.0, 1.0], actor=word[0]) for word in cells.split()]
    found = rows_of(document(*made, older=[{"actor": word[0], "variant": word[1]} for word in older.split()]))
    assert " ".join(f"{row['actor']}{row['variant']}{'*' * row.get('older', False)}" for row in found) == expected


@pytest.mark.parametrize(
    ("variant", "place"),
    [
        ("IF T=8 α=0", "IF T=8 α=0"),
        ("IF T=8 α=0.3", "IF T=8 α chosen"),
        ("IF T=8 α=1", "IF T=8 α chosen"),
        ("IF T=8 α=1.0", "IF T=8 α chosen"),
        ("IF T=8 α=0.3 I=1", "IF T=8 α=0.3 I=1"),
        ("sigma-delta 0.02 plain", "sigma-delta 0.02"),
        ("sigma-delta 0.02 α=0", "sigma-delta 0.02 α=0"),
    ],
)
def test_a_chosen_alpha_and_the_neuron_before_have_one_place_each(variant: str, place: str) -> None:
    assert slot(variant) == place


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (SigmaDelta(0.02), "sigma-delta 0.02"),
        (SigmaDelta(0.01, alpha=0.0), "sigma-delta 0.01 α=0"),
        (MT(timesteps=2, coding="differential"), "MT differential T=2"),
        (SNM(timesteps=8), "SNM T=8"),
        (IF(timesteps=8, alpha=0.0), "IF T=8 α=0"),
        (IF(timesteps=16, alpha=0.3), "IF T=16 α=0.3"),
        (IF(timesteps=8, alpha=0.3, calibration=SpikeCalibration(2)), "IF T=8 α=0.3 I=2"),
        (IF(timesteps=8, alpha=0.0, calibration=SpikeCalibration(adaptive=(1, 3))), "IF T=8 α=0 adaptive I=1…3"),
        (None, "ANN"),
    ],
)
def test_a_setting_has_one_name(settings: NeuronSettings | None, name: str) -> None:
    given = None if settings is None else as_record(settings)
    assert variant_of({"settings": given, "compression": None, "label": "x"}) == name


@pytest.mark.parametrize(
    ("settings", "compression"),
    [
        (SigmaDelta(0.02, base=4.0), None),
        (SigmaDelta(0.02, predictor=0), None),
        (SigmaDelta(0.02, alpha=(0.0, 0.5)), None),
        (SNM(timesteps=8, alpha=0.0), None),
        (MT(timesteps=2, levels=2), None),
        (SigmaDelta(0.02), {"target": "energy:0.05"}),
    ],
)
def test_settings_that_would_get_the_name_of_others_are_refused(
    settings: NeuronSettings, compression: dict[str, str] | None
) -> None:
    import json

    given = json.loads(json.dumps(as_record(settings)))
    with pytest.raises(ValueError, match="one of a kind: no table has a name for it"):
        variant_of({"settings": given, "compression": compression, "label": "one of a kind"})


@pytest.mark.parametrize(("gained", "told"), [(5.0, "+5.0 [+5.0, +5.0]"), (-2.0, "-2.0 [-2.0, -2.0]"), (0.0, "+0.0")])
def test_what_a_chosen_alpha_gains_is_told_of_paired_episodes(gained: float, told: str) -> None:
    returns = [100.0, 50.0, 70.0]
    chosen = cell("IF T=8 α=0.6", [value + gained for value in returns])
    found = effects_of_alpha(document(cell("ANN", returns), cell("IF T=8 α=0", returns), chosen), "one")
    assert list(found) == ["IF T=8"]
    assert f"- IF T=8 α=0.6 against α=0: {told}" in found["IF T=8"]
    assert effects_of_alpha(document(cell("ANN", returns), chosen), "one") == {}


@pytest.mark.parametrize(
    ("name", "teacher"),
    [
        ("td3-Hopper-v5-compressed", "td3-Hopper-v5"),
        ("td3-Pendulum-v1-compressed", "td3-Pendulum-v1"),
        ("td3-Hopper-v5", None),
        ("tqc-HalfCheetah-v3", None),
    ],
)
def test_a_students_teacher_is_in_its_card(name: str, teacher: str | None) -> None:
    assert teacher_of(name) == teacher


def test_a_student_is_shown_beside_its_teachers_ann_and_a_qcfs_policy_with_if_neurons() -> None:
    teacher, student = "td3-Hopper-v5", "td3-Hopper-v5-compressed"
    cells = [cell("ANN", [1.0, 1.0], actor=name) for name in (teacher, student, "qcfs-Hopper-v5")]
    cells[1] |= {"multiply_accumulates": 20.0, "dense_multiply_accumulates": 50}
    cells += [cell(variant, [1.0, 1.0], actor=one["actor"]) for one in cells[:3]
              for variant in (DEFAULT_VARIANT, "IF T=4 α=0 I=1")]  # fmt: skip
    rows = energy_rows(document(*cells))
    assert [(row["policy"], row["neuron"]) for row in rows] == [
        (teacher, "sigma-delta"), (student, "sigma-delta"), ("qcfs-Hopper-v5", "if")
    ]  # fmt: skip
    assert [row["ann"]["multiply_accumulates"] for row in rows] == [500.0, 500.0, 500.0]
    assert [row["dense_multiply_accumulates"] for row in rows] == [1000, 1000, 1000]
    assert len(energy_rows(document(*cells), everything=True)) == 6
    assert f"| {student} (sigma-delta) | 3 · 50 | 0.10 | 0.02 · 0.04 · " in energy_table(document(*cells))
    cells[-1]["returns"] = [0.5, 0.5]
    assert energy_table(document(*cells), everything=True).splitlines()[-1].endswith(" | 0.500 |")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_the_share_that_changes_must_save_is_another_only_inside(share: float) -> None:
    before = open_loop.LEAST_SAVING
    inside = []

    def fail() -> None:
        with gamma_where_it_saves(share):
            inside.append(open_loop.LEAST_SAVING)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert inside == [share]
    assert before == open_loop.LEAST_SAVING


def drawn(words: str) -> list[dict[str, Any]]:
    variants = {"s": "sigma-delta 0.02", "m": "MT differential T=2", "n": "SNM T=8", "x": "IF T=8 α=0 I=1"}
    return [{"actor": word[0], "variant": variants[letter]} for word in words.split() for letter in word[1:]]


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ("asmn bsmn", "asmn bsmn"),
        ("asmn bs", "as bs"),
        ("asmn bsm csmn", "asmn csmn"),
        ("asmn bsm csm", "asm bsm csm"),
        ("asmnx bsmn", "asmn bsmn"),
        ("as bs", "as bs"),
        ("asn bsn cs", "asn bsn"),
    ],
)
def test_the_picture_compares_families_on_the_same_actors(rows: str, shown: str) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plot_energy_return import of_common_actors

    assert of_common_actors(drawn(rows)) == drawn(shown)


def test_without_an_actor_in_common_there_is_no_picture() -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plot_energy_return import of_common_actors

    with pytest.raises(typer.BadParameter, match="no actor has all variants"):
        of_common_actors(drawn("as bm"))
