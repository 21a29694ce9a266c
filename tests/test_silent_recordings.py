"""Recordings that say nothing about the actor: never quanta of zero, never a promise of no error, always a word."""

import warnings
from typing import Any

import numpy as np
import pytest

from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.layers import Head, Linear
from snn_policy.calibration.action_units import error_unit, saturated_outputs
from snn_policy.calibration.open_loop import Encoding, Recording, encode
from snn_policy.calibration.sensitivity import _sensitivities
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons
from snn_policy.spiking.settings import SigmaDelta
from tests.actors import HEAD_KINDS, random_actor, reference_actor, walk

ROWS = walk(1500)
TANH = Activation("tanh")


def shifted(actor: Actor, shift: Any, gain: float = 1.0, head: Head | None = None) -> Actor:
    """The actor with its last layer's outputs scaled and moved."""
    last = actor.layers[-1]
    moved = Linear(last.weight * np.float32(gain), last.bias * np.float32(gain) + np.asarray(shift, np.float32))
    return Actor((*actor.layers[:-1], moved), head or actor.head, actor.observation_shape)


def heard(actor: Actor, observations: Any, **arguments: Any) -> tuple[SpikingPolicy, str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy = convert(actor, observations, **arguments)
    return policy, " ".join(str(warning.message) for warning in caught)


def checked(policy: SpikingPolicy, said: str, *words: str) -> float:
    """RMS error on ordinary observations, of a policy that promises something and has quanta."""
    neurons, actor = policy.network.neurons, policy.actor
    assert isinstance(neurons, SigmaDeltaNeurons)
    assert all((quanta > 0).all() for quanta in neurons.quanta)
    assert policy.conversion["open_loop_error"] > 0
    assert "recording says too little" in said
    assert all(word in said for word in (*words, "collect"))
    unit = error_unit(actor, actor.activations(ROWS)[1])
    spiking = np.array([policy.act(obs) for obs in ROWS])
    return float(np.sqrt(np.mean(((spiking - actor.act(ROWS)) / unit) ** 2)))


def bounded(kind: str, reach: float = 1.0) -> Head:
    low, high = [-reach] * 3, [reach] * 3
    return Head.clip(low, high) if kind == "clip" else Head.bounded(low, high, pre_clip=2 if kind == "gsde" else np.inf)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("kind", ["clip", "tanh", "gsde"])
def test_an_actor_at_its_bound_throughout(kind: str, side: int) -> None:
    actor = shifted(random_actor(), side * (6.0 if kind == "tanh" else 1.0), gain=4.0, head=bounded(kind))
    y = actor.activations(ROWS)[1] * side
    chosen = ROWS[(y > (4 if kind == "tanh" else 2.2)).all(axis=1)]
    assert len(chosen) > 20
    policy, said = heard(actor, chosen)
    assert checked(policy, said, "every action is at a bound") < 0.06
    assert policy.conversion["open_loop_error"] == pytest.approx(0.02, rel=0.5)


@pytest.mark.parametrize("kind", ["clip", "tanh"])
@pytest.mark.parametrize("held", [0, 2])
def test_one_action_at_its_bound_throughout(kind: str, held: int) -> None:
    shift = np.zeros(3)
    shift[held] = 12
    policy, said = heard(shifted(random_actor(), shift, head=bounded(kind)), ROWS)
    checked(policy, said, f"action {held} is at a bound")
    back = shifted(policy.actor, -shift)
    moved = SpikingPolicy(type(policy.network)(back, policy.network.neurons))
    error = np.array([moved.act(obs) for obs in ROWS]) - back.act(ROWS)
    assert np.sqrt(np.mean(error[:, held] ** 2)) < 0.06  # where it does move, it is known as well as the others


@pytest.mark.parametrize("share", [0.9, 0.97, 0.995])
@pytest.mark.parametrize("kind", ["clip", "tanh"])
def test_recordings_that_are_mostly_at_the_bound(kind: str, share: float) -> None:
    actor = shifted(random_actor(outputs=1), 0.0, gain=3.0, head=_single(kind))
    y = actor.activations(ROWS)[1][:, 0]
    low, high = ROWS[abs(y) < 0.8], ROWS[y > (1.2 if kind == "clip" else 3.2)]
    count = round(len(high) * (1 - share) / share)
    policy, said = heard(actor, np.concatenate([high, low[:count]]))
    assert ("at a bound" in said) == (share > 0.95)
    spiking = np.array([policy.act(obs) for obs in ROWS])
    assert np.sqrt(np.mean((spiking - actor.act(ROWS)) ** 2)) < 0.1  # 0.02 on the recording is 0.02/√0.1 off the bound


def _single(kind: str) -> Head:
    return Head.clip([-1], [1]) if kind == "clip" else Head.bounded([-1], [1])


@pytest.mark.parametrize("rows", [1, 2, 7, 15])
@pytest.mark.parametrize("kind", ["clip", "tanh"])
def test_a_handful_of_rows(kind: str, rows: int) -> None:
    actor = random_actor(seed=rows) if kind == "tanh" else random_actor(kind="clip")
    policy, said = heard(actor, ROWS[:rows])
    assert checked(policy, said, f"only {rows} different observation") < 0.08


@pytest.mark.parametrize("activation", [RELU, TANH, Activation("elu", 1.0)], ids=lambda a: a.name)
@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_a_constant_observation(activation: Any, noise: float) -> None:
    still = ROWS[:1] + noise * np.random.default_rng(0).normal(size=(800, 11)).astype(np.float32)
    policy, said = heard(random_actor(activation=activation), still)
    assert checked(policy, said) < 0.08


def test_constant_sensors_among_the_others_still_get_quanta_for_when_they_move() -> None:
    recorded = ROWS.copy()
    recorded[:, [1, 4, 7]] = 0.3
    actor = random_actor()
    policy = convert(actor, recorded)
    error = np.array([policy.act(obs) for obs in ROWS]) - actor.act(ROWS)
    assert np.sqrt(np.mean((error / ((actor.high - actor.low) / 2)) ** 2)) < 0.04


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("activation", [RELU, TANH], ids=lambda a: a.name)
def test_a_layer_that_is_flat_on_the_recording(activation: Any, index: int) -> None:
    actor = random_actor(activation=activation)
    layers = list(actor.layers)
    layers[index] = Linear(layers[index].weight, layers[index].bias - 40, activation)
    policy, said = heard(Actor(tuple(layers), actor.head, (11,)), ROWS)
    checked(policy, said, f"hidden layer {index + 1} is silent or saturated")
    awake = SpikingPolicy(type(policy.network)(actor, policy.network.neurons))
    error = np.array([awake.act(obs) for obs in ROWS]) - actor.act(ROWS)
    assert np.sqrt(np.mean((error / ((actor.high - actor.low) / 2)) ** 2)) < 0.1


@pytest.mark.parametrize("choice", [0, 1, 2])
def test_a_single_choice_throughout(choice: int) -> None:
    shift = np.zeros(3)
    shift[choice] = 100
    policy, said = heard(shifted(random_actor(kind="argmax"), shift), ROWS)
    assert "chooses the same action throughout" in said
    back = shifted(policy.actor, -shift)
    moved = SpikingPolicy(type(policy.network)(back, policy.network.neurons))
    assert np.mean([moved.act(obs) for obs in ROWS] != back.act(ROWS)) < 0.05


def test_unbounded_actions_that_never_change_are_measured_by_their_size() -> None:
    actor = shifted(random_actor(), [250, -3, 0.1], head=Head.clip([-np.inf] * 3, [np.inf] * 3))
    unit = error_unit(actor, np.full((30, 3), [250, -3, 0], np.float32))
    assert unit.tolist() == [250, 3, 1]


def test_an_action_that_cannot_move_is_not_held() -> None:
    y = np.full((50, 2), 9, np.float32)
    actor = Actor((Linear(np.ones((2, 3)), np.zeros(2)),), Head.clip([-1, 5], [1, 5]), (3,))  # pyright: ignore
    assert saturated_outputs(actor, y).tolist() == [True, False]


@pytest.mark.parametrize("rule", ["mse", "max", "percentile:99"])
@pytest.mark.parametrize("neuron", ["if", "snm", "mt"])
def test_layers_that_are_dead_on_the_recording_can_wake_up(neuron: str, rule: str) -> None:
    actor = random_actor()
    dead = Linear(actor.layers[0].weight, actor.layers[0].bias - 8, RELU)  # pyright: ignore
    policy, said = heard(Actor((dead, *actor.layers[1:]), actor.head, (11,)), ROWS, neuron=neuron, threshold=rule)
    neurons = policy.network.neurons
    assert "hidden layer 1 is silent" in said
    assert isinstance(neurons, MembraneNeurons)
    assert all((theta > 0).all() for theta in neurons.thresholds[:1])
    policy.act(ROWS[0] * 40)
    assert policy.counters.spikes[0, 0] > 0


@pytest.mark.parametrize("rows", [1, 3, 12])
@pytest.mark.parametrize("neuron", ["if", "mt"])
def test_thresholds_of_a_handful_of_rows_leave_room(neuron: str, rows: int) -> None:
    actor = random_actor()
    policy, said = heard(actor, ROWS[:rows], neuron=neuron, timesteps=16, threshold="max")
    assert f"only {rows} different" in said
    error = np.array([policy.act(obs) for obs in ROWS]) - actor.act(ROWS)
    assert np.sqrt(np.mean((error / ((actor.high - actor.low) / 2)) ** 2)) < 0.3


def open_loop(policy: SpikingPolicy, rows: Any) -> float:
    """RMS error in units of the action, over consecutive rows."""
    error = np.array([policy.act(obs) for obs in rows]) - policy.actor.act(rows)
    return float(np.sqrt(np.mean((error / error_unit(policy.actor, policy.actor.activations(rows)[1])) ** 2)))


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-4])
@pytest.mark.parametrize(("neuron", "limit"), [("if", 0.12), ("snm", 0.12), ("mt", 0.1)])
def test_thresholds_of_a_recording_that_stands_still_leave_room(neuron: str, limit: float, noise: float) -> None:
    still = ROWS[:1] + noise * np.random.default_rng(0).normal(size=(800, 11)).astype(np.float32)
    for seed in range(3):
        policy, said = heard(random_actor(seed), still, neuron=neuron, timesteps=16 if neuron != "mt" else 4)
        assert "only 1 different observation" in said if noise == 0 else "hardly differ" in said
        assert "collect" in said
        assert open_loop(policy, ROWS) < limit


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("neuron", ["if", "snm", "mt"])
def test_a_layer_that_was_dead_and_those_behind_it_wake_up_with_room(neuron: str, index: int) -> None:
    actor = random_actor()
    layers = list(actor.layers)
    layers[index] = Linear(layers[index].weight, layers[index].bias - 40, RELU)  # pyright: ignore
    policy, said = heard(Actor(tuple(layers), actor.head, (11,)), ROWS, neuron=neuron, timesteps=16)
    assert f"hidden layer {index + 1} is silent" in said
    awake = SpikingPolicy(type(policy.network)(actor, policy.network.neurons))
    assert open_loop(awake, ROWS) < 0.15


@pytest.mark.parametrize("place", [0, 500])
@pytest.mark.parametrize(
    ("name", "real", "still"),
    [("sac-Walker2d-v3", 0.15, 0.3), ("sac-Pendulum-v1", 0.15, 0.25), ("tqc-Swimmer-v3", 0.1, 0.3)],
)
def test_a_reference_actor_from_one_observation_still_acts(
    name: str, real: float, still: float, place: int, reference_dir: Any
) -> None:
    actor = reference_actor(reference_dir, name)
    rows = actor.collect(str(actor.env_id), steps=1500)
    recorded, test = rows[:1000], rows[1000:]
    ordinary, said = heard(actor, recorded, neuron="if", timesteps=16)
    assert said == ""
    assert open_loop(ordinary, test) < real
    policy, said = heard(actor, np.repeat(recorded[place : place + 1], 500, axis=0), neuron="if", timesteps=16)
    assert "only 1 different observation" in said
    assert open_loop(policy, test) < still


def published_quanta(actor: Actor, observations: Any, tolerance: float) -> Any:
    """q_j = s·ε/g_j with s bisected, docs/methods.md §1, without regard for recordings that say nothing."""
    recording, settled = Recording(actor, observations), SigmaDelta().settled(len(actor.layers))
    encoding = Encoding(settled.digits, settled.base, settled.predictor, settled.alpha)  # pyright: ignore
    shapes = []
    for share, g in zip((0.02, *[0.03] * (len(actor.layers) - 2), 0.01), _sensitivities(recording), strict=True):
        shapes.append(share / np.maximum(g, 1e-3 * g.max()))

    def tried(scale: float) -> Any:
        quanta = tuple((shape * scale).astype(np.float32) for shape in shapes)
        return quanta, encode(recording, quanta, encoding)[1].error

    low, high, scale = 2.0**-20, 2.0**20, 1.0
    best = quanta, error = tried(scale)
    while abs(error / tolerance - 1) >= 0.005 and high / low >= 1.0005:
        low, high = (scale, high) if error < tolerance else (low, scale)
        guess = scale * tolerance / error
        if low == 2.0**-20 or high == 2.0**20:
            scale = float(np.clip(guess, max(low, scale / 8), min(high, scale * 8)))
        else:
            margin = (high / low) ** 0.1
            scale = float(np.clip(guess, low * margin, high / margin))
        quanta, error = tried(scale)
        best = min(best, (quanta, error), key=lambda tried: abs(tried[1] / tolerance - 1))
    return best[0]


@pytest.mark.parametrize("tolerance", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_ordinary_recordings_give_the_published_quanta_to_the_bit(kind: Any, tolerance: float) -> None:
    actor = random_actor(kind=kind)
    policy, said = heard(actor, ROWS, tolerance=tolerance)
    assert said == ""
    expected = published_quanta(actor, ROWS, tolerance)
    neurons = policy.network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    assert all(np.array_equal(a, b) for a, b in zip(neurons.quanta, expected, strict=True))


@pytest.mark.parametrize(
    "name", ["ppo-Hopper-v3", "sac-MountainCarContinuous-v0", "trpo-Swimmer-v3", "dqn-CartPole-v1"]
)
def test_reference_actors_get_the_published_quanta_to_the_bit(name: str, reference_dir: Any) -> None:
    actor = reference_actor(reference_dir, name)
    rows = actor.collect(str(actor.env_id), steps=2000)
    policy, said = heard(actor, rows)
    assert said == ""
    expected = published_quanta(actor, rows, 0.02)
    assert all(np.array_equal(a, b) for a, b in zip(policy.network.neurons.quanta, expected, strict=True))  # pyright: ignore


@pytest.mark.parametrize("digits", [1, 2])
def test_more_digits_are_advised_where_they_help(digits: int) -> None:
    _, said = heard(random_actor(), ROWS, digits=digits, tolerance=0.002)
    assert "not reached" in said
    assert "allow more digits" in said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(random_actor(), ROWS, digits=16, tolerance=0.002)


def test_more_digits_are_not_advised_where_they_cannot_help() -> None:
    actor = shifted(random_actor(outputs=1), 0.0, gain=1e9, head=Head.clip([-1], [1]))  # beyond float32's resolution
    _, said = heard(actor, ROWS)
    assert "with more digits than (6, 4, 6), no less than" in said
    _, said = heard(actor, ROWS, digits=16)
    assert "more digits than (16, 16, 16) do not help" in said
