"""A running policy can be copied and pickled: the copy goes on from the same memory, on buffers of its own."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikeCalibration, SpikingPolicy, convert
from tests.actors import random_actor, same_state, walk

ACTOR = random_actor(widths=(24, 20))
OBSERVATIONS = walk(60, ACTOR.observation_shape)
DUPLICATE: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda policy: pickle.loads(pickle.dumps(policy)),
}


def made(engine: str, neuron: str) -> SpikingPolicy:
    settings: dict[str, Any] = {} if neuron == "sigma-delta" else {"calibration": SpikeCalibration(adaptive=(1, 3))}
    return convert(ACTOR, OBSERVATIONS, neuron=neuron, engine=engine, **settings)


@pytest.mark.parametrize("how", DUPLICATE)
@pytest.mark.parametrize("engine", ["event", "numpy", "torch"])
@pytest.mark.parametrize("neuron", ["sigma-delta", "if"])
def test_a_copy_goes_on_to_the_bit_and_by_itself(neuron: str, engine: str, how: str) -> None:
    policy = made(engine, neuron)
    for obs in OBSERVATIONS[:20]:
        policy.act(obs)
    twin = DUPLICATE[how](policy)
    assert same_state(twin.state, policy.state)
    assert np.array_equal(twin.counters.spikes, policy.counters.spikes)
    assert np.array_equal(twin.last_decision.spikes, policy.last_decision.spikes)  # pyright: ignore
    ahead = [twin.act(obs) for obs in OBSERVATIONS[20:40]]
    assert policy.counters.decisions.tolist() == [20]  # the copy's decisions are its own
    assert np.array_equal(ahead, [policy.act(obs) for obs in OBSERVATIONS[20:40]])
    assert np.array_equal(twin.counters.spikes, policy.counters.spikes)


@pytest.mark.parametrize("how", DUPLICATE)
def test_a_copy_of_a_fresh_policy_adopts_any_batch_size(how: str) -> None:
    policy = made("event", "sigma-delta")
    assert DUPLICATE[how](policy).act(OBSERVATIONS[:3]).shape == policy.act(OBSERVATIONS[:3]).shape
    policy.reset()
    assert DUPLICATE[how](policy).act(OBSERVATIONS[:5]).shape[0] == 5


@pytest.mark.parametrize("how", DUPLICATE)
def test_resetting_a_copys_rows_resets_what_acts(how: str) -> None:
    policy = made("event", "sigma-delta")
    policy.act(OBSERVATIONS[:3])
    twin, fresh = DUPLICATE[how](policy), made("event", "sigma-delta")
    twin.reset(np.array([True, True, True]))
    assert np.array_equal(twin.act(OBSERVATIONS[:3]), fresh.act(OBSERVATIONS[:3]))
