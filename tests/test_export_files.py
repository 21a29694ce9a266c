"""Graph files that were truncated, altered or made by someone else are refused in one line; nothing else happens."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.external_data_helper
import onnx.helper
import onnx.numpy_helper
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snn_policy import OnnxPolicy, SourceError
from snn_policy.exporting.description import METADATA_KEY, read_description
from tests.actors import dyadic_observations, policies


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("good")
    policies()["if-rate"].export_onnx(directory)
    return (directory / "decision.onnx").read_bytes()


def refused(content: bytes, directory: Path) -> str:
    """The message with which this file is refused: one line, and it names the file."""
    (directory / "decision.onnx").write_bytes(content)
    with pytest.raises(SourceError) as caught:
        OnnxPolicy(directory)
    message = str(caught.value)
    assert "decision.onnx" in message
    assert "\n" not in message
    return message


def altered(content: bytes, change: Callable[[onnx.ModelProto], Any]) -> bytes:
    model = onnx.load_from_string(content)
    change(model)
    return model.SerializeToString()


def redescribed(content: bytes, **changes: Any) -> bytes:
    """The model with other fields in its description; `...` removes one."""

    def change(model: onnx.ModelProto) -> None:
        (entry,) = (prop for prop in model.metadata_props if prop.key == METADATA_KEY)
        document = {**json.loads(entry.value), **changes}
        entry.value = json.dumps({key: value for key, value in document.items() if value is not ...})

    return altered(content, change)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not a model", b"{}", b"\x80\x04K\x01."], ids=repr)
def test_what_is_no_model(content: bytes, tmp_path: Path) -> None:
    refused(content, tmp_path)


@given(data=st.data())
def test_truncated_models(data: st.DataObject, good: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    end = data.draw(st.integers(0, len(good) - 1))
    refused(good[:end], tmp_path_factory.mktemp("truncated"))


@given(data=st.data())
def test_altered_bytes_are_refused_or_harmless(
    data: st.DataObject, good: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place, value = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 255))
    directory = tmp_path_factory.mktemp("altered")
    (directory / "decision.onnx").write_bytes(good[:place] + bytes([value]) + good[place + 1 :])
    with contextlib.suppress(SourceError):
        assert OnnxPolicy(directory).observation_shape == (4,)


def test_a_model_without_a_description(good: bytes, tmp_path: Path) -> None:
    content = altered(good, lambda model: model.metadata_props.pop())
    assert "no description" in refused(content, tmp_path)


WRONG_FIELDS: list[dict[str, Any]] = [
    {"format": "other"}, {"format_version": 2}, {"format_version": True}, {"graph": "both"}, {"timesteps": 0},
    {"timesteps": "8"}, {"timesteps": 1e9}, {"observation_shape": [0]}, {"observation_shape": [2**40]},
    {"observation_shape": "4"}, {"observation_shape": [4.0]}, {"observation_shape": ...}, {"action_shape": []},
    {"discrete": "no"}, {"low": [0]}, {"low": ["a", "b"]}, {"high": [float("nan")] * 2}, {"batch": 0},
    {"layers": ["a", "a"]}, {"layers": [1]}, {"counted": ["x"]}, {"counted": []}, {"memories": []},
    {"memories": [{"name": "residual"}]},
    {"memories": [{"name": "class", "shape": [14], "dtype": "float32"}]}, {"memories": {}},
    {"memories": [{"name": "residual", "shape": [14], "dtype": "float64"}]},
    {"memories": [{"name": "residual", "shape": [-1], "dtype": "float32"}]},
    {"memories": [{"name": "residual", "shape": [15], "dtype": "float32"}]},
    {"memories": [{"name": "__init__", "shape": [14], "dtype": "float32"}]},
    {"multiply_accumulates": -1}, {"iterations": None}, {"env_id": "os:system"}, {"env_id": 3}, {"control_period": 0},
    {"name": ["x"]}, {"alpha": ["x"]}, {"alpha": 3}, {"coding": 1}, {"versions": []}, {"versions": {"numpy": 2}},
    {"observation_shape": [5]}, {"observation_shape": [2, 2]}, {"batch": 4},
]  # fmt: skip


@pytest.mark.parametrize("fields", WRONG_FIELDS, ids=str)
def test_descriptions_that_are_wrong_or_do_not_fit_the_graph(fields: Any, good: bytes, tmp_path: Path) -> None:
    refused(redescribed(good, **fields), tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(data=st.data())
def test_any_json_in_a_description_is_checked_or_refused(data: st.DataObject, good: bytes) -> None:
    model = onnx.load_from_string(good)
    document = json.loads(next(prop.value for prop in model.metadata_props if prop.key == METADATA_KEY))
    field = data.draw(st.sampled_from(sorted(document)))
    document[field] = data.draw(json_values)
    with contextlib.suppress(SourceError):
        assert read_description(json.dumps(document)).timesteps >= 1


@given(text=st.text() | st.binary().map(lambda raw: raw.decode("latin-1")) | json_values.map(json.dumps))
def test_any_text_as_a_description(text: str) -> None:
    with pytest.raises(SourceError):
        read_description(text)


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(SourceError):
        read_description("[" * 100_000)


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "/etc/passwd"])
def test_weights_in_other_files_are_never_read(location: str, good: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))

    def change(model: onnx.ModelProto) -> None:
        tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        onnx.external_data_helper.set_external_data(tensor, location, 0, len(tensor.raw_data))
        tensor.ClearField("raw_data")

    assert "other files" in refused(altered(good, change), tmp_path)


@pytest.mark.parametrize("name", ["obs", "memory.residual.in", "action", "memory.residual.out", "counts"])
def test_names_must_be_those_of_the_description(name: str, good: bytes, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.name = value.name.replace(name, "other")
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [own.replace(name, "other") for own in names]

    assert "expected obs" in (said := refused(altered(good, change), tmp_path)) or "expected action" in said


def test_an_operator_that_does_not_exist(good: bytes, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type, model.graph.node[0].domain = "Execute", "someone.else"

    refused(altered(good, change), tmp_path)


def test_a_plain_network_is_no_policy(tmp_path: Path) -> None:
    from snn_policy.exporting.ann import actor_onnx
    from tests.actors import dyadic_actor

    refused(actor_onnx(dyadic_actor()), tmp_path)


@pytest.mark.parametrize("factor", [np.nan, np.inf, 1e6])
def test_actions_that_no_sound_graph_gives_are_refused(factor: float, good: bytes, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.graph.node if "action" in node.output)
        node.output[list(node.output).index("action")] = "sound"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(factor, np.float32), "factor"))
        model.graph.node.append(onnx.helper.make_node("Mul", ["sound", "factor"], ["action"]))

    (tmp_path / "decision.onnx").write_bytes(altered(good, change))
    for obs in (dyadic_observations(1)[0], dyadic_observations(1)[0].tolist()):
        with pytest.raises(SourceError, match="not finite or far out of bounds"):
            OnnxPolicy(tmp_path).act(obs)


def test_the_good_file_is_good(good: bytes, tmp_path: Path) -> None:
    (tmp_path / "decision.onnx").write_bytes(redescribed(good))
    ours, policy = policies()["if-rate"], OnnxPolicy(tmp_path)
    for obs in dyadic_observations(5):
        assert np.array_equal(policy.act(obs), ours.act(obs))
