"""What a report of a sweep concludes, where the answer is known."""

import math
import tracemalloc

import numpy as np
import pytest

from snn_policy.evaluation import statistics
from snn_policy.sweeps.equivalence import EQUIVALENT, NO_WORSE, TOO_FEW, UNDECIDED, WORSE, equivalence, student_cdf
from snn_policy.sweeps.profiles import (
    Share,
    at_least_as_good,
    mean_retention,
    performance_profile,
    share_of,
    share_over_actors,
    wilson,
)

GENERATOR = np.random.default_rng(7)
ANN = 3000 + 200 * GENERATOR.standard_normal(40)


@pytest.mark.parametrize(
    ("t", "freedom", "probability"),
    [  # the usual tables of Student's distribution
        (0.0, 7, 0.5),
        (6.314, 1, 0.95),
        (2.920, 2, 0.95),
        (2.353, 3, 0.95),
        (1.812, 10, 0.95),
        (2.228, 10, 0.975),
        (1.697, 30, 0.95),
        (1.660, 99, 0.95),
        (2.626, 99, 0.995),
        (1.645, 20_000, 0.95),
    ],
)
def test_students_distribution_is_that_of_the_tables(t: float, freedom: int, probability: float) -> None:
    assert student_cdf(t, freedom) == pytest.approx(probability, abs=2e-4)
    assert student_cdf(-t, freedom) == pytest.approx(1 - probability, abs=2e-4)


@pytest.mark.parametrize("returns", [ANN, -ANN, np.full(40, 0.1), np.full(40, -123.4)])
def test_a_copy_is_as_good_keeps_everything_and_is_equivalent(returns: np.ndarray) -> None:
    assert at_least_as_good((returns, returns)).share == 1
    assert mean_retention([(returns, returns)])[:3] == (1, 1, 1)
    found = equivalence(returns, returns, 0.001)
    assert (found.loss, found.verdict) == (0, EQUIVALENT)
    assert found.bound == pytest.approx(0, abs=2e-6)


@pytest.mark.parametrize("constant", [0.1, 3000.3, -0.7])
def test_a_copy_of_equal_returns_has_a_profile_of_one_up_to_one_and_of_zero_beyond(constant: float) -> None:
    returns = np.full(30, constant)
    profile = performance_profile([(returns, returns)] * 3, [0, 0.5, 1, 1.001])
    assert profile.share.tolist() == profile.low.tolist() == profile.high.tolist() == [1, 1, 1, 0]
    assert profile.actors == 3


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("lost", "verdict"), [(0.004, EQUIVALENT), (0.05, WORSE), (-0.05, NO_WORSE)])
def test_shifted_returns_lose_what_they_are_shifted_by(sign: int, lost: float, verdict: str) -> None:
    ann = sign * ANN
    snn = ann - lost * abs(ann.mean())
    found = equivalence(ann, snn, 0.01)
    assert found.loss == pytest.approx(lost)
    assert found.verdict == verdict
    assert found.bound is not None
    assert lost < found.bound < lost + 0.002
    assert mean_retention([(ann, snn)]).mean == pytest.approx(1 - lost)
    assert at_least_as_good((ann, snn)).share == float(lost < 0)


def test_a_loss_below_delta_is_not_claimed_where_its_spread_does_not_allow_it() -> None:
    snn = ANN + 300 * np.random.default_rng(1).standard_normal(40)
    snn += ANN.mean() - snn.mean()  # the mean loss is zero, to the last bit or so
    found = equivalence(ANN, snn, 0.01)
    assert abs(found.loss) < 1e-9
    assert found.verdict == UNDECIDED
    assert found.bound is not None
    assert 0.01 < found.bound < 0.06
    assert equivalence(ANN, snn, found.bound + 1e-5).below


def test_nothing_is_claimed_where_one_fall_in_forty_costs_more_than_delta() -> None:
    snn = ANN + 1.0
    snn[3] = 0.0
    assert equivalence(ANN, snn, 0.02).verdict == UNDECIDED


@pytest.mark.parametrize("episodes", [1, 2, 9])
def test_nothing_is_claimed_of_too_few_episodes(episodes: int) -> None:
    found = equivalence(ANN[:episodes], ANN[:episodes], 0.5)
    assert found.verdict == TOO_FEW
    assert not found.below


def test_nothing_is_claimed_of_an_ann_that_returns_zero() -> None:
    found = equivalence(np.zeros(30), np.zeros(30), 0.1)
    assert math.isnan(found.loss)
    assert (found.verdict, found.bound, found.confidence) == (UNDECIDED, None, 0)


@pytest.mark.parametrize("delta", [0, 1, -0.1, math.nan, math.inf])
def test_a_delta_that_is_no_share_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match=r"^delta .*: expected a share"):
        equivalence(ANN, ANN, delta)


@pytest.mark.parametrize("heavy", [False, True])
def test_a_loss_of_exactly_delta_is_claimed_to_be_below_it_in_one_case_of_twenty_at_most(heavy: bool) -> None:
    generator = np.random.default_rng(3)
    claimed = 0
    for _ in range(60):
        ann = 1000 + 50 * generator.standard_normal(60)
        if heavy:  # one episode in ten falls: the loss is 0.1 × 0.5
            snn = np.where(generator.random(60) < 0.1, 500, 1000) + 50 * generator.standard_normal(60)
        else:
            snn = ann - 50 + 80 * generator.standard_normal(60)
        claimed += equivalence(ann, snn, 0.05).below
    assert 1 <= claimed <= 6  # of 60; of 300 such cases 16 and 17


@pytest.mark.parametrize("episodes", [1, 7, 100, 1001])
def test_resamples_drawn_in_parts_are_those_drawn_at_once(episodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    returns = np.random.default_rng(0).standard_normal(episodes)
    drawn = np.random.default_rng(5).integers(episodes, size=(statistics.RESAMPLES, episodes))
    at_once = returns[drawn].mean(axis=1)
    for size in (1, 12_345, 2**30):
        monkeypatch.setattr(statistics, "DRAWN_AT_ONCE", size if episodes > 7 or size > 1 else 999)
        assert statistics.over_resamples(statistics.mean, (returns,), 5).tolist() == at_once.tolist()


def test_many_episodes_take_no_more_memory_than_few() -> None:
    tracemalloc.start()
    performance_profile([(np.ones(20_000), np.ones(20_000))], [1.0])
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 60e6


def test_wilsons_interval_is_that_of_the_tables() -> None:
    assert wilson(0.0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(1.0, 100) == pytest.approx((0.9630, 1), abs=1e-4)


@pytest.mark.parametrize("episodes", [20, 100])
def test_wilsons_interval_holds_the_true_share_in_95_cases_of_100_on_average(episodes: int) -> None:
    held = []
    for share in np.linspace(0.02, 0.98, 49):
        counts = range(episodes + 1)
        within = [low <= share <= high for low, high in (wilson(k / episodes, episodes) for k in counts)]
        chances = [math.comb(episodes, k) * share**k * (1 - share) ** (episodes - k) for k in counts]
        held.append(float(np.dot(within, chances)))
    assert 0.94 < np.mean(held) < 0.97
    assert min(held) > 0.83


def test_the_interval_of_mean_retention_holds_the_true_one_in_about_95_cases_of_100() -> None:
    generator, held = np.random.default_rng(11), 0
    for case in range(60):
        pairs = [(mean + 0.1 * abs(mean) * generator.standard_normal(40),
                  mean - 0.05 * abs(mean) + 0.1 * abs(mean) * generator.standard_normal(40))
                 for mean in (1000.0, -200.0)]  # fmt: skip
        found = mean_retention(pairs, seed=case)
        held += found.low <= 0.95 <= found.high
    assert 52 <= held <= 60


def test_a_profile_is_the_share_of_runs_that_reach_tau_every_actor_weighing_the_same() -> None:
    ann = np.full(4, 100.0)
    half, none = np.array([100.0, 100, 40, 40]), np.full(8, 0.0)
    profile = performance_profile([(ann, half), (np.full(8, 100.0), none)], [0, 0.4, 0.41, 1, 1.1])
    assert profile.share == pytest.approx([1, 0.5, 0.25, 0.25, 0])
    assert (profile.low <= profile.share).all()
    assert (profile.share <= profile.high).all()


def test_negative_returns_have_profiles_like_positive_ones() -> None:
    ann = np.full(5, -100.0)
    profile = performance_profile([(ann, np.array([-90.0, -100, -110, -150, -250]))], [-2, 0.5, 0.9, 1, 1.1])
    assert profile.share == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_the_mean_of_a_profile_is_the_mean_retention() -> None:
    snn = ANN - 100 * np.abs(np.random.default_rng(2).standard_normal(40))
    taus = np.linspace(0, 1.5, 301)
    shares = performance_profile([(ANN, snn)], taus).share
    area = float(np.sum((shares[1:] + shares[:-1]) / 2 * np.diff(taus)))
    assert area == pytest.approx(mean_retention([(ANN, snn)]).mean, abs=5e-3)


def test_actors_whose_ann_returns_zero_have_no_scores() -> None:
    nothing = np.zeros(10)
    assert performance_profile([(nothing, nothing), (ANN, ANN)], [0.5]).actors == 1
    assert np.isnan(performance_profile([(nothing, nothing)], [0.5, 1]).share).all()
    assert mean_retention([(nothing, nothing)]).actors == 0


def test_shares_over_actors_weigh_actors_not_episodes() -> None:
    many, few = share_of([True] * 100), share_of([False] * 10)
    mean = share_over_actors([many, few])
    assert (mean.share, mean.episodes) == (0.5, 110)
    assert mean.low < 0.35
    assert mean.high > 0.65
    assert share_over_actors([many]) == Share(1, *wilson(1, 100), 100)
