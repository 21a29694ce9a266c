"""The baselines in torch are the actor, the IF network, and SpikingJelly's; who cannot take part says why."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.ann.activations import Activation
from snn_policy.ann.layers import Normaliser
from snn_policy.bench.baselines import MEMBRANE, SIGMA_DELTA, VARIANTS
from snn_policy.bench.decisions import time_decisions
from tests.actors import ALL_ACTIVATIONS, HEAD_KINDS, random_actor, walk

pytest.importorskip("torch")
from benchmarks.torch_baselines import TORCH_BASELINES, TorchPolicy, sequential


@pytest.fixture(scope="module")
def actor() -> Actor:
    return random_actor(widths=(24, 20), normalised=True)


@pytest.fixture(scope="module")
def converted(actor: Actor) -> dict[str, SpikingPolicy]:
    return {name: convert(actor, walk(300), neuron=VARIANTS[name]) for name in (SIGMA_DELTA, MEMBRANE)}


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("activation", ALL_ACTIVATIONS, ids=lambda a: a.name)
def test_the_torch_network_is_the_actor(activation: Activation, kind: Any) -> None:
    actor = random_actor(activation=activation, kind=kind)
    shape = actor.observation_shape
    actor.normaliser = Normaliser(np.full(shape, 0.5, np.float32), np.full(shape, 2, np.float32), 3.0)
    observations = 3 * walk(50, shape)
    policy = TorchPolicy(actor, sequential(actor))
    assert np.allclose([policy.act(obs) for obs in observations], actor.act(observations), atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "baseline", "reason"),
    [
        (Activation("qcfs", 1.0, 4), "SpikingJelly", "its converter knows ReLU only"),
        (Activation("tanh"), "SpikingJelly", "its converter knows ReLU only"),
        (Activation("tanh"), "eager torch loop", "IF neurons stand for ReLU and QCFS only"),
    ],
)
def test_a_baseline_without_the_activation_is_left_out(activation: Activation, baseline: str, reason: str) -> None:
    name = f"{MEMBRANE}, {baseline}"
    baselines = {case: TORCH_BASELINES[case] for case in ("ANN, torch", name)}
    measured = time_decisions(random_actor(activation=activation, widths=(8,)), walk(300), ("event",), baselines, 1)
    assert "ANN, torch" in [timing.name for timing in measured.timings]
    assert f"{name}: left out: {reason}" in measured.notes


def test_the_torch_loop_is_an_if_network_without_memory(actor: Actor) -> None:
    policy = convert(actor, walk(300), neuron=replace(VARIANTS[MEMBRANE], alpha=0.0), engine="numpy")
    loop = TORCH_BASELINES[f"{MEMBRANE}, eager torch loop"](actor, {MEMBRANE: policy}, walk(300))
    differences = [abs(loop(obs) - policy.act(obs)).max() for obs in walk(50, seed=1)]
    assert np.median(differences) < 1e-5
    assert np.quantile(differences, 0.9) < 0.1


def test_spikingjelly_approximates_the_actor(actor: Actor, converted: dict[str, SpikingPolicy]) -> None:
    pytest.importorskip("spikingjelly")
    act = TORCH_BASELINES[f"{MEMBRANE}, SpikingJelly"](actor, converted, walk(300))
    differences = [abs(act(obs) - actor.act(obs)).mean() for obs in walk(50)]
    assert np.mean(differences) < 0.3 * np.mean(actor.high - actor.low)
