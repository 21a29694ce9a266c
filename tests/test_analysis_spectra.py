"""Power spectra of errors whose spectrum is known: constant, white, alternating, a sine."""

import numpy as np
import pytest

from snn_policy.analysis.error_spectra import spectra
from tests.synthetic import trace

K = 512
ALTERNATING = (-1.0) ** np.arange(K)


def low_share(error: np.ndarray) -> float:
    return spectra([trace(error)]).summary["error"].mean


def test_a_constant_error_is_slow_altogether():
    assert low_share(np.full(K, 0.3)) == pytest.approx(1)


def test_an_alternating_error_has_no_slow_part():
    assert low_share(ALTERNATING) == pytest.approx(0, abs=1e-12)


def test_a_fifth_of_a_white_errors_power_is_slow():
    random = np.random.default_rng(0)
    found = spectra([trace(random.normal(size=K)) for _ in range(20)]).summary["error"]
    assert found.mean == pytest.approx(0.2, abs=0.01)
    assert found.interval[0] < 0.2 < found.interval[1]


@pytest.mark.parametrize("cycles", [0.05, 0.2, 0.4])
def test_a_sines_power_is_at_its_frequency(cycles: float):
    found = spectra([trace(np.sin(2 * np.pi * cycles * np.arange(K)))])
    power = found.mean_power(found.error)[:, 0]
    assert found.frequencies[np.argmax(power)] == pytest.approx(cycles, abs=1 / 128)
    assert found.summary["error"].mean == pytest.approx(float(cycles < 0.1), abs=0.01)


@pytest.mark.parametrize("error", [np.full(K, 0.3), 0.5 * ALTERNATING, np.sin(np.arange(K) / 2)])
def test_the_powers_add_up_to_the_mean_square(error: np.ndarray):
    found = spectra([trace(error)])
    assert found.mean_power(found.error).sum() == pytest.approx(np.mean(error**2), rel=0.02)


def test_the_action_and_every_dimension_have_shares_of_their_own():
    both = np.stack([np.full(K, 0.2), 0.2 * ALTERNATING], axis=1)
    found = spectra([trace(both, ann=both[:, ::-1])]).summary
    assert found["action_0"].mean == pytest.approx(0, abs=1e-12)
    assert found["action_1"].mean == pytest.approx(1)
    assert found["action"].mean == pytest.approx(0.5)
    errors = spectra([trace(both)]).summary
    assert (errors["error_0"].mean, errors["error_1"].mean) == pytest.approx((1, 0))


@pytest.mark.parametrize(("error", "ann", "share"), [(np.full(K, 0.2), ALTERNATING, 1), (ALTERNATING, np.ones(K), 0)])
def test_the_error_is_what_the_policy_does_less_what_the_ann_would(error: np.ndarray, ann: np.ndarray, share: float):
    found = spectra([trace(ann + error, ann=ann)]).summary
    assert found["error"].mean == pytest.approx(share, abs=1e-9)
    assert found["action"].mean == pytest.approx(1 - share, abs=1e-9)


def test_no_error_has_no_share_and_short_episodes_take_shorter_segments():
    assert np.isnan(spectra([trace(np.zeros(K))]).summary["error"].mean)
    found = spectra([trace(np.ones(20)), trace(np.ones(9))])
    assert len(found.frequencies) == 9
    assert [len(powers) for powers in found.error] == [1, 0]
    with pytest.raises(ValueError, match="7 decisions, at least 8"):
        spectra([trace(np.ones(7))])
