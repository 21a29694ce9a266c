"""Bundles whose weights are stored as float16: half the size, the rounded network to the bit, said in the card."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from snn_policy import SpikingPolicy, convert
from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear, Normaliser
from snn_policy.bundle import write_bundle
from snn_policy.calibration.half_precision import LARGEST_CHANGE, rounded

rng = np.random.default_rng(3)


def actor_of(scale: float = 1.0, discrete: bool = False, normalised: bool = False) -> Actor:
    widths = (12, 128, 128, 3)
    layers = tuple(
        Linear(rng.normal(size=(out, inputs)) * scale / np.sqrt(inputs), rng.normal(size=out) * 0.1, f)  # pyright: ignore[reportArgumentType]
        for inputs, out, f in zip(widths, widths[1:], (RELU, RELU, None), strict=False)
    )
    head = Head.argmax(3) if discrete else Head.bounded(np.full(3, -4.0), np.full(3, 4.0))
    normaliser = Normaliser(np.full(12, 5.0), np.full(12, 0.1)) if normalised else None  # pyright: ignore
    return Actor(layers, head, (12,), normaliser, name="plain")


def recorded(actor: Actor, n: int = 400) -> np.ndarray:
    values = rng.normal(size=(n, 12)).astype(np.float32)
    return values if actor.normaliser is None else values * actor.normaliser.scale + actor.normaliser.mean


def weights_size(directory: Path) -> int:
    (file,) = directory.glob("weights*.safetensors")
    return file.stat().st_size


@pytest.mark.parametrize("neuron", ["sigma-delta", "if", "mt"])
@pytest.mark.parametrize(("discrete", "normalised"), [(False, False), (True, False), (False, True)])
def test_what_is_loaded_acts_as_the_rounded_network(
    neuron: str, discrete: bool, normalised: bool, tmp_path: Path
) -> None:
    actor = actor_of(discrete=discrete, normalised=normalised)
    obs = recorded(actor)
    policy = convert(actor, obs, neuron=neuron)
    policy.save(tmp_path, dtype="float16", observations=obs)
    loaded, expected = SpikingPolicy.load(tmp_path), SpikingPolicy(rounded(policy.network))
    for element in obs[:100]:
        assert np.array_equal(loaded.act(element), expected.act(element))
    stored = loaded.card["stored"]
    assert stored["weights"] == "float16"
    assert stored["observations"] == len(obs)
    assert (0 if discrete else 1e-6) <= stored["largest_change_of_an_action"] < LARGEST_CHANGE


def test_the_weights_take_half_the_room(tmp_path: Path) -> None:
    actor = actor_of(scale=0.5)
    policy = convert(actor, recorded(actor))
    policy.save(tmp_path / "wide")
    policy.save(tmp_path / "half", dtype="float16")
    assert weights_size(tmp_path / "half") < 0.6 * weights_size(tmp_path / "wide")
    assert SpikingPolicy.load(tmp_path / "half").card["stored"]["observations"] == 200
    assert "stored" not in policy.card
    assert "stored" not in SpikingPolicy.load(tmp_path / "wide").card


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda weight: weight * 1e6, "layers.0: a weight beyond 65504"),
        (lambda weight: weight * 50, "rounding changes an action by"),
    ],
)
def test_weights_that_float16_does_not_serve_are_refused(spoil, reason: str, tmp_path: Path) -> None:
    actor = actor_of()
    first = actor.layers[0]
    spoilt = replace(actor, graph=(replace(first, weight=spoil(first.weight)), *actor.layers[1:]))
    policy = convert(spoilt, recorded(actor))
    with pytest.raises(ValueError, match=reason):
        policy.save(tmp_path / "run", dtype="float16")
    assert not (tmp_path / "run").exists()


def test_other_types_and_unrounded_weights_are_refused(tmp_path: Path) -> None:
    actor = actor_of()
    policy = convert(actor, recorded(actor))
    with pytest.raises(ValueError, match="expected float32 or float16"):
        policy.save(tmp_path / "run", dtype="int8")
    with pytest.raises(ValueError, match="round them first"):
        write_bundle(tmp_path / "run", policy.network, {}, {}, dtype="float16")
    assert not (tmp_path / "run").exists()
