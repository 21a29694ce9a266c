"""The action of an ONNX graph is chosen by what it is and by its name, never by its position, and never in silence."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from torch import nn

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources import load_actor
from tests.onnx_graphs import HIDDEN, MEAN, difference, exported, graph, node

INDEX = TensorProto.INT64
VALUE = node("MatMul", "r", "W3", "value")
SPREAD = [node("Mul", "mean", "ZERO", "nothing"), node("Add", "nothing", "LOGSTD", "log_std")]
SAMPLE = [node("RandomNormalLike", "mean", "noise"), node("Add", "mean", "noise", "sampled")]


def alias(source: str, name: str) -> Any:
    return node("Identity", source, name)


# outputs in the graph's order, and the one that is the action
CHOSEN: dict[str, tuple[list[Any], list[Any], str]] = {
    "rl_games": ([*MEAN, VALUE, *SPREAD, alias("mean", "mu")], ["log_std", "value", "mu"], "mu"),
    "cleanrl": ([*MEAN, VALUE, alias("mean", "action_mean")], ["value", "action_mean"], "action_mean"),
    "ml-agents": ([*MEAN, *SAMPLE, alias("ONE", "version_number"), alias("ONE", "memory_size"),
                   alias("sampled", "continuous_actions"), alias("mean", "deterministic_continuous_actions")],
                  ["version_number", "memory_size", "continuous_actions", "deterministic_continuous_actions"],
                  "deterministic_continuous_actions"),
    "samples are no action": ([*MEAN, *SAMPLE, alias("sampled", "action"), alias("mean", "loc")], ["action", "loc"],
                              "loc"),
    "rllib": ([*MEAN, alias("mean", "output"), node("Neg", "r", "state_outs")], ["state_outs", "output"], "output"),
    "squashed": ([*MEAN, node("Tanh", "mean", "action")], ["mean", "action"], "action"),
    "last action": ([*MEAN, node("Tanh", "mean", "last_action"), alias("mean", "actions")], ["last_action", "actions"],
                    "actions"),
    "camel case": ([*MEAN, VALUE, alias("value", "stateValue"), alias("mean", "policyMean")],
                   ["stateValue", "policyMean"], "policyMean"),
    "std": ([*MEAN, node("Exp", "mean", "std"), alias("mean", "act")], ["std", "act"], "act"),
    "tracking": ([*MEAN, node("Neg", "mean", "joint_pos"), alias("mean", "actions")], ["joint_pos", "actions"],
                 "actions"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOSEN)
def test_the_action_is_found_behind_other_outputs_and_told(tmp_path: Path, name: str) -> None:
    nodes, outputs, action = CHOSEN[name]
    path = graph(nodes, tmp_path / "policy.onnx", outputs, ZERO=np.float32(0))
    others = ", ".join(output for output in outputs if output != action)
    with pytest.warns(UserWarning, match=f"'{action}' is read as the action, not {others}; output= chooses another"):
        actor = load_actor(path)
    assert difference(actor, path, action) <= 1e-5


INDICES: dict[str, list[Any]] = {
    "after": [*MEAN, alias("mean", "q_values"), node("ArgMax", "mean", "choice", axis=1)],
    "softmax": [*MEAN, node("Softmax", "mean", "probs", axis=-1),
                node("ArgMax", "probs", "choice", axis=-1, keepdims=0)],
    "cast": [*MEAN, alias("mean", "mu"), node("ArgMax", "mean", "i", axis=1, keepdims=0),
             node("Unsqueeze", "i", "AXIS", "u"), node("Cast", "u", "choice", to=INDEX)],
    "flat": [*MEAN, node("LogSoftmax", "mean", "p", axis=1), node("ArgMax", "p", "i", axis=1, keepdims=0),
             node("Reshape", "i", "FLAT", "choice")],
}  # fmt: skip


@pytest.mark.parametrize("name", INDICES)
def test_the_index_that_an_argmax_makes_is_the_action_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    outputs = ["mean", ("choice", INDEX)]
    path = graph(INDICES[name], tmp_path / "policy.onnx", outputs, AXIS=np.array([1]), FLAT=np.array([-1]))
    with pytest.warns(UserWarning, match="'choice' is read as the action, not mean"):
        actor = load_actor(path)
    assert actor.discrete
    assert difference(actor, path, "choice") == 0


@pytest.mark.parametrize(
    "outputs",
    [["value"], ["log_prob", "value"], ["std"], ["state_value", "entropy"], ["q_values"], ["vf", "log_std"]],
)
def test_values_and_spreads_are_never_the_action_unless_asked_for(tmp_path: Path, outputs: list[str]) -> None:
    path = graph([*MEAN, *(alias("mean", output) for output in outputs)], tmp_path / "policy.onnx", outputs)
    with pytest.raises(SourceError, match=rf"none of its outputs is an action by its name; .*output='{outputs[0]}'"):
        load_actor(path)
    assert difference(load_actor(path, output=outputs[0]), path, outputs[0]) <= 1e-5


@pytest.mark.parametrize(
    ("outputs", "named"),
    [(["left", "right"], "left, right"), (["value", "first", "second"], "first, second"), (["actions", "action"], ""),
     (["12", "13"], "12, 13")],
)  # fmt: skip
def test_several_outputs_that_could_be_the_action_are_listed(tmp_path: Path, outputs: list[str], named: str) -> None:
    path = graph([*MEAN, *(alias("mean", output) for output in outputs)], tmp_path / "policy.onnx", outputs)
    everything = ", ".join(outputs)
    with pytest.raises(SourceError, match=rf"\({named or everything}\); it has {everything}: choose one with output="):
        load_actor(path)
    assert load_actor(path, output=outputs[-1]).action_shape == (3,)


def test_an_action_with_a_discrete_and_a_continuous_part_is_refused_in_halves(tmp_path: Path) -> None:
    nodes = [*MEAN, alias("mean", "continuous_actions"), node("ArgMax", "r", "discrete_actions", axis=1)]
    path = graph(nodes, tmp_path / "policy.onnx", ["continuous_actions", ("discrete_actions", INDEX)])
    with pytest.raises(UnsupportedLayerError, match="discrete part and a continuous one"):
        load_actor(path)
    assert load_actor(path, output="continuous_actions").action_shape == (3,)


@pytest.mark.parametrize("name", ["action", "output", "12", "target_positions", "q_des", "x"])
def test_a_single_output_is_the_action_in_silence(tmp_path: Path, name: str) -> None:
    path = graph([*MEAN, alias("mean", name)], tmp_path / "policy.onnx", [name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert difference(load_actor(path), path, name) <= 1e-5


def test_only_random_outputs_are_refused_as_random(tmp_path: Path) -> None:
    path = graph([*MEAN, *SAMPLE], tmp_path / "policy.onnx", ["sampled"])
    with pytest.raises(UnsupportedLayerError, match=r"RandomNormalLike.*it is random"):
        load_actor(path)


def test_a_constant_is_not_the_action(tmp_path: Path) -> None:
    path = graph([*HIDDEN, alias("ONE", "actions")], tmp_path / "policy.onnx", ["actions"])
    with pytest.raises(UnsupportedLayerError, match="does not depend on the observation"):
        load_actor(path)


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value_net, self.action_net = nn.Linear(6, 1), nn.Sequential(nn.Linear(6, 8), nn.ELU(), nn.Linear(8, 3))

    def forward(self, obs: Any) -> Any:
        return self.value_net(obs), self.action_net(obs).clamp(-1, 1)


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
def test_outputs_that_are_only_numbered_are_told_apart_by_their_layers_names(tmp_path: Path, dynamo: bool) -> None:
    import onnxruntime
    import torch

    path = exported(ActorCritic(), tmp_path / "policy.onnx", (torch.zeros(1, 6),), dynamo)
    name = onnxruntime.InferenceSession(path).get_outputs()[1].name
    with pytest.warns(UserWarning, match="is read as the action"):
        actor = load_actor(path)
    assert actor.action_shape == (3,)
    assert difference(actor, path, name) <= 1e-5


def test_a_refusal_recommends_logits_before_values_and_none_of_several(tmp_path: Path) -> None:
    nodes = [*MEAN, alias("mean", "values"), alias("mean", "action_logits")]
    path = graph(nodes, tmp_path / "policy.onnx", ["values", "action_logits"])
    with pytest.raises(SourceError, match="choose one with output='action_logits'"):
        load_actor(path)
    path = graph([*MEAN, alias("mean", "380"), alias("mean", "377")], tmp_path / "policy.onnx", ["380", "377"])
    with pytest.raises(SourceError, match=r"could be the action \(380, 377\).*output='NAME'"):
        load_actor(path)
