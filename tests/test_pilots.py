"""Pilots: the sequential test keeps its promises in simulation, and a choice says how it was made."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from snn_policy import Actor, SigmaDelta, SpikingPolicy, convert
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.calibration.pilots import ALPHAS, TOLERANCES, Pilot, _sigma_delta_alpha
from snn_policy.calibration.sequential_verdict import BLOCK, LEAST_TO_ACCEPT, MOST_EPISODES, Verdict, judge
from snn_policy.cli import main

Noise = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
REPETITIONS = 200


def smooth(share: float) -> Noise:
    """Returns around 1, paired with a normal error of this standard deviation."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        ann = 1 + 0.02 * rng.normal(size=MOST_EPISODES)
        return ann, ann + share * rng.normal(size=MOST_EPISODES)

    return draw


def heavy(share: float) -> Noise:
    """The error has the tails of Student's t with three degrees of freedom."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        ann = 1 + 0.02 * rng.normal(size=MOST_EPISODES)
        return ann, ann + share / np.sqrt(3) * rng.standard_t(3, size=MOST_EPISODES)

    return draw


def falling(probability: float, depth: float) -> Noise:
    """Both fall now and then, each in episodes of its own: HalfCheetah as measured, 1.5 % and a third of the return."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        ann, snn = (1 + 0.02 * rng.normal(size=MOST_EPISODES) - depth * (rng.random(MOST_EPISODES) < probability)
                    for _ in range(2))  # fmt: skip
        return ann, snn

    return draw


def negative(share: float) -> Noise:
    """Returns below zero, as Pendulum's, that differ much more between seeds than between policies."""

    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        ann = -(1 + 0.5 * rng.normal(size=MOST_EPISODES))
        return ann, ann + share * rng.normal(size=MOST_EPISODES)

    return draw


NOISES = {
    "smooth 2 %": smooth(0.02),
    "smooth 6 %": smooth(0.06),
    "heavy 5 %": heavy(0.05),
    "HalfCheetah's": falling(0.015, 0.35),
    "falls 2 %": falling(0.02, 0.5),
    "negative 5 %": negative(0.05),
}


def sequentially(ann: np.ndarray, snn: np.ndarray, delta: float = 0.01) -> Verdict:
    for count in range(BLOCK, MOST_EPISODES + 1, BLOCK):
        verdict = judge(ann[:count], snn[:count], delta)
        if verdict.accepted is not None:
            return verdict
    pytest.fail("never decided")


def verdicts(noise: Noise, loss: float) -> list[Verdict]:
    rng = np.random.default_rng(14)
    return [sequentially(ann, snn - loss) for ann, snn in (noise(rng) for _ in range(REPETITIONS))]


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_without_a_loss_nine_of_ten_candidates_are_accepted(noise: Noise) -> None:
    found = verdicts(noise, 0.0)
    assert sum(bool(trial.accepted) for trial in found) >= 0.9 * REPETITIONS
    assert max(trial.episodes for trial in found) <= MOST_EPISODES


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_a_loss_of_three_percent_is_accepted_once_in_twenty_at_most_and_found_early(noise: Noise) -> None:
    found = verdicts(noise, 0.03)
    assert sum(bool(trial.accepted) for trial in found) <= 0.05 * REPETITIONS
    assert np.mean([trial.episodes for trial in found]) < 0.6 * MOST_EPISODES


@pytest.mark.parametrize("more", [0.05, 0.08, 0.12])
def test_failures_that_leave_the_mean_within_delta_are_found(more: float) -> None:
    rng, accepted = np.random.default_rng(3), 0
    for _ in range(REPETITIONS):
        ann = 1 + 0.01 * rng.normal(size=MOST_EPISODES)
        failed = rng.random(MOST_EPISODES) < more
        accepted += bool(sequentially(ann, np.where(failed, 0.7, ann + 0.3 * more)).accepted)
    assert accepted <= 0.05 * REPETITIONS


@pytest.mark.parametrize(
    ("snn", "accepted", "episodes"),
    [(1.0, True, LEAST_TO_ACCEPT), (0.985, False, BLOCK), (0.5, False, BLOCK), (1.2, True, LEAST_TO_ACCEPT)],
)
def test_returns_without_any_spread_are_decided_at_the_first_look(snn: float, accepted: bool, episodes: int) -> None:
    verdict = sequentially(np.ones(MOST_EPISODES), np.full(MOST_EPISODES, snn))
    assert (verdict.accepted, verdict.episodes) == (accepted, episodes)
    assert verdict.loss == pytest.approx(1 - snn)


def test_returns_of_zero_are_decided_too() -> None:
    zeros = np.zeros(MOST_EPISODES)
    assert sequentially(zeros, zeros).accepted
    assert not sequentially(zeros, zeros - 1).accepted


@pytest.mark.parametrize(("delta", "accepted"), [(0.0, False), (0.01, False), (0.03, True), (0.1, True)])
def test_delta_is_the_loss_that_is_allowed(delta: float, accepted: bool) -> None:
    ann, snn = smooth(0.01)(np.random.default_rng(0))
    assert sequentially(ann, snn - 0.02, delta).accepted is accepted


class Target(gym.Env):
    """Return as much as the action is near the actor's own; two actions, ten steps of random observations.

    Args:
        strictness: how many times the squared action error costs a whole reward.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    seeds: list[int] = []  # noqa: RUF012

    def __init__(self, strictness: float = 0.0) -> None:
        self.actor, self.strictness = actor_of(), strictness
        self.spec = gym.envs.registration.EnvSpec("Target-v0", max_episode_steps=10)  # pyright: ignore

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(-1 if seed is None else seed)
        self.count, self.obs = 0, self.np_random.normal(size=4).astype(np.float32)
        return self.obs, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        error = float(np.square(action - self.actor.act(self.obs)).mean())
        self.obs = (0.9 * self.obs + 0.3 * self.np_random.normal(size=4)).astype(np.float32)
        self.count += 1
        return self.obs, 1.0 - self.strictness * error, False, self.count == 10, {}


def actor_of(**changes: Any) -> Actor:
    rng = np.random.default_rng(5)
    hidden = Linear(rng.normal(size=(12, 4)).astype(np.float32), np.zeros(12, np.float32), RELU)
    last = Linear(0.2 * rng.normal(size=(2, 12)).astype(np.float32), np.zeros(2, np.float32))
    return Actor((hidden, last), Head.bounded([-1.0, -1.0], [1.0, 1.0]), (4,), **changes)


def recording(rows: int = 400) -> np.ndarray:
    rng, rows_of = np.random.default_rng(1), np.zeros((rows, 4), np.float32)
    for row in range(1, rows):
        rows_of[row] = 0.9 * rows_of[row - 1] + 0.3 * rng.normal(size=4)
    return rows_of


SHORT = Pilot(report_episodes=20)


def piloted(strictness: float, pilot: Pilot = SHORT, **arguments: Any) -> SpikingPolicy:
    Target.seeds.clear()
    return convert(actor_of(), recording(), env=lambda: Target(strictness), pilot=pilot, **arguments)


@pytest.mark.parametrize(("strictness", "chosen"), [(0.0, 0.05), (16.0, 0.02), (44.0, 0.01), (180.0, 0.005)])
def test_the_largest_tolerance_that_keeps_the_return_is_taken(strictness: float, chosen: float) -> None:
    policy = piloted(strictness, tolerance="pilot")
    record = policy.conversion["pilot"]["tolerance"]
    assert policy.conversion["tolerance"] == record["chosen"] == chosen
    assert [candidate["tolerance"] for candidate in record["candidates"]] == list(
        TOLERANCES[: TOLERANCES.index(chosen) + 1]
    )
    assert [candidate["accepted"] for candidate in record["candidates"]][:-1] == [False] * TOLERANCES.index(chosen)
    assert policy.conversion["open_loop_error"] == pytest.approx(chosen, rel=0.2)


@pytest.mark.filterwarnings("ignore:tolerance 'pilot'")
def test_where_no_tolerance_keeps_the_return_the_smallest_is_taken_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="no candidate keeps the ANN's return in Target-v0"):
        policy = piloted(5000.0, tolerance="pilot")
    assert policy.conversion["tolerance"] == 0.005
    assert policy.conversion["pilot"]["tolerance"]["accepted"] is False


def test_the_report_sees_seeds_that_the_choice_has_not_seen() -> None:
    policy = piloted(44.0, tolerance="pilot", alpha="pilot")
    report = policy.conversion["pilot"]["report"]
    chosen = {seed for seed in Target.seeds if seed < SHORT.report_seed}
    reported = {seed for seed in Target.seeds if seed >= SHORT.report_seed}
    assert reported == set(range(95_000, 95_020))
    assert min(chosen) == 90_000
    assert max(chosen) < 90_200
    assert report["seeds"] == [95_000, 95_019]
    assert report["retention"] == pytest.approx(0.99, abs=0.01)
    assert report["snn_failed"] == report["ann_failed"] == 0.0


def test_the_steps_used_are_those_of_the_episodes_and_within_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    policy = piloted(0.0, tolerance="pilot", alpha="pilot", progress=True)
    record = policy.conversion["pilot"]
    tried = record["tolerance"]["candidates"]
    assert record["steps"] == 10 * (3 * 40 + 2 * sum(candidate["episodes"] for candidate in tried) + 2 * 20)
    assert record["steps"] < record["steps_at_most"] == 10 * (3 * 40 + 6 * 200 + 2 * 20)
    shown = capsys.readouterr().err
    assert "environment steps" in shown
    assert f"/{record['steps_at_most']}" in shown.replace(",", "")


def test_the_same_seeds_give_the_same_choice_and_record() -> None:
    brief = Pilot(episodes=40, report_episodes=20)
    once, again = (piloted(44.0, brief, tolerance="pilot", alpha="pilot") for _ in range(2))
    assert once.conversion == again.conversion
    assert once.conversion["pilot"]["alpha"]["candidates"][0]["alpha"] == ALPHAS[0]


@pytest.mark.parametrize("tolerance", ["pilot", 0.05])
def test_alpha_stays_at_its_default_unless_another_is_clearly_better(tolerance: Any) -> None:
    policy = piloted(0.0, tolerance=tolerance, alpha="pilot")
    assert policy.conversion["alpha"] == (0.5, 0.5)
    assert policy.conversion["pilot"]["alpha"]["chosen"] == 0.5


class Scripted:
    """In place of episodes: what each α returns more than the default, with noise that the pairs share or do not."""

    def __init__(self, gains: dict[float, float], noise: float) -> None:
        self.gains, self.noise, self.pilot = gains, noise, Pilot()
        self.tried: list[SigmaDelta] = []

    def returns(self, policy: SigmaDelta, seed: int, episodes: int, description: str) -> np.ndarray:
        self.tried.append(policy)
        seeds, own = np.random.default_rng(seed), np.random.default_rng(len(description) + int(4 * policy.alpha))  # pyright: ignore
        shared = 100 * seeds.normal(size=episodes)
        return shared + self.gains.get(policy.alpha, 0.0) + self.noise * own.normal(size=episodes)  # pyright: ignore


@pytest.mark.parametrize(
    ("gains", "noise", "chosen"),
    [
        ({}, 1.0, 0.5),
        ({1.0: 3.0}, 1.0, 1.0),
        ({0.0: 3.0}, 1.0, 0.0),
        ({0.0: 3.0, 1.0: 5.0}, 1.0, 1.0),
        ({0.0: -3.0, 1.0: -5.0}, 1.0, 0.5),
        ({0.0: 1.0, 1.0: 1.0}, 10.0, 0.5),
        ({}, 0.0, 0.5),
    ],
)
def test_another_alpha_is_taken_only_where_it_is_clearly_better(
    gains: dict[float, float], noise: float, chosen: float
) -> None:
    episodes = Scripted(gains, noise)
    asked = SigmaDelta(tolerance="pilot", alpha="pilot")
    settings, record = _sigma_delta_alpha(asked, lambda tried: tried, episodes)  # pyright: ignore
    assert settings.alpha == record["chosen"] == chosen
    assert settings.tolerance == "pilot"
    assert [trial.tolerance for trial in episodes.tried] == [0.02] * 3
    assert [candidate["episodes"] for candidate in record["candidates"]] == [40] * 3


@pytest.mark.parametrize("arguments", [{"tolerance": "pilot"}, {"alpha": "pilot"}, {"neuron": "if", "alpha": "pilot"}])
def test_a_bundle_keeps_the_record(arguments: dict[str, Any], tmp_path: Path) -> None:
    policy = piloted(0.0, **arguments)
    policy.save(tmp_path)
    assert SpikingPolicy.load(tmp_path).conversion["pilot"] == json.loads(json.dumps(policy.conversion["pilot"]))
    assert policy.conversion["pilot"]["report"]["episodes"] == 20


@pytest.mark.parametrize(
    "settings", [{"tolerance": "pilot"}, {"alpha": "pilot"}, {"neuron": SigmaDelta(tolerance="pilot", alpha="pilot")}]
)
def test_without_an_environment_there_is_one_clear_line(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(tolerance|alpha) 'pilot': the actor's environment is not known .*env="):
        convert(actor_of(), recording(), **settings)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"tolerance": "pilot", "env": "Nowhere-v0"}, "Nowhere-v0"),
        ({"tolerance": "pilot", "env": "CartPole-v1"}, "does not fit the policy"),
        ({"alpha": "pilot", "env": "Pendulum-v1"}, "does not fit the policy"),
        ({"env": "Pendulum-v1"}, "env: of tolerance='pilot'"),
        ({"pilot": Pilot()}, "pilot: of tolerance='pilot'"),
        ({"tolerance": "most"}, "tolerance 'most': expected"),
        ({"alpha": "most"}, "alpha 'most': expected"),
        ({"neuron": "snm", "tolerance": "pilot"}, "tolerance: not an argument"),
    ],
)
def test_what_pilots_cannot_ask_is_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        convert(actor_of(), recording(), **arguments)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"delta": -0.1}, "delta"),
        ({"delta": "1"}, "delta"),
        ({"episodes": 10}, "episodes"),
        ({"episodes": 220}, "episodes"),
        ({"seed": -1}, "seed"),
        ({"report_seed": 90_100}, "report_seed"),
        ({"report_seed": 89_950}, "report_seed"),
        ({"report_episodes": 1}, "report_episodes"),
    ],
)
def test_a_pilot_checks_itself(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(Pilot(), **changes)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command's pilots be brief."""
    monkeypatch.setattr("snn_policy.calibration.pilots.Pilot", partial(Pilot, episodes=20, report_episodes=20))


@pytest.mark.usefixtures("brief")
def test_the_command_writes_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new"
    arguments = ["convert", "td3-Pendulum-v1", "--out", str(out), "--steps", "600", "--tolerance", "pilot"]
    assert main([*arguments, "--delta", "0.5", "--json"]) == 0
    shown = capsys.readouterr()
    record = json.loads(shown.out)["conversion"]["pilot"]
    assert record["tolerance"]["chosen"] == 0.05
    assert record["delta"] == 0.5
    assert record["environment"] == "Pendulum-v1"
    assert record["report"]["episodes"] == 20
    assert SpikingPolicy.load(out).conversion["pilot"] == record
    assert "environment steps" in shown.err


@pytest.mark.usefixtures("brief")
def test_the_command_tells_what_was_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--steps", "600", "--alpha", "pilot", "--tolerance", "pilot", "--delta", "0.5", "--env", "Pendulum-v1"]
    assert main(["convert", "td3-Pendulum-v1", "--out", str(tmp_path / "new"), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("pilot: α = ")]
    assert [line for line in lines if line.startswith("pilot: tolerance 0.05 accepted after 20 episodes")]
    assert [line for line in lines if line.startswith("on 20 unseen episodes, seeds 95000…: retention")]
