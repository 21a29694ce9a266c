"""A policy as a directory: what is saved comes back to the bit, and nothing else is ever read as a policy."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import SourceError, SpikingPolicy, convert
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import (
    ALL_ACTIVATIONS,
    HEAD_KINDS,
    KINDS,
    dyadic_observations,
    every_policy,
    label,
    policies,
    random_actor,
    same_state,
    sigma_delta_neurons,
    walk,
)
from tests.bundles import BUNDLE_FILES, file_of


class Bomb:
    exploded = False

    def __reduce__(self) -> Any:
        return (setattr, (Bomb, "exploded", True))


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("activation", ALL_ACTIVATIONS, ids=lambda a: a.name)
def test_every_policy_comes_back_to_the_bit(activation: Any, kind: Any, normalised: bool, tmp_path: Path) -> None:
    actor = random_actor(activation=activation, kind=kind, normalised=normalised)
    for policy in every_policy(actor):
        policy.save(tmp_path / label(policy))
        again = SpikingPolicy.load(tmp_path / label(policy), engine="numpy")
        assert again.network.actor.name == actor.name
        assert np.array_equal(again.low, policy.low)
        assert np.array_equal(again.high, policy.high)
        assert np.array_equal(again.actor.act(walk(5)), actor.act(walk(5)))
        for obs in walk(8):
            assert np.array_equal(policy.act(obs), again.act(obs))
        assert same_state(policy.state, again.state)


@pytest.mark.parametrize("base", [2.0, 2.0**0.5, 3.0])
def test_the_base_comes_back(base: float, tmp_path: Path) -> None:
    actor = random_actor()
    SpikingPolicy(SpikingNetwork(actor, sigma_delta_neurons(actor, base=base))).save(tmp_path)
    neurons: Any = SpikingPolicy.load(tmp_path).network.neurons
    assert neurons.base == base
    assert np.array_equal(neurons.powers, sigma_delta_neurons(actor, base=base).powers)


def test_conversion_and_card_come_back_and_saving_again_replaces(tmp_path: Path) -> None:
    policy = policies()["mt-rate"]
    for name in ("first", "zweite ü"):
        policy.card = {"name": name, "returns": [1.5, -2.0], "nested": {"by length": {"10": 1, "9": 2}}}
        policy.conversion = {"neuron": "mt", "alpha": 0.3}
        policy.save(tmp_path)
        again = SpikingPolicy.load(tmp_path)
        assert again.card == policy.card
        assert again.conversion == policy.conversion
    total = json.loads((tmp_path / "policy.json").read_text())["weights_sha256"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy.json", f"weights-{total[:12]}.safetensors"]


def test_a_card_with_numbers_as_keys_can_be_loaded_again(tmp_path: Path) -> None:
    policy = policies()["if-rate"]
    policy.card = {"returns by T": {2: 1.0, 10: 2.0}}
    policy.save(tmp_path)
    assert SpikingPolicy.load(tmp_path).card == {"returns by T": {"2": 1.0, "10": 2.0}}


@pytest.fixture(params=["sigma-delta", "sigma-delta-carrying", "mt-differential"])
def saved(request: Any, tmp_path: Path) -> Path:
    policies()[request.param].save(tmp_path)
    return tmp_path


def refuses(directory: Path) -> None:
    with pytest.raises(SourceError):
        SpikingPolicy.load(directory)


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_truncated_file_is_refused_wherever_it_ends(saved: Path, name: str) -> None:
    place = file_of(saved, name)
    content = place.read_bytes()
    for length in range(0, len(content), 29):
        place.write_bytes(content[:length])
        refuses(saved)
    place.write_bytes(content + b"x")
    refuses(saved)


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_flipped_byte_is_refused_unless_it_says_the_same(saved: Path, name: str) -> None:
    # white space and escapes may change without changing what the JSON says
    place = file_of(saved, name)
    content, expected = place.read_bytes(), SpikingPolicy.load(saved).act(dyadic_observations(3))
    rng = np.random.default_rng(0)
    refused = 0
    for index in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[index] ^= int(rng.integers(1, 256))
        place.write_bytes(bytes(damaged))
        try:
            assert np.array_equal(SpikingPolicy.load(saved).act(dyadic_observations(3)), expected)
        except SourceError:
            refused += 1
    assert refused > 0.8 * len(content) / 7
    if name == "weights":
        assert refused == len(range(0, len(content), 7))


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    place = file_of(saved, name)
    place.unlink()
    with pytest.raises(FileNotFoundError, match=place.name):
        SpikingPolicy.load(saved)
    place.mkdir()
    with pytest.raises(FileNotFoundError, match=place.name):
        SpikingPolicy.load(saved)


def test_no_directory_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SpikingPolicy.load(tmp_path / "nowhere")


def test_a_newer_format_is_refused_by_its_version(saved: Path) -> None:
    document = json.loads((saved / "policy.json").read_text())
    (saved / "policy.json").write_text(json.dumps({**document, "format_version": 99}))
    with pytest.raises(SourceError, match="format version 99"):
        SpikingPolicy.load(saved)


def test_weights_of_another_policy_are_refused(saved: Path) -> None:
    policies(seed=5)["if-rate"].save(saved / "other")
    file_of(saved, "weights").write_bytes(file_of(saved / "other", "weights").read_bytes())
    with pytest.raises(SourceError, match="not the weights"):
        SpikingPolicy.load(saved)


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_pickle_is_never_loaded(saved: Path, name: str) -> None:
    file_of(saved, name).write_bytes(pickle.dumps(Bomb()))
    refuses(saved)
    assert not Bomb.exploded


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_policy_can_be_saved_again_unchanged(kind: str, tmp_path: Path) -> None:
    policies()[kind].save(tmp_path / "first")
    SpikingPolicy.load(tmp_path / "first").save(tmp_path / "second")
    for name in BUNDLE_FILES:
        first, second = file_of(tmp_path / "first", name), file_of(tmp_path / "second", name)
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = random_actor()
    policy = convert(actor, walk(200, actor.observation_shape))
    policy.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    said = r"No space left on device, .* bytes were to be written.*weights-\w{12}\.safetensors"
    with pytest.raises(OSError, match=said):
        policy.save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_bounds_cannot_be_changed_from_outside() -> None:
    actor = random_actor()
    with pytest.raises(ValueError, match="read-only"):
        actor.low[0] = 5
