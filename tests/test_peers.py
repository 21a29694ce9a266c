"""The comparison with other libraries says what was measured: cells, statistics, tables, networks of the actor."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import peers_cells as cells
from benchmarks import peers_environment, peers_tables
from benchmarks.markers import between
from benchmarks.peers_cells import ANN, CRPI, LOOP, PEERS, SCALED, SIGMA_DELTA, Cell, found_at, in_order, kept, missing
from benchmarks.places import RESULTS, ROOT
from snn_policy import IF, convert
from tests.actors import random_actor, walk

STORED = RESULTS / "peers.json"
EFFORT = {"episodes": 3, "steps": None, "recorded": 100}


def row(peer: str, returns: list[float], timesteps: int = 1, carries: bool = False, **other: Any) -> dict[str, Any]:
    return {"actor": "one", "peer": peer, "timesteps": timesteps, "carries": carries, "returns": returns,
            "synaptic_operations": 500.0, "dense_macs": 1000, **EFFORT, **other}  # fmt: skip


ANN_ROW = row(ANN, [100.0, 100.0, 100.0])
CONDITIONS = {
    "date": "2001-02-03", "processor": "A processor", "cores": 2, "load_before": 0.25, "load_after": 1.0,
    "versions": {"python": "3.99", "numpy": "9.8.7", "onnxruntime": "6.5.4", "torch": "5.4.3"},
    "peers": {"spikingjelly": "8.7", "sinabs": "7.6"},
}  # fmt: skip


def timings(rows: int) -> dict[str, Any]:
    names = {"ANN, ONNX Runtime": 1.0, "ANN, torch": 3.5, SIGMA_DELTA: 0.25}
    names |= {f"{peer}, T = {step}": 2.0 * step for peer in cells.TIMED_PEERS for step in (8, 16)}
    found = [{"name": name, "ratio": ratio, "median": 10 * ratio} for name, ratio in names.items()]
    return {"actor": "one", "widths": [3, 8, 8], "rows": rows, "timings": found}


MEASURED: dict[str, Any] = {
    "conditions": {"timing": CONDITIONS},
    "returns": [
        ANN_ROW, row(SIGMA_DELTA, [99.0, 98.0, 97.0]), row(CRPI, [50.0, 60.0, 70.0], 16),
        row(SCALED, [25.0, 25.0, 25.0], 4), row(SCALED, [75.0, 75.0, 75.0], 4, carries=True),
        row(ANN, [10.0], actor=cells.TANH_ACTOR), row(SIGMA_DELTA, [9.0], actor=cells.TANH_ACTOR),
    ],
    "timing": [timings(1), timings(256)],
    "accepts": {
        "normalising": {"one": 0.264},
        "probes": [
            {"probe": "`nn.Tanh`", "outcomes": {
                "SpikingJelly": {"refused": "ValueError: no Tanh"}, "sinabs": {"spiking": 0, "error": 0.0},
                "ours": {"spiking": 2, "error": 0.25}, "shared": {"spiking": 1, "error": 0.0}}},
        ],
    },
    "state": [{"peer": CRPI, "gap": [0.0368, 0.02, 0.0, 0.0], "batch": "ValueError: 3 rows; reset"},
              {"peer": SCALED, "gap": [0.5, 0.25, 0.125, 0.0], "batch": "acts, from fresh membranes"}],
    "exports": [
        {"peer": "a", "format": "ONNX", "difference": 3e-8, "inputs": 1, "nodes": 149},
        {"peer": "a", "format": "NIR", "refused": "ValueError: only addition. Please modify your model"},
        {"peer": "b", "format": "ONNX", "difference": 3e-8, "inputs": 3, "nodes": 54},
        {"peer": "b", "format": "NIR", "nodes": ["Input", "Affine", "IF", "Affine", "Output"]},
    ],
}  # fmt: skip
EXPECTED = {
    "returns": ["one: ANN 100 | T = 4 | T = 16 |", "| 0.98 [0.97, 0.99] · 0.50 | |", "| – | 0.60 [0.50, 0.70] · 0.50 |",
                "| 0.25 [0.25, 0.25] · 0.50 | – |", "3 whole episodes per figure", "100 recorded"],
    "summary": ["| **sigma-delta** | always · 0.50 |", "| **IF, CRPI** | only T = 16: 0.60 |",
                f"| {SCALED} | only T = 4: 0.25 |", f"| {LOOP} | – |"],
    "tanh": ["0.90 [0.90, 0.90] of 10"],
    "carried": [f"| one | {SCALED} | 4 | 0.25 [0.25, 0.25] | 0.75 [0.75, 0.75] |"],
    "timing": ["one 8×8, ANN 10.0 µs", "| T = 8 | T = 16 | T = 16, 256 rows |", "| sigma-delta | 0.25 | | 0.25 |",
               "| 16.0 | 32.0 | 32.0 |", "| the ANN in torch | 3.50 | | 3.50 |", "torch 5.4.3"],
    "accepts": ["| refused by name | left analog, without a word |", "spikes, **another function** (error 0.25)",
                "spikes, 1 set of membranes for both layers"],
    "refusals": ["- SpikingJelly: `ValueError: no Tanh`"],
    "normalising": ["one: 0.26 half-ranges"],
    "state": ["| 0.0368 | 0.0200 | 0.0000 | 0.0000 | `ValueError: 3 rows` |", "| acts, from fresh membranes |"],
    "exports": ["149 nodes, differs by 3e-08; starts from reset membranes", "`ValueError: only addition.`",
                "memories carried: 2", "written: 2 Affine, 1 IF"],
    "versions": ["SpikingJelly 8.7, sinabs 7.6; PyTorch 5.4.3"],
}  # fmt: skip


@pytest.mark.parametrize("marker", peers_tables.TEXTS)
def test_a_text_says_what_was_measured(marker: str) -> None:
    text = peers_tables.TEXTS[marker](MEASURED)
    assert [part for part in EXPECTED[marker] if part not in text] == []


def test_every_text_has_its_place_on_the_page() -> None:
    page = peers_tables.PAGE.read_text()
    assert sorted(re.findall(r"<!-- ([\w-]+): begin -->", page)) == sorted(peers_tables.TEXTS)


@pytest.mark.parametrize("marker", peers_tables.TEXTS)
def test_the_page_says_what_is_stored(marker: str) -> None:
    page = peers_tables.PAGE.read_text()
    assert between(page, marker) == peers_tables.TEXTS[marker](json.loads(STORED.read_text())).strip()


def test_what_is_stored_stands_on_one_line_and_covers_twenty_episodes_of_four_actors() -> None:
    text = STORED.read_text()
    assert text.count("\n") == 1
    rows = json.loads(text)["returns"]
    assert {found["actor"] for found in rows} == {*cells.ACTORS, cells.TANH_ACTOR}
    assert all(len(found["returns"]) == found["episodes"] >= 20 for found in rows)


def test_a_stopped_run_has_the_same_cells_of_all_actors() -> None:
    order = in_order(("one", "two"))
    assert order[:2] == [("one", Cell(ANN)), ("one", Cell(SIGMA_DELTA))]
    half = order[: len(order) // 2]
    by_actor = [{cell for name, cell in half if name == actor} for actor in ("one", "two")]
    assert len(by_actor[0] ^ by_actor[1]) <= len(PEERS) + 1
    assert {cell.timesteps for _, cell in half if cell.peer == LOOP} >= {4, 16}


def test_every_peer_meets_every_t_once() -> None:
    every = [cell for _, cell in in_order(("one",))]
    assert len(set(every)) == len(every)
    assert sum(not cell.carries for cell in every) == 2 + 4 * (1 + len(PEERS))


def test_a_resumed_run_measures_what_is_missing_and_nothing_else() -> None:
    known = [row(cell.peer, [1.0], cell.timesteps, cell.carries) for _, cell in in_order(("one",), (4,))]
    assert missing(("one",), (4,), known) == []
    assert missing(("one",), (4,), known[1:]) == [("one", Cell(ANN))]
    carried = [found for found in known if not found["carries"]]
    assert {cell.carries for _, cell in missing(("one",), (4,), carried)} == {True}


@pytest.mark.parametrize("other", [{"episodes": 4}, {"steps": 250}, {"recorded": 99}])
def test_rows_of_another_effort_are_measured_anew(other: dict[str, Any]) -> None:
    assert cells.usable([ANN_ROW], EFFORT) == [ANN_ROW]
    assert cells.usable([ANN_ROW], {**EFFORT, **other}) == []


@pytest.mark.parametrize(
    ("returns", "retention", "failed"),
    [([100.0] * 3, 1.0, 0.0), ([50.0] * 3, 0.5, 1.0), ([100.0, 100.0, 70.0], 0.9, 1 / 3)],
)
def test_what_is_kept_is_of_the_anns_mean(returns: list[float], retention: float, failed: float) -> None:
    found = kept(row(CRPI, returns, 8), ANN_ROW)
    assert found["retention"] == pytest.approx(retention)
    assert found["failed"] == pytest.approx(failed)
    assert found["interval"][0] <= retention <= found["interval"][1]
    assert found["operations"] == 0.5


@pytest.mark.parametrize(
    ("by_t", "said"),
    [({4: 99.0, 8: 96.0, 16: 97.0}, "T = 4 · 0.50"), ({4: 99.0, 8: 90.0, 16: 97.0}, "T = 16 · 0.50"),
     ({4: 10.0, 8: 95.0}, "T = 8 · 0.50"), ({4: 99.0, 8: 94.0}, "not by T = 8")],
)  # fmt: skip
def test_the_summary_asks_that_every_larger_t_keeps_the_return_too(by_t: dict[int, float], said: str) -> None:
    rows = [ANN_ROW, *(row(LOOP, [value] * 3, step) for step, value in by_t.items())]
    assert f"| {LOOP} | {said} |" in peers_tables.summary({"returns": rows})


def test_a_carried_cell_is_another_one() -> None:
    rows = MEASURED["returns"]
    assert [found["returns"][0] for found in found_at(rows, SCALED, 4)] == [25.0]
    assert [found["returns"][0] for found in found_at(rows, SCALED, 4, carries=True)] == [75.0]


def test_the_peers_are_no_dependencies_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text().lower() + (ROOT / "constraints.txt").read_text().lower()
    assert not [name for name in ("spikingjelly", "sinabs", "nirtorch", "samna") if name in text]
    assert peers_environment.PLACE.relative_to(ROOT).parts[0] in (ROOT / ".gitignore").read_text()


def test_the_peers_versions_are_pinned() -> None:
    assert all(re.fullmatch(r"[a-z]+==[\d.]+", wanted) for wanted in peers_environment.PEERS)


@pytest.mark.parametrize("gain", [1.0, 4.0])
@pytest.mark.parametrize("widths", [(24,), (24, 20), (16, 16, 16)])
def test_normalising_changes_no_output_and_brings_activations_to_the_gain(widths: tuple[int, ...], gain: float) -> None:
    torch = pytest.importorskip("torch")
    from benchmarks.peers_networks import PERCENTILE, normalised
    from benchmarks.torch_baselines import sequential

    modules, inputs = sequential(random_actor(widths=widths)), torch.from_numpy(walk(300))
    with torch.no_grad():
        scaled = normalised(modules, inputs, gain)
        assert torch.allclose(scaled(inputs), modules(inputs), atol=1e-4)
        h = inputs
        for place, module in enumerate([*scaled][:-1]):
            h = module(h)
            if place % 2:
                assert np.percentile(h.numpy(), PERCENTILE) == pytest.approx(gain, rel=1e-4)


def test_the_loop_acts_and_costs_as_an_if_policy_without_memory() -> None:
    pytest.importorskip("torch")
    from benchmarks.peers_networks import LoopNetwork, PeerPolicy

    actor, observations = random_actor(widths=(24, 20), normalised=True), walk(60)
    ours = convert(actor, walk(300), neuron=replace(IF(timesteps=8), alpha=0.0), engine="numpy")
    peer = PeerPolicy(actor, LoopNetwork(actor, ours.network.neurons))  # pyright: ignore[reportArgumentType]
    actions, expected = peer.act(observations), ours.act(observations)
    alike = np.abs(actions - expected).max(axis=1) < 1e-5
    assert alike.mean() > 0.9  # float32 sums in another order may move a spike
    mine, theirs = ours.last_decision, peer.last_decision
    assert mine is not None
    assert theirs is not None
    assert np.array_equal(mine.spikes[alike], theirs.spikes[alike])
    assert np.array_equal(mine.synaptic_operations[alike], theirs.synaptic_operations[alike])
    assert np.array_equal(mine.multiply_accumulates, theirs.multiply_accumulates)


def test_a_call_that_waits_for_others_is_charged_for_its_own_work_only() -> None:
    pytest.importorskip("torch")
    from benchmarks.peers_timing import REFERENCE, in_turn

    def busy(_: Any) -> None:
        until = time.thread_time() + 2e-4
        while time.thread_time() < until:
            pass

    def waiting(obs: Any) -> None:
        busy(obs)
        time.sleep(5e-3)

    named = {REFERENCE: busy, "waiting": waiting}
    found = {timing["name"]: timing for timing in in_turn(named, lambda _: np.zeros(1, np.float32), 5, rows=1)}
    assert found[REFERENCE]["ratio"] == 1
    assert 0.8 < found["waiting"]["ratio"] < 3
    assert 150 < found[REFERENCE]["median"] < 600


def test_the_picture_is_drawn_for_light_and_dark_pages(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.plot_peers import draw_returns

    draw_returns(MEASURED["returns"], tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["comparison_dark.svg", "comparison_light.svg"]
