"""Compressed policies shipped beside the plain ones: small, sparse, cheaper, and as good as their cards say."""

import json
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikingPolicy, compare
from snn_policy.bundle import read_bundle
from snn_policy.cli import main
from snn_policy.exported import names, path
from tests.bundles import file_of

COMPRESSED = [name for name in names() if name.endswith("-compressed")]
LARGEST_SHARE = 0.35
"""Of the bytes of the original's weights."""


def document(name: str) -> dict[str, Any]:
    return json.loads((path(name) / "policy.json").read_text())


def original_of(name: str) -> str:
    return document(name)["card"]["compression"]["teacher"]


def test_they_are_shipped_beside_their_originals() -> None:
    assert "td3-Pendulum-v1-compressed" in COMPRESSED
    for name in COMPRESSED:
        assert name == f"{original_of(name)}-compressed"
        assert original_of(name) in names()


@pytest.mark.parametrize("name", COMPRESSED)
def test_they_load_and_act_within_the_same_bounds(name: str) -> None:
    policy, plain = SpikingPolicy.load(path(name)), SpikingPolicy.load(path(original_of(name)))
    assert policy.observation_shape == plain.observation_shape
    stream = np.random.default_rng(0).normal(size=(50, *policy.observation_shape)).astype(np.float32)
    actions = np.array([policy.act(obs) for obs in stream])
    assert (actions >= plain.low).all()
    assert (actions <= plain.high).all()
    assert len(np.unique(actions)) > 10
    assert policy.counters.synaptic_operations.sum() > 0


@pytest.mark.parametrize("name", COMPRESSED)
def test_weights_are_pruned_and_stored_without_their_zeros(name: str) -> None:
    actor, plain = read_bundle(path(name)).actor, read_bundle(path(original_of(name))).actor
    assert actor.dense_macs == plain.dense_macs
    assert actor.synapses < 0.8 * plain.synapses
    record = document(name)["card"]["compression"]
    assert record["density"] == pytest.approx(actor.synapses / actor.dense_macs, abs=2e-3)  # float16 may round to zero
    sizes = [file_of(path(of), "weights").stat().st_size for of in (name, original_of(name))]
    assert sizes[0] < LARGEST_SHARE * sizes[1]


@pytest.mark.parametrize("name", COMPRESSED)
def test_their_cards_say_what_a_hundred_episodes_found(name: str) -> None:
    card = document(name)["card"]
    returns, record = card["returns"], card["compression"]
    first, last = returns["seeds"]
    assert last - first + 1 >= 100
    assert first >= 40_000
    assert returns["retention_of_means"] >= 0.99
    ann, snn = returns["ann"]["mean"], returns["snn"]["mean"]
    assert returns["retention_of_means"] == pytest.approx(1 - (ann - snn) / abs(ann))
    assert returns["snn_failed"] <= returns["ann_failed"] + 0.02
    energies = returns["energies"]["fp32-45nm"]
    assert returns["energy_share"] == pytest.approx(energies["snn"] / energies["ann_dense"])
    assert record["target"] == f"energy:{float(record['target'].partition(':')[2]):g}"
    plain = document(original_of(name))["card"]["returns"]["energy_share"]
    assert returns["energy_share"] < 0.6 * plain
    assert energies["compressed_skipping"] < energies["ann_skipping"]


def test_a_card_is_true_of_the_policy_beside_it() -> None:
    name = "td3-Pendulum-v1-compressed"
    policy, plain = SpikingPolicy.load(path(name)), read_bundle(path("td3-Pendulum-v1")).actor
    returns = document(name)["card"]["returns"]
    found = compare(plain, policy, "Pendulum-v1", episodes=30, seed=returns["seeds"][0], compressed=policy.actor)
    assert found.energy_share == pytest.approx(returns["energy_share"], rel=0.1)
    spread = returns["snn"]["std"] / np.sqrt(30)
    assert abs(found.snn.mean - returns["snn"]["mean"]) < 4 * spread
    assert found.retention_of_means > 0.97


def test_the_list_shows_them_with_their_energy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) in (0, None)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["policies"]}
    assert set(COMPRESSED) <= set(rows)
    for name in COMPRESSED:
        plain = rows[original_of(name)]["card"]["returns"]["energy_share"]
        assert rows[name]["card"]["returns"]["energy_share"] < plain
