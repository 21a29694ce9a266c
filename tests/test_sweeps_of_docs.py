"""The tables of the documents are sweeps: every row is in the grid of its file, or the file says that it is absent."""

import itertools
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fill_page import TABLES, read_stored
from benchmarks.places import DOCS, ROOT
from benchmarks.stored_cells import DEFAULT_VARIANT, WITHOUT_RESIDUAL, rows_of
from snn_policy.spiking.settings import DEFAULT_SIGMA_DELTA_ALPHA

FOLDER = ROOT / "benchmarks" / "sweeps"
Setting = dict[str, Any]


def read(name: str) -> tuple[set[str], list[Setting], str]:
    """Return the actors of a file, its settings one by one, and what it says is not there."""
    text = (FOLDER / f"{name}.toml").read_text()
    values = tomllib.loads(text)
    actors = {entry.get("name", Path(entry["source"]).stem) for entry in values["actors"]}
    actors |= {Path(entry["source"]).name for entry in values["actors"]}
    comment = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    return (
        actors,
        [one for part in values.get("settings", []) for one in expanded(part)],
        comment.partition("Not here")[2],
    )


def expanded(part: Setting) -> list[Setting]:
    choices = [value if isinstance(value, list) else [value] for value in part.values()]
    return [{"neuron": "sigma-delta", **dict(zip(part, chosen, strict=True))} for chosen in itertools.product(*choices)]


def setting_of(variant: str) -> Setting:
    """Return the setting that a row's name stands for."""
    found: Setting = {"neuron": "sigma-delta"}
    patterns = {
        r"sigma-delta ([\d.]+)": lambda match: {"tolerance": float(match[1])},
        r"IF T=(\d+)": lambda match: {"neuron": "if", "timesteps": int(match[1])},
        r"α=([\d.]+)": lambda match: {"alpha": float(match[1])},
        r"α=[\d.]+ I=(\d)": lambda match: {"calibration": {"iterations": int(match[1])}},
        r"adaptive I=(\d)…(\d)": lambda match: {"calibration": {"adaptive": [int(match[1]), int(match[2])]}},
        r"MT differential T=(\d+)": lambda match: {
            "neuron": "mt",
            "coding": "differential",
            "timesteps": int(match[1]),
        },
        r"SNM T=(\d+)": lambda match: {"neuron": "snm", "timesteps": int(match[1])},
    }
    for pattern, part in patterns.items():
        match = re.search(pattern, variant)
        found |= part(match) if match else {}
    return found


def settings_of(variant: str) -> list[Setting]:
    """Return the setting that a row's name stands for, and the same with the α that names leave out spelled out."""
    found = setting_of(variant)
    usual = {"alpha": DEFAULT_SIGMA_DELTA_ALPHA} if found["neuron"] == "sigma-delta" and "alpha" not in found else {}
    return [found, {**found, **usual}]


def absent(rows: list[dict[str, Any]], name: str) -> list[tuple[str, str]]:
    """Return the rows that neither the grid has nor the file names as not there."""
    actors, settings, not_here = read(name)
    return [
        (row["actor"], row["variant"])
        for row in rows
        if not any(f"{part}" in not_here for part in (row["actor"], *re.findall(r"trained directly", row["variant"])))
        and (row["actor"] not in actors or not any(one in settings for one in settings_of(row["variant"])))
    ]


def spiking_cells(name: str) -> list[dict[str, Any]]:
    return [cell for cell in read_stored(name)["cells"] if cell["baseline"] is not None]


@pytest.mark.parametrize("name", list(TABLES))
def test_every_stored_cell_is_in_the_grid_of_its_sweep(name: str) -> None:
    assert absent(spiking_cells(name), name) == []
    grid = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    for cell in read_stored(name)["cells"]:
        assert cell["seed"] in (grid["seeds"] if name == "neuron" else grid["seeds"][:1])
        assert cell["episodes"] == grid["episodes"]


@pytest.mark.parametrize("name", list(TABLES))
def test_older_rows_stand_only_where_the_grid_has_a_place_for_them_or_says_that_it_has_none(name: str) -> None:
    older = read_stored(name).get("older", {}).get("rows", [])
    given = [{"actor": row.get("policy", row.get("actor")), "variant": row.get("variant", "")} for row in older]
    if name == "energy":  # older rows of the neuron that a policy is shipped with
        given = [
            {**row, "variant": "IF T=4 α=0 I=1" if "qcfs" in row["actor"] else "sigma-delta 0.02"} for row in given
        ]
    given = [{**row, "variant": row["variant"].removesuffix(" plain")} for row in given]
    assert absent(given, name) == []


@pytest.mark.parametrize(
    ("actor", "variant"),
    [
        ("td3-Hopper-v5", "sigma-delta 0.05"),
        ("td3-Hopper-v5", "IF T=8 α=0.3 I=4"),
        ("td3-Hopper-v5", "IF T=64 α=0"),
        ("td3-Ant-v5", "sigma-delta 0.02"),
        ("td3-Hopper-v5", "sigma-delta 0.01 α=0"),
    ],
)
def test_a_row_that_no_cell_stands_for_would_be_found(actor: str, variant: str) -> None:
    assert absent([{"actor": actor, "variant": variant}], "results") == [(actor, variant)]


@pytest.mark.parametrize(
    ("name", "cells", "episodes"),
    [
        ("results", "265", "26,500"),
        ("dm_control", "96", "1,344"),
        ("dm_control_pixels", "64", "768"),
        ("energy", "56", "1,120"),
        ("neuron", "208", "20,800"),
        ("compression", "35", "3,500"),
    ],
)
def test_the_list_of_sweeps_says_how_large_they_are(name: str, cells: str, episodes: str) -> None:
    (line,) = [line for line in (DOCS / "sweeps.md").read_text().splitlines() if f"/{name}.toml` |" in line]
    assert f"| {cells}" in line
    assert f"| {episodes} |" in line
    document: dict[str, Any] = read_stored(name) if name in TABLES else {"cells": []}
    if document["cells"]:
        hours = sum(cell["seconds"] for cell in document["cells"]) / 3600
        assert f"| {hours:.2f}, measured" in line
        assert (f"measured on {len(document['cells'])} cells; all: " in line) == (document["missing"] > 0)
    else:
        assert line.endswith(", estimated |")


@pytest.mark.parametrize(
    ("page", "marker", "name"),
    [
        ("../README.md", "energy", "energy"),
        ("../README.md", "results", "results"),
        ("compression.md", "compression", "compression"),
    ],
)
def test_the_actors_of_a_table_are_in_its_sweep(page: str, marker: str, name: str) -> None:
    text = (DOCS / page).read_text().split(f"<!-- {marker}: begin -->")[1].split(f"<!-- {marker}: end -->")[0]
    rows = [
        line.split("|")[1].split("(")[0].split(",")[0].strip(" *`")
        for line in text.splitlines()
        if line.startswith("|")
    ]
    actors, _, not_here = read(name)
    named = [row for row in rows[2:] if row]
    assert len(named) >= 4
    assert [row for row in named if row not in actors and row not in not_here] == []


def test_the_actors_of_the_neurons_page_are_in_its_sweep() -> None:
    actors, settings, _ = read("neuron")
    text = (DOCS / "neuron.md").read_text()
    named = re.findall(r"\b(?:sac|ppo|td3|tqc|trpo|dqn)-[A-Z]\w+-v\d\b|\bsac-(?:finger-spin|reacher-easy)\b", text)
    assert len(set(named)) >= 8
    assert sorted(set(named) - actors) == []
    assert {(one["tolerance"], one["alpha"]) for one in settings} >= {(0.05, 0.5), (0.1, 0.25), (0.02, 0.0)}


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.toml")), ids=lambda file: file.stem)
def test_every_sweep_stands_in_the_list_of_sweeps_and_says_how_it_is_run(file: Path) -> None:
    listed = (DOCS / "sweeps.md").read_text()
    assert f"benchmarks/sweeps/{file.name}" in listed
    assert f"snn-policy sweep benchmarks/sweeps/{file.name}" in file.read_text()


def measured_rows(actor: str) -> dict[str, Any]:
    return {row["variant"]: row for row in rows_of(read_stored("results")) if row["actor"] == actor}


@pytest.mark.parametrize(
    ("actor", "alpha", "alone", "calibrated", "failed_alone", "failed"),
    [
        ("tqc-HalfCheetah-v3", "0", "0.557", ("0.850", "0.857"), 100, (7, 14)),
        ("tqc-HalfCheetah-v3", "0.3", "0.615", ("0.847", "0.852"), 100, (13, 15)),
        ("sac-Walker2d-v3", "0", "0.994", ("0.999", "1.005"), 10, (1, 3)),
        ("td3-Hopper-v5", "0", "1.012", ("1.002", "1.005"), 8, (14, 21)),
        ("sac-Walker2d-v3", "0.3", "1.010", ("0.998", "1.000"), 9, (3, 5)),
    ],
)
def test_what_results_says_of_spike_calibration(
    actor: str, alpha: str, alone: str, calibrated: tuple[str, str], failed_alone: int, failed: tuple[int, int]
) -> None:
    rows = measured_rows(actor)
    name = f"IF T=8 α={alpha}"
    without, many = rows[name], [row for variant, row in rows.items() if variant.startswith(f"{name} ")]
    medians = sorted(row["retention_median"] for row in many)
    counts = sorted(round(row["failed"] * row["episodes"]) for row in many)
    assert len(many) == 4
    assert f"{without['retention_median']:.3f}" == alone
    assert (f"{medians[0]:.3f}", f"{medians[-1]:.3f}") == calibrated
    assert round(without["failed"] * without["episodes"]) == failed_alone
    assert (counts[0], counts[-1]) == failed


@pytest.mark.parametrize(
    ("actor", "percent"),
    [
        ("tqc-HalfCheetah-v3", "+0.4"),
        ("sac-Walker2d-v3", "+0.6"),
        ("dqn-CartPole-v1", "+2.0"),
        ("sac-Pendulum-v1", "+11.0"),
        ("td3-Pendulum-v1", "+25.8"),
        ("sac-MountainCarContinuous-v0", "-40.4"),
    ],
)
def test_what_results_says_of_the_residuals_cost(actor: str, percent: str) -> None:
    rows = measured_rows(actor)
    share = rows[DEFAULT_VARIANT]["energy_share"] / rows[WITHOUT_RESIDUAL]["energy_share"] - 1
    assert f"{100 * share:+.1f}" == percent
    rounded = f"{abs(100 * share):.0f}" if abs(share) > 0.01 else f"{100 * share:.1f}"
    assert f"{rounded} % on" in " ".join((DOCS / "results.md").read_text().split())
