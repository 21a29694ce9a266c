"""The membrane neurons, claim by claim (docs/methods.md §1)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_policy.policy import SpikingPolicy
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import (
    DifferentialMembrane,
    Membrane,
    MembraneNeurons,
    fire_if,
    fire_mt,
    fire_snm,
    step_differential,
    step_rate,
)
from snn_policy.spiking.settings import settings_of
from tests.actors import CODINGS, MODELS, dyadic_actor, dyadic_observations, membrane_neurons, membrane_settings

THETA = np.float32(1)
SIXTY_FOURTHS = st.integers(-256, 256).map(lambda value: value / 64)


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


def neurons(model: str, coding: str = "rate", timesteps: int = 8, levels: int = 4) -> MembraneNeurons:
    levelled = {"levels": levels} if model == "mt" else {}
    settings = membrane_settings(0, model, coding=coding, timesteps=timesteps, **levelled)
    return MembraneNeurons(settings, ())


def run_rate(model: str, inputs: Any, theta: float, levels: int = 4) -> tuple[Any, Membrane, Any]:
    """Outputs (T,), final membrane and v[0] of one neuron fed with `inputs`."""
    threshold, config = f32(theta), neurons(model, levels=levels)
    start = config.base(threshold)[None]
    membrane, outputs = Membrane(start, start * 0), []
    for x in inputs:
        o, membrane = step_rate(f32(x)[None], membrane, threshold, config)
        outputs.append(float(o[0, 0]))
    return np.array(outputs), membrane, start


def test_if_compares_strictly_so_a_tie_stays_silent() -> None:
    above = np.nextafter(THETA, np.float32(2))
    assert fire_if(f32(1, above, 0.5, -3), THETA).tolist() == [0, 1, 0, 0]


def test_snm_compares_strictly_so_ties_stay_silent() -> None:
    assert fire_snm(f32(1, 0), f32(1, 1), THETA).tolist() == [0, 0]


def test_mt_fires_at_three_quarters_of_a_level_included() -> None:
    v = f32(0.75, np.nextafter(np.float32(0.75), np.float32(0)), 0.375, 0.09375, 0.09, 100)
    assert fire_mt(v, v * 0, THETA, 4).tolist() == [1, 0.5, 0.5, 0.125, 0, 1]


def test_soft_reset_keeps_what_exceeds_the_threshold() -> None:
    outputs, membrane, _ = run_rate("if", [1.75], 1.0)
    assert outputs.tolist() == [1]
    assert membrane.v.item() == 0.5 + 1.75 - 1


def test_if_never_takes_a_spike_back() -> None:
    outputs, membrane, _ = run_rate("if", [2, -5, -5], 1.0)
    assert outputs.tolist() == [1, 0, 0]
    assert membrane.v.item() == 0.5 + 2 - 10 - 1


def test_snm_takes_back_only_spikes_that_it_has_sent_in_this_decision() -> None:
    outputs, membrane, _ = run_rate("snm", [-1, 3, 0, -4, 0, 0, 0], 1.0)
    assert outputs.tolist() == [0, 1, 1, -1, -1, 0, 0]
    assert membrane.net.item() == 0


def test_mt_takes_back_the_largest_level_that_potential_and_memory_allow() -> None:
    v = f32(-2, -2, -2, -0.2, -2, -0.05)
    net = f32(2, 0.75, 0.125, 2, 0.0625, 2)
    assert fire_mt(v, net, THETA, 4).tolist() == [-1, -0.5, -0.125, -0.25, 0, 0]


@given(st.integers(-300, 300), st.integers(-64, 256), st.integers(1, 6))
def test_mt_is_the_difference_form_of_the_equations(v: int, m: int, levels: int) -> None:
    potential, memory = v / 64, m / 64
    q = [0.0] + [float(potential <= -0.75 * 2.0**-i and memory >= 2.0**-i) for i in range(levels)]
    negative = -sum(2.0**-i * (q[i + 1] - q[i]) for i in range(levels))
    positive = next((2.0**-i for i in range(levels) if potential >= 0.75 * 2.0**-i), 0.0)
    expected = negative if potential < 0 else positive
    assert fire_mt(f32(potential), f32(memory), THETA, levels).item() == expected


@pytest.mark.parametrize("model", MODELS)
@given(inputs=st.lists(SIXTY_FOURTHS, min_size=1, max_size=16), theta=st.integers(1, 32))
def test_charge_is_balanced(model: str, inputs: list[float], theta: int) -> None:
    # Σx = v[T] − v[0] + Σo, exactly on dyadic numbers
    outputs, membrane, start = run_rate(model, inputs, theta / 8)
    assert sum(inputs) == membrane.v.item() - start.item() + outputs.sum()
    assert membrane.net.item() == outputs.sum()


@pytest.mark.parametrize("model", MODELS)
@given(inputs=st.lists(SIXTY_FOURTHS, min_size=1, max_size=16), theta=st.integers(1, 32))
def test_net_output_never_falls_below_zero(model: str, inputs: list[float], theta: int) -> None:
    # SNM: with thresholds whose multiples float32 holds exactly; otherwise a rounded M > 0 may cost one spike too many
    outputs, _, _ = run_rate(model, inputs, theta / 8)
    assert (outputs.cumsum() >= 0).all()


@pytest.mark.parametrize("model", ["if", "mt"])
@given(
    inputs=st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=16),
    theta=st.floats(0.125, 3, width=32),
)
def test_net_output_never_falls_below_zero_for_any_threshold(model: str, inputs: list[float], theta: float) -> None:
    _, membrane, _ = run_rate(model, inputs, theta)
    assert membrane.net.item() >= 0


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("model", MODELS)
@given(inputs=st.lists(SIXTY_FOURTHS, min_size=1, max_size=12))
def test_a_dead_neuron_never_spikes(model: str, coding: str, inputs: list[float]) -> None:
    config, zero = neurons(model, coding), f32(0)
    rate, differential = Membrane(zero[None], zero[None]), DifferentialMembrane(*(zero[None] for _ in range(4)))
    for t, x in enumerate(inputs):
        if coding == "rate":
            o, rate = step_rate(f32(x)[None], rate, zero, config)
        else:
            o, differential = step_differential(f32(x)[None], t + 1, differential, zero, config)
        assert o.item() == 0


@given(inputs=st.lists(SIXTY_FOURTHS, min_size=1, max_size=12), model=st.sampled_from(MODELS))
def test_differential_coding_keeps_the_running_means(inputs: list[float], model: str) -> None:
    # m_in − b = Σ d/t and m_out = Σ o/t; the net output M is t·m_out
    config, theta, bias = neurons(model, "differential"), f32(0.75), 0.25
    zero, told, heard = f32(0)[None], 0.0, bias
    membrane = DifferentialMembrane(config.base(theta)[None], zero, zero + np.float32(bias), zero)
    for t, d in enumerate(inputs, start=1):
        o, membrane = step_differential(f32(d)[None], t, membrane, theta, config)
        told, heard = told + o.item() / t, heard + d / t
        assert membrane.outflow.item() == pytest.approx(told, abs=1e-5)
        assert membrane.inflow.item() == pytest.approx(heard, abs=1e-5)
        assert membrane.net.item() == pytest.approx(t * told, abs=1e-4)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_numpy_and_torch_are_equal_to_the_bit_on_dyadic_inputs(model: str, coding: str, seed: int) -> None:
    pytest.importorskip("torch")
    actor = dyadic_actor(seed)
    network = SpikingNetwork(actor, membrane_neurons(actor, seed, model=model, coding=coding, timesteps=2, alpha=1.0))
    first, second = (SpikingPolicy(network, engine=engine) for engine in ("numpy", "torch"))
    for obs in dyadic_observations(15, seed=seed).reshape(5, 3, 4):
        assert np.array_equal(first.act(obs), second.act(obs))
        assert np.array_equal(first.state[0], second.state[0])
        assert first.last_decision is not None
        assert second.last_decision is not None
        assert np.array_equal(first.last_decision.spikes, second.last_decision.spikes)


@pytest.mark.parametrize(
    ("field", "value"),
    [("model", "lif"), ("coding", "burst"), ("residual", "none"), ("timesteps", 0), ("timesteps", 2.0),
     ("timesteps", True), ("timesteps", 5000), ("levels", 0), ("alpha", (1.5,)), ("alpha", (float("nan"),)),
     ("alpha_clip", -0.1), ("alpha_clip", float("nan"))],
)  # fmt: skip
def test_parameters_out_of_range_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match="neuron" if field == "model" else field):
        settings_of(**{"neuron": value} if field == "model" else {"neuron": "mt", field: value})
