"""Graphs that are cyclic, huge or damaged, and recurrent ones that no cell computes, end in one clear line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from onnx import helper  # noqa: E402

from snn_policy import load_actor  # noqa: E402
from snn_policy.errors import SourceError, UnsupportedLayerError  # noqa: E402
from tests.onnx_graphs import graph, node  # noqa: E402
from tests.robot_policies import FEED_FORWARD, RECURRENT, made  # noqa: E402

RNG = np.random.default_rng(0)
WEIGHTS = {"W": RNG.normal(size=(6, 8)).astype(np.float32), "V": RNG.normal(size=(8, 3)).astype(np.float32),
           "BIG": np.array([1, 2**40], np.int64), "MANY": np.array([1, 2**20], np.int64)}  # fmt: skip
FIRST, LAST = node("MatMul", "obs", "W", "h"), node("MatMul", "z", "V", "action")

HOSTILE: dict[str, list[Any]] = {
    "cycle": [FIRST, node("Add", "h", "z", "y"), node("Tanh", "y", "z"), LAST],
    "unmade": [FIRST, node("Add", "h", "nowhere", "z"), LAST],
    "expanded": [FIRST, node("Unsqueeze", "h", "AXIS", "u"), node("Expand", "u", "BIG", "e"),
                 node("Add", "e", "h", "z"), LAST],
    "tiled": [FIRST, node("Tile", "h", "MANY", "t"), node("Tanh", "t", "z"), LAST],
    "another size": [FIRST, node("Concat", "h", "obs", "z", axis=1), LAST],
    "an axis that is none": [FIRST, node("Concat", "h", "h", "z", axis=7), LAST],
    "a gather beyond": [FIRST, node("Gather", "h", "FAR", "z", axis=1), node("Add", "z", "h", "y"),
                        node("MatMul", "y", "V", "action")],
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_malformed_graphs_are_one_line(name: str, tmp_path: Path) -> None:
    constants = {**WEIGHTS, "AXIS": np.array([0], np.int64), "FAR": np.array([99], np.int64)}
    path = graph(HOSTILE[name], tmp_path / "p.onnx", **constants)
    with pytest.raises((SourceError, UnsupportedLayerError)) as caught:
        load_actor(path)
    assert "\n" not in str(caught.value)


def recurrent(kind: str, path: Path, **options: Any) -> Path:
    gates, width = {"LSTM": 4, "GRU": 3}[kind], 5
    arrays = {"Wx": RNG.normal(size=(1, gates * width, 6)), "Wh": RNG.normal(size=(1, gates * width, width)),
              "P": RNG.normal(size=(1, 3 * width)), "V": RNG.normal(size=(width, 3))}  # fmt: skip
    peepholes = options.pop("peepholes", False)
    names = ["x", "Wx", "Wh", "", "", "h_in"] + (["c_in"] if kind == "LSTM" else []) + (["P"] if peepholes else [])
    outputs = ["y", "h_out", "c_out"][: 3 if kind == "LSTM" else 2]
    cell = helper.make_node(kind, names, outputs, name="cell", hidden_size=width, **options)
    nodes = [node("Unsqueeze", "obs", "AXIS", "x"), cell, node("Squeeze", "h_out", "AXIS", "h")]
    nodes.append(node("MatMul", "h", "V", "action"))
    constants: dict[str, Any] = {key: value.astype(np.float32) for key, value in arrays.items()}
    constants["AXIS"] = np.array([0], np.int64)
    states = {name: [1, 1, width] for name in (["h_in", "c_in"] if kind == "LSTM" else ["h_in"])}
    return graph(nodes, path, ["action", *outputs[1:]], states, **constants)


@pytest.mark.filterwarnings("ignore")
def test_recurrent_layers_that_no_cell_computes_are_called_by_what_they_are(tmp_path: Path) -> None:
    plain = recurrent("GRU", tmp_path / "plain.onnx", linear_before_reset=1)
    assert load_actor(plain, output="action").recurrent
    with pytest.raises(UnsupportedLayerError, match=r"GRU.*recurrent"):
        load_actor(recurrent("GRU", tmp_path / "before.onnx"), output="action")
    assert load_actor(recurrent("LSTM", tmp_path / "lstm.onnx"), output="action").recurrent
    with pytest.raises(UnsupportedLayerError, match=r"LSTM.*(peepholes|recurrent)"):
        load_actor(recurrent("LSTM", tmp_path / "peepholes.onnx", peepholes=True), output="action")


@pytest.mark.parametrize("name", ["estimator", "simba", "lstm", "gru"])
def test_damaged_programs_end_in_one_line(name: str, tmp_path: Path) -> None:
    torch.jit.script(made((FEED_FORWARD | RECURRENT)[name])).save(str(tmp_path / "p.pt"))
    content = (tmp_path / "p.pt").read_bytes()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        damaged = bytearray(content[: rng.integers(1, len(content))] if seed % 3 == 0 else content)
        for place in rng.integers(0, len(damaged), 20):
            damaged[place] = rng.integers(256)
        (tmp_path / "bad.pt").write_bytes(damaged)
        told = ""
        try:
            load_actor(tmp_path / "bad.pt")
        except (SourceError, UnsupportedLayerError) as error:
            told = str(error)
        assert "\n" not in told
