"""Policies of dictionary observations as ONNX graphs: one vector in the metadata's order, or one input per key."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from snn_policy import OnnxPolicy, SourceError, SpikingPolicy
from snn_policy.actor import Actor
from snn_policy.cli import main
from snn_policy.exporting.description import METADATA_KEY, read_description
from snn_policy.exporting.observation_inputs import split
from snn_policy.protocol import KeyedShape
from tests.actors import dyadic_actor, every_policy, label, policies
from tests.test_dict_observations import PARTS, observations

SHAPE = KeyedShape(PARTS)
KINDS = ("sigma-delta", "sigma-delta-carrying", "if-rate", "mt-differential")


def keyed_policy(kind: str, parts: Any = PARTS) -> SpikingPolicy:
    """A small policy of observations that are dictionaries."""
    shape = KeyedShape(parts)
    actor = dyadic_actor(shape=tuple(shape))
    keyed = Actor(actor.graph, actor.head, shape)
    return next(policy for policy in every_policy(keyed) if label(policy) == kind)


@pytest.mark.parametrize("inputs", ["joined", "by-key"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_graphs_take_what_the_environment_gives(kind: str, inputs: str, tmp_path: Path) -> None:
    policy, obs = keyed_policy(kind), observations(12)
    policy.export_onnx(tmp_path, inputs=inputs)
    for graph in ("decision", "step"):
        robot = OnnxPolicy(tmp_path, graph=graph)
        assert isinstance(robot.observation_shape, KeyedShape)
        assert robot.observation_shape.parts == PARTS
        policy.reset()
        for step in range(12):
            one: Any = {key: values[step] for key, values in obs.items()}
            wanted = policy.act(one)
            np.testing.assert_allclose(robot.act(one), wanted, atol=2e-5)
        robot.reset()
        policy.reset()
        np.testing.assert_allclose(robot.act(obs), policy.act(SHAPE.joined(obs)), atol=2e-5)
        assert robot.counters.spikes.sum() == policy.counters.spikes.sum()
        state, action = robot.initial_state(12), None
        action, state = robot.step(obs, state)
        np.testing.assert_allclose(action, policy.decide(obs, policy.initial_state(12))[0], atol=2e-5)


@pytest.mark.parametrize("inputs", ["joined", "by-key"])
def test_a_plain_runtime_finds_names_and_order_in_the_file(inputs: str, tmp_path: Path) -> None:
    policy, obs = keyed_policy("sigma-delta"), observations(1)
    policy.export_onnx(tmp_path, inputs=inputs, batch=1)
    session = onnxruntime.InferenceSession(str(tmp_path / "decision.onnx"))
    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    assert about["observation_keys"] == [[key, list(shape)] for key, shape in PARTS.items()]
    assert about["inputs"] == inputs
    given = {argument.name: argument.shape for argument in session.get_inputs() if argument.name.startswith("obs")}
    if inputs == "by-key":
        assert given == {f"obs.{key}": [1, *shape] for key, shape in PARTS.items()}
        feeds = {f"obs.{key}": obs[key] for key in PARTS}
    else:
        assert given == {"obs": [1, 10]}
        feeds = {"obs": np.concatenate([obs[key].reshape(1, -1) for key, _ in about["observation_keys"]], axis=1)}
    memories = {f"memory.{entry['name']}.in": np.zeros((1, *entry["shape"]), np.float32) for entry in about["memories"]}
    first: Any = {key: values[0] for key, values in obs.items()}
    action = np.asarray(session.run(["action"], feeds | memories)[0])
    np.testing.assert_allclose(action[0], policy.act(first), atol=2e-5)


def test_arrays_keep_their_metadata_and_refuse_inputs_by_key(tmp_path: Path) -> None:
    policy = policies()["sigma-delta"]
    policy.export_onnx(tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "decision.onnx"))
    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    assert not {"observation_keys", "inputs"} & about.keys()
    with pytest.raises(ValueError, match="observations are one array, not a dictionary"):
        policy.export_onnx(tmp_path, inputs="by-key")
    with pytest.raises(ValueError, match="expected joined or by-key"):
        keyed_policy("sigma-delta").export_onnx(tmp_path, inputs="both")


@pytest.mark.parametrize("parts", [{"a": (), "b": (3,)}, {"only": (4,)}, {"ü 1": (2, 1, 2), "": (1,)}])
def test_keys_of_any_name_and_shape_are_served(parts: Any, tmp_path: Path) -> None:
    policy, rng = keyed_policy("sigma-delta", parts), np.random.default_rng(0)
    policy.export_onnx(tmp_path, inputs="by-key")
    robot = OnnxPolicy(tmp_path)
    for rows in (1, 3):
        robot.reset()
        policy.reset()
        for _ in range(5):
            obs: Any = {key: rng.normal(size=(rows, *shape)).astype(np.float32) for key, shape in parts.items()}
            np.testing.assert_allclose(robot.act(obs), policy.act(obs), atol=2e-5)


def test_the_command_writes_and_verifies_inputs_by_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keyed_policy("sigma-delta").save(tmp_path / "run")
    code = main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--inputs", "by-key", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [found["passed"] for found in document["verification"]] == [True, True]
    assert OnnxPolicy(tmp_path / "out").description.inputs == "by-key"
    assert main(["export", "td3-Pendulum-v1", "--out", str(tmp_path / "no"), "--inputs", "by-key"]) == 2
    assert "not a dictionary" in capsys.readouterr().err


BAD_KEYS: list[Any] = [
    [], "abc", 3, [["a", [3]]], [["a", [10]], ["b", [1]]], [["a", [5]], ["a", [5]]], [[1, [10]]], [["a", [-10]]],
    [["a", [True]]], [["a", 10]], [["a"]], [["a", [2, 5], 3]], {"a": [10]}, [["a", [2**40]]], [["x" * 999, [10]]],
]  # fmt: skip


@pytest.mark.parametrize("keys", BAD_KEYS, ids=str)
def test_keys_in_a_file_that_are_none_are_one_error(keys: Any, tmp_path: Path) -> None:
    keyed_policy("sigma-delta").export_onnx(tmp_path)
    session = onnxruntime.InferenceSession(str(tmp_path / "decision.onnx"))
    about = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    assert read_description(json.dumps(about)).observation_keys == tuple(PARTS.items())
    for changed in (about | {"observation_keys": keys}, about | {"inputs": keys}):
        with pytest.raises(SourceError, match="its description is damaged"):
            read_description(json.dumps(changed))


def test_splitting_undoes_joining() -> None:
    obs = observations(5)
    for (key, _), part in zip(PARTS.items(), split(SHAPE.joined(obs), tuple(PARTS.items())), strict=True):
        np.testing.assert_array_equal(part, obs[key])
        assert part.flags.c_contiguous


@pytest.mark.parametrize("form", ["c", "torchscript"])
def test_other_exports_take_the_joined_vector(form: str, tmp_path: Path) -> None:
    policy = keyed_policy("sigma-delta")
    if form == "c":
        policy.export_c(tmp_path / "c")
        assert "OBSERVATION" in (tmp_path / "c" / "policy.h").read_text().upper()
        return
    import torch

    policy.export_torchscript(tmp_path / "policy.pt")
    module, obs = torch.jit.load(str(tmp_path / "policy.pt")), SHAPE.joined(observations(1))
    np.testing.assert_allclose(module(torch.from_numpy(obs)).numpy(), policy.act(obs), atol=2e-5)
