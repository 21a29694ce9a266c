"""500-decision traces: the package's actions are those of the equations of methods.md, by an independent program.

On other observations than those that set the thresholds: on those, an activation can equal its threshold exactly, and
the order of sums decides.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.ann.activations import RELU, Activation
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons
from tests.actors import (
    CODINGS,
    HEADS_AND_ACTIVATIONS,
    MODELS,
    dyadic_actor,
    dyadic_observations,
    membrane_neurons,
    random_actor,
    reference_actor,
    sigma_delta_neurons,
    walk,
)
from tests.independent import MembraneProgram, SigmaDeltaProgram

DECISIONS = 500
OTHERS = walk(DECISIONS, seed=1)


def program(actor: Actor, neurons: MembraneNeurons | SigmaDeltaNeurons) -> Any:
    if isinstance(neurons, SigmaDeltaNeurons):
        return SigmaDeltaProgram(actor, neurons.quanta, neurons.predictor, neurons.offset, neurons.digits, neurons.base,
                                 neurons.alpha)  # fmt: skip
    return MembraneProgram(
        actor,
        neurons.model,
        neurons.coding,
        neurons.timesteps,
        neurons.thresholds,
        neurons.alpha[0],
        neurons.alpha_clip,
        neurons.residual,
        neurons.levels,
    )


def expected(network: SpikingNetwork, observations: Any) -> Any:
    """The independent program's actions along a trace, or along traces side by side: (decisions, rows, *shape)."""
    twin = program(network.actor, network.neurons)
    return np.array([twin.decide(obs) for obs in observations])


def acted(policy: SpikingPolicy, observations: Any) -> Any:
    """The policy's along the same."""
    policy.reset()
    return np.array([policy.act(obs) for obs in observations])


def differences(policy: SpikingPolicy, observations: Any) -> Any:
    """Largest action difference of each decision of a trace that both programs run by themselves."""
    found = abs(acted(policy, observations) - expected(policy.network, observations))
    return found.reshape(len(found), -1).max(axis=1)


def agreement(policy: SpikingPolicy, observations: Any) -> float:
    return float(np.mean(differences(policy, observations) < 1e-4))


@pytest.mark.parametrize(("coding", "timesteps"), [("rate", 1), ("rate", 8), ("differential", 2)])
@pytest.mark.parametrize("model", MODELS)
def test_membrane_traces_are_exact_on_dyadic_weights(model: str, coding: str, timesteps: int) -> None:
    # under differential coding o/t is dyadic up to T = 2
    actor = dyadic_actor(seed=timesteps)
    neurons = membrane_neurons(actor, model=model, coding=coding, timesteps=timesteps, alpha=0.0)
    policy = SpikingPolicy(SpikingNetwork(actor, neurons), engine="numpy")
    assert differences(policy, dyadic_observations(DECISIONS)).max() == 0.0


@pytest.mark.parametrize("residual", ["bounded", "plain"])
@pytest.mark.parametrize("model", MODELS)
def test_carried_residuals_are_exact_on_dyadic_weights(model: str, residual: str) -> None:
    # α = 1: the residual itself is carried, so it stays dyadic for the whole trace
    actor = dyadic_actor(seed=3)
    neurons = membrane_neurons(actor, model=model, residual=residual, timesteps=4, alpha=1.0, alpha_clip=0.25)
    policy = SpikingPolicy(SpikingNetwork(actor, neurons), engine="numpy")
    assert differences(policy, dyadic_observations(DECISIONS)).max() == 0.0


@pytest.mark.parametrize(
    ("activation", "kind"), [(RELU, "tanh"), (RELU, "argmax"), (Activation("leaky_relu", 0.25), "clip")], ids=str
)
def test_sigma_delta_traces_are_exact_on_dyadic_weights(activation: Any, kind: Any) -> None:
    actor = dyadic_actor(activation=activation, kind=kind)
    policy = SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor)), engine="numpy")
    assert differences(policy, dyadic_observations(DECISIONS)).max() == 0.0


@pytest.mark.parametrize(
    ("activation", "kind"), [(RELU, "tanh"), (RELU, "argmax"), (Activation("leaky_relu", 0.25), "clip")], ids=str
)
def test_sigma_delta_traces_with_carried_residuals_are_exact_on_dyadic_weights(activation: Any, kind: Any) -> None:
    # α = 1: the residual itself is carried, so it stays dyadic for the whole trace
    actor = dyadic_actor(activation=activation, kind=kind)
    policy = SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor, alpha=1.0)), engine="numpy")
    assert differences(policy, dyadic_observations(DECISIONS)).max() == 0.0


@pytest.mark.parametrize("engine", ["numpy", "event"])
@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_sigma_delta_traces_with_carried_residuals_agree_on_random_actors(alpha: float, engine: str) -> None:
    actor = random_actor(widths=(24, 20), normalised=True)
    policy = convert(actor, walk(DECISIONS), alpha=alpha, engine=engine)
    assert agreement(policy, OTHERS) >= 0.97


@pytest.mark.parametrize(("alpha", "residual"), [(0.0, "bounded"), (0.5, "bounded"), (0.5, "plain")])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("model", MODELS)
def test_membrane_traces_agree_on_random_actors(model: str, coding: str, residual: Any, alpha: float) -> None:
    actor = random_actor(widths=(24, 20), normalised=alpha > 0)
    policy = convert(actor, walk(DECISIONS), neuron=model, coding=coding, timesteps=6, alpha=alpha, residual=residual,
                     threshold="max", engine="numpy")  # fmt: skip
    assert agreement(policy, OTHERS) >= 0.99


@pytest.mark.parametrize("threshold", ["mse", "percentile:99"])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("model", MODELS)
def test_membrane_traces_agree_whatever_sets_the_thresholds(model: str, coding: str, threshold: str) -> None:
    actor = random_actor(seed=4, widths=(24, 20))
    policy = convert(actor, walk(DECISIONS), neuron=model, coding=coding, threshold=threshold, engine="numpy")
    assert agreement(policy, OTHERS) >= 0.99


@pytest.mark.parametrize(("activation", "kind"), HEADS_AND_ACTIVATIONS, ids=lambda value: getattr(value, "name", value))
def test_sigma_delta_traces_agree_on_random_actors(activation: Any, kind: Any) -> None:
    actor = random_actor(activation=activation, kind=kind, widths=(24, 20))
    assert agreement(convert(actor, walk(DECISIONS), engine="numpy"), OTHERS) >= 0.99


@pytest.mark.parametrize("base", [2.0**0.5, 3.0, 4.0])
def test_other_bases_agree_decision_by_decision_from_a_shared_state(base: float) -> None:
    # powers of √2 are rounded, and a memory keeps a difference for ever: no trace, one decision at a time
    actor = random_actor()
    policy = convert(actor, walk(DECISIONS), base=base, engine="numpy")
    twin, errors = program(actor, policy.network.neurons), []
    for obs in OTHERS:
        twin.memory = np.split(policy.state[0], np.cumsum(actor.widths)[:-1], axis=1)
        errors.append(np.max(abs(policy.act(obs) - twin.decide(obs))))
    assert np.mean(np.array(errors) < 1e-4) >= 0.99


NAMES = ("tqc-HalfCheetah-v3", "sac-Walker2d-v3", "tqc-Swimmer-v3", "trpo-Swimmer-v3")


@pytest.fixture(scope="module")
def recorded(reference_dir: Path) -> dict[str, tuple[Actor, Any, Any]]:
    """Real actors, and consecutive observations of their own episodes: to convert with, and to compare on."""
    found = {}
    for name in NAMES:
        actor = reference_actor(reference_dir, name)
        rows = [actor.collect(str(actor.env_id), steps=4 * DECISIONS, seed=seed) for seed in (11, 7011)]
        found[name] = actor, *rows
    return found


@pytest.fixture(scope="module")
def converted(recorded: dict[str, tuple[Actor, Any, Any]]) -> Any:
    """A function: what `convert` makes of an actor and settings, observations side by side (DECISIONS, traces, *shape),
    and the program's actions on them, made once for all engines. Traces 0 to 3 are of the recording that was converted
    with, 4 to 7 of another."""

    @cache
    def make(name: str, traces: range, settings: tuple[tuple[str, Any], ...]) -> tuple[SpikingNetwork, Any, Any]:
        actor, observations, others = recorded[name]
        network = convert(actor, observations, **dict(settings)).network
        cut = [rows.reshape(-1, DECISIONS, *rows.shape[1:]) for rows in (observations, others)]
        side_by_side = np.concatenate(cut)[list(traces)].swapaxes(0, 1)
        return network, side_by_side, expected(network, side_by_side)

    return lambda name, traces=range(8), **settings: make(name, traces, tuple(settings.items()))


def shares(policy: SpikingPolicy, observations: Any, wanted: Any) -> Any:
    """How many decisions of each trace agree: side by side on NumPy, by itself on the compiled core."""
    if policy.engine == "numpy":
        found = acted(policy, observations)
    else:
        found = np.stack([acted(policy, trace) for trace in observations.swapaxes(0, 1)], axis=1)
    apart = abs(found - wanted).reshape(*found.shape[:2], -1).max(axis=2)
    return (apart < 1e-4).mean(axis=0)


@pytest.mark.parametrize("engine", ["numpy", "event"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("model", MODELS)
def test_membrane_traces_agree_on_the_half_cheetah(
    converted: Any, model: str, coding: str, alpha: float, engine: str
) -> None:
    settings = {"neuron": model, "coding": coding, "timesteps": 8, "alpha": alpha}
    network, others, wanted = converted("tqc-HalfCheetah-v3", range(4, 5), **settings)
    policy = SpikingPolicy(network, engine=engine)
    assert shares(policy, others, wanted).min() >= 0.99


@pytest.mark.parametrize(("engine", "tolerance"), [("numpy", 0.02), ("event", 0.01), ("event", 0.02), ("event", 0.03)])
@pytest.mark.parametrize("name", NAMES)
def test_sigma_delta_traces_agree(converted: Any, name: str, tolerance: float, engine: str) -> None:
    network, observations, wanted = converted(name, tolerance=tolerance)
    found = shares(SpikingPolicy(network, engine=engine), observations, wanted)
    own, new = found[:4], found[4:]
    print(f"{name}, tolerance {tolerance}, {engine}: {own} on its own recording, {new} on another")
    # a potential within rounding of a spike decides otherwise in another order of sums, and the memories heal within a
    # few decisions: which of the sixteen traces of an actor hold such potentials depends on the processor that recorded
    # them (worst seen 0.986), their shares together hardly do (0.997 on sac-Walker2d)
    for part in (own, new):
        assert np.mean(part) >= 0.99
        assert min(part) >= 0.97
