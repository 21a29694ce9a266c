"""Energy by profiles: every number of every profile and opponent worked out by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import Actor, SpikingPolicy
from snn_policy.cli import main
from snn_policy.energy import PROFILES, ann_energies, nanojoules, profiles_of, weights_fetched
from snn_policy.evaluation.evaluate import compare, evaluate
from snn_policy.evaluation.results import Comparison, Evaluation
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import pruned, random_actor, sigma_delta_neurons

TABLE = {
    "fp32-45nm": (4.6, 0.9, 0.0),
    "int8-45nm": (0.3, 0.1, 0.0),
    "int8-45nm-sram": (0.3, 0.1, 1.25),
    "int8-45nm-sram-1mb": (0.3, 0.1, 12.5),
}
"""Picojoules per multiply-accumulate, per spike and synapse, per weight fetched: docs/energy.md."""
QUICK = ("--episodes", "2", "--seed", "5000")


def spent(macs: float, operations: float, events: float | None) -> Evaluation:
    """An evaluation whose decisions cost this much."""
    return Evaluation("x", (0,), (1.0,), (1,), 1, 1, (0.0,), operations, macs, 1.0, {}, events=events)


def compared(compressed: bool = False) -> Comparison:
    """Dense 10,000 MACs, 4,000 without zeros; an SNN with 6,000 operations and 3,000 events; a sparse ANN with 2,500
    synapses, 1,000 of them after zeros."""
    ann, snn = spent(4000, 0, 4000), spent(0, 6000, 3000)
    return Comparison(ann, snn, 10_000, spent(1000, 0, 1000), 2500) if compressed else Comparison(ann, snn, 10_000)


def test_profiles_are_the_published_numbers_and_say_where_from() -> None:
    assert list(PROFILES) == list(TABLE)
    for name, profile in PROFILES.items():
        found = profile.multiply_accumulate, profile.synaptic_operation, profile.per_weight
        assert found == pytest.approx(TABLE[name])
        assert "Horowitz" in profile.source
        assert "ISSCC 2014" in profile.source
        assert profile.weight_bytes == (4 if name.startswith("fp32") else 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # nanojoules of the SNN; of the dense and the skipping ANN; of both with 8 bits
        ("fp32-45nm", (5.4, 46.0, 18.4, 3.0, 1.2)),
        ("int8-45nm", (0.6, 3.0, 1.2, 3.0, 1.2)),
        ("int8-45nm-sram", (0.6 + 3.75, 3.0 + 12.5, 1.2 + 5.0, 15.5, 6.2)),
        ("int8-45nm-sram-1mb", (0.6 + 37.5, 3.0 + 125.0, 1.2 + 50.0, 128.0, 51.2)),
    ],
)
def test_every_opponent_in_every_profile(name: str, expected: tuple[float, ...]) -> None:
    found = compared().energies[name]
    names = ("snn", "ann_dense", "ann_skipping", "ann_dense_8bit", "ann_skipping_8bit")
    assert found == pytest.approx(dict(zip(names, expected, strict=True)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fp32-45nm", (11.5, 4.6, 0.75, 0.3)),
        ("int8-45nm", (0.75, 0.3, 0.75, 0.3)),
        ("int8-45nm-sram", (3.875, 1.55, 3.875, 1.55)),
        ("int8-45nm-sram-1mb", (32.0, 12.8, 32.0, 12.8)),
    ],
)
def test_the_compressed_ann_is_an_opponent_too(name: str, expected: tuple[float, ...]) -> None:
    found = compared(compressed=True).energies[name]
    names = ("compressed_dense", "compressed_skipping", "compressed_dense_8bit", "compressed_skipping_8bit")
    assert {key: found[key] for key in names} == pytest.approx(dict(zip(names, expected, strict=True)))
    assert {key: value for key, value in found.items() if key not in names} == compared().energies[name]


def test_an_analog_first_layer_multiplies_and_fetches_and_events_fetch_beside_it() -> None:
    snn = spent(macs=2000, operations=1000, events=500)
    assert snn.energies == pytest.approx(
        {"fp32-45nm": 9.2 + 0.9, "int8-45nm": 0.6 + 0.1, "int8-45nm-sram": 0.7 + 2500 * 1.25e-3,
         "int8-45nm-sram-1mb": 0.7 + 2500 * 12.5e-3}
    )  # fmt: skip


def test_the_events_of_an_ann_are_its_products_and_fetched_once() -> None:
    assert weights_fetched(4000, 0, 4000) == 4000
    assert weights_fetched(0, 6000, 3000) == 3000
    assert weights_fetched(2000, 1000, 500) == 2500
    assert weights_fetched([7, 7], [0, 3], [7, 2]).tolist() == [7, 9]


def test_where_events_are_unknown_memory_is_not_guessed() -> None:
    found = Comparison(spent(4000, 0, 4000), spent(0, 6000, None), 10_000)
    energies = {name: values["snn"] for name, values in found.energies.items()}
    assert energies == pytest.approx({"fp32-45nm": 5.4, "int8-45nm": 0.6} | dict.fromkeys(list(TABLE)[2:]))
    assert found.energies["int8-45nm-sram"]["ann_dense"] == pytest.approx(15.5)


def test_the_convention_of_before_is_the_first_profile() -> None:
    assert float(nanojoules(1000, 2000)) == pytest.approx(4.6 + 1.8)
    assert nanojoules(np.array([0, 10]), np.array([10, 0])).tolist() == pytest.approx([0.009, 0.046])
    assert compared().snn.energy == compared().energies["fp32-45nm"]["snn"]
    assert compared().dense_energy == compared().energies["fp32-45nm"]["ann_dense"]
    assert ann_energies(PROFILES["fp32-45nm"], 10, 0)["ann_dense_8bit"] == pytest.approx(0.003)


@pytest.mark.parametrize("name", ["", "fp32", "INT8-45nm", "int8-45nm-sram-8mb"])
def test_an_unknown_profile_is_one_line_that_names_the_others(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="expected one of fp32-45nm, int8-45nm, int8-45nm-sram, int8-45nm-sram-1mb"):
        profiles_of(name)
    for command in ("compare", "eval", "demo"):
        assert main([command, "td3-Pendulum-v1", *QUICK, "--profile", name]) == 2
        assert len([line for line in capsys.readouterr().err.splitlines() if "energy profile" in line]) == 1


def sparse_pendulum() -> tuple[Actor, SpikingPolicy]:
    """A dense actor, and the SNN of a sparse one."""
    actor = replace(random_actor(shape=(3,), widths=(24, 16), outputs=1), env_id="Pendulum-v1")
    sparse = pruned(actor, 0.4)
    return actor, SpikingPolicy(SpikingNetwork(sparse, sigma_delta_neurons(sparse)))


def test_a_comparison_with_a_compressed_ann_runs_it_on_the_same_seeds() -> None:
    actor, policy = sparse_pendulum()
    found = compare(actor, policy, "Pendulum-v1", episodes=2, compressed=policy.actor)
    assert found.compressed is not None
    assert found.compressed.seeds == found.snn.seeds == found.ann.seeds
    assert found.compressed.returns == evaluate(policy.actor, "Pendulum-v1", episodes=2).returns
    assert found.compressed_synapses == policy.actor.synapses < actor.dense_macs == found.dense_multiply_accumulates
    assert found.compressed.multiply_accumulates <= policy.actor.synapses
    document = json.loads(found.to_json())
    assert document["compressed"]["events"] == found.compressed.multiply_accumulates
    assert document["energies"]["int8-45nm-sram"]["compressed_skipping"] > 0
    assert document["snn"]["energies"]["int8-45nm"] == found.snn.energy_by(PROFILES["int8-45nm"])


def test_the_commands_show_one_profile_or_all_and_the_compressed_ann(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    actor, policy = sparse_pendulum()
    SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor))).save(tmp_path / "ann")
    policy.save(tmp_path / "snn")
    for arguments, shown in (((), list(TABLE)), (("--profile", "int8-45nm-sram"), ["int8-45nm-sram"])):
        assert main(["compare", str(tmp_path / "ann"), str(tmp_path / "snn"), *QUICK, *arguments]) == 0
        out = capsys.readouterr().out
        assert [name for name in TABLE if f"{name}: " in out] == shown
        assert "8-bit sparse ANN, skipping" in out
        assert "events" in out
        assert max(len(line) for line in out.splitlines()) <= 80
    assert main(["eval", str(tmp_path / "snn"), *QUICK, "--profile", "int8-45nm"]) == 0
    out = capsys.readouterr().out
    assert "energy, int8-45nm" in out
    assert "fp32" not in out
    target = tmp_path / "found.json"
    assert main(["compare", str(tmp_path / "ann"), str(tmp_path / "snn"), *QUICK, "--json", str(target)]) == 0
    document: dict[str, Any] = json.loads(target.read_text())
    assert set(document["energies"]) == set(TABLE)
    assert set(document["energies"]["int8-45nm"]) > {"snn", "ann_skipping_8bit", "compressed_skipping_8bit"}
    assert main(["compare", str(tmp_path / "ann"), *QUICK, "--json", str(target)]) == 0
    assert json.loads(target.read_text())["compressed"] is None


def test_the_readme_shows_what_was_measured() -> None:
    from benchmarks.fill_page import README, read_stored
    from benchmarks.markers import between
    from benchmarks.page_tables import energy_rows, energy_table

    document = read_stored("energy")
    assert between(README.read_text(), "energy") == energy_table(document).strip()
    rows = energy_rows(document, everything=True)
    assert len(rows) >= 9
    for row in rows:
        for name, profile in PROFILES.items():
            macs, ann = row["dense_multiply_accumulates"], row["ann"]["multiply_accumulates"]
            expected = ann_energies(profile, macs, ann)
            assert {key: row["energies"][name][key] for key in expected} == pytest.approx(expected)


def shares(profile: str, opponent: str, *policies: str) -> list[float]:
    """What default conversions of these policies need of that opponent's energy, as the README's table rounds it."""
    from benchmarks.fill_page import read_stored
    from benchmarks.page_tables import energy_rows

    rows = {row["policy"]: row["energies"][profile] for row in energy_rows(read_stored("energy"))}
    chosen = policies or [name for name in rows if not name.startswith("qcfs")]
    return sorted(round(rows[name]["snn"] / rows[name][opponent], 2) for name in chosen)


RUNNING = ("td3-HalfCheetah-v5", "tqc-HalfCheetah-v3", "td3-Hopper-v5", "sac-finger-spin", "sac-Walker2d-v3",
           "ppo-Hopper-v3", "trpo-Swimmer-v3")  # fmt: skip
STUDENTS = ("td3-Pendulum-v1-compressed", "td3-Hopper-v5-compressed", "td3-HalfCheetah-v5-compressed",
            "sac-cartpole-swingup-compressed", "sac-reacher-easy-compressed")  # fmt: skip
SLOW = ("td3-Pendulum-v1", "sac-Pendulum-v1", "sac-cartpole-swingup", "sac-reacher-easy")


@pytest.mark.parametrize(
    ("profile", "opponent", "policies", "least", "most"),
    [
        ("fp32-45nm", "ann_dense", (), 0.01, 0.16),
        ("fp32-45nm", "ann_dense", RUNNING + SLOW, 0.02, 0.16),
        ("fp32-45nm", "ann_dense", STUDENTS, 0.01, 0.05),
        ("fp32-45nm", "ann_skipping", STUDENTS, 0.01, 0.18),
        ("fp32-45nm", "ann_skipping", RUNNING + SLOW, 0.06, 0.40),
        ("int8-45nm", "ann_skipping", RUNNING, 0.20, 0.69),
        ("int8-45nm", "ann_skipping", SLOW, 0.09, 0.16),
        ("int8-45nm-sram", "ann_skipping", RUNNING[:3], 0.91, 0.92),
        ("int8-45nm-sram-1mb", "ann_skipping", RUNNING[:3], 0.96, 0.97),
        ("int8-45nm-sram", "ann_skipping", SLOW, 0.20, 0.34),
        ("int8-45nm-sram-1mb", "ann_skipping", SLOW, 0.23, 0.38),
        ("fp32-45nm", "ann_skipping_8bit", RUNNING, 1.77, 6.20),
        ("fp32-45nm", "ann_skipping_8bit", SLOW, 0.85, 1.42),
    ],
)
def test_what_the_pages_say_in_plain_words_is_in_the_table(
    profile: str, opponent: str, policies: tuple[str, ...], least: float, most: float
) -> None:
    found = shares(profile, opponent, *policies)
    assert (found[0], found[-1]) == (least, most)
