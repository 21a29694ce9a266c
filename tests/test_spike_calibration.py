"""Spike calibration: it moves counts towards the quantised ANN's, row by row, alike in every engine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snn_policy import SpikeCalibration, SpikingPolicy, convert, load_actor
from snn_policy.ann.activations import Activation
from snn_policy.bundle import read_bundle
from snn_policy.calibration.spike_agreement import equal_counts
from snn_policy.spiking.neurons import MembraneNeurons
from snn_policy.spiking.spike_calibration import calibrated_start, simulate
from tests.actors import random_actor, same_state, walk

SETTINGS = (
    SpikeCalibration(1),
    SpikeCalibration(2),
    SpikeCalibration(3, rule="literal"),
    SpikeCalibration(1, simulation_steps=5),
    SpikeCalibration(1, simulation_steps=11, epsilon=0.01),
    SpikeCalibration(adaptive=(1, 3)),
    SpikeCalibration(adaptive=(0, 2), error_tolerance=3),
)
ACTOR = random_actor(widths=(24, 20))
OBSERVATIONS = walk(300, ACTOR.observation_shape)


def policy_with(calibration: SpikeCalibration | None, engine: str = "event", **settings: Any) -> SpikingPolicy:
    options = {"timesteps": 4, "alpha": 0.0, **settings}
    return convert(ACTOR, OBSERVATIONS, neuron="if", calibration=calibration, engine=engine, **options)


def test_calibration_makes_the_counts_those_of_the_quantised_ann(reference_dir: Path) -> None:
    for name in ("tqc-HalfCheetah-v3", "sac-Walker2d-v3"):
        actor = load_actor(reference_dir / name)
        observations = actor.collect(str(actor.env_id), steps=2000)
        shares = []
        for iterations in range(4):
            settings = SpikeCalibration(iterations) if iterations else None
            policy = convert(actor, observations, neuron="if", timesteps=8, alpha=0, calibration=settings)
            shares.append(equal_counts(policy.network, observations[:1000]))
        print(f"\n{name}: share of equal counts at I = 0, 1, 2, 3: {np.round(shares, 4).tolist()}")
        assert shares[0] < shares[1]
        assert shares[1] >= 0.99
        assert shares[2] >= shares[1]


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_one_iteration_takes_or_adds_exactly_one_spike(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    theta = np.ones(40, np.float32)
    drive = rng.normal(0.3, 1.0, (1, steps, 40)).astype(np.float32)
    start = np.full((1, 40), 0.5, np.float32)
    settings = SpikeCalibration(1)
    moved = calibrated_start(drive, start, theta, steps, settings, np.ones((1, 1), np.float32))
    before, after = simulate(drive, start, theta, steps), simulate(drive, moved, theta, steps)
    too_many = (before.v < 0) & (before.spikes > 0)
    too_few = (before.v >= theta) & (before.spikes < steps)
    assert np.array_equal((after.spikes - before.spikes)[too_many], np.full(too_many.sum(), -1))
    assert np.array_equal((after.spikes - before.spikes)[too_few], np.full(too_few.sum(), 1))
    assert np.array_equal(moved[~(too_many | too_few)], start[~(too_many | too_few)])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_the_engines_calibrate_alike(settings: SpikeCalibration, alpha: float) -> None:
    numpy, event, torch = (policy_with(settings, engine, alpha=alpha) for engine in ("numpy", "event", "torch"))
    rows = OBSERVATIONS.reshape(100, 3, -1)
    for obs in rows[:60]:
        expected = numpy.act(obs)
        for other in (event, torch):
            assert np.allclose(other.act(obs), expected, atol=1e-4)
            assert numpy.last_decision is not None
            assert other.last_decision is not None
            assert np.array_equal(other.last_decision.iterations, numpy.last_decision.iterations)
            assert np.array_equal(other.last_decision.error_spikes, numpy.last_decision.error_spikes)


def test_adaptive_iterations_follow_each_rows_own_errors() -> None:
    policy = policy_with(SpikeCalibration(adaptive=(1, 3)))
    expected = np.ones(3, np.int64)
    for obs in OBSERVATIONS.reshape(100, 3, -1):
        policy.act(obs)
        decision = policy.last_decision
        assert decision is not None
        assert np.array_equal(decision.iterations, expected)
        wrong = decision.error_spikes > 0
        expected = np.where(wrong & (expected < 3), expected + 1, 1)
    assert len(np.unique(expected)) > 1 or (expected == 1).all()


def test_adaptive_rows_are_those_of_single_runs_and_states_resume_to_the_bit() -> None:
    settings = SpikeCalibration(adaptive=(1, 3))
    batch, single = policy_with(settings), policy_with(settings)
    rows = OBSERVATIONS.reshape(100, 3, -1)[:30]
    together = [batch.act(obs) for obs in rows]
    for row in range(3):
        single.reset()
        assert np.array_equal([single.act(obs[row]) for obs in rows], [actions[row] for actions in together])
    resumed = policy_with(settings)
    resumed.state = batch.state
    assert np.array_equal(resumed.act(rows[0]), batch.act(rows[0]))
    batch.reset(np.array([True, False, True]))
    fresh = batch.initial_state(3)
    assert all(np.array_equal(now[[0, 2]], zero[[0, 2]]) for now, zero in zip(batch.state, fresh, strict=True))


def test_a_calibrated_policy_survives_saving(tmp_path: Path) -> None:
    for index, settings in enumerate(SETTINGS):
        policy = policy_with(settings, alpha=0.3)
        policy.save(tmp_path / str(index))
        twin = SpikingPolicy.load(tmp_path / str(index))
        neurons = read_bundle(tmp_path / str(index)).network.neurons
        assert isinstance(neurons, MembraneNeurons)
        assert neurons.calibration == settings
        assert np.array_equal([twin.act(o) for o in OBSERVATIONS[:20]], [policy.act(o) for o in OBSERVATIONS[:20]])
        assert same_state(twin.state, policy.state)


def test_the_pure_step_calibrates_too() -> None:
    policy = policy_with(SpikeCalibration(adaptive=(1, 2)), alpha=0.3)
    state = policy.initial_state(1)
    for obs in OBSERVATIONS[:20]:
        action, state = policy.step(obs, state)
        assert np.array_equal(action, policy.act(obs))


def test_a_qcfs_actor_and_its_calibrated_conversion_agree_when_counts_do() -> None:
    actor = random_actor(widths=(24, 20), activation=Activation("qcfs", 1.0, levels=4))
    observations = walk(300, actor.observation_shape)
    plain, calibrated = (
        convert(actor, observations, neuron="if", alpha=0, calibration=case) for case in (None, SpikeCalibration(3))
    )
    wanted = actor.act(observations)
    errors = []
    for policy in (plain, calibrated):
        policy.reset(num_envs=len(observations))
        errors.append(float(np.sqrt(np.mean((policy.act(observations) - wanted) ** 2))))
    assert errors[1] <= errors[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"iterations": -1}, "iterations -1"),
        ({"iterations": 1.5}, "iterations 1.5"),
        ({"simulation_steps": 0}, "simulation_steps 0"),
        ({"adaptive": (3, 1)}, "adaptive"),
        ({"adaptive": (1, 2, 3)}, "adaptive"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"rule": "best"}, "rule 'best'"),
        ({"error_tolerance": -1}, "error_tolerance"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpikeCalibration(**wrong)


def test_only_if_neurons_under_rate_coding_are_calibrated() -> None:
    settings = SpikeCalibration(1)
    for neuron in ("snm", "mt", "sigma-delta"):
        with pytest.raises(ValueError, match="calibration: not an argument"):
            convert(ACTOR, OBSERVATIONS, neuron=neuron, calibration=settings)
    with pytest.raises(ValueError, match="rate"):
        convert(ACTOR, OBSERVATIONS, neuron="if", coding="differential", calibration=settings)
