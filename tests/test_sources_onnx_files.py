"""Weights beside an ONNX graph: read from a regular file NAME.data in its folder, or not at all."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from snn_policy.errors import SourceError
from snn_policy.sources import load_actor
from tests.onnx_graphs import MEAN, difference, exported, graph, node

NODES = [*MEAN, node("Tanh", "mean", "action")]


def beside(path: Path, location: str = "policy.onnx.data") -> Path:
    """The graph with its weights in a file of that name."""
    graph(NODES, path)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def noted(path: Path, key: str, value: str) -> None:
    """Change what the first tensor says of its place."""
    model = onnx.load(path, load_external_data=False)
    entries = model.graph.initializer[0].external_data
    for element in [entry for entry in entries if entry.key == key]:
        entries.remove(element)
    if value:
        entries.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("location", ["policy.onnx.data", "other.onnx.data", "policy.onnx_data", "weights.data"])
def test_weights_beside_the_graph_are_read(tmp_path: Path, location: str) -> None:
    path = beside(tmp_path / "policy.onnx", location)
    assert difference(load_actor(path), path) <= 1e-5


def test_the_default_export_of_torch_is_read_and_follows_its_graph_to_another_folder(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(6, 64), nn.ELU(), nn.Linear(64, 3))
    path = exported(module, tmp_path / "policy.onnx", (torch.zeros(1, 6),), True, output_names=["action"],
                    external_data=True)  # fmt: skip
    assert (tmp_path / "policy.onnx.data").is_file()
    assert difference(load_actor(path), path) <= 1e-5
    (tmp_path / "elsewhere").mkdir()
    for name in ("policy.onnx", "policy.onnx.data"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    assert load_actor(tmp_path / "elsewhere" / "policy.onnx").action_shape == (3,)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = beside(tmp_path / "policy.onnx")
    (tmp_path / "policy.onnx.data").unlink()
    with pytest.raises(SourceError, match=r"policy\.onnx\.data beside it is missing; copy both files"):
        load_actor(path)


@pytest.mark.parametrize(
    "location",
    ["../policy.onnx.data", "/etc/hostname", "deeper/policy.onnx.data", "..", "", ".", "policy.onnx", ".hidden.data",
     "deeper\\policy.onnx.data", "./policy.onnx.data", "weights.bin"],
)  # fmt: skip
def test_no_other_place_is_opened(tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner" / "deeper").mkdir(parents=True)
    path = beside(tmp_path / "inner" / "policy.onnx")
    for folder in (tmp_path, tmp_path / "inner" / "deeper"):
        (folder / "policy.onnx.data").write_bytes((path.parent / "policy.onnx.data").read_bytes())
    noted(path, "location", location)
    opened: list[Any] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda name, *rest, **more: opened.append(name) or real(name, *rest, **more))
    with pytest.raises(SourceError, match="lies in another file, which is not read"):
        load_actor(path)
    assert not opened


def test_links_and_devices_are_not_followed(tmp_path: Path) -> None:
    path = beside(tmp_path / "policy.onnx")
    data = tmp_path / "policy.onnx.data"
    data.rename(tmp_path / "real.data")
    data.symlink_to(tmp_path / "real.data")
    with pytest.raises(SourceError, match="cannot be read, or is a link"):
        load_actor(path)
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(SourceError, match="is not a regular file"):
        load_actor(path)
    data.unlink()
    data.mkdir()
    with pytest.raises(SourceError, match=r"cannot be read|is not a regular file"):
        load_actor(path)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [("offset", "-4", "from byte -4"), ("offset", "100000", "more than its weights' file holds"),
     ("offset", "many", "not a number"), ("length", "4", "but notes 4"), ("length", "1000000000000", "but notes"),
     ("length", "-1", "but notes -1"), ("length", "", "but notes")],
)  # fmt: skip
def test_what_the_graph_promises_must_be_there(tmp_path: Path, key: str, value: str, reason: str) -> None:
    path = beside(tmp_path / "policy.onnx")
    noted(path, key, value)
    with pytest.raises(SourceError, match=reason) as caught:
        load_actor(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_and_impossible_shapes_are_refused(tmp_path: Path) -> None:
    path = beside(tmp_path / "policy.onnx")
    content = (tmp_path / "policy.onnx.data").read_bytes()
    (tmp_path / "policy.onnx.data").write_bytes(content[:-1])
    with pytest.raises(SourceError, match="more than its weights' file holds"):
        load_actor(path)
    for size in (-1, 2**40):
        beside(path)
        model = onnx.load(path, load_external_data=False)
        model.graph.initializer[0].dims[0] = size
        path.write_bytes(model.SerializeToString())
        with pytest.raises(SourceError, match=r"no valid shape|too large for a policy|needs"):
            load_actor(path)


def test_a_constant_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    for maker in (
        node("Expand", "S", "HUGE", "big"), node("Tile", "V", "TIMES", "big"), node("ConstantOfShape", "HUGE", "big"),
        node("Mul", "COLUMN", "ROW", "big"),
    ):  # fmt: skip
        nodes = [maker, node("ReduceSum", "big", "sum", keepdims=0), *MEAN, node("Add", "mean", "sum", "action")]
        path = graph(nodes, tmp_path / "policy.onnx", S=np.float32(1), HUGE=np.array([2**20, 2**20]),
                     V=np.ones((2, 2), np.float32), TIMES=np.array([2**20, 2**20]),
                     COLUMN=np.ones((2**15, 1), np.float32), ROW=np.ones((1, 2**15), np.float32))  # fmt: skip
        with pytest.raises(SourceError, match="too large for a policy"):
            load_actor(path)
