"""Write what `published` measured into the documents: one Markdown text per pair of markers, from raw figures alone.

A document names a text by `<!-- NAME: begin -->` and `<!-- NAME: end -->`; what is between is replaced, the rest stays.
A text whose figures are not there yet (a file of RESULTS is missing, or is of a time before `published`) is left alone.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.conditions import told
from benchmarks.footprint import SHIPPED
from benchmarks.markers import replaced
from benchmarks.measure_core import ACT, CORE, DENSE, EXPORTED, SKIPPING
from benchmarks.measure_onnx import ACT as GRAPH_ACT
from benchmarks.measure_onnx import ANN, BOUND, RUN, STATIC, STEP
from benchmarks.places import ROOT
from snn_policy.bench.baselines import MEMBRANE, REFERENCE, SIGMA_DELTA

Measured = Mapping[str, Any]
SPEED_ROWS = {
    "**sigma-delta, tolerance 0.02** (default)": f"{SIGMA_DELTA}, event",
    "MT differential, T = 4": "MT differential T=4, event",
    "IF, T = 8": "IF T=8, event",
    "IF, T = 16": "IF T=16, event",
    "IF, T = 32": "IF T=32, event",
    "IF, T = 8, spike calibration I = 1": "IF T=8, calibration I=1, event",
    "sigma-delta, exported `decision.onnx`": f"{SIGMA_DELTA}, decision.onnx",
    "the ANN in NumPy": "ANN, NumPy",
    "the ANN, `Actor.act`": "ANN, Actor.act",
    "the ANN in torch": "ANN, torch",
    "the ANN, `torch.compile`": "ANN, torch.compile",
    "IF, T = 16, eager torch loop": f"{MEMBRANE}, eager torch loop",
    "IF, T = 16, SpikingJelly": f"{MEMBRANE}, SpikingJelly",
}
"""The rows of the table, by the name under which each was timed."""
SCALED = {"sigma-delta": SIGMA_DELTA, "MT differential, T = 4": "MT differential T=4", "IF, T = 8": "IF T=8"}
PIXEL_ROWS = {
    "**sigma-delta 0.02**": "sigma-delta 0.02",
    **{f"IF, T = {steps}": f"IF T={steps}" for steps in (4, 8, 16, 32)},
    "MT differential, T = 4": "MT differential T=4",
}
ONNX_COLUMNS = (RUN, BOUND, GRAPH_ACT, STATIC, STEP)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in lines)


def figure(value: float | None) -> str:
    """Return a ratio or a time: two decimals below 10, one below 100, then none; nothing for None."""
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def speed(measured: Measured) -> str:
    """Return the table of single decisions, each a ratio to the ANN in ONNX Runtime."""
    actors = measured["actors"]
    ratios = [{timing["name"]: timing["ratio"] for timing in actor["timings"]} for actor in actors]
    medians = [{timing["name"]: timing["median"] for timing in actor["timings"]} for actor in actors]
    beyond = [{found["name"]: found["share"] for found in actor["overheads"]} for actor in actors]
    rows = [
        [label, *(figure(of.get(name)) for of in ratios)]
        for label, name in SPEED_ROWS.items()
        if any(name in of for of in ratios)
    ]
    rows.append(["the ANN in ONNX Runtime, µs", *(figure(of[REFERENCE]) for of in medians)])
    rows.append(["sigma-delta, µs", *(figure(of.get(f"{SIGMA_DELTA}, event")) for of in medians)])
    rows.append(["`act` beyond the compiled decision, sigma-delta", *(_percent(of.get(SIGMA_DELTA)) for of in beyond)])
    heads = ["× ONNX Runtime's ANN, one row", *(f"{actor['name']} {_widths(actor)}" for actor in actors)]
    return f"{table(heads, rows)}\n\n{told(measured['conditions'])}"


def core(measured: Measured) -> str:
    """Return the table of the core beside plain C, and what a cold start and an installation take."""
    actors, start, size = measured["actors"], measured["cold_start"], measured["installed"]
    labels = {DENSE: "dense ANN in plain C, µs", SKIPPING: "ANN skipping zeros", CORE: "**the core**",
              ACT: "`policy.act`", EXPORTED: "exported C"}  # fmt: skip
    rows = [
        [label, *(figure(actor["calls"][name]["microseconds" if name == DENSE else "ratio"]) for actor in actors)]
        for name, label in labels.items()
    ]
    heads = ["× the dense ANN in plain C, same compiler", *(actor["name"] for actor in actors)]
    return (
        f"{table(heads, rows)}\n\n"
        f"A cold start takes {start['process']:.2f} s, Python's own included: import {start['import']:.2f}, "
        f"loading {SHIPPED} {start['load']:.2f}, its first action {1e3 * start['first action']:.2f} ms. Installed, the "
        f"package is {size['own']:.1f} MiB, and its {len(size['direct'])} dependencies ({len(size['all'])} with theirs)"
        f" are {size['needed']:.0f} MiB.\n\n{told(measured['conditions'])}"
    )


def scaling(measured: Measured) -> str:
    """Return the table of widths, depths and rows, of the default engine."""
    points = [point for point in measured["points"] if point["engine"] == measured["points"][0]["engine"]]
    parts = []
    for axis, head in (("width", "units per layer"), ("depth", "hidden layers"), ("batch", "rows, per row")):
        found = {(point["neuron"], point["value"]): point["ratio"] for point in points if point["axis"] == axis}
        values = sorted({value for _, value in found})
        rows = [[label, *(figure(found.get((name, value))) for value in values)] for label, name in SCALED.items()]
        parts.append(table([f"× the ANN: {head}", *map(str, values)], rows))
    return "\n\n".join([*parts, *_slower(measured), f"{measured['name']}. {told(measured['conditions'])}"])


def _slower(measured: Measured) -> list[str]:
    """Return a sentence about the engines beside the first, at every number of rows; none where only one was timed."""
    rows = [point for point in measured["points"] if point["axis"] == "batch"]
    first = measured["points"][0]["engine"]
    own = {(point["neuron"], point["value"]): point["median"] for point in rows if point["engine"] == first}
    others = list(dict.fromkeys(point["engine"] for point in rows if point["engine"] != first))
    if not others:
        return []
    times = [point["median"] / own[point["neuron"], point["value"]] for point in rows if point["engine"] in others]
    names = " and ".join(f"`{name}`" for name in others)
    return [f"Decisions on {names} take {figure(min(times))} to {figure(max(times))} times as long, over all rows."]


def onnx(measured: Measured) -> str:
    """Return the table of exported graphs."""
    rows = []
    for actor in measured["actors"]:
        graphs = actor["graphs"].values()
        rows.append([
            f"{actor['name']} {_widths(actor)} (ANN {figure(actor['microseconds'][ANN])} µs)",
            ", ".join(str(graph["flips"]) for graph in graphs),
            f"{max(graph['action_difference'] for graph in graphs):.0e}".replace("e-0", "e-"),
            *(f"× {figure(actor['ratios'][column])}" for column in ONNX_COLUMNS),
            _percent(actor["act_beyond_graph"]),
        ])  # fmt: skip
    decisions = next(iter(measured["actors"][0]["graphs"].values()))["decisions"]
    heads = ["actor", f"flips in {decisions} decisions (decision, step)", "largest difference of an action",
             "`session.run`", "bound buffers", "`OnnxPolicy.act`", "`--batch 1 --no-counts`", "step graph",
             "`act` beyond its graph"]  # fmt: skip
    return f"{table(heads, rows)}\n\n{told(measured['conditions'])}"


def pixels(measured: Measured) -> str:
    """Return the table of one pixel actor: milliseconds · ratio to the ANN · memory added."""
    found = {(case["case"], case["engine"], case["rows"]): case for case in measured["rows"]}
    columns = list(dict.fromkeys((engine, rows) for _, engine, rows in found))
    rows = []
    for label, name in PIXEL_ROWS.items():
        cases = [found[name, *column] for column in columns]
        texts = [f"{case['milliseconds']:.1f} · {figure(case['ratio'])} · {case['megabytes']:.0f} MB" for case in cases]
        rows.append([label, *texts, f"{cases[0]['synaptic_share']:.2g}"])
    heads = [measured["policy"], *(f"{engine}, {rows} row{'s' * (rows > 1)}" for engine, rows in columns),
             "operations ÷ MACs"]  # fmt: skip
    return f"{table(heads, rows)}\n\n{told(measured['conditions'])}"


def summary(measured: Measured) -> str:
    """Return the README's sentences: the default and IF neurons, on every actor."""
    lines = []
    for actor in measured["actors"]:
        ratios = {timing["name"]: timing["ratio"] for timing in actor["timings"]}
        lines.append([f"{actor['name']} {_widths(actor)}", *(figure(ratios.get(SPEED_ROWS[label])) for label in SHORT)])
    return f"{table(['× the ANN in ONNX Runtime', *SHORT], lines)}\n\n{told(measured['conditions'])}"


SHORT = [*SPEED_ROWS][:3]
TEXTS: dict[tuple[str, str], tuple[str, Callable[[Measured], str]]] = {
    ("README.md", "speed"): ("speed.json", summary),
    ("docs/speed.md", "speed"): ("speed.json", speed),
    ("docs/speed.md", "core"): ("core.json", core),
    ("docs/speed.md", "scaling"): ("scaling.json", scaling),
    ("docs/onnx.md", "onnx"): ("onnx.json", onnx),
    ("docs/pixels.md", "pixels-drq"): ("pixels-drq.json", pixels),
    ("docs/pixels.md", "pixels"): ("pixels.json", pixels),
}
"""Per document and marker, the file of figures and what makes the text of it."""


def read_measured(file: Path) -> Measured | None:
    """Return what `published` stored, None where the file is missing or of a time before it."""
    found = json.loads(file.read_text()) if file.is_file() else {}
    return found if "conditions" in found else None


def write_tables(results: Path, root: Path = ROOT) -> list[str]:
    """Rewrite every text whose figures are in `results`; return one line each about what was written or left."""
    lines = []
    for (document, marker), (name, make) in TEXTS.items():
        measured, page = read_measured(results / name), root / document
        if measured is None:
            lines.append(f"{document}, {marker}: left as it is: {name} is not measured yet")
        else:
            page.write_text(replaced(page.read_text(), marker, make(measured)))
            lines.append(f"{document}, {marker}: written")
    return lines


def _widths(actor: Measured) -> str:
    return "×".join(str(width) for width in actor["widths"][1:])


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"
