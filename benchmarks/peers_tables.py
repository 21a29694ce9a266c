"""Write what `peers` measured into docs/comparison.md: a text per pair of markers, from stored figures alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.conditions import told
from benchmarks.markers import replaced
from benchmarks.peers_cells import (
    ANN,
    ANN_IN_TORCH,
    CRPI,
    FAITHFUL,
    GAP_AT,
    PEERS,
    ROWS,
    ROWS_TIMESTEPS,
    SIGMA_DELTA,
    TANH_ACTOR,
    TIMED_PEERS,
    found_at,
    kept,
)
from benchmarks.places import DOCS
from benchmarks.plot_peers import draw_returns
from benchmarks.published_tables import figure, table
from snn_policy.atomic_files import write_atomically
from snn_policy.bench.baselines import REFERENCE

PAGE = DOCS / "comparison.md"
NOT_MEASURED = "–"
HIDDEN_LAYERS = 2
KEEPS = 0.95
"""The share of the ANN's return that counts as kept in the summary."""
Found = Mapping[str, Any]


def accepts(measured: Found) -> str:
    """Return what each converter does with each module."""
    probes = measured["accepts"]["probes"]
    names = list(probes[0]["outcomes"])
    rows = [[probe["probe"], *(outcome(probe["outcomes"][name]) for name in names)] for probe in probes]
    return table(["two hidden layers of", *names], rows)


def outcome(found: Found) -> str:
    """Return a cell: refused, spikes, or what is wrong with it."""
    if "refused" in found:
        return "refused by name"
    if not found["spiking"]:
        return "left analog, without a word"
    partly = "" if found["spiking"] >= HIDDEN_LAYERS else f", {found['spiking']} set of membranes for both layers"
    wrong = "" if found["error"] <= FAITHFUL else f", **another function** (error {found['error']:.2f})"
    return f"spikes{partly}{wrong}"


def refusals(measured: Found) -> str:
    """Return the refusals of `nn.Tanh`, as they are raised."""
    (tanh,) = (probe["outcomes"] for probe in measured["accepts"]["probes"] if probe["probe"] == "`nn.Tanh`")
    said = [f"- {name}: `{found['refused'].partition('. ')[0]}`" for name, found in tanh.items() if "refused" in found]
    return "\n".join(said)


def normalising(measured: Found) -> str:
    """Return what `normalize_weights` alone changes."""
    gaps = measured["accepts"]["normalising"]
    return "; ".join(f"{name}: {gap:.2f} half-ranges" for name, gap in gaps.items())


def returns(measured: Found) -> str:
    """Return a table per actor: by T, the share of the ANN's return, its interval, and the synaptic operations."""
    rows = measured["returns"]
    texts = []
    for actor in dict.fromkeys(row["actor"] for row in rows if row["actor"] != TANH_ACTOR):
        own = [row for row in rows if row["actor"] == actor]
        (ann,) = found_at(own, ANN)
        steps = sorted({row["timesteps"] for row in own} - {1})
        lines = [[f"**{SIGMA_DELTA}** (default, no T)", _cell(own, SIGMA_DELTA, 1, ann), *[""] * (len(steps) - 1)]]
        for peer in (CRPI, *PEERS):
            if any(row["peer"] == peer for row in own):
                name = f"**{peer}**" if peer == CRPI else peer
                lines.append([name, *(_cell(own, peer, step, ann) for step in steps)])
        texts.append(table([f"{actor}: ANN {_mean(ann):,.0f}", *(f"T = {step}" for step in steps)], lines))
    return "\n\n".join([*texts, _how_many(rows)])


def summary(measured: Found) -> str:
    """Return, per network and actor, the least T from which on `KEEPS` of the return is kept, and its operations."""
    rows = [row for row in measured["returns"] if row["actor"] != TANH_ACTOR]
    actors = list(dict.fromkeys(row["actor"] for row in rows))
    lines = []
    for peer in (SIGMA_DELTA, CRPI, *PEERS):
        found = [_enough([row for row in rows if row["actor"] == actor], peer) for actor in actors]
        lines.append([f"**{peer}**" if peer in (SIGMA_DELTA, CRPI) else peer, *found])
    return table([f"{KEEPS:g} of the return from", *actors], lines)


def _enough(own: Sequence[Found], peer: str) -> str:
    (ann,) = found_at(own, ANN)
    steps = sorted({row["timesteps"] for row in own})
    measured = [row for step in steps for row in found_at(own, peer, step)]
    if not measured:
        return NOT_MEASURED
    if peer != SIGMA_DELTA and len(measured) < len(steps) - 1:
        every = ", ".join(f"T = {row['timesteps']}: {_share(kept(row, ann)['retention'])}" for row in measured)
        return f"only {every}"
    short = [place for place, row in enumerate(measured) if kept(row, ann)["retention"] < KEEPS]
    first = max(short, default=-1) + 1
    if first == len(measured):
        return f"not by T = {measured[-1]['timesteps']}"
    row = measured[first]
    name = "always" if peer == SIGMA_DELTA else f"T = {row['timesteps']}"
    return f"{name} · {figure(kept(row, ann)['operations'])}"


def tanh(measured: Found) -> str:
    """Return what is kept of the actor whose activations no peer makes spike."""
    own = [row for row in measured["returns"] if row["actor"] == TANH_ACTOR]
    (ann,) = found_at(own, ANN)
    return f"{TANH_ACTOR}, sigma-delta: {_retention(own, SIGMA_DELTA, 1, ann)} of {_mean(ann):,.0f}."


def _mean(row: Found) -> float:
    return sum(row["returns"]) / len(row["returns"])


def _how_many(rows: Sequence[Found]) -> str:
    episodes, steps, recorded = (rows[0][name] for name in ("episodes", "steps", "recorded"))
    limit = "whole episodes" if steps is None else f"episodes cut at {steps} steps"
    return (
        f"{episodes} {limit} per figure, the same seeds for all; {recorded:,} recorded observations calibrate every "
        "conversion; – is not measured. In brackets the 95 % bootstrap interval of the ratio of mean returns, "
        "resampling pairs of one seed; after the dot the spikes × fan-out of a decision, by the ANN's dense "
        "multiply-accumulates (the analog input of IF networks, which is computed once, is not in it)."
    )


def _retention(own: Sequence[Found], peer: str, timesteps: int, ann: Found, carries: bool = False) -> str:
    for row in found_at(own, peer, timesteps, carries):
        found = kept(row, ann)
        low, high = found["interval"]
        return f"{_share(found['retention'])} [{_share(low)}, {_share(high)}]"
    return NOT_MEASURED


def _share(value: float) -> str:
    """Return two decimals, without a sign of zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _cell(own: Sequence[Found], peer: str, timesteps: int, ann: Found) -> str:
    for row in found_at(own, peer, timesteps):
        return f"{_retention(own, peer, timesteps, ann)} · {figure(kept(row, ann)['operations'])}"
    return NOT_MEASURED


def carried(measured: Found) -> str:
    """Return the table of membranes that are left as they are between the decisions of an episode."""
    rows = measured["returns"]
    actors = list(dict.fromkeys(row["actor"] for row in rows))
    cells = [row for row in rows if row["carries"]]
    cells.sort(key=lambda row: (actors.index(row["actor"]), PEERS.index(row["peer"]), row["timesteps"]))
    lines = []
    for row in cells:
        own = [other for other in rows if other["actor"] == row["actor"]]
        (ann,) = found_at(own, ANN)
        pair = (_retention(own, row["peer"], row["timesteps"], ann, carries) for carries in (False, True))
        lines.append([row["actor"], row["peer"], str(row["timesteps"]), *pair])
    return table(["actor", "network", "T", "reset before every decision", "only at an episode's start"], lines)


def timing(measured: Found) -> str:
    """Return the table of times, each a ratio to the ANN in ONNX Runtime."""
    single = [part for part in measured["timing"] if part["rows"] == 1]
    batched = {part["actor"]: part for part in measured["timing"] if part["rows"] > 1}
    texts = []
    for part in single:
        ratios = {timing["name"]: timing["ratio"] for timing in part["timings"]}
        many = {timing["name"]: timing["ratio"] for timing in batched[part["actor"]]["timings"]}
        (ann,) = (timing["median"] for timing in part["timings"] if timing["name"] == REFERENCE)
        steps = sorted({int(name.rpartition(" = ")[2]) for name in ratios if " = " in name})
        lines = [[SIGMA_DELTA, figure(ratios[SIGMA_DELTA]), *[""] * (len(steps) - 1), figure(many[SIGMA_DELTA])]]
        for peer in TIMED_PEERS:
            lines.append([peer, *(figure(ratios[f"{peer}, T = {step}"]) for step in steps),
                          figure(many[f"{peer}, T = {ROWS_TIMESTEPS}"])])  # fmt: skip
        lines.append(["the ANN in torch", figure(ratios[ANN_IN_TORCH]), *[""] * (len(steps) - 1),
                      figure(many[ANN_IN_TORCH])])  # fmt: skip
        widths = "×".join(map(str, part["widths"][1:]))
        heads = [f"{part['actor']} {widths}, ANN {ann:.1f} µs", *(f"T = {step}" for step in steps),
                 f"T = {ROWS_TIMESTEPS}, {ROWS} rows"]  # fmt: skip
        texts.append(table(heads, lines))
    return "\n\n".join([*texts, told(measured["conditions"]["timing"])])


def state(measured: Found) -> str:
    """Return the table of forgotten resets."""
    rows = [
        [
            row["peer"],
            *(f"{gap:.4f}" for gap in row["gap"]),
            _code(row["batch"]) if ":" in row["batch"] else row["batch"],
        ]
        for row in measured["state"]
    ]
    heads = ["network, T = 16", *(_decision(place) for place in GAP_AT), "3 rows after 5, no reset"]
    return table(heads, rows)


def _code(said: str) -> str:
    """Return the first clause of an error as code."""
    return f"`{said.partition(';')[0].partition(' Please')[0].replace('|', '/')}`"


def _decision(place: int) -> str:
    return "first decision" if place == 0 else f"{place} later"


def exports(measured: Found) -> str:
    """Return the table of exported files."""
    peers = dict.fromkeys(row["peer"] for row in measured["exports"])
    by_name = {(row["peer"], row["format"]): row for row in measured["exports"]}
    rows = [[peer, _onnx(by_name[peer, "ONNX"]), _nir(by_name[peer, "NIR"])] for peer in peers]
    return table(["network", "a decision as ONNX", "NIR"], rows)


def _onnx(row: Found) -> str:
    if "refused" in row:
        return _code(row["refused"])
    memories = row["inputs"] - 1
    carries = f"memories carried: {memories}" if memories else "starts from reset membranes"
    return f"{row['nodes']} nodes, differs by {row['difference']:.0e}; {carries}"


def _nir(row: Found) -> str:
    if "refused" in row:
        return _code(row["refused"])
    kinds = sorted(set(row["nodes"]) - {"Input", "Output"})
    return "written: " + ", ".join(f"{row['nodes'].count(kind)} {kind}" for kind in kinds)


def versions(measured: Found) -> str:
    """Return what was measured, by version."""
    first = next(iter(measured["conditions"].values()))
    peers = first["peers"]
    named = f"SpikingJelly {peers['spikingjelly']}, sinabs {peers['sinabs']}"
    others = {"snn-policy": "this package", "gymnasium": "Gymnasium", "mujoco": "MuJoCo", "python": "Python"}
    ours = [f"{name} {first['versions'][key]}" for key, name in others.items() if key in first["versions"]]
    return f"{named}; PyTorch {first['versions']['torch']}, on the CPU; {', '.join(ours)}."


TEXTS: Mapping[str, Callable[[Found], str]] = {
    "accepts": accepts, "refusals": refusals, "normalising": normalising, "summary": summary, "returns": returns,
    "tanh": tanh, "carried": carried, "timing": timing, "state": state, "exports": exports, "versions": versions,
}  # fmt: skip


def write_page(measured: Found) -> None:
    """Rewrite the page's texts and its picture."""
    page = PAGE.read_text()
    for marker, text in TEXTS.items():
        page = replaced(page, marker, text(measured))
    write_atomically(PAGE, page.encode())
    draw_returns(measured["returns"], DOCS)
