"""Predictors chosen by events, not spikes, as the neuron study compares them (docs/neuron.md)."""

import numpy as np
import pytest

from benchmarks.gamma import gamma_by_events
from snn_policy import convert
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from tests.actors import random_actor
from tests.test_compression import walk


def gamma(observations: np.ndarray, by_events: bool) -> np.ndarray:
    """γ of the observation's neurons."""
    actor = random_actor()
    if by_events:
        with gamma_by_events():
            policy = convert(actor, observations)
    else:
        policy = convert(actor, observations)
    neurons = policy.network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    return neurons.predictor[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_values_that_drift_save_spikes_but_no_events(seed: int) -> None:
    observations = walk(2_000, 11, seed)
    assert gamma(observations, by_events=False).mean() > gamma(observations, by_events=True).mean()


@pytest.mark.parametrize("by_events", [False, True])
def test_values_that_stand_still_are_sent_as_changes_by_either_count(by_events: bool) -> None:
    observations = np.repeat(walk(100, 11), 40, axis=0)
    assert (gamma(observations, by_events) == 1).all()


def test_the_packages_own_choice_is_back_afterwards() -> None:
    observations = walk(2_000, 11)
    before = gamma(observations, by_events=False)
    gamma(observations, by_events=True)
    assert (gamma(observations, by_events=False) == before).all()
