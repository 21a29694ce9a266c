"""The sigma-delta neuron, claim by claim (docs/methods.md §1)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_policy.calibration.encode_sequence import encode_sequence
from snn_policy.policy import SpikingPolicy
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons, sigma_delta_spike
from snn_policy.spiking.sigma_delta import tell
from tests.actors import ALL_ACTIVATIONS, dyadic_actor, dyadic_observations, sigma_delta_neurons
from tests.independent import digit

BASES = (2.0, 2.0**0.5, 1.1, 3.0, 16.0)


def powers(base: float = 2.0) -> Any:
    return SigmaDeltaNeurons((), (), np.zeros(0, np.float32), (), base).powers


def spike(v: Any, q: Any, base: float = 2.0) -> Any:
    potential = np.atleast_1d(np.asarray(v, np.float32))[None]
    return sigma_delta_spike(potential, np.broadcast_to(np.float32(q), potential.shape[1:]), powers(base))[0]


@pytest.mark.parametrize("exponent", range(0, 40))
def test_the_size_changes_exactly_at_the_powers_of_two(exponent: int) -> None:
    quantum = 0.5
    edge = np.float32(0.75 * quantum * 2.0**exponent)
    below, above = np.nextafter(edge, np.float32(0)), np.nextafter(edge, np.float32(np.inf))
    smaller = quantum * 2.0 ** (exponent - 1) if exponent else 0.0
    assert spike([below, edge, above], quantum).tolist() == [smaller, *[quantum * 2.0**exponent] * 2]
    assert spike([-below, -edge, -above], quantum).tolist() == [-smaller, *[-quantum * 2.0**exponent] * 2]


@pytest.mark.parametrize("base", BASES)
@given(v=st.floats(-1e6, 1e6, width=32), q=st.floats(2**-16, 2**10, width=32))
def test_spikes_are_the_largest_signed_power_that_fits(base: float, v: float, q: float) -> None:
    s = float(spike(v, q, base)[0])
    reach = (1 + 1 / base) / 2 * q
    if s == 0:
        assert abs(v) < reach * (1 + 1e-6)
        return
    assert np.sign(s) == np.sign(v)
    i = round(np.log(abs(s) / q) / np.log(base))
    assert abs(s) == pytest.approx(q * base**i, rel=1e-6)
    assert reach * base**i <= abs(v) * (1 + 1e-6)
    assert abs(v) * (1 - 1e-6) < reach * base ** (i + 1)


@given(v=st.floats(-1e6, 1e6, width=32), exponent=st.integers(-20, 5))
def test_one_digit_equals_the_independent_program_exactly(v: float, exponent: int) -> None:
    assert spike(v, 2.0**exponent)[0] == digit(np.float32(v), 2.0**exponent)


@given(v=st.floats(-1e4, 1e4, width=32), q=st.floats(2**-10, 2**4, width=32))
def test_one_digit_leaves_at_most_half_and_enough_digits_less_than_the_reach(v: float, q: float) -> None:
    # |v| in [k·2^i·q, 2k·2^i·q) loses q·2^i: at most half of q·2^i is left, k = 3/4
    s = float(spike(v, q)[0])
    if s:
        assert abs(v - s) <= abs(s) * (0.5 + 1e-6)
    left = np.float32(v)
    for _ in range(40):
        left = left - spike(left, q)[0]
    assert abs(left) < 0.75 * q * (1 + 1e-6)


@pytest.mark.parametrize("base", BASES)
def test_a_neuron_is_silent_below_its_reach(base: float) -> None:
    reach = np.float32(0.25) * ((1 + 1 / powers(base)[1]) / 2)
    assert spike(np.linspace(-0.999, 0.999, 201) * reach, 0.25, base).tolist() == [0.0] * 201


def test_a_dead_neuron_never_spikes() -> None:
    assert spike([0.0, 1.0, -1e30], 0.0).tolist() == [0, 0, 0]


def test_a_tiny_quantum_saturates_without_overflow() -> None:
    assert np.isfinite(spike([1e30, -1e30, 3e38], 1e-38)).all()


@pytest.mark.parametrize("predictor", [0, 1])
@pytest.mark.parametrize("base", BASES)
@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_the_compiled_encoder_equals_the_neuron_to_the_bit(base: float, predictor: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    h = (rng.normal(size=(12, 5)) * 10.0 ** rng.integers(-3, 4)).astype(np.float32)
    quantum = rng.uniform(0, 2, 5).astype(np.float32) * (rng.random(5) > 0.2)
    gamma = np.full(5, predictor, np.float32)
    told, spikes, memory = np.empty_like(h), np.zeros(5, np.int64), np.zeros(5, np.float32)
    encode_sequence(h, quantum, gamma, memory.copy(), 4, powers(base), told, spikes)
    emitted = np.zeros(5, np.int64)
    for row, values in enumerate(h):
        kept = gamma * memory
        v, total = (values - kept)[None], np.zeros((1, 5), np.float32)
        for _ in range(4):
            s = sigma_delta_spike(v, quantum, powers(base))
            v, total, emitted = v - s, total + s, emitted + (s[0] != 0)
        memory = kept + total[0]
        assert np.array_equal(told[row], memory)
    assert np.array_equal(spikes, emitted)


def test_what_receivers_keep_is_what_the_memories_say() -> None:
    # the accumulator is W·(γ·m), and a γ=0 neuron leaves nothing in it
    actor = dyadic_actor()
    neurons = sigma_delta_neurons(actor)
    policy = SpikingPolicy(SpikingNetwork(actor, neurons), engine="numpy")
    for obs in dyadic_observations(20):
        policy.act(obs)
        memory, accumulator = (element[0] for element in policy.state[:2])
        stages = np.split(memory, np.cumsum(actor.widths)[:-1])
        heard = [layer.weight @ (gamma * m) for layer, gamma, m in
                 zip(actor.layers, neurons.predictor, stages, strict=True)]  # fmt: skip
        assert np.array_equal(accumulator, np.concatenate(heard))


def test_a_constant_observation_is_told_once_and_then_costs_nothing() -> None:
    # with γ = 1 and values on the quantum's grid nothing is left to say
    actor = dyadic_actor()
    quanta = tuple(np.full(width, 2.0**-14, np.float32) for width in actor.widths)
    ones = tuple(np.ones(width, np.float32) for width in actor.widths)
    neurons = SigmaDeltaNeurons(quanta, ones, np.zeros(4, np.float32), (40, 40, 40))
    policy = SpikingPolicy(SpikingNetwork(actor, neurons), engine="numpy")
    obs = dyadic_observations(5)[4]
    first = policy.act(obs)
    assert policy.last_decision is not None
    assert policy.last_decision.spikes.sum() > 10
    assert np.allclose(first, actor.act(obs), atol=1e-3)
    assert np.array_equal(policy.act(obs), first)
    assert policy.last_decision.spikes.sum() == 0
    assert policy.last_decision.synaptic_operations.sum() == 0


@pytest.mark.parametrize("base", [2.0, 4.0])
@pytest.mark.parametrize("activation", ALL_ACTIVATIONS[::4], ids=lambda a: a.name)
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_numpy_and_torch_are_equal_to_the_bit_on_dyadic_inputs(activation: Any, base: float, seed: int) -> None:
    pytest.importorskip("torch")
    actor = dyadic_actor(seed, activation=activation)
    network = SpikingNetwork(actor, sigma_delta_neurons(actor, seed, base))
    first, second = (SpikingPolicy(network, engine=engine) for engine in ("numpy", "torch"))
    for obs in dyadic_observations(15, seed=seed).reshape(5, 3, 4):
        assert np.array_equal(first.act(obs), second.act(obs))
        assert all(np.array_equal(a, b) for a, b in zip(first.state, second.state, strict=True))


@pytest.mark.parametrize(("digits", "base"), [((0,), 2.0), ((65,), 2.0), ((2.0,), 2.0), ((4,), 1.0), ((4,), 17.0)])
def test_parameters_out_of_range_are_refused(digits: Any, base: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        SigmaDeltaNeurons((), (), np.zeros(0, np.float32), digits, base)


@pytest.mark.parametrize(("digits", "seed"), [(1, 0), (5, 1), (24, 2)])
def test_digits_after_one_that_says_nothing_are_not_worked_out_and_change_no_bit(
    digits: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, asked = np.random.default_rng(seed), list[Any]()
    quanta = (np.full(6, 2.0**-5, np.float32),)
    neurons = SigmaDeltaNeurons(quanta, (np.ones(6, np.float32),), np.zeros(6, np.float32), (digits,), 2.0, (0.5,))
    h, memory, residual = (rng.normal(size=(3, 6)).astype(np.float32) for _ in range(3))

    def counting(v: Any, *rest: Any) -> Any:
        asked.append(sigma_delta_spike(v, *rest))
        return asked[-1]

    monkeypatch.setattr("snn_policy.spiking.sigma_delta.sigma_delta_spike", counting)
    told = tell(h, 0, memory, residual, np.float32(0), neurons)
    v = h - np.float32(0) - memory + np.float32(0.5) * residual
    spikes = []
    for _ in range(digits):
        spikes.append(sigma_delta_spike(v, quanta[0], neurons.powers))
        v = v - spikes[-1]
    speaking = sum(s.any() for s in spikes)
    assert len(asked) == min(digits, speaking + 1)
    sent = memory * 0
    for s in spikes:
        sent = sent + s
    np.testing.assert_array_equal((memory + sent).view(np.int32), told.memory.view(np.int32))
    np.testing.assert_array_equal(np.sum([s != 0 for s in spikes], axis=0), told.emitted)
    tell(memory * 0, 0, memory * 0, memory * 0, np.float32(0), neurons)
    assert len(asked) == min(digits, speaking + 1) + 1  # nothing to tell: one digit says so
