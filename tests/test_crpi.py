"""CRPI: the residual that a decision hands to the next one (docs/methods.md §2)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.ann.layers import Linear
from snn_policy.spiking.crpi import default_clip, pilot_alpha, residual_potential, start_potential
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons
from tests.actors import (
    MODELS,
    dyadic_actor,
    dyadic_observations,
    make_head,
    membrane_neurons,
    membrane_settings,
    reference_actor,
)

DYADIC = st.integers(-256, 256).map(lambda value: np.float32(value / 64))


def one_neuron(bias: float, **settings: Any) -> SpikingPolicy:
    """One hidden IF neuron of threshold 1 whose input is the observation plus the bias."""
    relu = dyadic_actor().layers[0].activation
    one: Any = np.ones((1, 1))
    layers = (Linear(one, np.array([bias]), relu), Linear(one, np.zeros(1)))  # pyright: ignore[reportArgumentType]
    actor = Actor(layers, make_head("clip", 1), (1,))
    neurons = MembraneNeurons(membrane_settings(1, **{"timesteps": 4, **settings}), (np.ones(1, np.float32),))
    return SpikingPolicy(SpikingNetwork(actor, neurons))


@pytest.mark.parametrize("model", MODELS)
def test_silent_neurons_carry_no_negative_charge(model: str) -> None:
    policy = one_neuron(-2.0, model=model)
    policy.act([0.0])
    assert policy.counters.spikes.sum() == 0
    assert policy.state[0].item() == 0.0


@pytest.mark.parametrize("model", MODELS)
def test_under_the_plain_rule_they_do(model: str) -> None:
    policy = one_neuron(-2.0, model=model, residual="plain")
    policy.act([0.0])
    assert policy.state[0].item() == -8.0


def test_what_is_left_over_starts_the_next_decision() -> None:
    # 4 steps of 0.3: v ends at 0.5 + 1.2 − 1 = 0.7, r = 0.2; the next starts at 0.5 + 0.5·0.2 and ends at 0.8, r = 0.2
    policy = one_neuron(0.0)
    policy.act([0.3])
    assert policy.state[0].item() == pytest.approx(0.2, abs=1e-6)
    policy.act([0.3])
    assert policy.state[0].item() == pytest.approx(0.2, abs=1e-6)
    policy.act([-0.3])  # starts at 0.6, falls to −0.6 without a spike: nothing is owed
    assert policy.state[0].item() == 0.0


@given(residual=DYADIC, alpha=st.integers(0, 64), theta=st.integers(0, 128), clip=st.sampled_from([0.0, 1 / 16, 0.5]))
def test_the_carried_charge_is_clipped(residual: Any, alpha: int, theta: int, clip: float) -> None:
    threshold, share = np.float32(theta / 64), alpha / 64
    base = threshold / 2
    start = start_potential(np.array([base]), np.array([residual]), share, np.array([threshold * np.float32(clip)]))
    bound = float(threshold) * clip
    assert start.item() == float(base) + min(max(share * float(residual), -bound), bound)


@given(v_end=DYADIC, v_start=DYADIC, net=st.integers(0, 64))
def test_the_residual_is_bounded_by_what_was_sent(v_end: Any, v_start: Any, net: int) -> None:
    v1, v0, sent = (np.array([value], np.float32) for value in (v_end, v_start, net / 8))
    assert residual_potential(v1, v0, sent, "bounded").item() == max(float(v_end - v_start), -net / 8)
    assert residual_potential(v1, v0, sent, "plain").item() == float(v_end - v_start)


def test_alpha_zero_forgets_and_a_reset_forgets() -> None:
    observations = dyadic_observations(40)
    for alpha in (0.0, 1.0):
        actor = dyadic_actor(seed=1)
        policy = SpikingPolicy(SpikingNetwork(actor, membrane_neurons(actor, alpha=alpha, model="mt", timesteps=2)))
        carried = np.array([policy.act(obs) for obs in observations])
        afresh = []
        for obs in observations:
            policy.reset()
            afresh.append(policy.act(obs))
        assert np.array_equal(carried, afresh) == (alpha == 0.0)


def test_alpha_acts_layer_by_layer() -> None:
    # with α = (0, 1) the second layer alone is carried: as if the first layer's residual were erased every decision
    actor, observations = dyadic_actor(), dyadic_observations(60)
    neurons = membrane_neurons(actor, timesteps=4, alpha=1.0)
    settings = membrane_settings(2, timesteps=4, alpha=(0.0, 1.0))
    both = SpikingPolicy(SpikingNetwork(actor, neurons))
    second = SpikingPolicy(SpikingNetwork(actor, MembraneNeurons(settings, neurons.thresholds)))
    width, state = actor.widths[1], both.initial_state(1)
    for obs in observations:
        state[0][:, :width] = 0
        expected, state = both.step(obs[None], state)
        assert np.array_equal(second.act(obs[None]), expected)
    with_all = [both.act(obs) for obs in observations]
    assert not np.array_equal(with_all, [second.step(obs, second.initial_state(1))[0] for obs in observations])


def test_the_clip_is_tighter_where_a_wide_one_is_unstable() -> None:
    clips = {(m, c): default_clip(m, c) for m in MODELS for c in ("rate", "differential")}
    assert {key for key, clip in clips.items() if clip == 0.5} == {("if", "rate"), ("snm", "rate")}
    assert set(clips.values()) == {0.5, 1 / 16}


@pytest.mark.parametrize(
    ("gain", "chosen"), [([10, 12, 8, 11], 0.8), ([-10, -12, -8, -11], 0.3), ([10, -9, 9, -10], 0.3), ([0] * 4, 0.3)]
)
def test_the_pilot_takes_the_larger_alpha_only_beyond_a_standard_error(gain: list[float], chosen: float) -> None:
    asked = []

    def returns_at(alpha: float) -> Any:
        asked.append(alpha)
        return 100.0 + (np.array(gain, float) if alpha == 0.8 else np.zeros(4))

    assert pilot_alpha(returns_at) == chosen
    assert sorted(asked) == [0.3, 0.8]


def test_consecutive_residuals_grow_less_alike_as_alpha_grows(
    reference_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # tqc-HalfCheetah, IF, T = 8, along two episodes of the ANN: cos(r_k, r_{k+1}) per layer (docs/methods.md §9). In
    # closed loop a conversion with a small α may, on some processors, fall on its back, where residuals stand still.
    actor = reference_actor(reference_dir, "tqc-HalfCheetah-v3")
    recorded = actor.collect("HalfCheetah-v5", steps=2000, seed=31)
    episodes = [actor.collect("HalfCheetah-v5", steps=500, seed=seed) for seed in (41, 42)]
    width, table = actor.widths[1], []
    alphas = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    for alpha in alphas:
        policy = convert(actor, recorded, neuron="if", timesteps=8, alpha=alpha)
        cosines = []
        for episode in episodes:
            policy.reset()
            residuals = []
            for obs in episode:
                policy.act(obs)
                residuals.append(policy.state[0][0])
            layers = np.split(np.array(residuals, np.float64), [width], axis=1)
            cosines.append([cosine(layer[:-1], layer[1:]) for layer in layers])
        table.append(np.mean(cosines, axis=0))
    with capsys.disabled():
        print("\n alpha   cos(r_k, r_k+1): hidden1  hidden2")
        for alpha, (first, second) in zip(alphas, table, strict=True):
            print(f"  {alpha:.1f}                     {first:.3f}    {second:.3f}")
    for layer in np.array(table).T:
        assert (np.diff(layer) < -0.01).all()


def cosine(first: Any, second: Any) -> float:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    some = lengths > 0
    return float(np.mean((first * second).sum(axis=1)[some] / lengths[some]))
