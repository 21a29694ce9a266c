"""The page on error amplification: its tables are the stored figures, of whole episodes, and what it says holds."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import error_amplification as study
from benchmarks.markers import between

PAGE = Path(study.__file__).parents[1] / "docs" / "error-amplification.md"
CASES = study.kept(study.FILE)
CONTINUOUS = [name for name in study.ENVIRONMENTS if name != "dqn-CartPole-v1"]


def figure(actor: str, timesteps: int, alpha: float, name: str) -> Any:
    key = {"actor": actor, "timesteps": timesteps, "alpha": alpha}
    return next(case for case in CASES if key.items() <= case.items())[name]


def test_every_conversion_of_every_actor_was_measured_in_ten_whole_episodes() -> None:
    found = {(case["actor"], case["timesteps"], case["alpha"], case["episodes"], case["decisions"]) for case in CASES}
    assert found == {(a, t, alpha, 10, None) for a in study.ENVIRONMENTS for t, alpha in study.VARIANTS}
    noise = study.kept(study.NOISE_FILE)
    assert {(case["actor"], case["episodes"], case["decisions"]) for case in noise} == {
        (actor, 10, None) for actor in study.ENVIRONMENTS
    }


def test_the_tables_are_the_stored_figures(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    study.table(page=page)
    assert page.read_text() == PAGE.read_text()
    tables = between(PAGE.read_text(), study.MARKER)
    assert tables.count("| IF T=") == 4 * 12
    assert tables.count("| default neuron |") == 4


@pytest.mark.parametrize("actor", study.ENVIRONMENTS)
def test_the_ann_corrects_everywhere(actor: str) -> None:
    assert all(case["correction"]["interval"][1] < 0 for case in CASES if case["actor"] == actor)


@pytest.mark.parametrize("actor", CONTINUOUS)
def test_without_crpi_errors_are_consistent_and_the_policy_alone_costs_less_than_half_a_per_cent(actor: str) -> None:
    for timesteps in (4, 8, 16):
        assert figure(actor, timesteps, 0.0, "consistency")["interval"][0] > 0
        assert figure(actor, timesteps, 0.0, "beside_ann")["interval"][0] > 0
    assert all(case["policy"]["mean"] < 0.5 for case in CASES if case["actor"] == actor)


@pytest.mark.parametrize("actor", CONTINUOUS)
def test_where_anything_is_lost_the_states_cost_most_of_it(actor: str) -> None:
    for case in CASES:
        if case["actor"] == actor and case["lost"]["mean"] > 2:
            assert case["states"]["mean"] > 0.5 * case["lost"]["mean"]


@pytest.mark.parametrize("actor", [name for name in study.ENVIRONMENTS if name != "tqc-HalfCheetah-v3"])
def test_the_residuals_cosine_falls_with_alpha(actor: str) -> None:
    for timesteps in (4, 8, 16):
        means = [figure(actor, timesteps, alpha, "residual_cosine")["mean"] for alpha in (0.0, 0.3, 0.5, 1.0)]
        assert all(one > other for one, other in pairwise(means)), (timesteps, means)


@pytest.mark.parametrize("actor", study.ENVIRONMENTS)
def test_with_the_default_neuron_nothing_is_lost_for_certain(actor: str) -> None:
    lost = figure(actor, 0, 0.0, "lost")
    assert lost["interval"][0] < 0.05
    assert lost["mean"] < 0.6


def test_tables_show_the_conversions_that_there_are(tmp_path: Path) -> None:
    part = tmp_path / "part.json"
    part.write_text(json.dumps([case for case in CASES if case["timesteps"] == 8 and case["alpha"] in (0.0, 0.3)]))
    lines = list(study.beside_ann_table(study.kept(part)))
    assert lines[0] == "| consistency beside the ANN | α = 0 | α = 0.3 |"
    assert len(lines) == 2 + len(study.ENVIRONMENTS) + 1
    fewer = [{**case, "episodes": 2, "beside_ann": {"mean": 9.0, "interval": [9.0, 9.0]}} for case in CASES[:3]]
    assert list(study.beside_ann_table([*CASES, *fewer])) == list(study.beside_ann_table(CASES))
