"""`snn-policy inspect` shows a network that is no chain as a tree of its stages, and says what can be done with it."""

import json
from pathlib import Path

import pytest

from snn_policy import SpikingPolicy
from snn_policy.commands.inspect_graph import MOST_LINES, described_graph, graph_lines
from snn_policy.commands.shipped import _shape
from tests.stage_graphs import GRAPHS, graph_actor
from tests.test_bundle_graphs import graph_policy
from tests.test_cli_inspect import run

SHOWN = {
    "lstm": ["├─ graph of stages with lstm", "├─ 1 lstm: 8, 24 analog multiply-accumulates",
             "│  ├─ from the observation: Linear 12 → 32   [32×12]",
             "│  └─ from stage 1, a decision before: Linear 8 → 32   [32×8]", "├─ 2 elu: 9, from stage 1: Linear 8 → 9",
             "recurrent, 16 numbers are remembered"],
    "gru": ["1 gru: 8, starts from learned values", "from the observation, input 0: Linear 12 → 24",
            "from stage 1, a decision before, input 1: Linear 8 → 24"],
    "elman": ["1 sum → tanh: 10", "from stage 2, a decision before: Linear 6 → 10", "16 numbers are remembered"],
    "concatenation": ["3 l2 norm: 4, 12 analog", "4 sum → elu: 16", "│  └─ from stage 3: Linear 4 → 16"],
    "residual": ["2 layer norm: 8", "5 rms norm: 8", "│  ├─ from stage 1: as it is",
                 "680 multiply-accumulates per decision, 48 of them analog"],
    "normalised": ["1 layer norm → silu: 16", "2 layer norm → tanh: 16"],
    "gated": ["1 silu · linear: 8", "from the observation, input 1: Linear 12 → 8",
              "from the observation: Select 12 → 4"],
    "history": ["1 elu: 8, from the observation: Conv2d 12 → 8   [4×3×1×2]"],
    "branches": ["3 sum: 3", "217 multiply-accumulates per decision;"],
}  # fmt: skip


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_is_shown_stage_by_stage(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph_policy(kind).save(tmp_path / "run")
    code, out, _ = run(capsys, str(tmp_path / "run"))
    assert code == 0
    for line in SHOWN[kind]:
        assert line in out
    assert "if, snm, mt: chains of ReLU layers only" in out
    assert "exports: onnx, c, torchscript (nir, compress: chains only)" in out
    assert ("remembered" in out) == graph_actor(kind).recurrent


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_json_of_a_graph_adds_up(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph_policy(kind).save(tmp_path / "run")
    graph = graph_actor(kind).graph
    document = json.loads(run(capsys, str(tmp_path / "run"), "--json")[1])
    assert (document["layers"], document["network"]) == (None, graph.kind)
    stages = document["stages"]
    assert [stage["outputs"] for stage in stages] == [*graph.widths[1:], graph.outputs]
    assert sum(stage["multiply_accumulates"] for stage in stages) == document["multiply_accumulates"] == graph.macs
    assert document["analog_multiply_accumulates"] == graph.cell_macs
    delayed = {one["source"] for stage in stages for one in stage["connections"] if one["delayed"]}
    assert delayed == set(graph.delayed)


def test_a_chain_is_shown_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "td3-Pendulum-v1", "--json")
    document = json.loads(out)
    assert (code, document["stages"], document["network"], document["recurrent"], document["memory"]) == (
        0, None, "chain", False, 0)  # fmt: skip
    assert "graph" not in run(capsys, "td3-Pendulum-v1")[1]


def test_a_long_graph_is_cut_and_says_so() -> None:
    many = described_graph(graph_actor("residual").graph) * 30
    lines = graph_lines(many)
    assert len(lines) == MOST_LINES + 1
    assert "more lines; --json has all" in lines[-1]


@pytest.mark.parametrize(
    ("kind", "named"), [("lstm", "lstm"), ("residual", "layer norm, rms norm"), ("elman", "graph")]
)
def test_representations_name_the_graph(kind: str, named: str) -> None:
    policy: SpikingPolicy = graph_policy(kind)
    assert named in repr(policy)
    assert named in repr(policy.actor)
    assert named in _shape(policy.actor)
    assert "\n" not in repr(policy)
