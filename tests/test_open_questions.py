"""The experiments on the paper's open questions: rules for α, alterations of the ANN's actions, stacked frames."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from benchmarks import alpha_rules, open_questions
from benchmarks.beyond_one_observer import pair_returns, seeing_frames, stacked
from benchmarks.disturbed_ann import Altered, Part, judged, values_of
from benchmarks.markers import between
from benchmarks.places import DOCS
from snn_policy import Actor, load_actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.exported import path

CAR = "MountainCarContinuous-v0"


SHORT = {"0.0": 1.0, "0.3": 2.0, "0.6": 9.0, "0.8": 3.0}


def linear_actor(discrete: bool = False, gain: float = 1.0) -> Actor:
    """Acts as gain · observation, per entry, within ±10; or chooses the largest."""
    hidden = Linear(np.vstack([np.eye(2), -np.eye(2)]).astype(np.float32), np.zeros(4, np.float32), RELU)
    last = Linear(gain * np.hstack([np.eye(2), -np.eye(2)]).astype(np.float32), np.zeros(2, np.float32))
    return Actor((hidden, last), Head.argmax(2) if discrete else Head.clip([-10, -10], [10, 10]), (2,))


def altered(part: Part, observations: Any, *, discrete: bool = False, bounds: Any = None) -> np.ndarray:
    """The actions of one row along these observations."""
    acting = Altered(linear_actor(discrete), part, np.ones(2), bounds, 1)
    acting.begin(0, 1)
    return np.stack([acting.act(np.array([obs], np.float32))[0] for obs in observations])


RISING = np.stack([np.linspace(0, 1, 11), np.zeros(11)], axis=1)


@pytest.mark.parametrize(
    ("values", "alpha"),
    [
        ({0.0: -0.1, 0.5: -0.2, 1.0: -0.3}, 0.0),
        ({0.0: 0.3, 0.5: 0.2, 1.0: 0.1}, 1.0),
        ({0.0: 0.1, 0.4: 0.01, 0.8: -0.1}, 0.4),
        ({0.0: 0.1, 1.0: -0.1}, 0.4),
        ({0.0: 0.1, 0.2: -0.3, 0.4: 0.3, 1.0: -0.1}, 0.0),
        ({0.0: float("nan"), 0.2: 0.2, 0.4: -0.2}, 0.3),
        ({0.0: float("nan")}, 0.0),
    ],
)
def test_a_crossing_is_the_first_and_on_the_grid(values: dict[float, float], alpha: float) -> None:
    assert alpha_rules.crossing(values) == alpha


def test_a_rule_that_says_the_best_alpha_keeps_all_of_it() -> None:
    grid = {str(alpha): [100.0 - 10 * abs(alpha - 0.6)] * 10 for alpha in alpha_rules.GRID}
    chosen = dict.fromkeys(alpha_rules.RULES, 0.6) | {"zero": 0.0}
    found = alpha_rules.judged({"chosen": chosen, "ann": [100.0] * 10, "returns": grid, "short": {"search": SHORT}})
    assert found["best"] == 0.6
    assert found["rules"]["pilot"]["mean"] == 1.0
    assert found["rules"]["zero"]["mean"] == pytest.approx(0.94)
    assert found["rules"]["three"]["alpha"] == 0.8


@pytest.mark.parametrize(("delta", "changes"), [(0.05, 10), (0.15, 5), (0.35, 2), (2.0, 0)])
def test_hysteresis_holds_the_action_until_it_has_moved(delta: float, changes: int) -> None:
    actions = altered(Part("hysteresis", delta), RISING)
    assert np.count_nonzero(np.diff(actions[:, 0])) == changes
    assert np.abs(actions - RISING).max() <= delta + 1e-6


@pytest.mark.parametrize(("delta", "turns"), [(0.0, 6), (0.25, 8), (0.75, 11)])
def test_hysteresis_holds_a_choice_until_another_is_better_by_delta(delta: float, turns: int) -> None:
    observations = np.stack([np.full(11, 0.51), RISING[:, 0]], axis=1)
    chosen = altered(Part("hysteresis", delta), observations, discrete=True)
    assert np.count_nonzero(chosen == 0) == turns


def test_a_delay_is_one_decision() -> None:
    assert altered(Part("delay", 1), RISING)[:, 0] == pytest.approx([0, *RISING[:-1, 0]])


@pytest.mark.parametrize("size", [0.05, 0.5, 2.0])
def test_dither_has_the_power_it_is_given(size: float) -> None:
    actions = altered(Part("dither", size), np.zeros((1500, 2)))
    assert np.sqrt(np.mean(actions**2)) == pytest.approx(size, rel=0.08)
    assert abs(np.mean(actions[1:] * actions[:-1])) < 0.08 * size**2


@pytest.mark.parametrize("bound", [0.25, 0.5, 2.0])
def test_clipping_bounds_hidden_neurons(bound: float) -> None:
    actions = altered(Part("clipping", 1.0), RISING, bounds=[np.full(4, bound)])
    assert actions[:, 0] == pytest.approx(np.minimum(RISING[:, 0], bound))


def test_without_an_alteration_it_is_the_ann() -> None:
    actor = linear_actor()
    assert altered(Part(), RISING) == pytest.approx(actor.step(RISING.astype(np.float32), ())[0])
    assert values_of(actor, RISING.astype(np.float32)) == pytest.approx(RISING)


@pytest.mark.parametrize(
    ("gained", "verdict"), [(5.0, (True, False)), (-5.0, (False, True)), (0.0, (False, False)), (0.45, (False, False))]
)
def test_what_helps_and_harms_is_told_by_its_interval(gained: float, verdict: tuple[bool, bool]) -> None:
    ann = np.random.default_rng(0).normal(100, 10, 200)
    noise = np.random.default_rng(1).normal(0, 1, 200)
    found = judged({"ann": list(ann), "returns": {"delay": list(ann + gained + noise - noise.mean())}}, "delay")
    assert (found["helps"], found["harms"]) == verdict


def test_stacked_positions_say_what_velocities_say() -> None:
    """A car's velocity is the difference of two positions: the rewritten network acts as the one that sees it."""
    weight = np.array([[0.0, 40.0], [0.0, -40.0]], np.float32)
    hidden = Linear(weight, np.zeros(2, np.float32), RELU)
    last = Linear(np.array([[1, -1]], np.float32), np.zeros(1, np.float32))
    actor = Actor((hidden, last), Head.clip([-1], [1]), (2,))
    blind = seeing_frames(actor, (0,), (1,), 1.0)
    make = stacked(lambda: gym.make(CAR), (0,))
    whole, framed = (evaluate(one, env, episodes=3, seed=0) for one, env in ((actor, CAR), (blind, make)))
    assert whole.mean > 85
    assert framed.returns == pytest.approx(whole.returns, abs=0.1)


def test_a_pair_of_anns_has_no_errors_and_without_a_spring_no_partner() -> None:
    actor = load_actor(path("td3-Pendulum-v1"))
    returns, cosine = pair_returns((actor, actor), 0.0, 2)
    assert returns.shape == (2, 2)
    assert cosine is None
    assert returns.mean() > -400


def test_the_page_says_what_was_measured() -> None:
    found = json.loads(open_questions.FILE.read_text())
    assert between((DOCS / "error-amplification.md").read_text(), open_questions.MARKER) == open_questions.text(found)
    assert Path(open_questions.FILE).stat().st_size < 400_000
