"""The table of the neuron's sweep: every setting in its place; choices of one range of seeds, shown on another."""

from typing import Any

import pytest

from benchmarks.neuron_tables import Place, chosen_of, place_of, residual_table
from benchmarks.stored_cells import rows_of
from snn_policy.spiking.settings import DEFAULT_SIGMA_DELTA_ALPHA


def cell(
    key: str, variant: str, seed: int, returns: list[float], operations: float, actor: str = "one"
) -> dict[str, Any]:
    ann = variant == "ANN"
    return {
        "key": key, "actor": actor, "variant": variant, "baseline": None if ann else f"ann{seed}{actor}",
        "teacher": None, "environment": "Pendulum-v1", "seed": seed, "episodes": len(returns),
        "dense_multiply_accumulates": 100, "seconds": 1.0,
        "decisions": 10, "spikes": [1.0, 1.0], "synaptic_operations": operations, "multiply_accumulates": 80.0,
        "iterations": None, "events": 1.0, "returns": returns,
    }  # fmt: skip


def document() -> dict[str, Any]:
    """Two ranges of seeds: α = 0 keeps .98 for little, .25 all of it, .5 as much for less on the second range alone."""
    cells = []
    for seed, of_half in ((300_000, 60.0), (400_000, 20.0)):
        cells += [
            cell(f"ann{seed}one", "ANN", seed, [100.0, 100.0, 100.0], 80.0),
            cell(f"a{seed}", "sigma-delta 0.02 α=0", seed, [98.0, 98.0, 60.0], 10.0),
            cell(f"b{seed}", "sigma-delta 0.02 α=0.25", seed, [100.0, 99.0, 101.0], 40.0),
            cell(f"c{seed}", "sigma-delta 0.02", seed, [100.0, 100.0, 100.0], of_half),
        ]
    return {"cells": cells}


@pytest.mark.parametrize(
    ("variant", "tolerance", "alpha"),
    [
        ("sigma-delta 0.02", 0.02, DEFAULT_SIGMA_DELTA_ALPHA),
        ("sigma-delta 0.1 α=0", 0.1, 0.0),
        ("sigma-delta 0.05 α=0.25", 0.05, 0.25),
    ],
)
def test_a_settings_place_is_read_from_its_name(variant: str, tolerance: float, alpha: float) -> None:
    assert place_of({"actor": "one", "variant": variant}) == Place("one", tolerance, alpha)


def test_what_the_first_seeds_choose_is_shown_with_what_it_does_on_the_last() -> None:
    heading, _, line, of_all = residual_table(document()).splitlines()
    assert heading == "| actor (ANN fails) | tolerance | α = 0 | α = 0.25 | α = 0.5 |"
    first, tolerance, *cells = (part.strip() for part in line.strip("|").split("|"))
    assert (first, tolerance) == ("one (0.00)", "0.02")
    assert [part.startswith("**") for part in cells] == [False, True, False]
    assert cells[0].startswith("0.853 ± ")
    assert " / 0.33 / " in cells[0]
    reported = {row["variant"]: row["energy_share"] for row in rows_of(document()) if row["first_seed"] == 400_000}
    shown = [part.strip("*").rpartition(" / ")[2] for part in cells]
    assert shown == [f"{reported[f'sigma-delta 0.02{end}']:.4f}" for end in (" α=0", " α=0.25", "")]
    assert "| 0.02 | 0.853 (worst 0.853) / +0.333 / × 1.00 |" in of_all


@pytest.mark.parametrize(
    ("kept", "energies", "expected"),
    [
        ([0.98, 1.0, 1.0], [0.1, 0.3, 0.2], 0.5),
        ([0.995, 1.0, 1.0], [0.1, 0.3, 0.2], 0.0),
        ([1.2, 1.0, 0.5], [0.3, 0.2, 0.1], 0.25),
    ],
)
def test_the_least_energy_is_chosen_among_those_that_keep_as_much(
    kept: list[float], energies: list[float], expected: float
) -> None:
    rows = {
        Place("one", 0.02, alpha): {"retention_mean": mean, "energy_share": energy}
        for alpha, mean, energy in zip((0.0, 0.25, 0.5), kept, energies, strict=True)
    }
    assert chosen_of(rows) == {Place("one", 0.02, expected)}
