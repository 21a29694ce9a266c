"""A policy that sticks, ones that do not, and rests on a wrong action."""

import numpy as np
import pytest

from snn_policy.analysis.action_sticking import Tolerances, longest_run, sticking
from tests.synthetic import trace

MOVING = np.sin(np.arange(100) / 3)
STILL = np.zeros((100, 1), np.float32)


def test_a_policy_that_never_changes_its_action_sticks_wherever_the_ann_moves():
    found = sticking([trace(np.full(100, 0.4), ann=MOVING)])
    assert found.summary["share"].mean == 1
    assert found.summary["longest"].mean == found.longest == 99


def test_a_policy_that_does_as_the_ann_never_sticks():
    assert sticking([trace(MOVING, ann=MOVING)]).summary["share"].mean == 0


def test_it_does_not_stick_where_the_ann_stays_as_well():
    assert sticking([trace(np.full(100, 0.4), ann=np.full(100, 0.4))]).summary["share"].mean == 0


@pytest.mark.parametrize(("asked", "moves"), [(np.zeros(100), 0), (MOVING, 1), (np.repeat(MOVING[:50], 2), 49 / 99)])
def test_in_which_decisions_the_ann_moves_is_counted(asked: np.ndarray, moves: float):
    found = sticking([trace(np.full(100, 0.4), ann=asked)]).summary
    assert found["moves"].mean == pytest.approx(moves)
    assert found["share"].mean == pytest.approx(moves)


def test_a_policy_that_follows_every_fourth_decision_sticks_in_three_of_four():
    held = np.repeat(np.linspace(0, 1, 25), 4)
    found = sticking([trace(held, ann=np.linspace(0, 1, 100))])
    assert found.summary["share"].mean == pytest.approx(75 / 99)
    assert found.longest == 3


@pytest.mark.parametrize(("step", "sticks"), [(5e-4, 0), (2e-3, 1)])
def test_what_counts_as_a_move_is_in_half_ranges(step: float, sticks: int):
    episode = trace(np.zeros(50), ann=step * np.arange(50))
    assert sticking([episode]).summary["share"].mean == sticks
    assert sticking([episode], Tolerances(moves=step / 2)).summary["share"].mean == 1
    assert sticking([episode], Tolerances(moves=2 * step)).summary["share"].mean == 0


def test_an_action_stays_where_all_its_entries_do_and_moves_where_one_does():
    still, one = np.zeros((100, 2)), np.stack([np.zeros(100), MOVING], axis=1)
    assert sticking([trace(still, ann=one)]).summary["share"].mean == 1
    assert sticking([trace(one, ann=one + MOVING[:, None])]).summary["share"].mean == 0


def test_rest_on_another_action_than_the_anns_is_told_from_rest_on_its_own():
    observations = np.concatenate([np.arange(50, dtype=np.float32)[:, None], np.full((50, 1), 50, np.float32)])
    acting = np.concatenate([MOVING[:50], np.zeros(50)])
    wrong = sticking([trace(acting, ann=acting + 0.05, observations=observations)])
    right = sticking([trace(acting + 0.3, ann=acting + 0.3, observations=observations)])
    assert wrong.rests[0].sum() == right.rests[0].sum() == 50
    assert wrong.summary["wrong_rests"].mean == 0.5
    assert wrong.summary["resting_episodes"].mean == 1
    assert right.summary["wrong_rests"].mean == right.summary["resting_episodes"].mean == 0


@pytest.mark.parametrize(
    "observations", [np.arange(100, dtype=np.float32)[:, None], MOVING[:, None].astype(np.float32)]
)
def test_a_constant_action_is_no_rest_while_the_plant_moves(observations: np.ndarray):
    assert not sticking([trace(np.zeros(100), observations=observations)]).rests[0].any()


def test_short_rests_are_none():
    observations = np.concatenate([STILL[:19], np.arange(60, dtype=np.float32)[:, None] + 5])
    episode = trace(np.zeros(79), observations=observations)
    assert not sticking([episode]).rests[0].any()
    assert sticking([episode], Tolerances(run=10)).rests[0].sum() == 19


def test_discrete_choices_stick_like_actions():
    choices = np.eye(2)[[0, 0, 0, 1]]
    asked = np.eye(2)[[0, 1, 1, 1]]
    assert sticking([trace(choices, ann=asked)]).sticks[0].tolist() == [False, True, False, False]


@pytest.mark.parametrize(("mask", "longest"), [([], 0), ([0, 0], 0), ([1, 1, 0, 1], 2), ([0, 1, 1, 1], 3)])
def test_the_longest_run_is_counted(mask: list[int], longest: int):
    assert longest_run(np.array(mask, bool)) == longest


@pytest.mark.parametrize("wrong", [{"still": -1}, {"moves": float("nan")}, {"run": 1}, {"still_observation": "x"}])
def test_tolerances_that_are_none_are_refused(wrong: dict):
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        Tolerances(**wrong)
