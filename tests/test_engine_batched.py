"""The event engine on many rows: blocks of rows, tiles of weights, and the promise that a row never sees its batch."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snn_policy import SpikeCalibration, SpikingPolicy, convert
from snn_policy.ann.activations import Activation
from snn_policy.engines.core.engine import TRAINS, EventEngine
from snn_policy.engines.core.layout import doubles
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons, sigma_delta_spike
from tests import core_parts
from tests.actors import (
    dyadic_actor,
    dyadic_observations,
    every_policy,
    label,
    membrane_neurons,
    random_actor,
    same_state,
    sigma_delta_neurons,
    walk,
)

ROWS = 70
WIDE = {"widths": (70, 33), "outputs": 6}
"""Layers that end in the middle of a tile, and more rows than a block has."""
SETTINGS: dict[str, dict[str, Any]] = {
    "sigma-delta": {},
    "if": {"neuron": "if", "timesteps": 5},
    "mt differential": {"neuron": "mt", "coding": "differential", "timesteps": 4},
    "adaptive calibration": {"neuron": "if", "calibration": SpikeCalibration(adaptive=(0, 2))},
    "more timesteps than trains": {"neuron": "snm", "timesteps": TRAINS + 6},
}


def real(name: str) -> SpikingPolicy:
    return convert(random_actor(**WIDE), walk(300), **SETTINGS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_a_row_gives_the_same_bits_in_any_batch_and_at_any_place(name: str) -> None:
    policy, observations = real(name), walk(4 * ROWS).reshape(ROWS, 4, 11).swapaxes(0, 1)
    order = np.random.default_rng(0).permutation(ROWS)
    shuffled, few = (SpikingPolicy(policy.network) for _ in range(2))
    single = {row: SpikingPolicy(policy.network) for row in (0, 31, 32, 63, ROWS - 1)}
    for batch in observations:
        actions = policy.act(batch)
        assert np.array_equal(actions[order], shuffled.act(batch[order]))
        assert np.array_equal(actions[:3], few.act(batch[:3]))
        for row, alone in single.items():
            assert np.array_equal(actions[row], alone.act(batch[row]))
    for row, alone in single.items():
        assert all(
            np.array_equal(many[row : row + 1], one) for many, one in zip(policy.state, alone.state, strict=True)
        )
        assert np.array_equal(policy.counters.spikes[row], alone.counters.spikes[0])


@pytest.mark.parametrize("trains", [1, 10, 1000])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_number_of_trains_in_flight_changes_no_bit(name: str, trains: int) -> None:
    network, observations = real(name).network, walk(3 * ROWS).reshape(3, ROWS, 11)
    engines = EventEngine(network), EventEngine(network, trains=trains)
    states: Any = [network.initial_state(ROWS)] * 2
    for batch in observations:
        decided = [engine.decide(batch, state) for engine, state in zip(engines, states, strict=True)]
        actions, states, decisions = zip(*decided, strict=True)
        assert np.array_equal(*actions)
        assert same_state(*states)
        assert np.array_equal(*(decision.spikes for decision in decisions))


def test_a_block_has_no_more_rows_than_a_row_of_scratch_has_room_for() -> None:
    engine = EventEngine(SpikingNetwork(dyadic_actor(), sigma_delta_neurons(dyadic_actor())), trains=10_000)
    assert 1 < engine.block <= engine.row_size


@pytest.mark.parametrize("z", [-1e30, -0.1, 0.0, 0.3, 0.99, 1.0, 1e19, 1e30])
def test_a_quantised_activation_saturates_however_large_its_input(z: float) -> None:
    """Beyond 2⁶³ a floor is no integer any more."""
    quantised = Activation("qcfs", 1.0, levels=4)
    assert core_parts.activate([z], quantised)[0] == quantised(np.array([z], np.float32))[0]


def test_many_rows_agree_with_the_reference_to_the_bit_on_dyadic_weights() -> None:
    actor = dyadic_actor(widths=(70, 33), outputs=6)
    for reference, event in zip(every_policy(actor, "numpy"), every_policy(actor, "event"), strict=True):
        for batch in dyadic_observations(3 * ROWS).reshape(ROWS, 3, 4).swapaxes(0, 1):
            assert np.array_equal(reference.act(batch), event.act(batch)), label(event)
        assert np.array_equal(reference.counters.spikes, event.counters.spikes)
        assert np.array_equal(reference.state[0], event.state[0])
        operations = reference.counters.synaptic_operations, event.counters.synaptic_operations
        assert np.array_equal(*operations)


@pytest.mark.parametrize("name", ["sigma-delta", "if", "mt differential"])
def test_on_real_weights_hardly_a_spike_flips(name: str) -> None:
    """Single decisions from a shared state: rounding may move a value across a threshold, rarely."""
    policy, flips, total = real(name), 0, 0
    reference = SpikingPolicy(policy.network, engine="numpy")
    for batch in walk(20 * ROWS).reshape(ROWS, 20, 11).swapaxes(0, 1):
        expected = reference.decide(batch, policy.state if policy.last_decision else policy.initial_state(ROWS))[2]
        policy.act(batch)
        assert policy.last_decision is not None
        flips += int(abs(policy.last_decision.spikes - expected.spikes).sum())
        total += int(expected.spikes.sum())
    assert flips <= max(10, 1e-4 * total), f"{flips} of {total}"  # one in the first stage brings some in the next


def test_resting_rows_keep_memory_and_sums_in_every_block() -> None:
    policy, observations = real("sigma-delta"), walk(2 * ROWS).reshape(2, ROWS, 11)
    policy.act(observations[0])
    before, spikes = policy.state, policy.counters.spikes.copy()
    active = np.random.default_rng(1).random(ROWS) < 0.5
    actions = policy.act(observations[1], active=active)
    assert np.array_equal(actions, policy.step(observations[1], before)[0])
    for now, then in zip(policy.state, before, strict=True):
        assert np.array_equal(now[~active], then[~active])
        assert (now[active] != then[active]).any()
    assert np.array_equal(policy.counters.spikes[~active], spikes[~active])
    assert policy.counters.decisions.tolist() == (1 + active).tolist()


def test_an_engine_may_take_over_from_another_with_many_rows() -> None:
    """The reference derives what receivers have heard; the event engine goes on from it, and the other way round."""
    actor = dyadic_actor(widths=(70, 33), outputs=6)
    network = SpikingNetwork(actor, sigma_delta_neurons(actor))
    one, other = (SpikingPolicy(network, engine=engine) for engine in ("event", "numpy"))
    state: Any = network.initial_state(ROWS)
    for step, batch in enumerate(dyadic_observations(8 * ROWS).reshape(ROWS, 8, 4).swapaxes(0, 1)):
        action, state = (one, other)[step % 2].step(batch, state)
        assert np.array_equal(action, one.act(batch))


@pytest.mark.parametrize("outputs", [1, 6, 16, 17, 32, 33, 64, 65, 130])
@pytest.mark.parametrize("inputs", [1, 7, 8, 300])
def test_adding_lists_is_the_matrix_product(inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(inputs + outputs)
    weight = (rng.integers(-40, 41, (outputs, inputs)) / 64).astype(np.float32)
    values = (rng.integers(-3, 4, (5, inputs)) * (rng.random((5, inputs)) < 0.4)).astype(np.float32)
    for row in values:
        places, sizes = core_parts.list_spikes(row)
        assert np.array_equal(places, np.flatnonzero(row))
        assert np.array_equal(sizes, row[places])
    expected = 0.5 + values @ weight.T
    for rows, step in ((values, 2), (values[:1], 1)):
        found = core_parts.propagate(weight, rows, np.full((len(rows), outputs), 0.5, np.float32), step)
        assert np.array_equal(found[::step], expected[: len(rows) : step])
        assert (np.delete(found, np.s_[::step], axis=0) == 0.5).all()  # every second train was asked for


MAGNITUDES = st.floats(0, 2.0**50, width=32) | st.integers(-8, 45).map(lambda i: 0.75 * 2.0**i)


@given(
    values=st.lists(MAGNITUDES, min_size=1, max_size=40),
    digits=st.integers(1, 7),
    quantum=st.floats(2.0**-30, 2.0**30, width=32),
    nudge=st.integers(-1, 1),
    sign=st.sampled_from([-1, 1]),
)
def test_spikes_by_exponent_are_those_of_the_equation(
    values: list[float], digits: int, quantum: float, nudge: int, sign: int
) -> None:
    """The equation rounds a quotient; on either side of every threshold both must choose the same power of two."""
    v = np.array(values, np.float32) * np.float32(quantum)
    v = np.nextafter(v, v + np.float32(nudge) * (v + 1)) * np.float32(sign)
    quanta = np.where(np.arange(len(v)) % 5 == 4, 0, quantum).astype(np.float32)  # some are dead
    unit = np.where(quanta > 0, quanta * np.float32(0.75), np.inf).astype(np.float32)
    powers = (2.0 ** np.arange(41)).astype(np.float32)
    left, told, spikes = v.copy(), np.zeros_like(v), 0
    for _ in range(digits):
        s = sigma_delta_spike(left, quanta, powers)
        left, told, spikes = left - s, told + s, spikes + np.count_nonzero(s)
    for doubling in (True, False):
        spent, sent, count, coarse = core_parts.encode(v, quanta, unit, digits, powers, doubling)
        assert np.array_equal(spent, left)
        assert np.array_equal(sent, told)
        assert count == spikes
        assert coarse == (abs(sigma_delta_spike(v, quanta, powers)) >= 2.0**14 * quanta)[quanta > 0].any()


def test_quanta_beyond_float32s_normal_numbers_are_encoded_by_division() -> None:
    neurons = sigma_delta_neurons(dyadic_actor())
    assert doubles(neurons)
    tiny = tuple(q * np.float32(2.0**-110) for q in neurons.quanta)
    assert not doubles(SigmaDeltaNeurons(tiny, neurons.predictor, neurons.offset, neurons.digits))
    assert not doubles(sigma_delta_neurons(dyadic_actor(), base=3.0))


def test_a_session_works_on_the_buffers_it_began_with() -> None:
    actor = random_actor(**WIDE)
    for neurons in (sigma_delta_neurons(actor), membrane_neurons(actor)):
        session = EventEngine(SpikingNetwork(actor, neurons)).session(ROWS)
        before = [buffer.ctypes.data for buffer in session._buffers]
        for batch in walk(3 * ROWS).reshape(3, ROWS, 11):
            assert session.accept(batch)
            assert session.run()
        assert [buffer.ctypes.data for buffer in session._buffers] == before
        assert all(np.shares_memory(element, session._buffers[1]) for element in session.state)
