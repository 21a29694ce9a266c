"""Transitions in memory: what is checked, how they are cut and joined, and D4RL's scores."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snn_policy.offline.scores import NOTE, normalised_score
from snn_policy.offline.transitions import concatenate
from tests.recorded import ARRAYS, counted


def test_arrays_are_float32_flags_are_bool_and_all_are_read_only():
    data = counted()
    assert {getattr(data, name).dtype for name in ARRAYS} == {np.dtype(np.float32), np.dtype(np.bool_)}
    assert not any(getattr(data, name).flags.writeable for name in ARRAYS)
    assert (len(data), data.observation_shape, data.action_dim) == (12, (3,), 1)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"rewards": np.zeros(11)}, "rewards: 11 rows, but observations has 12"),
        ({"actions": np.zeros(12)}, "actions: expected 2 axes"),
        ({"next_observations": np.zeros((12, 4))}, "next_observations: shape"),
        ({"actions": np.zeros((12, 0))}, "act_dim"),
        ({"observations": np.full((12, 3), "a")}, "observations: expected real numbers"),
        ({"observations": np.full((12, 3), {}, object)}, "observations: expected real numbers"),
        ({"rewards": np.array([0.0] * 11 + [np.nan])}, r"rewards\[11\]: holds NaN"),
        ({"observations": np.full((12, 3), 1e300)}, r"observations\[0\]: holds NaN, infinity"),
        ({"terminations": np.full(12, 0.5)}, "terminations: expected one boolean"),
        ({"truncations": np.zeros((12, 1))}, "truncations: expected one boolean"),
    ],
)
def test_arrays_that_do_not_agree_or_are_not_finite_are_named(changed: dict[str, Any], named: str):
    with pytest.raises(ValueError, match=named):
        replace(counted(), **changed)


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        replace(counted(), **{name: getattr(counted(), name)[:0] for name in ARRAYS})


def test_normalisation_is_mean_and_standard_deviation_plus_a_thousandth():
    data = counted()
    mean, std = data.normalisation()
    np.testing.assert_allclose(mean, data.observations.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std, data.observations.std(axis=0) + 1e-3, rtol=1e-6)
    constant = replace(data, observations=np.ones((12, 3)), next_observations=np.ones((12, 3)))
    np.testing.assert_allclose(constant.normalisation()[1], 1e-3, rtol=1e-6)


def test_episodes_end_where_flags_say_and_returns_sum_their_rewards():
    data = counted()
    assert [(rows.start, rows.stop) for rows in data.episodes()] == [(0, 5), (5, 8), (8, 12)]
    assert data.episode_returns().tolist() == [10.0, 6.0, 14.0]
    assert data.episode_lengths().tolist() == [5, 3, 4]


def test_a_slice_ends_its_last_episode_and_an_empty_one_is_refused():
    part = counted()[3:7]
    assert part.observations[:, 0].tolist() == [3, 4, 100, 101]
    assert part.truncations.tolist() == [False, True, False, True]
    assert len(counted()[-2:]) == 2
    for rows in (slice(5, 5), slice(50, 60), slice(None, None, 2)):
        with pytest.raises(ValueError, match=r"none of the 12 rows|consecutive"):
            counted()[rows]


def test_joined_datasets_do_not_run_into_each_other():
    open_end = replace(counted((4,), ()), truncations=np.zeros(4, bool))
    joined = concatenate([open_end, counted()], "both", "medium-expert")
    assert len(joined.episodes()) == 4
    with pytest.raises(ValueError, match="cannot be joined"):
        concatenate([open_end, replace(open_end, actions=np.zeros((4, 2)))], "both")


def test_a_fit_is_checked_against_an_environment_and_a_policy():
    from snn_policy.actor import Actor
    from snn_policy.ann.activations import RELU
    from snn_policy.ann.layers import Head, Linear

    data = counted()
    data.check_fits("Pendulum-v1")
    with pytest.raises(ValueError, match=r"does not fit environment MountainCarContinuous-v0.*expected \(2,\)"):
        data.check_fits("MountainCarContinuous-v0")
    with pytest.raises(ValueError, match="CartPole-v1: its actions are Discrete"):
        data.check_fits("CartPole-v1")
    ones, zeros = (lambda *shape: np.ones(shape, np.float32)), (lambda *shape: np.zeros(shape, np.float32))
    layers = (Linear(ones(4, 3), zeros(4), RELU), Linear(ones(1, 4), zeros(1)))
    data.check_fits(Actor(layers, Head.bounded([-2.0], [2.0]), (3,)))
    with pytest.raises(ValueError, match=r"actions\[\d+\] is outside the bounds \[-1, 1\]"):
        data.check_fits(Actor(layers, Head.bounded([-1.0], [1.0]), (3,)))


def test_scores_are_d4rls_and_say_so():
    assert normalised_score("HalfCheetah-v5", 12135.0) == pytest.approx(100)
    assert normalised_score("Walker2d-v5", 1.629008) == pytest.approx(0)
    np.testing.assert_allclose(normalised_score("Hopper-v5", [-20.272305, 1607.0138475]), [0, 50], atol=1e-9)
    assert normalised_score("Ant-v5", 3879.7) == pytest.approx(100)
    with pytest.raises(ValueError, match="Pendulum-v1: no D4RL reference returns"):
        normalised_score("Pendulum-v1", 0.0)
    assert "v2" in NOTE
    assert "v5" in NOTE
