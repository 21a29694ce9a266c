"""The residual that sigma-delta neurons carry, claim by claim (docs/methods.md §1): v = h − c − γ·m + α·r."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_policy import SigmaDelta, SpikingPolicy, convert
from snn_policy.calibration.encode_sequence import encode_with_numpy
from snn_policy.engines.core import library
from snn_policy.exporting.verification import verify
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from snn_policy.spiking.state import CarryingState, SigmaDeltaState
from tests.actors import (
    ALL_ACTIVATIONS,
    dyadic_actor,
    dyadic_image_actor,
    dyadic_observations,
    image_walk,
    random_actor,
    same_state,
    sigma_delta_neurons,
    walk,
)

KERNELS = [encode_with_numpy, *([library.encode_sequence] if library.available() else [])]

EXACT = ("relu", "leaky_relu")
"""Activations that need no exponential: NumPy and torch compute the same bits."""


def encoded(h: Any, quantum: Any, alpha: Any, *, gamma: float = 1.0, digits: int = 6,
            kernel: Any = encode_with_numpy, base: float = 2.0) -> Any:  # fmt: skip
    """The memory (decisions, neurons) after every decision, the last residual and the spikes, both (neurons,)."""
    h = np.asarray(h, np.float32)
    quantum, gamma_of = (np.full(h.shape[1], values, np.float32) for values in (quantum, gamma))
    memory, residual = np.zeros_like(quantum), np.zeros_like(quantum)
    sent, spikes = np.empty_like(h), np.zeros(h.shape[1], np.int64)
    powers = SigmaDeltaNeurons((), (), np.zeros(0, np.float32), (), base).powers
    kernel(h, quantum, gamma_of, memory, digits, powers, sent, spikes, alpha, residual)
    return sent, residual, spikes


def policy_of(alpha: float, engine: str = "event", seed: int = 0) -> SpikingPolicy:
    actor = dyadic_actor(seed)
    return SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor, seed, alpha=alpha)), engine=engine)


# --- what it is for


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("error", [0.1, 0.3, -0.55, 0.7])
def test_a_constant_below_the_threshold_is_never_sent_without_it_and_about_right_on_average_with_it(
    error: float, kernel: Any
) -> None:
    # 0.75 quanta are the threshold: whatever is less stays an error for ever
    h = np.full((400, 1), error)
    without, _, spikes = encoded(h, 1.0, 0.0, kernel=kernel)
    assert spikes[0] == 0
    assert (without == 0).all()
    whole, _, spikes = encoded(h, 1.0, 1.0, kernel=kernel)
    assert spikes[0] > 10
    assert abs(whole.mean() - error) <= 0.11  # what a spike leaves over is not carried


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("alpha", "threshold"), [(0.0, 0.75), (0.25, 0.5625), (0.5, 0.375), (0.75, 0.1875)])
def test_a_constant_error_has_to_exceed_one_minus_alpha_of_the_threshold(
    alpha: float, threshold: float, kernel: Any
) -> None:
    # v → h·(1 + α + α² + …) = h / (1 − α)
    h = np.tile(np.array([0.97, 1.03]) * threshold, (60, 1))
    _, _, spikes = encoded(h, 1.0, alpha, kernel=kernel)
    assert spikes[0] == 0
    assert spikes[1] > 0


# --- invariants


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("gamma", [0.0, 1.0])
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_between_two_spikes_the_errors_add_up_to_the_residual(gamma: float, kernel: Any, seed: int) -> None:
    # α = 1: h[t] − m[t] = r[t] − r[t−1] while the neuron is silent, and the sum telescopes; 0 where it has just spiked
    h = np.random.default_rng(seed).integers(-60, 61, (12, 5)) / 64
    sent = [encoded(h[:count], 1.0, 1.0, gamma=gamma, kernel=kernel) for count in range(1, 13)]
    debt, before = np.zeros(5), np.zeros(5, np.int64)
    for values, (memory, residual, spikes) in zip(h, sent, strict=True):
        debt = np.where(spikes == before, debt + values - memory[-1], 0)
        before = spikes
        assert np.array_equal(debt, residual)
        assert (abs(residual) < 0.75).all()


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_while_a_neuron_is_silent_its_summed_error_stays_below_the_threshold(kernel: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    h = (rng.integers(-40, 41, (1, 6)) + rng.integers(-6, 7, (60, 6))) / 64
    sent, _, _ = encoded(h, 1.0, 1.0, kernel=kernel)
    previous, debt = np.zeros(6), np.zeros(6)
    for values, memory in zip(h, sent, strict=True):
        debt = np.where(memory == previous, debt + values - memory, 0)
        assert (abs(debt) < 0.75).all()
        previous = memory


@pytest.mark.parametrize("base", [2.0, 3.0, 1.5])
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0, 1, width=32))
def test_residuals_stay_within_a_quantum_and_dead_neurons_have_none(base: float, seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(30, 6)) * 10.0 ** rng.integers(-2, 4)
    quantum = np.array([0.0, 0.1, 0.5, 1.0, 2.0, 0.0])
    _, residual, spikes = encoded(h, quantum, alpha, digits=2, base=base)
    assert (abs(residual) <= quantum.astype(np.float32)).all()
    assert spikes[[0, 5]].tolist() == [0, 0]


@pytest.mark.parametrize("base", [2.0, 3.0, 1.5])
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0, 1, width=32))
def test_the_compiled_encoder_carries_as_numpy_does_to_the_bit(base: float, seed: int, alpha: float) -> None:
    if not library.available():
        pytest.skip("the core is not built")
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(20, 7)) * 10.0 ** rng.integers(-2, 3)
    quantum, gamma = rng.uniform(0, 2, 7) * (rng.random(7) > 0.2), float(rng.integers(0, 2))
    both = [encoded(h, quantum, alpha, gamma=gamma, digits=3, base=base, kernel=kernel)
            for kernel in KERNELS]  # fmt: skip
    assert all(np.array_equal(one, other) for one, other in zip(*both, strict=True))


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_residual_that_only_shrinks_ends_at_zero_and_not_in_subnormal_numbers(kernel: Any, alpha: float) -> None:
    h = np.zeros((200, 3))
    h[0] = [0.7, -0.3, 1e-6]
    _, residual, spikes = encoded(h, 1.0, alpha, gamma=0.0, kernel=kernel)
    assert spikes.tolist() == [0, 0, 0]
    assert residual.tolist() == (
        [pytest.approx(0.7), pytest.approx(-0.3), pytest.approx(1e-6)] if alpha == 1 else [0] * 3
    )


# --- state: none without α, zeros at a reset, row by row


def test_without_alpha_there_is_no_memory_of_it_and_nothing_changes() -> None:
    actor = dyadic_actor()
    plain = sigma_delta_neurons(actor)
    none = replace(plain, alpha=(0.0, 0.0, 0.0))
    assert not none.carries
    for engine in ("numpy", "event"):
        first, second = (SpikingPolicy(SpikingNetwork(actor, element), engine=engine) for element in (plain, none))
        for obs in dyadic_observations(30):
            assert np.array_equal(first.act(obs), second.act(obs))
        assert isinstance(first.state, SigmaDeltaState)
        assert same_state(first.state, second.state)


@pytest.mark.parametrize("engine", ["numpy", "event", "torch"])
def test_a_masked_reset_clears_the_residuals_of_those_rows_alone(engine: str) -> None:
    if engine == "torch":
        pytest.importorskip("torch")
    policy, stream = policy_of(0.5, engine), dyadic_observations(60).reshape(20, 3, 4)
    policy.reset(num_envs=3)
    for obs in stream[:10]:
        policy.act(obs)
    before = policy.state
    assert isinstance(before, CarryingState)
    assert before.residual[1].any()
    policy.reset(np.array([False, True, False]))
    after = policy.state
    assert isinstance(after, CarryingState)
    assert not after.residual[1].any()
    assert np.array_equal(after.residual[[0, 2]], before.residual[[0, 2]])
    fresh = policy_of(0.5, engine)
    for obs in stream[10:]:
        assert np.array_equal(policy.act(obs)[1], fresh.act(obs[1]))


@pytest.mark.parametrize("engine", ["numpy", "event"])
def test_a_batch_acts_as_its_rows_do_alone(engine: str) -> None:
    policy, stream = policy_of(1.0, engine), dyadic_observations(120).reshape(24, 5, 4)
    policy.reset(num_envs=5)
    together = np.stack([policy.act(obs) for obs in stream])
    for row in range(5):
        alone = policy_of(1.0, engine)
        assert np.array_equal(together[:, row], np.stack([alone.act(obs[row]) for obs in stream]))


@pytest.mark.parametrize("engine", ["numpy", "event"])
@pytest.mark.parametrize("pictures", [False, True], ids=["vectors", "pictures"])
def test_a_loop_resumes_to_the_bit_from_its_state(pictures: bool, engine: str) -> None:
    actor = dyadic_image_actor() if pictures else dyadic_actor()
    stream = image_walk(16) if pictures else dyadic_observations(40)
    network = SpikingNetwork(actor, sigma_delta_neurons(actor, alpha=1.0))
    first, second = (SpikingPolicy(network, engine=engine) for _ in range(2))
    for obs in stream[: len(stream) // 2]:
        first.act(obs)
    second.reset(num_envs=1)
    second.state = first.state
    for obs in stream[len(stream) // 2 :]:
        assert np.array_equal(first.act(obs), second.act(obs))
    states: Any = first.state, second.state
    assert all(np.array_equal(*(getattr(state, name) for state in states)) for name in ("memory", "residual"))


@pytest.mark.parametrize("activation", [a for a in ALL_ACTIVATIONS if a.name in EXACT], ids=lambda a: a.name)
def test_numpy_and_torch_carry_the_same_bits(activation: Any) -> None:
    pytest.importorskip("torch")
    actor = dyadic_actor(7, activation=activation)
    network = SpikingNetwork(actor, sigma_delta_neurons(actor, 7, alpha=1.0))
    first, second = (SpikingPolicy(network, engine=engine) for engine in ("numpy", "torch"))
    for obs in dyadic_observations(30).reshape(10, 3, 4):
        assert np.array_equal(first.act(obs), second.act(obs))
        assert same_state(first.state, second.state)


# --- conversions, bundles, graphs


@pytest.mark.parametrize(("alpha", "stages"), [(0.5, (0.5, 0.5, 0.5)), ((0.0, 0.25, 1), (0.0, 0.25, 1.0))])
def test_the_tolerance_is_met_with_the_residual_carried(alpha: Any, stages: tuple[float, ...]) -> None:
    policy = convert(random_actor(), walk(2_000), tolerance=0.03, alpha=alpha)
    assert policy.conversion["open_loop_error"] == pytest.approx(0.03, rel=0.03)
    assert policy.conversion["alpha"] == stages
    neurons = policy.network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    assert neurons.alpha == stages


@pytest.mark.parametrize("rows", [6, 50, 99])
def test_short_recordings_set_the_quanta_without_the_residual_which_is_carried_nevertheless(rows: int) -> None:
    with_it, without = (
        convert(random_actor(), walk(rows), tolerance=0.03, alpha=alpha).network.neurons for alpha in (0.5, 0.0)
    )
    assert isinstance(with_it, SigmaDeltaNeurons)
    assert isinstance(without, SigmaDeltaNeurons)
    assert all(np.array_equal(a, b) for a, b in zip(with_it.quanta, without.quanta, strict=True))
    assert (with_it.alpha, without.alpha) == ((0.5,) * 3, ())


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), (0.5, 0.5), "pilot", "much", None, True])
def test_other_shares_are_refused(alpha: Any) -> None:
    with pytest.raises(ValueError, match="alpha"):
        convert(random_actor(), walk(100), neuron=SigmaDelta(alpha=alpha))


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_a_bundle_keeps_the_shares_and_names_a_version_only_where_there_are_some(alpha: float, tmp_path: Path) -> None:
    policy = policy_of(alpha)
    policy.save(tmp_path)
    assert f'"format_version": {2 if alpha else 1}' in (tmp_path / "policy.json").read_text()
    again = SpikingPolicy.load(tmp_path)
    for obs in dyadic_observations(30):
        assert np.array_equal(policy.act(obs), again.act(obs))
    assert same_state(policy.state, again.state)


@pytest.mark.parametrize("graph", ["decision", "step"])
@pytest.mark.parametrize("base", [2.0, 3.0])
def test_graphs_carry_the_residual_as_a_memory_more(base: float, graph: str, tmp_path: Path) -> None:
    actor = random_actor(normalised=True)
    policy = convert(actor, walk(400), base=base, alpha=0.5)
    policy.export_onnx(tmp_path)
    checked = verify(policy.network, tmp_path / f"{graph}.onnx", walk(60, seed=3))
    assert checked.passed
    assert "residual" in checked.memory_differences
