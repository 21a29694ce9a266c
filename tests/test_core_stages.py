"""The compiled core and the exported C on graphs of stages, against the NumPy definition of the same network."""

import copy
import pickle
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import SpikingPolicy
from snn_policy.actor import Actor
from snn_policy.ann.cells import Elementwise
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Head, Linear
from snn_policy.ann.select import Select
from snn_policy.ann.stage import Connection, Stage
from snn_policy.engines import check_engine, make_engine
from snn_policy.engines.core import build, layout, library
from snn_policy.engines.core.engine import REDERIVE_AFTER, EventEngine
from snn_policy.engines.core.layout import Writer
from snn_policy.errors import UnsupportedLayerError
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import membrane_neurons
from tests.compiled_policy import CompiledPolicy, counted, verify_at
from tests.core_parts import normalise
from tests.stage_graphs import GRAPHS, INPUTS, RECURRENT, Weights, graph_actor, plain, walk
from tests.stage_networks import EXACT, dyadic_walk, exact_actor, exact_networks, stage_network, stage_policy

COSTS = ("spikes", "events", "synaptic_operations", "multiply_accumulates", "iterations", "error_spikes")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
DECISIONS = 3 * REDERIVE_AFTER + 10


def compare(network: SpikingNetwork, stream: Any, tolerance: float, core: library.Core | None = None) -> None:
    """Actions, states and costs are those of the definition, both from their own states."""
    rows, spikes = stream.shape[1], 0
    session, state = EventEngine(network, compiled=core).session(rows), network.initial_state(rows)
    for obs in stream:
        action, state, decision = network.decide(obs, state)
        assert session.accept(obs)
        assert session.run()
        own = session.decision()
        assert own is not None
        np.testing.assert_allclose(session.actions_like(obs), action, rtol=0, atol=tolerance)
        assert type(session.state) is type(state)
        for name, array in state._asdict().items():
            if name != "age":
                np.testing.assert_allclose(getattr(session.state, name), array, rtol=0, atol=tolerance, err_msg=name)
        for name in COSTS:
            np.testing.assert_array_equal(getattr(own, name), getattr(decision, name), err_msg=name)
        spikes += int(own.spikes.sum())
    assert spikes > 20 * len(stream)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("kind", EXACT)
def test_graphs_without_gates_are_equal_to_the_definition_to_the_bit(kind: str, alpha: float, rows: int) -> None:
    compare(stage_network(exact_actor(kind), alpha=alpha), dyadic_walk(DECISIONS, rows), 0)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("kind", GRAPHS)
def test_all_graphs_agree_with_the_definition(kind: str, alpha: float, rows: int) -> None:
    compare(stage_network(graph_actor(kind), alpha=alpha), walk(DECISIONS, rows), 1e-5)


@pytest.mark.parametrize(("base", "digits"), [(4.0, 5), (3.0, 1), (2.0, 1)])
@pytest.mark.parametrize("kind", GRAPHS)
def test_so_they_do_with_other_bases_and_few_digits(kind: str, base: float, digits: int) -> None:
    compare(stage_network(graph_actor(kind, 3), base=base, digits=digits, seed=3), walk(DECISIONS, 2, seed=2), 1e-5)


def test_spikes_so_large_that_sums_are_derived_anew_are_forgotten_by_delayed_readers() -> None:
    """Observations jump by 2¹⁵ quanta and back; what recurrent connections have accumulated stays exact."""
    network = stage_network(exact_actor("elman"), alpha=0.5)
    stream = dyadic_walk(40, 2)
    stream[10:12] *= 1024
    compare(network, stream, 0)


def copies() -> list[library.Core]:
    level = library.VARIANT_NAMES.index(library.core().variant)
    return [library.load(build.SOURCES / build.LIBRARY, name) for name in library.VARIANT_NAMES[: level + 1]]


@pytest.mark.parametrize("kind", GRAPHS)
def test_every_copy_gives_the_same_bits(kind: str) -> None:
    network = stage_network(graph_actor(kind))
    sessions = [EventEngine(network, compiled=core).session(5) for core in copies()]
    for obs in walk(DECISIONS, 5):
        for session in sessions:
            assert session.accept(obs)
            assert session.run()
        for session in sessions[1:]:
            assert np.array_equal(session._actions.view(np.int32), sessions[0]._actions.view(np.int32))
            assert np.array_equal(session._memory.view(np.int32), sessions[0]._memory.view(np.int32))
            assert np.array_equal(session._counts, sessions[0]._counts)


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_row_is_decided_as_if_it_were_alone(kind: str) -> None:
    together, alone = stage_policy(kind), stage_policy(kind)
    for obs in walk(DECISIONS, 70):  # more than one block of rows
        np.testing.assert_array_equal(together.act(obs)[66], alone.act(obs[66]))


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_default_engine_is_the_core(kind: str) -> None:
    network = stage_network(graph_actor(kind))
    assert isinstance(make_engine(network, "auto"), EventEngine)
    check_engine(network.actor, "event")


@pytest.mark.parametrize("kind", GRAPHS)
def test_torch_runs_all_graphs_as_well(kind: str) -> None:
    pytest.importorskip("torch")
    core, torch = stage_policy(kind), stage_policy(kind, engine="torch")
    for obs in walk(10, rows=3):
        np.testing.assert_allclose(torch.act(obs), core.act(obs), atol=1e-5)


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_masked_reset_is_a_new_episode_of_those_rows_alone(kind: str) -> None:
    policy, fresh, kept = (stage_policy(kind) for _ in range(3))
    stream = walk(30, rows=3)
    for obs in stream[:15]:
        policy.act(obs)
        kept.act(obs)
    policy.reset(np.array([True, False, True]))
    fresh.reset(num_envs=3)
    changed = False
    for obs in stream[15:]:
        action, anew, on = policy.act(obs), fresh.act(obs), kept.act(obs)
        np.testing.assert_array_equal(action[[0, 2]], anew[[0, 2]])
        np.testing.assert_array_equal(action[1], on[1])
        changed |= bool(abs(anew[1] - on[1]).max() > 1e-3)
    assert changed


@pytest.mark.parametrize("kind", RECURRENT)
def test_rows_that_rest_keep_what_they_remember(kind: str) -> None:
    policy, stream = stage_policy(kind), walk(3, rows=2)
    policy.act(stream[0])
    before = policy.state
    policy.act(stream[1], active=np.array([True, False]))
    for own, kept in zip(policy.state, before, strict=True):
        np.testing.assert_array_equal(own[1], kept[1])
    assert abs(policy.state.memory[0] - before.memory[0]).max() > 0  # pyright: ignore


@pytest.mark.parametrize("copied", [lambda policy: pickle.loads(pickle.dumps(policy)), copy.deepcopy])
@pytest.mark.parametrize("kind", GRAPHS)
def test_a_copy_goes_on_in_mid_episode(kind: str, copied: Any) -> None:
    policy, stream = stage_policy(kind), walk(40, rows=2)
    for obs in stream[:21]:
        policy.act(obs)
    twin = copied(policy)
    for obs in stream[21:]:
        np.testing.assert_array_equal(twin.act(obs), policy.act(obs))


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("kind", [kind for kind in GRAPHS if kind != "history"])
def test_a_stored_state_goes_on_to_the_bit(kind: str, alpha: float) -> None:
    policy, other, pure = (stage_policy(kind, alpha) for _ in range(3))
    stream = walk(40, rows=2)
    for obs in stream[:21]:
        policy.act(obs)
    other.state = policy.state
    state = policy.state
    for obs in stream[21:]:
        action = policy.act(obs)
        np.testing.assert_array_equal(other.act(obs), action)
        stepped, state = pure.step(obs, state)
        np.testing.assert_array_equal(stepped, action)


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_state_of_one_engine_serves_the_other(kind: str) -> None:
    core, definition, stream = stage_policy(kind), stage_policy(kind, engine="numpy"), walk(40, rows=2)
    for obs in stream[:21]:
        core.act(obs)
    definition.state = core.state
    for obs in stream[21:30]:
        np.testing.assert_allclose(definition.act(obs), core.act(obs), atol=1e-5)
    core.state = definition.state
    for obs in stream[30:]:
        np.testing.assert_allclose(core.act(obs), definition.act(obs), atol=1e-5)


def test_predict_begins_episodes_where_it_is_told_to() -> None:
    policy, fresh, stream = stage_policy("lstm"), stage_policy("lstm"), walk(8, rows=2)
    state, starts = None, np.ones(2, bool)
    for obs in stream[:4]:
        _, state = policy.predict(obs, state, starts)
        starts = np.zeros(2, bool)
    action, _ = policy.predict(stream[4], state, np.array([False, True]))
    anew = fresh.act(stream[4])
    np.testing.assert_array_equal(action[1], anew[1])
    assert abs(action[0] - anew[0]).max() > 1e-3


def test_slots_are_as_few_as_the_readers_allow() -> None:
    def count(graph: Graph) -> int:
        actor = Actor(graph, Head.clip(np.full(3, -4), np.full(3, 4)), (INPUTS,))
        return int(Writer(stage_network(actor), 16).layout().header["slots"][0])

    w = Weights(0)
    chain = Graph(INPUTS, (plain(0, w.linear(INPUTS, 9)), plain(1, w.linear(9, 9)), plain(2, w.linear(9, 3))))
    assert count(chain) == 1
    found = {kind: count(graph_actor(kind).graph) for kind in GRAPHS}
    assert found == {"lstm": 2, "gru": 1, "elman": 2, "concatenation": 3, "residual": 1, "normalised": 1, "gated": 2,
                     "history": 2, "branches": 2}  # fmt: skip


def test_weights_of_zero_cost_nothing_and_all_readers_are_paid() -> None:
    network = stage_network(graph_actor("branches"))
    stages = Writer(network, 16).layout().stages
    assert stages["uniform_fan_out"].tolist()[:3] == [16, 2, 1]
    network = stage_network(graph_actor("gated"))
    layout_ = Writer(network, 16).layout()
    fan_out = layout_.parameters[layout_.stages["fan_out"][0] :][:INPUTS]
    assert fan_out.tolist() == network.actor.graph.fan_out[0].tolist() == [16, 17, 16, 18, *[16] * 7, 17]


def test_wide_ports_and_selections_into_one_port() -> None:
    """Widths that are no whole vectors; four connections into one port, two of them delayed, one a permutation."""
    w = Weights(5, dyadic=True)
    picked = Select(np.arange(20)[::-1], 20)
    stages = (
        plain(0, w.linear(INPUTS, 20)),
        Stage((Connection(1, w.linear(20, 20)), Connection(1, picked), Connection(2, w.linear(20, 20), delayed=True),
               Connection(3, w.linear(133, 20), delayed=True)), Elementwise(20)),
        Stage((Connection(2, w.linear(20, 133)), Connection(0, w.linear(INPUTS, 133))), Elementwise(133)),
        plain(3, w.linear(133, 3)),
    )  # fmt: skip
    actor = Actor(Graph(INPUTS, stages), Head.clip(np.full(3, -4), np.full(3, 4)), (INPUTS,))
    compare(stage_network(actor, alpha=0.0), dyadic_walk(12, 3), 0)
    compare(stage_network(actor, alpha=0.5), dyadic_walk(12, 1), 0)


@pytest.mark.parametrize("density", [0.1, 0.4])
def test_sparse_recurrent_weights(density: float) -> None:
    w, rng = Weights(2, dyadic=True), np.random.default_rng(0)

    def sparse(inputs: int, outputs: int) -> Any:
        blocks = np.repeat(rng.random((outputs // 16, inputs)) < density, 16, axis=0)
        return Linear((rng.choice([-1, 1], (outputs, inputs)) * blocks / 16).astype(np.float32), w.drawn(outputs))

    first = Stage((Connection(0, w.linear(INPUTS, 512)), Connection(1, sparse(512, 512), delayed=True)),
                  Elementwise(512))  # fmt: skip
    graph = Graph(INPUTS, (first, plain(1, sparse(512, 64)), plain(2, w.linear(64, 3))))
    actor = Actor(graph, Head.clip(np.full(3, -4), np.full(3, 4)), (INPUTS,))
    network = stage_network(actor)
    connections = Writer(network, 16).layout().connections
    assert connections["kind"].tolist() == [layout.LINEAR, layout.SPARSE, layout.LINEAR, layout.LINEAR]
    assert connections["in_order"].tolist() == [0, 0, 1, 0]
    compare(network, dyadic_walk(DECISIONS, 2), 0)
    compare(network, dyadic_walk(DECISIONS, 1), 0)


def test_membranes_refuse_graphs_by_name() -> None:
    for kind in GRAPHS:
        actor = graph_actor(kind)
        thresholds = membrane_neurons(exact_chain())
        with pytest.raises(UnsupportedLayerError, match="chains of layers only"):
            Writer(SpikingNetwork(actor, thresholds), 16)


def exact_chain() -> Actor:
    from tests.actors import dyadic_actor

    return dyadic_actor()


def test_a_graph_that_ends_in_a_convolution_is_left_to_others() -> None:
    w = Weights(0)
    last = Conv2d(w.drawn(1, 3, 1, 2), w.drawn(1), (3, 1, 4), (1, 1))
    graph = Graph(INPUTS, (plain(0, w.linear(INPUTS, INPUTS)), Stage((Connection(1, last),), Elementwise(3))))
    actor = Actor(graph, Head.clip(np.full(3, -4), np.full(3, 4)), (INPUTS,))
    with pytest.raises(ValueError, match="last layer must be linear"):
        check_engine(actor, "event")


@pytest.mark.parametrize("kind", ["layer", "rms", "l2"])
@pytest.mark.parametrize("width", [1, 3, 16, 37, 256])
def test_norms_are_the_definitions_within_a_few_units(kind: str, width: int) -> None:
    w = Weights(width)
    for epsilon in (0.0, 1e-12, 1e-5):
        norm = w.norm(kind, width, epsilon)
        for scale in (1e-4, 1.0, 1e4):
            z = w.drawn(width) * np.float32(scale) + (scale if kind != "layer" else 0)
            z = z.astype(np.float32)
            expected, found = norm(z[None].astype(np.float64))[0], normalise(z, norm)
            np.testing.assert_allclose(found, expected, rtol=0, atol=4e-6 * max(1, abs(expected).max()))


@pytest.mark.parametrize("kind", ["layer", "rms", "l2"])
def test_norms_of_nothing_and_of_too_much_are_numbers(kind: str) -> None:
    norm = Weights(0).norm(kind, 20, 0.0)
    np.testing.assert_array_equal(normalise(np.zeros(20, np.float32), norm), norm.bias)
    with np.errstate(over="ignore"):
        huge = (1e30 * (np.arange(20) - 3.0)).astype(np.float32)
        np.testing.assert_allclose(normalise(huge, norm), norm(huge[None])[0])


def test_the_bits_of_norms_do_not_depend_on_the_instruction_set() -> None:
    w = Weights(1)
    for width in (5, 16, 100, 259):
        for kind in ("layer", "rms", "l2"):
            norm, z = w.norm(kind, width), w.drawn(width)
            found = [normalise(z, norm, *build.VARIANTS[core.variant]) for core in copies()]
            found.append(normalise(z, norm, "-O0"))
            assert all(np.array_equal(one.view(np.int32), found[0].view(np.int32)) for one in found)


@pytest.mark.parametrize(("alpha", "level"), [(0.0, "-O0"), (0.5, "-O2")])
@pytest.mark.parametrize("kind", GRAPHS)
def test_the_c_policy_acts_as_the_policy_to_the_bit(
    kind: str, alpha: float, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 decisions, a reset in the middle of them."""
    verify_at(level, monkeypatch)
    made = stage_policy(kind, alpha).export_c(tmp_path, prefix="walker", observations=walk(1000)[:, 0])
    if made.left_out is not None:
        pytest.skip(made.left_out)
    assert made.verified == 1000


@pytest.mark.parametrize("head", [Head.argmax(3), Head.argmax((1, 2)), Head.tanh([1, 2, 3], [0, 0, 1], 2.0)])
@pytest.mark.parametrize(("kind", "level"), [("lstm", "-O0"), ("gru", "-O2")])
def test_recurrent_policies_with_other_heads(
    kind: str, level: str, head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify_at(level, monkeypatch)
    actor = replace(graph_actor(kind), head=head)
    policies = [SpikingPolicy(stage_network(actor), engine=engine) for engine in ("event", "numpy")]
    stream = walk(60, rows=2)
    found = [np.array([policy.act(obs) for obs in stream]) for policy in policies]
    assert found[0].dtype == found[1].dtype
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    made = policies[0].export_c(tmp_path, observations=walk(1000)[:, 0])
    assert made.left_out is not None or made.verified == 1000


@pytest.mark.parametrize("kind", RECURRENT)
def test_the_c_policy_counts_what_the_policy_counts(kind: str, tmp_path: Path) -> None:
    policy = stage_policy(kind)
    compiled = CompiledPolicy(policy, tmp_path)
    for obs in walk(300)[:, 0]:
        np.testing.assert_array_equal(compiled.act(obs)[:3], policy.act(obs))
    assert compiled.counts() == counted(policy)


@pytest.mark.parametrize("compiler", ["gcc -std=c99", "clang -std=c99", "g++ -x c++ -std=c++11",
                                      "clang++ -x c++ -std=c++17"])  # fmt: skip
@pytest.mark.parametrize("kind", ["gru", "residual", "gated", "history"])
def test_no_compiler_has_anything_to_say(kind: str, compiler: str, tmp_path: Path) -> None:
    command = compiler.split()
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    stage_policy(kind).export_c(tmp_path, verify=False)
    target = ["-c", str(tmp_path / "policy.c"), "-o", str(tmp_path / "out.o")]
    done = subprocess.run([*command, "-O2", *WARNINGS, *target], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_c_policy_holds_what_it_needs_and_no_more(tmp_path: Path) -> None:
    parts = {"snn_lstm": {"lstm", "gru", "gated"}, "snn_norm(": {"concatenation", "residual", "normalised"},
             "snn_recall": set(RECURRENT), "snn_decide_membrane(const": set()}  # fmt: skip
    for kind in GRAPHS:
        stage_policy(kind).export_c(tmp_path / kind, verify=False)
        text = (tmp_path / kind / "policy.c").read_text()
        defined = {part for part in parts if f"void {part}" in text}
        assert defined == {part for part, kinds in parts.items() if kind in kinds}, kind


def test_an_arduino_library_of_a_recurrent_policy_acts_the_same(tmp_path: Path) -> None:
    made = stage_policy("gru").export_c(tmp_path, layout="arduino", observations=walk(1000)[:, 0])
    assert made.left_out is not None or made.verified == 1000


def test_exact_networks_are_the_ones_that_parity_goes_through() -> None:
    assert {name.split(",")[0] for name, _ in exact_networks()} == set(EXACT)


def test_spiking_policies_of_graphs_show_what_they_are() -> None:
    policy = stage_policy("lstm")
    assert isinstance(policy, SpikingPolicy)
    assert policy.layer_names == ("observation", "hidden1", "hidden2")
    assert policy.state._fields == ("memory", "accumulator", "age", "residual", "cell")
