"""convert(): which arguments go with which neuron, what is refused, and that the actor stays as it was."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from snn_policy import SpikingPolicy, UnsupportedLayerError, convert
from snn_policy.ann.activations import Activation
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import MembraneNeurons, SigmaDeltaNeurons
from tests.actors import ALL_ACTIVATIONS, CODINGS, MODELS, random_actor, same_state, walk

OBSERVATIONS = walk(120)
MEMBRANE_ONLY: dict[str, Any] = {
    "coding": "rate", "timesteps": 4, "alpha": 0.3, "alpha_clip": 0.5, "residual": "plain"
}  # fmt: skip
SIGMA_DELTA_ONLY: dict[str, Any] = {"tolerance": 0.02, "digits": 4, "base": 2.0, "predictor": 0}


def membranes(**arguments: Any) -> MembraneNeurons:
    neurons = convert(random_actor(), OBSERVATIONS, **arguments).network.neurons
    assert isinstance(neurons, MembraneNeurons)
    return neurons


def sigma_delta(**arguments: Any) -> SigmaDeltaNeurons:
    neurons = convert(random_actor(), OBSERVATIONS, **arguments).network.neurons
    assert isinstance(neurons, SigmaDeltaNeurons)
    return neurons


@pytest.mark.parametrize("name", [*sorted(MEMBRANE_ONLY.keys() - {"alpha"}), "levels"])
def test_sigma_delta_refuses_the_membranes_arguments(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: not an argument of the 'sigma-delta' neuron"):
        convert(random_actor(), OBSERVATIONS, **{name: {**MEMBRANE_ONLY, "levels": 4}[name]})


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", SIGMA_DELTA_ONLY)
def test_membranes_refuse_the_sigma_deltas_arguments(name: str, model: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: not an argument of the '{model}' neuron"):
        convert(random_actor(), OBSERVATIONS, neuron=model, **{name: SIGMA_DELTA_ONLY[name]})


@pytest.mark.parametrize("model", ["if", "snm"])
def test_only_mt_takes_levels(model: str) -> None:
    with pytest.raises(ValueError, match="levels: not an argument"):
        convert(random_actor(), OBSERVATIONS, neuron=model, levels=4)
    assert membranes(neuron="mt", levels=3).levels == 3


def test_the_defaults_are_the_documented_ones() -> None:
    neurons = sigma_delta()
    assert neurons.digits == (6, 4, 6)
    assert neurons.base == 2.0
    policy = convert(random_actor(), OBSERVATIONS)
    assert policy.conversion["tolerance"] == 0.02
    assert policy.timesteps == 16
    for model in MODELS:
        for coding in CODINGS:
            made = membranes(neuron=model, coding=coding)
            clip = 0.5 if model != "mt" and coding == "rate" else 1 / 16
            assert (made.timesteps, made.alpha, made.alpha_clip, made.residual) == (8, (0.3, 0.3), clip, "bounded")


@pytest.mark.parametrize(
    ("activation", "model"),
    [(a, m) for a in ALL_ACTIVATIONS for m in MODELS if a.name != "relu" and (a.name, m) != ("qcfs", "if")],
    ids=lambda value: getattr(value, "name", value),
)
def test_membranes_stand_for_relu_only_and_the_remedy_names_sigma_delta(activation: Any, model: str) -> None:
    actor = random_actor(activation=activation)
    with pytest.raises(UnsupportedLayerError, match='neuron="sigma-delta"') as refusal:
        convert(actor, OBSERVATIONS, neuron=model)
    assert refusal.value.kind == activation.name
    assert refusal.value.path == "actor.layers.0"
    assert isinstance(convert(actor, OBSERVATIONS), SpikingPolicy)


@pytest.mark.parametrize("neuron", ["sigma-delta", *MODELS])
def test_the_actor_stays_as_it_was(neuron: str) -> None:
    actor, twin = random_actor(normalised=True), random_actor(normalised=True)
    policy = convert(actor, OBSERVATIONS, neuron=neuron)
    policy.act(OBSERVATIONS[:5])
    assert policy.actor is actor
    for layer, same in zip(actor.layers, twin.layers, strict=True):
        assert np.array_equal(layer.weight, same.weight)
        assert np.array_equal(layer.bias, same.bias)
        with pytest.raises(ValueError, match="read-only"):
            layer.weight[0, 0] = 1
    assert actor.counters.decisions.sum() == 0
    assert np.array_equal(actor.act(OBSERVATIONS), twin.act(OBSERVATIONS))


def test_explicit_thresholds_are_taken_as_they_are() -> None:
    given = [np.linspace(0, 2, 48), np.linspace(1, 2, 40)]
    neurons = membranes(neuron="if", threshold=given)
    assert all(np.array_equal(a, np.float32(b)) for a, b in zip(neurons.thresholds, given, strict=True))
    assert [threshold[0] for threshold in membranes(neuron="mt", threshold=[0.5, 2.0]).thresholds] == [0.5, 2.0]


def test_explicit_quanta_are_taken_as_they_are() -> None:
    given = [np.full(11, 0.125), np.full(48, 0.25), np.full(40, 0.0625)]
    neurons = sigma_delta(threshold=given, predictor=1)
    assert all(np.array_equal(a, np.float32(b)) for a, b in zip(neurons.quanta, given, strict=True))
    assert all((values == 1).all() for values in neurons.predictor)
    assert np.allclose(neurons.offset, OBSERVATIONS.mean(axis=0), atol=1e-6)


def test_alpha_may_differ_per_layer() -> None:
    assert membranes(neuron="if", alpha=[0.25, 0.75]).alpha == (0.25, 0.75)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"neuron": "lif"}, "neuron"),
    ({"tolerance": 0}, "tolerance"),
    ({"tolerance": -0.1}, "tolerance"),
    ({"tolerance": 1.5}, "tolerance"),
    ({"tolerance": float("nan")}, "tolerance"),
    ({"digits": 0}, "digits"),
    ({"digits": [6, 4]}, "digits"),
    ({"digits": 2.5}, "digits"),
    ({"base": 1.0}, "base"),
    ({"predictor": 2}, "predictor"),
    ({"threshold": "mse"}, "threshold"),
    ({"threshold": [1.0, 1.0]}, "threshold"),
    ({"threshold": 0.5}, "threshold"),
    ({"threshold": [0.1, 0.1, 0.1], "tolerance": 0.02}, "tolerance"),
    ({"neuron": "if", "threshold": "mean"}, "threshold"),
    ({"neuron": "if", "threshold": "percentile:0"}, "percentile"),
    ({"neuron": "if", "threshold": "percentile:101"}, "percentile"),
    ({"neuron": "if", "threshold": "percentile:x"}, "percentile"),
    ({"neuron": "if", "threshold": "percentile"}, "percentile"),
    ({"neuron": "if", "threshold": 0.5}, "threshold"),
    ({"neuron": "if", "threshold": [1.0]}, "threshold"),
    ({"neuron": "if", "threshold": [np.ones(3), np.ones(40)]}, r"threshold\[0\]"),
    ({"neuron": "if", "threshold": [-1.0, 1.0]}, r"threshold\[0\]"),
    ({"neuron": "if", "threshold": [1.0, float("nan")]}, r"threshold\[1\]"),
    ({"neuron": "if", "timesteps": 0}, "timesteps"),
    ({"neuron": "if", "timesteps": -3}, "timesteps"),
    ({"neuron": "if", "timesteps": 2.5}, "timesteps"),
    ({"neuron": "if", "timesteps": "8"}, "timesteps"),
    ({"neuron": "if", "alpha": 1.5}, "alpha"),
    ({"neuron": "if", "alpha": float("nan")}, "alpha"),
    ({"neuron": "if", "alpha": "best"}, "alpha"),
    ({"neuron": "if", "alpha": [0.1, 0.2, 0.3]}, "alpha"),
    ({"neuron": "if", "alpha": "pilot"}, "env_id"),
    ({"neuron": "if", "alpha_clip": -1.0}, "alpha_clip"),
    ({"neuron": "if", "residual": "leaky"}, "residual"),
    ({"neuron": "if", "coding": "phase"}, "coding"),
    ({"neuron": "mt", "levels": 0}, "levels"),
    ({"engine": "tensorflow"}, "engine"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=str)
def test_a_bad_value_is_one_value_error_that_names_it(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        convert(random_actor(), OBSERVATIONS, **arguments)


@pytest.mark.parametrize(
    "observations",
    [np.zeros((5, 3)), [], np.zeros((0, 11)), np.full((5, 11), np.nan), "observations", None, 7, [None], [["a"] * 11]],
    ids=str,
)
def test_bad_recordings_are_one_value_error(observations: Any) -> None:
    with pytest.raises(ValueError, match="observations"):
        convert(random_actor(), observations)


@pytest.mark.parametrize("neuron", ["sigma-delta", *MODELS])
def test_an_actor_of_one_layer_converts(neuron: str) -> None:
    policy = convert(random_actor(widths=()), OBSERVATIONS, neuron=neuron)
    action = policy.act(OBSERVATIONS[:4])
    assert np.abs(action - policy.actor.act(OBSERVATIONS[:4])).max() < 0.2


@pytest.mark.parametrize(
    "arguments",
    [
        {"digits": np.array([6, 4, 6])},
        {"digits": np.int64(5)},
        {"tolerance": np.float32(0.02)},
        {"neuron": "if", "timesteps": np.int64(4)},
        {"neuron": "if", "alpha": np.float32(0.5)},
        {"neuron": "if", "alpha": np.array([0.1, 0.2])},
        {"neuron": "mt", "levels": np.int32(3)},
    ],
    ids=str,
)
def test_numpy_numbers_are_as_good_as_pythons_and_can_be_saved(arguments: dict[str, Any], tmp_path: Any) -> None:
    policy = convert(random_actor(), OBSERVATIONS, **arguments)
    policy.save(tmp_path)
    again = SpikingPolicy.load(tmp_path)
    for obs in OBSERVATIONS[:10]:
        assert np.array_equal(policy.act(obs), again.act(obs))


class Episode:
    def __init__(self, observations: Any) -> None:
        self.observations = observations


class FakeMinari:
    def iterate_episodes(self) -> Any:
        return (Episode(part) for part in np.split(OBSERVATIONS, [50, 51]))


@pytest.mark.parametrize("neuron", ["sigma-delta", "mt"])
@pytest.mark.parametrize(
    "observations",
    [np.split(OBSERVATIONS, [30, 31, 100]), list(OBSERVATIONS), OBSERVATIONS.tolist(), OBSERVATIONS.astype(float),
     FakeMinari(), "generator"],
    ids=["arrays", "rows", "lists", "float64", "minari", "generator"],
)  # fmt: skip
def test_recordings_of_any_form_give_the_same_policy(observations: Any, neuron: str) -> None:
    if isinstance(observations, str):
        observations = (part for part in np.split(OBSERVATIONS, 4))
    first = convert(random_actor(), OBSERVATIONS, neuron=neuron)
    second = convert(random_actor(), observations, neuron=neuron)
    for obs in OBSERVATIONS[:20]:
        assert np.array_equal(first.act(obs), second.act(obs))
    assert same_state(first.state, second.state)
    assert first.conversion == second.conversion
    assert isinstance(second.network, SpikingNetwork)


def test_a_qcfs_actor_brings_its_thresholds_and_its_timesteps() -> None:
    actor = random_actor(activation=Activation("qcfs", 0.25, levels=5))
    policy = convert(actor, OBSERVATIONS, neuron="if")
    neurons = policy.network.neurons
    assert isinstance(neurons, MembraneNeurons)
    assert (neurons.timesteps, policy.conversion["threshold"]) == (5, "trained")
    assert all((theta == np.float32(0.25)).all() for theta in neurons.thresholds)
    assert convert(actor, OBSERVATIONS, neuron="if", timesteps=9).timesteps == 9


def test_qcfs_needs_if_neurons_with_rate_coding() -> None:
    actor = random_actor(activation=Activation("qcfs", 0.25, levels=5))
    with pytest.raises(UnsupportedLayerError, match="neuron='if' with coding='rate'"):
        convert(actor, OBSERVATIONS, neuron="if", coding="differential")


@pytest.mark.parametrize("arguments", [{}, {"threshold": [0.1, 0.1, 0.1]}, {"neuron": "if"}, {"neuron": "mt"}], ids=str)
def test_a_bar_goes_to_stderr_only_when_asked_for_and_changes_nothing(
    arguments: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    silent = convert(random_actor(), OBSERVATIONS, **arguments)
    assert capsys.readouterr() == ("", "")
    watched = convert(random_actor(), OBSERVATIONS, **arguments, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "calibrating, pass " in shown.err
    assert "100%" in shown.err
    assert watched.conversion == silent.conversion
    for obs in OBSERVATIONS[:20]:
        assert np.array_equal(watched.act(obs), silent.act(obs))
    assert same_state(watched.state, silent.state)


def test_a_pilots_episodes_are_shown_after_the_calibration(capsys: pytest.CaptureFixture[str]) -> None:
    actor = random_actor(shape=(3,), widths=(6,), outputs=1)
    actor.env_id = "Pendulum-v1"
    convert(actor, walk(60, (3,)), neuron="if", timesteps=2, alpha="pilot", progress=True)
    shown = capsys.readouterr().err
    assert 0 <= shown.index("calibrating") < min(shown.index("trying α = 0.3"), shown.index("trying α = 0.8"))


@pytest.mark.parametrize("order", ["array, actor", "list, actor", "actor, actor", "array, policy", "array, path"])
def test_swapped_arguments_are_told(order: str) -> None:
    actor, rows = random_actor(), walk(30)
    given: Any = {
        "array, actor": (rows, actor), "list, actor": ([rows, rows], actor), "actor, actor": (actor, actor),
        "array, policy": (rows, convert(actor, walk(300))), "array, path": (rows, "model.zip"),
    }[order]  # fmt: skip
    reason = "the second is an actor" if order == "actor, actor" else "the arguments are swapped"
    with pytest.raises(TypeError, match=rf"expected convert\(actor, observations\), got .*; {reason}"):
        convert(*given)


@pytest.mark.parametrize(
    ("given", "way_out"),
    [
        ("Pendulum-v1", r'pass actor.collect\("Pendulum-v1"\)'),
        ("log.npy", r'pass numpy.load\("log.npy"\)'),
        (Path("logs/a.npz"), r'pass numpy.load\("logs/a.npz"\)'),
        ({"obs": walk(30)}, r"keys 'obs'.*takes one array of shape \(N, \*\(11,\)\).*under the key"),
    ],
)
def test_what_is_no_recording_leads_to_one(given: Any, way_out: str) -> None:
    with pytest.raises(ValueError, match=way_out):
        convert(random_actor(), given)


def test_an_environment_is_no_recording_and_leads_to_one() -> None:
    with pytest.raises(ValueError, match=r"got .*; pass what actor.collect\(.*\) records in it"):
        convert(random_actor(), gymnasium.make("Pendulum-v1"))
