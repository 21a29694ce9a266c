"""On a GPU, where there is one: the torch engine decides as NumPy, and TD3+BC's captured steps are its steps."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.random_transitions import random_data
from snn_policy.offline.batches import BLOCK_STEPS
from snn_policy.offline.checkpoints import read_checkpoint
from snn_policy.offline.td3bc import TD3BC, TD3BCSettings
from snn_policy.offline.training import train_run
from tests.actors import KINDS, dyadic_observations, policies, same_state

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.mark.parametrize("kind", KINDS)
def test_on_dyadic_networks_a_gpu_decides_as_numpy_does_to_the_bit(kind: str) -> None:
    there, here = policies("torch:cuda")[kind], policies("numpy")[kind]
    for obs in dyadic_observations(200).reshape(40, 5, -1):
        assert np.array_equal(there.act(obs), here.act(obs))
    assert same_state(there.state, here.state)
    assert np.array_equal(there.counters.spikes, here.counters.spikes)


def test_a_copy_goes_on_from_the_memory_on_the_gpu_and_a_reset_row_starts_again() -> None:
    policy = policies("torch:cuda")["sigma-delta-carrying"]
    batches = dyadic_observations(60).reshape(20, 3, -1)
    for obs in batches[:10]:
        policy.act(obs)
    twin = copy.deepcopy(policy)
    assert np.array_equal(twin.act(batches[10]), policy.act(batches[10]))
    policy.reset([False, True, False])
    assert not any(array[1].any() for array in policy.state)
    assert any(array[0].any() for array in policy.state)


@pytest.mark.parametrize("activation", ["relu", "qcfs", "spiking"])
def test_captured_steps_are_those_taken_one_by_one(activation: str) -> None:
    data, settings = random_data(), TD3BCSettings(activation=activation, hidden=32)
    captured, eager = TD3BC(data, settings, "cuda"), TD3BC(data, settings, "cuda")
    captured.train(4 * BLOCK_STEPS)
    while eager.step < 4 * BLOCK_STEPS:
        eager.train(eager.step + BLOCK_STEPS // 2)
    assert torch.equal(captured.actor.values, eager.actor.values)
    assert torch.equal(captured.critics.values, eager.critics.values)


def test_a_run_on_a_gpu_is_the_cpus_but_for_rounding_and_goes_on_there(tmp_path: Path) -> None:
    data, settings, steps = random_data(), TD3BCSettings(activation="qcfs", hidden=32), 2 * BLOCK_STEPS
    here, there = (train_run(tmp_path / name, data, settings, steps, device=name) for name in ("cpu", "cuda"))
    assert torch.allclose(here.actor.values, there.actor.values.cpu(), rtol=1e-3, atol=1e-4)
    assert read_checkpoint(tmp_path / "cuda")[2] == steps
    resumed = train_run(tmp_path / "cuda", data, settings, steps + 10, resume=True, device="cpu")
    assert resumed.step == steps + 10
