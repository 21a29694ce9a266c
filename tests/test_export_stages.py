"""Exported graphs of stages: both files decide as the policy does, from a reset and from a running state."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
import pytest

from snn_policy import OnnxPolicy, SpikingPolicy
from snn_policy.ann.graph import Graph
from snn_policy.ann.layers import Linear
from snn_policy.bench.baselines import onnx_runtime
from snn_policy.bundle import Bundle
from snn_policy.exporting import export
from snn_policy.exporting.ann import actor_onnx
from snn_policy.exporting.graph_files import opened
from snn_policy.exporting.verification import verify
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from tests.stage_graphs import GRAPHS, INPUTS, RECURRENT, graph_actor, walk

DECISIONS = 200


def network(kind: str, alpha: float = 0.5, seed: int = 0, dyadic: bool = False) -> SpikingNetwork:
    """Mixed predictors, an offset, other digits per stage."""
    actor, rng = graph_actor(kind, seed, dyadic), np.random.default_rng(seed)
    quanta = tuple(np.full(width, 2.0 ** -(4 + stage % 2), np.float32) for stage, width in enumerate(actor.widths))
    predictor = tuple(rng.integers(0, 2, width).astype(np.float32) for width in actor.widths)
    digits, shares = tuple(4 + stage % 3 for stage in range(len(quanta))), (alpha,) * len(quanta)
    offset = (np.round(rng.normal(size=INPUTS) * 8) / 16).astype(np.float32)
    return SpikingNetwork(actor, SigmaDeltaNeurons(quanta, predictor, offset, digits, 2.0, shares))


def exported(of: SpikingNetwork, folder: Path, **options: Any) -> Path:
    """Write the graphs alone, without the bundle that lies beside them."""

    def write(place: Path, *given: Any, xz: bool) -> None:
        for name, content in given[-1].items():
            (place / name).write_bytes(content)

    with patch.object(export, "write_bundle", write):
        export.export_bundle(Bundle(of, {}, {}), folder, **options)
    return folder


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function: both graphs of a network, exported once; to read, not to change."""

    @cache
    def export_once(kind: str, alpha: float = 0.5, dyadic: bool = False) -> Path:
        return exported(network(kind, alpha, dyadic=dyadic), tmp_path_factory.mktemp(kind))

    return export_once


def observed(dyadic: bool = False, rows: int = 1, decisions: int = DECISIONS) -> np.ndarray:
    values = walk(decisions, rows)
    return (np.round(values * 16) / 16).astype(np.float32) if dyadic else values


@cache
def decided(kind: str, alpha: float) -> list[tuple[Any, Any, Any, Any]]:
    """The policy's decisions on what is observed: state before, action, costs, state after."""
    policy: Any = SpikingPolicy(network(kind, alpha), engine="numpy")
    found = []
    for obs in observed()[:, 0]:
        before = deepcopy(policy.state)
        found.append((before, policy.act(obs), deepcopy(policy.last_decision), deepcopy(policy.state)))
    return found


@pytest.mark.parametrize("graph", ["decision", "step"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("kind", GRAPHS)
def test_an_exported_graph_acts_as_the_policy(kind: str, alpha: float, graph: str, graphs: Any) -> None:
    cell_macs = graph_actor(kind).graph.cell_macs
    robot: Any = OnnxPolicy(graphs(kind, alpha), graph=graph)
    flipped = 0
    for obs, (before, wanted, decision, after) in zip(observed()[:, 0], decided(kind, alpha), strict=True):
        robot.state = type(robot.state)(
            *(getattr(before, name, np.zeros_like(own)) for name, own in robot.state._asdict().items())
        )
        found = robot.act(obs)
        same = (robot.last_decision.spikes == decision.spikes).all()
        flipped += not same
        if same:
            np.testing.assert_allclose(found, wanted, atol=1e-5)
            np.testing.assert_allclose(robot.state.memory, after.memory, atol=1e-5)
            assert robot.last_decision.synaptic_operations == decision.synaptic_operations
            assert robot.last_decision.events == decision.events
            assert robot.last_decision.multiply_accumulates == cell_macs
    assert flipped <= 4


@pytest.mark.parametrize("graph", ["decision", "step"])
@pytest.mark.parametrize("kind", GRAPHS)
def test_verification_passes_whole_decisions(kind: str, graph: str, graphs: Any) -> None:
    found = verify(network(kind), graphs(kind) / f"{graph}.onnx", observed(decisions=100)[:, 0])
    assert found.passed, found
    assert found.decisions == 200
    assert found.flip_limit < 0.01
    assert found.action_limit < 1e-4


@pytest.mark.parametrize("kind", [*RECURRENT, "residual", "concatenation"])
def test_verification_finds_another_network(kind: str, tmp_path: Path) -> None:
    """A recurrent weight, where there is one, is 0.01 off."""
    of = network(kind)
    stages = list(of.actor.graph.stages)
    place = next(place for place, stage in enumerate(stages) if isinstance(stage.connections[-1].map, Linear))
    *others, last = stages[place].connections
    assert isinstance(last.map, Linear)
    weight = np.array(last.map.weight)
    weight[0, 0] += 1e-2
    stages[place] = replace(stages[place], connections=(*others, replace(last, map=replace(last.map, weight=weight))))
    other = replace(of, actor=replace(of.actor, graph=Graph(INPUTS, tuple(stages))))
    assert not verify(of, exported(other, tmp_path) / "decision.onnx", observed(decisions=60)[:, 0]).passed


@pytest.mark.parametrize("graph", ["decision", "step"])
@pytest.mark.parametrize("kind", ["gru", "lstm", "elman", "residual", "gated"])
def test_running_on_by_itself_it_stays_with_the_policy(kind: str, graph: str, graphs: Any) -> None:
    """Weights and quanta are exact, so that hardly a neuron flips; where one does, its error does not stay."""
    of = network(kind, dyadic=True)
    policy, robot = SpikingPolicy(of, engine="numpy"), OnnxPolicy(graphs(kind, dyadic=True), graph=graph)
    differences = []
    for begin in (0, 100):
        policy.reset()
        robot.reset()
        differences += [abs(robot.act(obs) - policy.act(obs)).max() for obs in observed(dyadic=True)[begin:, 0]]
    assert len(differences) == 300
    assert np.mean(np.array(differences) < 1e-5) > 0.9
    assert max(differences) < 0.1


@pytest.mark.parametrize("graph", ["decision", "step"])
@pytest.mark.parametrize("kind", ["gru", "lstm", "elman", "branches"])
def test_rows_are_decided_alone_and_reset_alone(kind: str, graph: str, graphs: Any) -> None:
    robot, alone = (OnnxPolicy(graphs(kind), graph=graph) for _ in range(2))
    observations = observed(rows=3, decisions=30)
    robot.reset(num_envs=3)
    for step, obs in enumerate(observations):
        if step == 12:
            robot.reset(np.array([False, True, False]))
            alone.reset()
        together = robot.act(obs)
        np.testing.assert_allclose(together[1], alone.act(obs[1]), atol=1e-6)
    assert robot.counters.decisions.tolist() == [30, 18, 30]


def test_a_graph_is_opened_in_half_the_time_that_it_takes_with_onnx_runtimes_defaults(graphs: Any) -> None:
    """Some 500 nodes, a fifth of the time; of 1,400 nodes a tenth. The default plans shared buffers, pair by pair."""
    path = graphs("lstm") / "decision.onnx"
    content = path.read_bytes()

    def seconds(open_it: Callable[[], Any]) -> float:
        begin = process_time()
        open_it()
        return process_time() - begin

    ours = min(seconds(lambda: opened(path, content, ["CPUExecutionProvider"], 1)) for _ in range(3))
    assert ours < 0.5 * min(seconds(lambda: onnxruntime.InferenceSession(content)) for _ in range(2))


@pytest.mark.parametrize("kind", ["gru", "residual"])
def test_a_fixed_batch_and_no_counts(kind: str, tmp_path: Path) -> None:
    of, open_folder, fixed_folder = network(kind), tmp_path / "open", tmp_path / "fixed"
    for folder in (open_folder, fixed_folder):
        folder.mkdir()
    robot = OnnxPolicy(exported(of, open_folder))
    fixed = OnnxPolicy(exported(of, fixed_folder, batch=2))
    for obs in observed(rows=2, decisions=20):
        np.testing.assert_array_equal(robot.act(obs), fixed.act(obs))
    with pytest.raises(ValueError, match="batches of 2"):
        fixed.reset(num_envs=3)
    model = onnx.load(exported(of, fixed_folder, counts=False) / "step.onnx")
    assert "counts" not in [one.name for one in model.graph.output]


MEMORIES = {
    "lstm": ({"memory": 29, "residual": 29, "cell": 8}, {"previous": 8}),
    "gru": ({"memory": 20, "residual": 20, "cell": 8}, {"previous": 8}),
    "elman": ({"memory": 28, "residual": 28}, {"previous": 16}),
    "residual": ({"memory": 84, "residual": 84}, {}),
}


@pytest.mark.parametrize("kind", MEMORIES)
def test_cells_and_late_reads_are_memories_of_their_own(kind: str, graphs: Any) -> None:
    folder = graphs(kind)
    decision, added = MEMORIES[kind]
    assert dict(OnnxPolicy(folder).description.memories) == decision
    step = {**decision, "potential": decision["memory"], "timestep": 1, **added}
    assert dict(OnnxPolicy(folder, graph="step").description.memories) == step


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_ann_s_own_graph_acts_as_the_actor(kind: str) -> None:
    actor = graph_actor(kind)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(actor_onnx(actor), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    assert len(names) == 1 + sum(array.shape[1] > 0 for array in actor.initial_state(1))
    feeds = {one.name: np.zeros((2, one.shape[1]), np.float32) for one in session.get_inputs()[1:]}
    actor.reset(num_envs=2)
    for obs in observed(rows=2):
        action, *after = session.run(None, {"obs": obs, **feeds})
        np.testing.assert_allclose(np.asarray(action), actor.act(obs), atol=1e-5)
        feeds = {name.replace(".out", ".in"): value for name, value in
                 zip([one.name for one in session.get_outputs()[1:]], after, strict=True)}  # fmt: skip
    assert set(feeds) == set(names[1:])


def test_gates_of_the_ann_are_operators_not_spelled_out() -> None:
    for kind, gates in (("lstm", 3), ("gru", 2)):
        nodes = [node.op_type for node in onnx.load_from_string(actor_onnx(graph_actor(kind))).graph.node]
        assert nodes.count("Sigmoid") == gates
        assert nodes.count("Identity") == (kind == "gru")  # what it tells is what it remembers


def test_the_timed_ann_remembers() -> None:
    actor, decide = graph_actor("lstm"), onnx_runtime(graph_actor("lstm"))
    for obs in observed(decisions=20)[:, 0]:
        np.testing.assert_allclose(decide(obs)[0][0], actor.act(obs), atol=1e-5)
