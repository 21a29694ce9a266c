"""The sigma-delta accumulators' rounding: bounded by deriving them anew, growing without."""

import numpy as np
import pytest

from benchmarks.measure_drift import NEVER, derived, drift
from snn_policy import convert
from snn_policy.engines.core.engine import REDERIVE_AFTER, EventEngine
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.state import CarryingState
from tests.actors import random_actor, walk

MARKS = (64, 512, 4_096)


@pytest.fixture(scope="module")
def network() -> SpikingNetwork:
    return convert(random_actor(widths=(64, 64)), walk(500)).network


def test_the_default_bounds_the_drift(network: SpikingNetwork) -> None:
    default, never = (dict(drift(network, walk(2_000), after, MARKS)) for after in (REDERIVE_AFTER, NEVER))
    assert default[4_096] < 1e-6
    assert default[4_096] < 2 * default[512]
    assert never[4_096] > 3 * never[64]
    assert never[4_096] > 3 * default[4_096]


def test_a_larger_interval_lets_it_grow_further(network: SpikingNetwork) -> None:
    ends = [drift(network, walk(2_000), after, MARKS)[-1][1] for after in (REDERIVE_AFTER, 512, NEVER)]
    assert ends[0] < ends[1] < ends[2]


def test_fresh_accumulators_are_what_the_memory_says(network: SpikingNetwork) -> None:
    session = EventEngine(network).session(1)
    session.accept(walk(1)[0])
    session.run()
    state = session.state
    assert isinstance(state, CarryingState)
    assert np.allclose(state.accumulator[0], derived(network, state.memory[0]), atol=1e-5)
