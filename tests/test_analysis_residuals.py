"""Cosines of residuals and errors whose process is known; residuals as the networks define them."""

from typing import Any

import numpy as np
import pytest

from snn_policy.actor import Actor
from snn_policy.analysis.residuals import (
    ALPHAS,
    lagged_cosines,
    residual_cosines,
    residual_cosines_by_alpha,
    withheld_from_action,
)
from snn_policy.analysis.traces import answers, in_half_ranges, record_traces
from snn_policy.analysis.variants import with_alpha
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.convert import convert
from snn_policy.policy import SpikingPolicy
from snn_policy.spiking.membrane import decide_membrane
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons, sigma_delta_residual
from snn_policy.spiking.state import MembraneState
from tests.actors import dyadic_actor, every_policy, random_actor, walk
from tests.stage_graphs import graph_actor
from tests.synthetic import Line, line_actor, trace

K = 4000
RANDOM = np.random.default_rng(0).normal(size=(K, 3))


def autoregressive(share: float) -> np.ndarray:
    """x_k = share·x_{k−1} + √(1 − share²)·w: neighbours correlate by `share`."""
    values = RANDOM.copy()
    for k in range(1, K):
        values[k] = share * values[k - 1] + np.sqrt(1 - share**2) * values[k]
    return values


@pytest.mark.parametrize(
    ("errors", "cosine"),
    [
        (np.full((50, 2), 0.1), 1.0),
        (np.full((50, 2), 0.1) * (-1.0) ** np.arange(50)[:, None], -1.0),
        (np.array([[1.0, 0.0], [0.0, 1.0]] * 25), 0.0),
    ],
)
def test_constant_alternating_and_perpendicular_errors_have_cosines_1_minus_1_and_0(errors: np.ndarray, cosine: float):
    assert lagged_cosines(errors, errors, 1) == pytest.approx(np.full(49, cosine))


def test_a_white_process_has_none_and_a_slow_one_its_own():
    assert np.mean(lagged_cosines(RANDOM, RANDOM, 1)) == pytest.approx(0, abs=0.03)
    by_share = [np.mean(lagged_cosines(values, values, 1)) for values in map(autoregressive, (-0.8, 0.4, 0.9))]
    assert by_share == pytest.approx([-0.7, 0.35, 0.85], abs=0.06)


@pytest.mark.parametrize("lag", [-3, -1, 0, 2])
def test_lags_pair_the_right_decisions(lag: int):
    later = np.roll(RANDOM, lag, axis=0)
    found = lagged_cosines(RANDOM, later, lag)
    assert len(found) == K - abs(lag)
    assert found == pytest.approx(np.ones(K - abs(lag)))
    assert len(lagged_cosines(RANDOM[:2], RANDOM[:2], lag)) == max(0, 2 - abs(lag))


def test_a_zero_has_no_direction():
    values = np.array([[1.0], [0.0], [1.0], [1.0]])
    np.testing.assert_equal(lagged_cosines(values, values, 1), [np.nan, np.nan, 1.0])


def passing_on() -> SpikingPolicy:
    """A policy whose last layer adds up, for either action, one of two IF neurons."""
    eye, none = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    actor = Actor((Linear(eye, none, RELU), Linear(eye, none)), Head.clip([-9.0] * 2, [9.0] * 2), (2,))
    return convert(actor, abs(RANDOM[:100, :2]), neuron="if", threshold="max")


ANN = np.cumsum(RANDOM[:500, :2], axis=0)
"""What the ANN does: its changes are white."""


def at_lag(lag: int, sign: float) -> np.ndarray:
    """Return x_k = sign·Δ_{k+lag}, (500, 2), Δ_k = a(s_{k+1}) − a(s_k) of `ANN`; zeros where there is none."""
    changes, found = np.diff(ANN, axis=0), np.zeros_like(ANN)
    for k in range(len(found)):
        if 0 <= k + lag < len(changes):
            found[k] = sign * changes[k + lag]
    return found


@pytest.mark.parametrize(("lag", "sign"), [(-2, 1.0), (-1, -1.0), (0, 1.0), (0, -1.0), (1, 1.0), (4, -1.0)])
def test_errors_and_residuals_correlate_with_the_anns_change_at_the_lag_that_they_have(lag: int, sign: float):
    vectors = at_lag(lag, sign)
    found = residual_cosines(passing_on(), [trace(ANN + vectors, ann=ANN, residuals=(vectors.astype(np.float32),))])
    for name in ("errors_with_changes", "residuals_with_changes"):
        cosines = {at: found.by_lag[name][at].mean for at in (-2, -1, 0, 1, 2, 4)}
        assert cosines.pop(lag) == pytest.approx(sign, abs=1e-3), name
        assert np.abs(list(cosines.values())).max() < 0.15, name


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_residuals_and_errors_correlate_with_themselves_at_their_period(lag: int):
    turns = np.pi / lag * np.arange(200)  # half a turn after `lag` decisions
    vectors = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    found = residual_cosines(passing_on(), [trace(vectors, residuals=(vectors.astype(np.float32),))])
    for name in ("hidden1", "errors"):
        assert found.by_lag[name][lag].mean == pytest.approx(-1)
        assert found.by_lag[name][2 * lag].mean == pytest.approx(1)
    means = found.summary["all"].mean, found.summary["hidden1"].mean, found.by_lag["hidden1"][1].mean
    assert means == pytest.approx([np.cos(np.pi / lag)] * 3)


def test_membrane_residuals_are_those_that_the_state_carries():
    actor, observations = dyadic_actor(), walk(40, (4,))
    policy = next(policy for policy in every_policy(actor) if _model(policy) == "if")
    neurons, state = policy.network.neurons, policy.initial_state(1)
    expected = []
    assert isinstance(neurons, MembraneNeurons)
    assert isinstance(state, MembraneState)
    for obs in observations:
        _, state, _ = decide_membrane(actor.inputs(obs[None]), state, actor.layers, neurons)
        expected.append(state.residual[0])
    found = np.concatenate(_along(policy, observations), axis=1)
    np.testing.assert_array_equal(found[:, 1:8], np.array(expected)[:, 1:8])
    assert not found[:, 0].any()  # a dead neuron owes nothing


def _model(policy: SpikingPolicy) -> str:
    return getattr(policy.network.neurons, "model", "sigma-delta")


def _along(policy: SpikingPolicy, observations: np.ndarray) -> tuple[Any, ...]:
    from snn_policy.analysis.leftover import leftover, memories_of

    memories = []
    policy.reset()
    for obs in observations:
        policy.act(obs)
        memories.append(memories_of(policy.state))
    return leftover(policy.network, observations, memories)


@pytest.mark.parametrize("name", ["chain", "lstm", "elman", "residual", "branches"])
def test_sigma_delta_residuals_of_silent_neurons_are_those_that_are_carried(name: str):
    actor: Actor = random_actor(widths=(12, 10)) if name == "chain" else graph_actor(name)
    observations = walk(60, actor.observation_shape, seed=1)
    policy = with_alpha(convert(actor, observations, np.arange(60) == 0, engine="numpy"), 0.5)
    neurons = policy.network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    owed = _along(policy, observations)
    policy.reset()
    ends = np.cumsum(actor.widths)[:-1]
    silent = 0
    for k, obs in enumerate(observations):
        policy.act(obs)
        for stage, carried in enumerate(np.split(policy.state._asdict()["residual"][0], ends)):
            quiet = carried != 0
            silent += int(quiet.sum())
            bounded = sigma_delta_residual(owed[stage][k], np.zeros_like(quiet), neurons.quanta[stage])
            assert bounded[quiet] == pytest.approx(carried[quiet], abs=1e-4 * max(1.0, float(abs(carried).max())))
    assert silent > 50


def test_what_sigma_delta_neurons_owe_is_less_than_they_may_keep():
    actor, observations = random_actor(widths=(12, 10)), walk(60)
    policy = convert(actor, observations, alpha=0.0)
    neurons = policy.network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    for owed, quantum in zip(_along(policy, observations), neurons.quanta, strict=True):
        assert (abs(owed[5:]) <= 0.76 * quantum + 1e-5).mean() > 0.97


def test_what_is_withheld_from_the_action_is_the_error_of_the_last_layers_input():
    actor, observations = dyadic_actor(widths=(8,)), walk(50, (4,))
    policy = convert(actor, observations, neuron="if", timesteps=8, alpha=0.0, threshold="max", engine="numpy")
    unbounded = Actor(actor.layers, Head.clip([-np.inf] * 2, [np.inf] * 2), (4,))
    logits = SpikingPolicy(type(policy.network)(unbounded, policy.network.neurons), engine="numpy")
    short = unbounded.act(observations) - answers(logits, [observations])[0]
    owed = trace(np.zeros(50), residuals=_along(policy, observations))
    withheld = withheld_from_action(actor.graph, owed, 1) / 8
    assert withheld.shape == (50, 2)
    assert np.corrcoef(withheld.ravel(), short.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("neuron", ["if", "snm", "sigma-delta"])
def test_residual_cosines_fall_with_alpha_or_stay(neuron: str):
    actor = line_actor()
    policy = convert(actor, actor.collect(Line, steps=300), neuron=neuron)
    found = residual_cosines_by_alpha(policy, Line, episodes=3, seed=0)
    assert tuple(found) == ALPHAS
    for cosines in found.values():
        assert {"hidden1", "all"} <= set(cosines.summary)
        assert cosines.summary["all"].episodes == 3
        assert set(cosines.by_lag) >= {"hidden1", "errors", "errors_with_changes", "residuals_with_changes"}
        assert all(abs(estimate.mean) <= 1 for estimate in cosines.summary.values())
    if neuron != "sigma-delta":
        assert found[1.0].summary["all"].mean < found[0.0].summary["all"].mean - 0.1


def test_a_trace_is_the_episode_that_the_policy_runs_and_leaves_the_policy_alone():
    actor = line_actor()
    policy = convert(actor, actor.collect(Line, steps=300), neuron="if", timesteps=8)
    policy.reset()
    policy.act(np.ones(2))
    before, count = policy.state, policy.counters.decisions.tolist()
    traces = record_traces(policy, actor, Line, episodes=2, seed=7)
    np.testing.assert_array_equal(before[0], policy.state[0])
    assert policy.counters.decisions.tolist() == count
    env = Line()
    for episode, recorded in enumerate(traces):
        obs, _ = env.reset(seed=7 + episode)
        policy.reset()
        for k in range(60):
            np.testing.assert_array_equal(recorded.observations[k], obs)
            action = policy.act(obs)
            assert recorded.actions[k] == pytest.approx(action)
            assert recorded.ann[k] == pytest.approx(actor.act(obs), abs=1e-6)
            obs, reward, *_ = env.step(action)
            assert recorded.rewards[k] == reward
    assert residual_cosines(policy, traces).summary["hidden1"].episodes == 2


def test_actions_are_counted_in_half_ranges_and_choices_one_hot():
    assert in_half_ranges(random_actor(outputs=2, kind="tanh"), np.ones((3, 2))) == pytest.approx(
        np.tile([1 / 0.75, 1 / 1.5], (3, 1))
    )
    choosing = random_actor(outputs=3, kind="argmax")
    assert in_half_ranges(choosing, np.array([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    free = Actor(random_actor().layers, Head.clip([-np.inf] * 3, [np.inf] * 3), (11,))
    assert in_half_ranges(free, np.full((1, 3), 0.5)).tolist() == [[0.5] * 3]
