"""Means of decisions whose interval resamples whole episodes."""

import json

import numpy as np
import pytest

from snn_policy.analysis.estimates import estimate


def test_every_decision_weighs_the_same_and_the_interval_resamples_episodes() -> None:
    long, short = np.ones(900), np.zeros(100)
    both = estimate([long, short])
    assert both.mean == pytest.approx(0.9)
    assert both.interval == (0.0, 1.0)
    assert both.episodes == 2


def test_decisions_without_the_figure_do_not_count() -> None:
    assert estimate([[1.0, np.nan, 3.0], [np.nan], [5.0]]) == estimate([[1.0, 3.0], [5.0]])
    assert estimate([[1.0, np.nan, 3.0]]).mean == 2.0


def test_one_episode_has_a_mean_and_no_interval() -> None:
    alone = estimate([[1.0, 2.0]])
    assert alone.mean == 1.5
    assert np.isnan(alone.interval).all()
    assert json.dumps(alone.as_dict()) == '{"mean": 1.5, "interval": [null, null], "episodes": 1}'


def test_nothing_measured_is_null() -> None:
    assert estimate([]).as_dict() == {"mean": None, "interval": [None, None], "episodes": 0}


def test_the_interval_covers_the_truth_where_episodes_differ_more_than_decisions() -> None:
    covered = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        episodes = [random.normal(random.normal(), 0.1, 50) for _ in range(30)]
        low, high = estimate(episodes).interval
        covered += low <= 0.0 <= high
    assert covered >= 34


@pytest.mark.parametrize(
    ("episodes", "samples", "few"),
    [
        ([[0.5, np.nan, -0.5], [np.nan, 1.0]], 3, True),
        ([np.ones(29)], 29, True),
        ([np.ones(29), [1.0, np.nan]], 30, False),
        ([np.full(500, np.nan), [0.2]], 1, True),
        ([np.full(500, np.nan)], 0, False),
    ],
)
def test_a_mean_knows_how_many_values_it_stands_on(episodes: list, samples: int, few: bool) -> None:
    found = estimate(episodes)
    assert (found.samples, found.few) == (samples, few)
