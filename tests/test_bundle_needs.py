"""A bundle says what it needs of its reader: old words keep old versions; an older release names what it lacks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import SourceError, SpikingPolicy, convert
from snn_policy.actor import Actor
from snn_policy.ann.activations import ACTIVATION_NAMES, Activation
from snn_policy.ann.layers import Head, Linear
from snn_policy.bundle import needs
from snn_policy.bundle.document import _digest
from snn_policy.bundle.needs import FIRST_ACTIVATIONS, KNOWN
from snn_policy.protocol import KeyedShape
from tests.actors import ALL_ACTIVATIONS, random_actor, walk
from tests.test_bundle_hostile import forge, original, replaced


def saved(directory: Path, actor: Actor) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    observations = rng.standard_normal((200, *actor.observation_shape)).astype(np.float32)
    convert(actor, observations, alpha=0.0, engine="numpy").save(directory)
    return json.loads((directory / "policy.json").read_text())


@pytest.mark.parametrize("activation", [f for f in ALL_ACTIVATIONS if f.name != "qcfs"], ids=lambda f: f.name)
def test_activations_that_the_first_release_reads_keep_its_version_and_others_are_listed(
    activation: Activation, tmp_path: Path
) -> None:
    document = saved(tmp_path, random_actor(activation=activation))
    if activation.name in FIRST_ACTIVATIONS:
        assert document["format_version"] == 1
        assert "needs" not in document
    else:
        assert document["format_version"] == 4
        assert document["needs"] == [f"activation {activation.name}"]
    again = SpikingPolicy.load(tmp_path, engine="numpy")
    assert again.actor.hidden[0].activation == activation


def small(shape: Any = (4,), head: Head | None = None) -> Actor:
    rng = np.random.default_rng(1)
    first = Linear(rng.standard_normal((8, 4)), np.zeros(8), Activation("relu"))  # pyright: ignore
    layers = (first, Linear(rng.standard_normal((5, 8)), np.zeros(5)))  # pyright: ignore
    return Actor(layers, head or Head.argmax(5), shape)


def test_heads_and_observations_that_are_newer_are_listed(tmp_path: Path) -> None:
    assert "needs" not in saved(tmp_path / "plain", small())
    several = saved(tmp_path / "several", small(head=Head.argmax([2, 3])))
    assert (several["format_version"], several["needs"]) == (4, ["several argmaxes"])
    keyed = small(KeyedShape({"a": (1,), "b": (3,)}))
    document = saved(tmp_path / "keyed", keyed)
    assert (document["format_version"], document["needs"]) == (4, ["observations by key"])


def test_a_graph_with_newer_words_lists_them_too(tmp_path: Path) -> None:
    from snn_policy.ann.cells import Elementwise
    from snn_policy.ann.graph import Graph
    from snn_policy.ann.stage import Connection, Stage

    rng, nothing = np.random.default_rng(2), Activation("hardswish")
    first = Stage((Connection(0, Linear(rng.standard_normal((6, 4)), np.zeros(6))),), Elementwise(6, nothing))  # pyright: ignore
    last = Stage(
        (Connection(1, Linear(rng.standard_normal((5, 6)), np.zeros(5))),  # pyright: ignore
         Connection(0, Linear(rng.standard_normal((5, 4)), np.zeros(5)))), Elementwise(5),  # pyright: ignore
    )  # fmt: skip
    document = saved(tmp_path, Actor(Graph(4, (first, last)), Head.argmax(5), (4,)))
    assert (document["format_version"], document["needs"]) == (4, ["activation hardswish"])
    assert SpikingPolicy.load(tmp_path, engine="numpy").actor.graph.stages[0].cell.activation == nothing  # pyright: ignore


@pytest.mark.parametrize("lacking", ["activation hardswish", "activation clip", "activation log_softplus"])
def test_an_older_release_names_what_it_does_not_know(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, random_actor(activation=Activation(lacking.split()[1], 0.5)))  # pyright: ignore
    monkeypatch.setattr(needs, "KNOWN", KNOWN - {lacking})
    with pytest.raises(SourceError, match=f"newer release: it needs {lacking}; update snn-policy"):
        SpikingPolicy.load(tmp_path, engine="numpy")


@pytest.mark.parametrize("listed", [[], "clip", [3], [""], ["a\nb"], ["x" * 100], ["a"] * 65, {"a": 1}, [None]])
def test_needs_that_are_no_list_of_texts_are_refused(listed: Any, tmp_path: Path) -> None:
    saved(tmp_path, random_actor(activation=Activation("mish")))
    with pytest.raises(SourceError, match="its needs are no list of texts") as error:
        SpikingPolicy.load(forge(tmp_path, replaced(original(tmp_path), ("needs",), listed)), engine="numpy")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", [1, 2])
def test_bundles_of_earlier_development_versions_are_still_read(version: int, tmp_path: Path) -> None:
    saved(tmp_path, random_actor(activation=Activation("mish")))
    document = {key: value for key, value in original(tmp_path).items() if key != "needs"}
    again = SpikingPolicy.load(forge(tmp_path, {**document, "format_version": version}), engine="numpy")
    assert again.act(walk(1)[0]).shape == (3,)


def test_every_activation_is_known() -> None:
    assert {f"activation {name}" for name in ACTIVATION_NAMES} <= KNOWN
    assert set(ACTIVATION_NAMES) >= FIRST_ACTIVATIONS


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("listed", [["activation mish"], ["time travel"], [], "mish"])
def test_needs_of_versions_that_have_none_are_an_altered_file(version: int, listed: Any, tmp_path: Path) -> None:
    saved(tmp_path, random_actor())
    path = tmp_path / "policy.json"
    document = json.loads(path.read_text()) | {"format_version": version, "needs": listed}
    document["sha256"] = _digest(document)
    path.write_text(json.dumps(document))
    with pytest.raises(
        SourceError, match=f"format version {version} has no needs, but it lists some; the file was altered"
    ):
        SpikingPolicy.load(tmp_path)
