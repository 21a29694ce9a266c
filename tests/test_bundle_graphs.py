"""Bundles of networks that are no chains: they come back to the bit; what does not fit is one clear error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from safetensors.numpy import load, save

from snn_policy import SourceError, SpikingPolicy, load_actor
from snn_policy.actor import Actor
from snn_policy.ann.cells import Elementwise
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Head, Linear
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Connection, Stage
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import policies, same_state
from tests.bundles import file_of
from tests.fuzz import Bundles
from tests.stage_graphs import GRAPHS, INPUTS, Weights, graph_actor, plain, walk
from tests.test_bundle_hostile import ODD, forge, original, paths, replaced
from tests.test_stages import fine_network


def graph_policy(kind: str, alpha: float = 0.5, **facts: Any) -> SpikingPolicy:
    return SpikingPolicy(fine_network(kind, 1e-2, alpha), engine="numpy", **facts)


@pytest.fixture(scope="module", params=GRAPHS)
def bundle(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp(request.param)
    graph_policy(request.param).save(directory)
    return directory


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("kind", GRAPHS)
def test_every_graph_comes_back_to_the_bit(kind: str, alpha: float, tmp_path: Path) -> None:
    policy = graph_policy(kind, alpha, conversion={"neuron": "sigma-delta"}, card={"returns": [1.5]})
    policy.save(tmp_path)
    again, actor = SpikingPolicy.load(tmp_path, engine="numpy"), load_actor(tmp_path)
    assert (again.conversion, again.card) == (policy.conversion, policy.card)
    assert (actor.name, actor.graph.kind, actor.graph.macs) == (kind, policy.actor.graph.kind, policy.actor.graph.macs)
    for obs in walk(30, rows=2):
        np.testing.assert_array_equal(again.act(obs), policy.act(obs))
        np.testing.assert_array_equal(actor.act(obs), policy.actor.act(obs))
    assert same_state(again.state, policy.state)
    assert repr(again) == repr(policy)
    again.save(tmp_path / "again")
    assert file_of(tmp_path / "again", "weights").read_bytes() == file_of(tmp_path, "weights").read_bytes()


@pytest.mark.parametrize("kind", ["lstm", "residual", "history"])
def test_sparse_weights_of_a_graph_come_back_from_fewer_bytes(kind: str, tmp_path: Path) -> None:
    rng, whole = np.random.default_rng(0), widened(graph_actor(kind))
    thin = with_maps(whole, lambda weight: weight * (rng.random(weight.shape) < 0.2))
    for name, actor in (("whole", whole), ("thin", thin)):
        SpikingPolicy(network_of(actor), engine="numpy").save(tmp_path / name)
    sizes = {name: file_of(tmp_path / name, "weights").stat().st_size for name in ("whole", "thin")}
    assert sizes["thin"] < 0.75 * sizes["whole"]
    assert any(name.endswith(".mask") for name in load(file_of(tmp_path / "thin", "weights").read_bytes()))
    again = load_actor(tmp_path / "thin")
    for obs in walk(10):
        np.testing.assert_array_equal(again.act(obs), thin.act(obs))


def widened(actor: Actor) -> Actor:
    """The actor with a stage of 120 neurons beside its last one."""
    w, graph = Weights(3), actor.graph
    last, count = graph.stages[-1], len(graph.stages)
    beside = Connection(count, w.linear(120, graph.outputs))
    stages = (*graph.stages[:-1], plain(0, w.linear(INPUTS, 120), norm=w.norm("layer", 120)),
              Stage((*last.connections, beside), last.cell))  # fmt: skip
    return Actor(Graph(INPUTS, stages), actor.head, actor.observation_shape, actor.normaliser)


def with_maps(actor: Actor, change: Callable[[np.ndarray], np.ndarray]) -> Actor:
    def changed(one: Connection) -> Connection:
        linear = Linear(change(one.map.weight), one.map.bias) if isinstance(one.map, Linear) else one.map
        return Connection(one.source, linear, one.delayed, one.port)

    stages = [Stage(tuple(map(changed, stage.connections)), stage.cell, stage.start) for stage in actor.graph.stages]
    return Actor(Graph(actor.graph.inputs, tuple(stages)), actor.head, actor.observation_shape, actor.normaliser)


def network_of(actor: Actor) -> SpikingNetwork:
    from snn_policy.spiking.neurons import SigmaDeltaNeurons

    quanta = tuple(np.full(width, 0.01, np.float32) for width in actor.widths)
    predictor = tuple(np.ones(width, np.float32) for width in actor.widths)
    offset = np.zeros(actor.widths[0], np.float32)
    return SpikingNetwork(actor, SigmaDeltaNeurons(quanta, predictor, offset, (8,) * len(quanta)))


def test_graphs_have_a_format_version_of_their_own_and_chains_keep_theirs(tmp_path: Path) -> None:
    graph_policy("gru").save(tmp_path / "graph")
    assert original(tmp_path / "graph")["format_version"] == 3
    for kind, version in (("sigma-delta", 1), ("sigma-delta-carrying", 2), ("if-rate", 1)):
        policies()[kind].save(tmp_path / kind)
        assert original(tmp_path / kind)["format_version"] == version
        assert "graph" not in original(tmp_path / kind)["actor"]


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_graph_under_another_version_is_refused(bundle: Path, version: int) -> None:
    with pytest.raises(SourceError, match=f"version {version}, but this release reads 1 and 2 of chains"):
        SpikingPolicy.load(forge(bundle, replaced(original(bundle), ("format_version",), version)))


def loads_or_refuses(directory: Path) -> None:
    try:
        policy = SpikingPolicy.load(directory, engine="numpy")
    except SourceError as error:
        if "\n" in str(error):
            raise AssertionError("more than one line") from error
        return
    for obs in walk(2)[:, 0]:
        action = policy.act(obs)
        assert ((policy.low <= action) & (action <= policy.high)).all()


def test_every_value_of_a_graph_replaced_by_odd_ones(bundle: Path) -> None:
    document, rng = original(bundle), np.random.default_rng(0)
    with np.errstate(all="ignore"):
        for path in paths(document["actor"]["graph"], ("actor", "graph")):
            for odd in (KeyError, *(ODD[index] for index in rng.choice(len(ODD), 5, replace=False))):
                loads_or_refuses(forge(bundle, replaced(document, path, odd)))


def test_hostile_arrays_of_a_graph_are_refused(bundle: Path) -> None:
    document, arrays = original(bundle), load(file_of(bundle, "weights").read_bytes())
    for name, array in arrays.items():
        if not name.startswith("graph."):
            continue
        others = [array[:-1], array[None], array[:0]]
        if array.dtype == np.float32:
            others += [np.full_like(array, np.nan), np.full_like(array, np.inf), np.full(array.shape, 1e300)]
        else:
            others += [array.astype(np.int64), array.astype(np.float32)]
            others += [array - 1000, array + 1000] if array.dtype == np.int32 else [~array]
        for bad in others:
            if name.endswith(".indices") and bad.shape == array[:-1].shape and len(array) == 1:
                continue
            with pytest.raises(SourceError, match="damaged bundle"):
                SpikingPolicy.load(forge(bundle, document, save({**arrays, name: np.ascontiguousarray(bad)})))
        with pytest.raises(SourceError, match="damaged bundle"):
            SpikingPolicy.load(forge(bundle, document, save({key: a for key, a in arrays.items() if key != name})))


STAGE = ("actor", "graph", "stages", 0)
MAP = (*STAGE, "connections", 0, "map")
NONSENSE: list[tuple[str, tuple[Any, ...], Any, str]] = [
    ("no stages", ("actor", "graph", "stages"), [], "stages"),
    ("too many stages", ("actor", "graph", "stages"), [{}] * 1025, "1 to 1024 stages"),
    ("a cycle", (*STAGE, "connections", 0, "source"), 1, "told nothing by then"),
    ("a stage that is not there", (*STAGE, "connections", 0, "source"), 900, "told nothing by then"),
    ("a stage before the first", (*STAGE, "connections", 0, "source"), -1, "is no stage"),
    ("a delayed observation", (*STAGE, "connections", 0, "delayed"), True, "decision before"),
    ("a delay in numbers", (*STAGE, "connections", 0, "delayed"), 1, "true or false"),
    ("a port that is not there", (*STAGE, "connections", 0, "port"), 5, "do not fit its cell"),
    ("a port beyond all", (*STAGE, "connections", 0, "port"), 10**6, "port 1000000"),
    ("a map of another kind", (*MAP, "kind"), "attention", "linear, conv2d, select, identity"),
    ("a map with settings", (*MAP, "dilation"), [2, 2], "expected kind, weight_shape"),
    ("another width", ("actor", "graph", "inputs"), 13, "13 inputs, expected 12"),
    ("a cell of another kind", (*STAGE, "cell", "kind"), "mamba", "elementwise, product, gru, lstm"),
    ("a text for a start", (*STAGE, "start"), "yes", "true or false"),
    ("a start without its array", (*STAGE, "start"), True, "graph.1.start"),
    ("an observation as large as memory", ("actor", "observation_shape"), [2**40], "inputs"),
]


CASES = [pytest.param(*case[1:], id=case[0]) for case in NONSENSE]


@pytest.mark.parametrize(("path", "value", "message"), CASES)
@pytest.mark.parametrize("bundle", ["lstm", "normalised"], indirect=True)
def test_nonsense_in_a_graph_is_one_error_that_names_it(bundle: Path, path: Any, value: Any, message: str) -> None:
    document = original(bundle)
    with pytest.raises(SourceError, match=message):
        SpikingPolicy.load(forge(bundle, replaced(document, path, value)))


def test_a_small_file_asks_for_no_large_memory(tmp_path: Path) -> None:
    """Identities cost a file nothing, so their number and width are bounded; so is a convolution's padding."""
    same = {"source": 0, "port": 0, "delayed": False, "map": {"kind": "identity"}}
    many = Graph(4096, (Stage((Connection(0, Select.identity(4096)),) * 3, Elementwise(4096)),))
    actor = Actor(many, Head.clip(np.zeros(4096), np.ones(4096)), (4096,))
    SpikingPolicy(network_of(actor), engine="numpy").save(tmp_path)
    document = original(tmp_path)
    for count, message in ((4095, "more than 16777216 ends"), (5000, "list of connections")):
        changed = replaced(document, (*STAGE, "connections"), [same] * count)
        with pytest.raises(SourceError, match=message):
            SpikingPolicy.load(forge(tmp_path, changed))
    with pytest.raises(ValueError, match="neurons, more than"):
        Conv2d(np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32), (1, 9, 9), (1, 1), (2**14, 2**14))


def test_a_graph_too_large_for_a_bundle_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    linear = Linear(np.eye(1, dtype=np.float32), np.zeros(1, np.float32))
    stages = tuple(plain(index, linear, None) for index in range(1100))
    actor = Actor(Graph(1, stages), Head.clip([-1], [1]), (1,))
    with pytest.raises(ValueError, match="1100 stages"):
        SpikingPolicy(network_of(actor), engine="numpy").save(tmp_path)
    assert not list(tmp_path.iterdir())


class GraphBundles(Bundles):
    """Forgeries of the bundle of a graph."""

    def policy(self, kind: str) -> SpikingPolicy:
        return graph_policy(kind)


@pytest.mark.parametrize("kind", ["lstm", "residual", "gated"])
def test_a_forged_bundle_of_a_graph_acts_in_bounds_or_is_refused(kind: str, tmp_path: Path) -> None:
    bundles = GraphBundles(tmp_path, kind)

    @settings(max_examples=80)
    @given(bundles.strategy())
    def check(forged: tuple[bytes, bytes]) -> None:
        with np.errstate(all="ignore"):
            bundles.loads_or_refuses(forged)

    check()


def test_neurons_of_chains_on_a_graph_are_refused_when_read(bundle: Path) -> None:
    neurons = {"model": "if", "coding": "rate", "timesteps": 4, "alpha": [0.3], "residual": "bounded",
               "alpha_clip": 1.0, "threshold": "max"}  # fmt: skip
    with pytest.raises(SourceError, match="damaged bundle"):
        SpikingPolicy.load(forge(bundle, replaced(original(bundle), ("neurons",), neurons)))


def test_the_document_is_json_without_numbers_of_its_arrays(bundle: Path) -> None:
    document = json.loads((bundle / "policy.json").read_text())
    assert len(json.dumps(document["actor"]["graph"])) < 600 * len(document["actor"]["graph"]["stages"])
