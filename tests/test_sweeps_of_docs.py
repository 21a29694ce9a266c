"""The tables of the documents are sweeps: every row is in the grid of its file, or the file says that it is absent."""

import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmarks.places import DOCS, RESULTS, ROOT

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
        r" plain": lambda match: {"alpha": 0.0},
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


def absent(rows: list[dict[str, Any]], name: str) -> list[tuple[str, str]]:
    """Return the rows that neither the grid has nor the file names as not there."""
    actors, settings, not_here = read(name)
    return [
        (row["actor"], row["variant"])
        for row in rows
        if not any(
            f"{part}" in not_here for part in (row["actor"], *re.findall(r"plain|trained directly", row["variant"]))
        )
        and (row["actor"] not in actors or setting_of(row["variant"]) not in settings)
    ]


@pytest.mark.parametrize("name", ["results", "dm_control"])
def test_every_row_of_a_page_is_a_cell_of_its_sweep(name: str) -> None:
    rows = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    if name == "dm_control":  # the neuron before: a setting of its own there, whose γ is today's
        rows = [{**row, "variant": row["variant"].removesuffix(" plain")} for row in rows]
    assert len(rows) > 50
    assert absent(rows, name) == []


@pytest.mark.parametrize(
    ("actor", "variant"),
    [
        ("td3-Hopper-v5", "sigma-delta 0.05"),
        ("td3-Hopper-v5", "IF T=8 α=0.3 I=4"),
        ("td3-Hopper-v5", "IF T=64 α=0"),
        ("td3-Ant-v5", "sigma-delta 0.02"),
    ],
)
def test_a_row_that_no_cell_stands_for_would_be_found(actor: str, variant: str) -> None:
    assert absent([{"actor": actor, "variant": variant}], "results") == [(actor, variant)]


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
