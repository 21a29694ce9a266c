"""The tables of docs/results.md: spread of paired episodes, and the neuron before beside today's."""

from typing import Any

import numpy as np
import pytest

from benchmarks.gamma import gamma_where_it_saves
from benchmarks.reference_table import (
    DEFAULT_VARIANT,
    PLAIN_VARIANT,
    actor_table,
    merged,
    rows_of,
    short_table,
    standard_error,
)
from snn_policy.calibration import open_loop


def record(variant: str, returns: list[float], operations: float = 100.0) -> dict[str, Any]:
    multiplied, added = (500.0, 0.0) if variant == "ANN" else (0.0, operations)
    evaluation = {
        "environment": "Hopper-v5", "seeds": list(range(5000, 5000 + len(returns))), "returns": returns,
        "lengths": [10] * len(returns), "num_envs": 1, "decisions": 10 * len(returns), "spikes": [1.0],
        "synaptic_operations": added, "multiply_accumulates": multiplied,
        "microseconds": 1.0, "versions": {},
    }  # fmt: skip
    return {"actor": "one", "variant": variant, "evaluation": evaluation, "dense_macs": 1000}


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


@pytest.mark.parametrize("variant", [DEFAULT_VARIANT, PLAIN_VARIANT, "IF T=8 α=0"])
def test_a_row_shows_two_standard_errors_and_counts_failures_of_both(variant: str) -> None:
    rows = rows_of([record("ANN", [100.0, 100.0, 100.0, 70.0]), record(variant, [100.0, 100.0, 60.0, 70.0])])
    table = actor_table(rows)
    error = 2 * np.std([0, 0, -40, 0], ddof=1) / 2 / 92.5
    assert f"| 0.892 ± {error:.3f} · 0.850 | 2 of 4 |" in table
    assert "| 1 of 4 | 1 (or 0.500) |" in table


@pytest.mark.parametrize(("plain", "shown"), [(200.0, "| 0.039 |"), (50.0, "| 0.010 |"), (None, "|  |")])
def test_the_short_table_puts_the_neuron_before_beside_the_default(plain: float | None, shown: str) -> None:
    records = [record("ANN", [100.0, 100.0]), record(DEFAULT_VARIANT, [100.0, 100.0])]
    if plain is not None:
        records.append(record(PLAIN_VARIANT, [90.0, 90.0], operations=plain))
    (line,) = short_table(rows_of(records)).splitlines()[2:]
    assert f"1.000 ± 0.000 · 1.000 | 0 · 0 of 2 | 0.020 {shown} 0.500 |" in line


@pytest.mark.parametrize("episodes", [2, 3, 20])
def test_failures_are_counted_of_the_rows_own_episodes(episodes: int) -> None:
    (new,) = rows_of([record("ANN", [100.0] * 50), record(DEFAULT_VARIANT, [100.0] * 50)])
    (old,) = rows_of([record("ANN", [100.0] * episodes), record(PLAIN_VARIANT, [50.0] * episodes)])
    table = actor_table([new, old])
    assert "| 0 of 50 |" in table
    assert f"| {episodes} of {episodes} |" in table


@pytest.mark.parametrize("others", [[], ["IF T=8 α=0"], ["sigma-delta 0.01"]])
def test_where_the_default_was_not_measured_the_neuron_before_says_that_it_stands_for_it(others: list[str]) -> None:
    variants = [PLAIN_VARIANT, *others]
    records = [record("ANN", [100.0, 100.0]), *(record(variant, [90.0, 90.0]) for variant in variants)]
    (line,) = short_table(rows_of(records)).splitlines()[2:]
    assert line.startswith("| one (plain) | Hopper-v5 | 100.0 | 0.900 ± 0.000 ")


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        ("a1", "a1", "a1+"),
        ("a1", "a2", "a1+ a2"),
        ("b1", "a1 a2 b1 b2", "a1 a2 b1+ b2"),
        ("c1 a2", "a1 a2", "a2+ a1 c1+"),
        ("", "a1 b1", "a1 b1"),
    ],
)
def test_rows_that_were_not_measured_now_stay(new: str, old: str, expected: str) -> None:
    def rows_from(words: str, now: str) -> list[dict[str, Any]]:
        return [{"actor": word[0], "variant": word[1], "new": now} for word in words.split()]

    found = merged(rows_from(new, "+"), rows_from(old, ""), ("actor", "variant"))
    assert " ".join(f"{row['actor']}{row['variant']}{row['new']}" for row in found) == expected


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
