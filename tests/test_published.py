"""The documents' tables are what the stored figures say; rewriting them changes nothing else; every part measures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import published
from benchmarks.conditions import conditions, told
from benchmarks.markers import between, replaced
from benchmarks.places import RESULTS, ROOT
from benchmarks.published_tables import TEXTS, figure, read_measured, write_tables
from snn_policy import Actor
from tests.actors import random_actor, walk

UNMEASURED = "To be measured anew: "
CONDITIONS = {
    "date": "2001-02-03", "processor": "A processor", "cores": 2, "load_before": 0.25, "load_after": 1.0,
    "versions": {"python": "3.99", "numpy": "9.8.7", "onnxruntime": "6.5.4"},
}  # fmt: skip


def point(axis: str, value: int, neuron: str, engine: str, ratio: float, median: float) -> dict[str, Any]:
    return {"axis": axis, "value": value, "neuron": neuron, "engine": engine, "ratio": ratio, "median": median}


def timing(name: str, ratio: float) -> dict[str, Any]:
    return {"name": name, "ratio": ratio, "median": 8 * ratio}


def pixel_case(case: str, rows: int) -> dict[str, Any]:
    return {"case": case, "engine": "event", "rows": rows, "milliseconds": 1.5, "ratio": 0.625, "megabytes": 3.0,
            "synaptic_share": 0.04}  # fmt: skip


CASES = ("sigma-delta 0.02", "IF T=4", "IF T=8", "IF T=16", "IF T=32", "MT differential T=4")
MEASURED: dict[str, dict[str, Any]] = {
    "speed.json": {"actors": [
        {"name": "one", "widths": [3, 8, 8], "overheads": [{"name": "sigma-delta 0.02", "share": 0.18}],
         "timings": [timing("ANN, ONNX Runtime", 1.0), timing("sigma-delta 0.02, event", 0.3125),
                     timing("IF T=8, event", 0.75), timing("ANN, NumPy", 12.25)]},
        {"name": "two", "widths": [3, 4], "overheads": [],
         "timings": [timing("ANN, ONNX Runtime", 1.0), timing("sigma-delta 0.02, event", 0.5)]},
    ]},
    "core.json": {
        "actors": [{"name": "one", "calls": {
            name: {"microseconds": 10 * ratio, "ratio": ratio}
            for name, ratio in (("plain C, dense", 1.0), ("plain C, skipping zeros", 0.5), ("core", 0.375),
                                ("policy.act", 0.4375), ("exported C", 0.34375))
        }}],
        "cold_start": {"process": 0.9, "import": 0.5, "load": 0.06, "first action": 0.0004},
        "installed": {"own": 4.5, "needed": 120.0, "direct": ["numpy", "rich"], "all": ["numpy", "rich", "mdurl"]},
    },
    "scaling.json": {"name": "one", "points": [
        point("width", 1024, "sigma-delta 0.02", "auto", 0.25, 4.0), point("batch", 256, "IF T=8", "auto", 2.25, 2.0),
        point("batch", 256, "IF T=8", "numpy", 90.0, 30.0), point("depth", 4, "IF T=8", "auto", 0.65, 7.0),
    ]},
    "onnx.json": {"actors": [{
        "name": "one", "widths": [3, 8], "act_beyond_graph": 0.19, "microseconds": {"ANN": 13.0},
        "graphs": {"decision.onnx": {"decisions": 400, "flips": 0, "action_difference": 6e-7},
                   "step.onnx": {"decisions": 400, "flips": 1, "action_difference": 2e-6}},
        "ratios": {"session.run": 2.75, "bound buffers": 2.25, "OnnxPolicy.act": 2.5, "batch=1, counts=False": 2.375,
                   "step graph": 51.0},
    }]},
    "pixels.json": {"policy": "small", "rows": [pixel_case(case, rows) for case in CASES for rows in (1, 32)]},
    "pixels-drq.json": {"policy": "large", "rows": [pixel_case(case, 1) for case in CASES]},
}  # fmt: skip
EXPECTED = {
    "speed.json": [" one 8×8 | two 4 |", "0.31", "12.2", "18 %", "2.50"],
    "core.json": ["10.0", "0.38", "0.34", "A cold start takes 0.90 s", "0.40 ms", "4.5 MiB", "2 dependencies (3 with"],
    "scaling.json": ["| × the ANN: units per layer | 1024 |", "0.25", "2.25", "on `numpy` take 15.0 to 15.0 times"],
    "onnx.json": ["one 8 (ANN 13.0 µs) | 0, 1 | 2e-6 | × 2.75", "× 51.0 | 19 %"],
    "pixels.json": ["| small | event, 1 row | event, 32 rows |", "1.5 · 0.62 · 3 MB", "| 0.04 |"],
    "pixels-drq.json": ["| large | event, 1 row | operations"],
}


def made(name: str, make: Any) -> str:
    return make({"conditions": CONDITIONS, **MEASURED[name]})


@pytest.mark.parametrize(("document", "marker"), TEXTS, ids=lambda text: text)
def test_a_published_table_is_what_the_stored_figures_say(document: str, marker: str) -> None:
    name, make = TEXTS[document, marker]
    measured, text = read_measured(RESULTS / name), between((ROOT / document).read_text(), marker)
    if measured is None:
        assert text.startswith(UNMEASURED)
    else:
        assert text == make(measured).strip()


@pytest.mark.parametrize(("document", "marker"), TEXTS, ids=lambda text: text)
def test_a_table_holds_the_figures_and_their_conditions(document: str, marker: str) -> None:
    name, make = TEXTS[document, marker]
    text = made(name, make)
    assert text.endswith(told(CONDITIONS))
    if document != "README.md":
        assert [part for part in EXPECTED[name] if part not in text] == []
    heads = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert min(heads) >= 3


@pytest.mark.parametrize(
    ("load", "said"), [(0.25, "one thread, load average 0.25 before;"), (None, "one thread; Python 3.99, NumPy 9.8.7")]
)
def test_conditions_name_processor_date_load_and_versions(load: float | None, said: str) -> None:
    text = told({**CONDITIONS, "load_before": load})
    assert said in text
    assert text.startswith("Measured on 2001-02-03: A processor, 2 cores")
    assert "ONNX Runtime 6.5.4" in text


def test_conditions_are_those_of_this_machine() -> None:
    found = conditions(None)
    assert found.keys() == CONDITIONS.keys()
    assert found["processor"]
    assert found["versions"].keys() >= {"python", "numpy", "onnxruntime", "snn-policy"}


def test_rewriting_replaces_what_stands_between_the_markers_alone(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (tmp_path / "docs").mkdir()
    before = {document: (ROOT / document).read_text() for document, _ in TEXTS}
    for document, page in before.items():
        (tmp_path / document).write_text(page)
    lines = write_tables(results, tmp_path)
    assert all("left as it is" in line for line in lines)
    assert {document: (tmp_path / document).read_text() for document in before} == before
    for name, measured in MEASURED.items():
        (results / name).write_text(json.dumps({"conditions": CONDITIONS, **measured}))
    for _ in range(2):  # again: nothing changes any more
        assert all(line.endswith(": written") for line in write_tables(results, tmp_path))
        for (document, marker), (name, make) in TEXTS.items():
            page = (tmp_path / document).read_text()
            assert between(page, marker) == made(name, make)
            assert UNMEASURED not in page
        for document, page in before.items():
            for marker in [marker for place, marker in TEXTS if place == document]:
                page = replaced(page, marker, between((tmp_path / document).read_text(), marker))
            assert (tmp_path / document).read_text() == page


@pytest.mark.parametrize(
    "page", ["", "<!-- x: begin -->", "<!-- x: end --><!-- x: begin -->", 2 * "<!-- x: begin --><!-- x: end -->"]
)
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="markers x: expected <!-- x: begin -->"):
        replaced(page, "x", "text")


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.456, "0.46"), (9.996, "10.00"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_figures_have_three_digits(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_figures_from_before_count_as_not_measured(tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text(json.dumps({"timings": []}))
    assert read_measured(tmp_path / "speed.json") is None
    assert read_measured(tmp_path / "nothing.json") is None


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Actor:
    """Every reference actor is a small one, with recorded observations."""
    actor = random_actor(shape=(3,), widths=(16, 8), outputs=1)
    monkeypatch.setattr(actor, "env_id", "Pendulum-v1")
    monkeypatch.setattr(actor, "collect", lambda env, steps: walk(steps, (3,)))
    monkeypatch.setattr(published, "recorded", lambda name: (actor, walk(300, (3,))))
    monkeypatch.setattr(published, "TIMED", (published.LARGE,))
    return actor


@pytest.mark.parametrize("part", ["speed", "core", "onnx"])
def test_a_part_is_measured_stored_and_written(
    part: str, small: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    for names in ("IN_PLAIN_C", "EXPORTED"):
        assert set(getattr(published, names)) >= {published.LARGE}
        monkeypatch.setattr(published, names, (published.LARGE,))  # all are the same small actor here
    assert published.measure(part, published.Effort(most=1), tmp_path)
    measured = read_measured(tmp_path / f"{part}.json")
    assert measured is not None
    for name, make in TEXTS.values():
        if name == f"{part}.json":
            assert published.LARGE in make(measured)


def test_drqs_network_is_left_out_without_its_bundle(tmp_path: Path) -> None:
    assert not published.measure("pixels-drq", published.Effort(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--only", "speed,haste"], "haste"), (["--most", "1"], "--most is for a trial"), (["--most", "0"], "--most")],
)
def test_mistakes_are_named_before_anything_is_measured(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "benchmarks.published", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
