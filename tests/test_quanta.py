"""The sigma-delta calibration: sensitivities, tolerance, predictors (docs/methods.md §1)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import Actor, convert
from snn_policy.ann.layers import Head
from snn_policy.calibration.open_loop import Recording
from snn_policy.calibration.sensitivity import _quantum_shapes, _sensitivities
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from tests.actors import ALL_ACTIVATIONS, HEAD_KINDS, random_actor, reference_actor, walk

ROWS = 600
SEEDS = {"softplus": 1}
"""Of random weights with which no action stands at its bound throughout: sensitivities would count before the bound."""


def action_in_units(actor: Actor, unit: Any, y: Any) -> Any:
    """What errors are measured on: the action, or an argmax head's logits less their mean, in units."""
    if actor.discrete:
        return (y - y.mean(axis=-1, keepdims=True)) / unit
    head, y = actor.head, np.asarray(y, np.float64)
    if head.kind == "tanh":
        y = np.tanh(np.clip(y, -head.pre_clip, head.pre_clip)) * head.scale + head.offset
    return np.clip(y, head.low, head.high) / unit


def open_loop_error(policy: Any, observations: Any) -> float:
    """RMS action error of acting through the policy from a reset, in half-ranges."""
    actor = policy.actor
    half = (actor.high.astype(np.float64) - actor.low) / 2
    policy.reset()
    spiking = np.array([policy.act(obs) for obs in observations], np.float64)
    return float(np.sqrt(np.mean(((spiking - actor.act(observations)) / half) ** 2)))


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("activation", [a for a in ALL_ACTIVATIONS if a.name != "qcfs"], ids=lambda a: a.name)
def test_sensitivities_equal_finite_differences(activation: Any, kind: Any) -> None:
    actor = random_actor(SEEDS.get(activation.name, 0), activation=activation, kind=kind, widths=(7, 5))
    recording = Recording(actor, walk(40, seed=3))
    weights = [(layer.weight.astype(np.float64), layer.bias.astype(np.float64)) for layer in actor.layers]

    def act(h: Any, stage: int) -> Any:
        for (weight, bias), layer in zip(weights[stage:], actor.layers[stage:], strict=True):
            h = h @ weight.T + bias
            h = h if layer.activation is None else layer.activation(h)
        return action_in_units(actor, recording.unit, h)

    h, delta = recording.inputs.astype(np.float64), 1e-7
    for stage, g in enumerate(_sensitivities(recording)):
        squares = []
        for j in range(h.shape[1]):
            nudge = np.zeros(h.shape[1])
            nudge[j] = delta
            slope = (act(h + nudge, stage) - act(h - nudge, stage)) / (2 * delta)
            squares.append((slope**2).sum(axis=1).mean())
        assert np.allclose(g, np.sqrt(squares), rtol=2e-3, atol=1e-6)
        weight, bias = weights[stage]
        activation_here = actor.layers[stage].activation
        h = h @ weight.T + bias if activation_here is None else activation_here(h @ weight.T + bias)


def test_quanta_are_shares_of_the_inverse_sensitivity_with_a_floor() -> None:
    recording = Recording(random_actor(widths=(9, 8, 7)), walk(ROWS))
    shares = (0.02, 0.03, 0.03, 0.01)
    for share, g, shape in zip(shares, _sensitivities(recording), _quantum_shapes(recording), strict=True):
        assert np.allclose(shape, share / np.maximum(g, 1e-3 * g.max()))


@pytest.mark.parametrize("tolerance", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("kind", ["tanh", "clip"])
@pytest.mark.parametrize("activation", ALL_ACTIVATIONS, ids=lambda a: a.name)
def test_acting_on_the_recording_errs_by_the_tolerance(activation: Any, kind: Any, tolerance: float) -> None:
    seed, observations = SEEDS.get(activation.name, 0), walk(ROWS)
    actor = random_actor(seed, activation=activation, kind=kind, normalised=True)
    policy = convert(actor, observations, tolerance=tolerance)
    assert open_loop_error(policy, observations) == pytest.approx(tolerance, rel=0.02)
    assert policy.conversion["open_loop_error"] == pytest.approx(tolerance, rel=0.02)


ACTORS = {
    "tqc-HalfCheetah-v3": "HalfCheetah-v5",
    "sac-Walker2d-v3": "Walker2d-v5",
    "ppo-Hopper-v3": "Hopper-v5",
    "trpo-Swimmer-v3": "Swimmer-v5",
    "sac-Pendulum-v1": "Pendulum-v1",
}


@pytest.mark.parametrize("name", ACTORS)
def test_reference_actors_err_by_the_tolerance(reference_dir: Path, name: str) -> None:
    actor = reference_actor(reference_dir, name)
    observations = actor.collect(ACTORS[name], steps=1500, seed=21)
    policy = convert(actor, observations)
    assert open_loop_error(policy, observations) == pytest.approx(0.02, rel=0.02)
    spikes = policy.counters.spikes[0] / len(observations)
    assert np.allclose(spikes, policy.conversion["open_loop_spikes"], rtol=0.01)


def test_a_discrete_actor_reports_its_changed_choices() -> None:
    actor, observations = random_actor(kind="argmax"), walk(ROWS)
    shares = []
    for tolerance in (0.01, 0.05, 0.2):
        policy = convert(actor, observations, tolerance=tolerance)
        changed = np.mean([policy.act(obs) for obs in observations] != actor.act(observations))
        assert policy.conversion["changed_choices"] == pytest.approx(changed, abs=2 / ROWS)
        assert policy.conversion["open_loop_error"] == pytest.approx(tolerance, rel=0.02)
        shares.append(changed)
    assert shares == sorted(shares)
    assert shares[0] < 0.05 < shares[-1] + 0.05
    assert "changed_choices" not in convert(random_actor(), observations).conversion


def neurons_of(actor: Actor, observations: Any, **arguments: Any) -> SigmaDeltaNeurons:
    neurons = convert(actor, observations, **arguments).network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    return neurons


def test_each_neuron_gets_the_predictor_with_fewer_spikes() -> None:
    # one stage, so that its spikes depend on its own predictor alone
    actor, observations = random_actor(widths=()), walk(ROWS)
    observations[:, :5] = np.random.default_rng(0).normal(size=(ROWS, 5))  # flickers
    observations[:, 5] = np.where(np.arange(ROWS) % 40 == 0, 3, 0)  # mostly silent
    quanta = [np.full(11, 0.1)]
    chosen = neurons_of(actor, observations, threshold=quanta).predictor[0]
    spikes = []
    for gamma in (0, 1):
        for j in range(11):
            only = np.zeros(11, np.float32)
            only[j] = 0.1
            record = convert(actor, observations, threshold=[only], predictor=gamma).conversion
            spikes.append(record["open_loop_spikes"][0])
    afresh, changes = np.array(spikes).reshape(2, 11)
    assert np.array_equal(chosen, changes < afresh)
    assert set(chosen.tolist()) == {0.0, 1.0}


def test_slow_observations_choose_changes_and_white_ones_choose_values() -> None:
    actor = random_actor()
    slow = neurons_of(actor, walk(ROWS, correlation=0.999)).predictor[0]
    white = neurons_of(actor, walk(ROWS, correlation=0.0)).predictor[0]
    assert slow.mean() > 0.8
    assert white.mean() < 0.2


def test_infinite_bounds_are_measured_by_the_actions_spread() -> None:
    finite = random_actor(kind="clip")
    boundless = Actor(finite.layers, Head.clip([-np.inf] * 3, [np.inf] * 3), (11,))
    observations = walk(ROWS)
    policy = convert(boundless, observations)
    exact = boundless.act(observations)
    errors = (np.array([policy.act(obs) for obs in observations]) - exact) / exact.std(axis=0)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(0.02, rel=0.02)


def test_a_constant_recording_still_converts() -> None:
    observations = np.ones((50, 11), np.float32)
    policy = convert(random_actor(), observations)
    assert policy.conversion["open_loop_error"] <= 0.021


def test_a_tolerance_out_of_the_digits_reach_is_said() -> None:
    actor = random_actor(widths=(24, 20))
    with pytest.warns(UserWarning, match="not reached.*more digits"):
        policy = convert(actor, walk(500, actor.observation_shape), digits=1, tolerance=0.001)
    assert policy.conversion["open_loop_error"] > 0.0011
