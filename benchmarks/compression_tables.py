"""Write what `compression` and `compression_speed` measured, and the shipped students' cards, into docs/compression.md.

    python -m benchmarks.compression_tables

One Markdown text per pair of markers (`benchmarks.markers`), from stored figures alone.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.compression import MEASURED, WANTED, paired
from benchmarks.compression_speed import SPARSE, read_rows
from benchmarks.conditions import told
from benchmarks.markers import replaced
from benchmarks.measure_core import ACT, CORE, EXPORTED, SKIPPING
from benchmarks.places import DOCS, ROOT, TRAINED
from benchmarks.published_tables import table
from benchmarks.student_falls import MEASURED as FALLS
from benchmarks.student_precision import MEASURED as PRECISION
from snn_policy.atomic_files import write_atomically
from snn_policy.bench.baselines import REFERENCE
from snn_policy.bundle import read_bundle
from snn_policy.exported import names, path
from snn_policy.spiking.settings import DEFAULT_TOLERANCE
from snn_policy.sweeps.profiles import wilson

PAGE = DOCS / "compression.md"
PER_OPERATION = 4.6 / 0.9
"""Picojoules of a multiply-accumulate by those of a spike and synapse, fp32-45nm."""
Line = Mapping[str, Any]


def read_lines() -> list[dict[str, Any]]:
    """Return the measured students; of the same run the latest.

    A run that is measured again from its checkpoint knows no processor time: that of the line before stays, if the
    record is the same.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in map(json.loads, MEASURED.read_text().splitlines() if MEASURED.exists() else ()):
        run = tuple(line[key] for key in RUN)
        before = found.get(run)
        if line["cpu_seconds"] is None and before is not None and before["record"] == line["record"]:
            line["cpu_seconds"] = before["cpu_seconds"]
        found[run] = line
    return list(found.values())


SHOWN_BITS = 24, 11, 8, 6
RUN = ("actor", "target", "block", "count", "seed")


def chosen(lines: Sequence[Line], **wanted: Any) -> list[Line]:
    """Return the lines of seed 0 with these values, in the order of the actors and of what they wanted."""
    found = [line for line in lines if all(line[key] == value for key, value in {"seed": 0, **wanted}.items())]
    return sorted(found, key=lambda line: ([*WANTED].index(line["actor"]), float(line["target"].partition(":")[2])))


def at_target(lines: Sequence[Line], **wanted: Any) -> list[Line]:
    """Return those at their actor's own target."""
    return [line for line in chosen(lines, **wanted) if line["target"] == WANTED[line["actor"]][0]]


def kept(line: Line, prefix: str = "") -> str:
    """Return the retention with its standard error over the pairs."""
    retention, error = line[f"{prefix}retention"], line[f"{prefix}standard_error"]
    digits = 3 if error >= 0.001 else 4
    return f"{retention:.{digits}f} ± {error:.{digits}f}"


def failures(line: Line) -> str:
    """Return the shares of failed episodes: original, spiking, compressed ANN."""
    return " · ".join(f"{100 * line[key]:.0f} %" for key in ("ann_failed", "failed", "student_failed"))


def operations(line: Line) -> float:
    """Return spikes times fan-out, as a share of the original zero-skipping ANN's products."""
    return line["energy"] * PER_OPERATION / line["zero_skipping_energy"]


def tolerance(line: Line) -> float:
    """Return the tolerance of the conversion that the student was made for."""
    return line["record"].get("tolerance", DEFAULT_TOLERANCE)


def judged(line: Line) -> str:
    """Return the verdict that kept the student, on other episodes than the measured ones."""
    record = line["record"]
    return f"{record['retention']:.3f} ± {record['standard_error']:.3f}, {record['episodes']}"


def targets() -> str:
    """Return the table of every actor at its target."""
    rows = []
    for line in at_target(read_lines(), block=16, count="spikes"):
        rows.append([
            line["actor"], line["target"].partition(":")[2], f"{line['energy']:.3f}",
            f"{line['zero_skipping_energy']:.3f}", f"{line['student_energy']:.3f}", kept(line), kept(line, "student_"),
            failures(line), " · ".join(f"{share:.2f}" for share in line["density"]),
            f"{tolerance(line):.3f}", judged(line),
            f"{line['record']['steps']:,} · {line['record']['states']:,}",
            "–" if line["cpu_seconds"] is None else str(line["cpu_seconds"]),
        ])  # fmt: skip
    heads = ["actor", "wanted", "energy", "original, skipping zeros", "compressed ANN, skipping zeros",
             "retention, spiking", "retention, compressed ANN", "failed: original · spiking · compressed ANN",
             "weights left per layer", "tolerance", "judged: retention, episodes", "steps · states",
             "CPU seconds"]  # fmt: skip
    return table(heads, rows)


def curve() -> str:
    """Return the table of every student by spikes and in blocks of 16, by actor and energy: the picture's points."""
    lines = chosen(read_lines(), block=16, count="spikes")
    lines.sort(key=lambda line: ([*WANTED].index(line["actor"]), line["energy"]))
    rows = [
        [line["actor"], line["target"].partition(":")[2], f"{line['energy']:.3f}", kept(line), failures(line),
         f"{line['student_energy']:.3f}", kept(line, "student_"), f"{line['record']['density']:.2f}",
         f"{line['int8_sram_of_student']:.2f}", f"{line['record']['steps']:,}"]
        for line in lines
    ]  # fmt: skip
    heads = ["actor", "wanted", "energy", "retention", "failed: original · spiking · compressed ANN",
             "energy, compressed ANN", "retention, compressed ANN", "weights left",
             "`int8-45nm-sram`, of the compressed ANN", "steps"]  # fmt: skip
    return table(heads, rows)


def seeds() -> str:
    """Return the table of students that were made with several seeds."""
    lines = [line for line in read_lines() if (line["count"], line["block"]) == ("spikes", 16)]
    several = {(line["actor"], line["target"]) for line in lines if line["seed"] != 0}
    lines.sort(key=lambda line: ([*WANTED].index(line["actor"]), line["target"], line["seed"]))
    rows = [
        [line["actor"], line["target"].partition(":")[2], str(line["seed"]), f"{line['energy']:.3f}", kept(line),
         kept(line, "student_"), failures(line), f"{tolerance(line):.3f}", judged(line)]
        for line in lines if (line["actor"], line["target"]) in several
    ]  # fmt: skip
    heads = ["actor", "wanted", "seed", "energy", "retention, spiking", "retention, compressed ANN",
             "failed: original · spiking · compressed ANN", "tolerance", "judged: retention, episodes"]  # fmt: skip
    return table(heads, rows)


def falls() -> str:
    """Return the table of failures with Wilson's 95 % intervals, on seeds of their own."""
    rows = []
    for line in map(json.loads, FALLS.read_text().splitlines() if FALLS.exists() else ()):
        shares = [failed_of(line[key] / line["episodes"], line["episodes"]) for key in ("ann_failed", "failed")]
        rows.append([line["actor"], line["target"].partition(":")[2], str(line["training_seed"]), f"{line['steps']:,}",
                     retained(line), str(line["episodes"]), *shares])  # fmt: skip
    rows.sort(key=lambda row: ([*WANTED].index(row[0]), int(row[3].replace(",", ""))))
    heads = ["actor", "wanted", "seed", "steps", "retention", "episodes", "original failed", "student failed"]
    return table(heads, rows)


def retained(line: Line) -> str:
    """Return the retention of the listed returns, with its standard error over the pairs."""
    retention, error = paired(line["ann_returns"], line["snn_returns"])
    return f"{retention:.3f} ± {error:.3f}"


def failed_of(share: float, episodes: int) -> str:
    """Return how many episodes failed, their share, and its interval."""
    low, high = wilson(share, episodes)
    return f"{share * episodes:.0f}: {100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def precision() -> str:
    """Return the table of what rounding does to a student, by significant bits."""
    rows = []
    for student in json.loads(PRECISION.read_text())["students"] if PRECISION.exists() else ():
        for found in (row for row in student["rows"] if row["bits"] in SHOWN_BITS):
            rows.append([student["actor"], str(found["bits"]), f"{found['added']:.4f}", f"{found['error']:.4f}",
                         f"{found['bytes']:,}"])  # fmt: skip
    return table(["student of", "significant bits", "error by rounding", "error against the original", "bytes"], rows)


def counts() -> str:
    """Return the table of what was counted by the loss, spikes or events."""
    lines = at_target(read_lines(), block=16)
    both = {line["actor"] for line in lines if line["count"] == "events"}
    rows = [
        [line["actor"], line["count"], f"{operations(line):.2f}", f"{line['events_of_zero_skipping']:.2f}",
         f"{line['events_of_student']:.2f}", f"{line['int8_sram_of_student']:.2f}", f"{line['energy']:.3f}", kept(line),
         failures(line)]
        for line in sorted(lines, key=lambda line: [*WANTED].index(line["actor"]))
        if line["actor"] in both or line["count"] == "spikes"
    ]  # fmt: skip
    heads = ["actor", "the loss counts", "spikes · fan-out, of the original ANN's products (skipping zeros)",
             "events · fan-out, of the same", "events, of the compressed ANN's",
             "`int8-45nm-sram`, of the compressed ANN", "energy, `fp32-45nm`", "retention",
             "failed: original · spiking · compressed ANN"]  # fmt: skip
    return table(heads, rows)


def blocks() -> str:
    """Return the table of blocks of several sizes."""
    lines = at_target(read_lines(), count="spikes")
    sizes = {actor: {line["block"] for line in lines if line["actor"] == actor} for actor in WANTED}
    rows = [
        [line["actor"], str(line["block"]), f"{line['energy']:.3f}", kept(line), failures(line),
         f"{line['record']['density']:.2f}"]
        for line in sorted(lines, key=lambda line: ([*WANTED].index(line["actor"]), line["block"]))
        if 16 in sizes[line["actor"]] and len(sizes[line["actor"]]) > 1
    ]  # fmt: skip
    heads = ["actor", "block", "energy", "retention", "failed: original · spiking · compressed ANN", "weights left"]
    return table(heads, rows)


def speed() -> str:
    """Return the table of times and instructions, and under what conditions they were measured."""
    rows = []
    measured = [row for row in read_rows() if row["block"] == 16 and row["count"] == "spikes"]
    for row in measured:
        times, programs = row["times"], row["instructions"]
        ratios = [f"{times[name]['ratio']:.2f}" for name in (ACT, CORE, EXPORTED, SKIPPING, SPARSE)]
        own, dense = programs.get("spiking policy"), programs.get("ANN, dense")
        skipping = "ANN, skipping zeros"  # all there is to skip where nothing was pruned
        sparse = programs.get(f"{skipping} and pruned weights") or programs.get(skipping)
        counted = ["", ""] if own is None else [f"{own:,.0f} ({own / dense:.2f})", f"{own / sparse:.2f}"]
        rows.append([row["teacher"], " · ".join(f"{share:.2f}" for share in row["density"]),
                     f"{times[REFERENCE]['microseconds']:.1f}", *ratios, *counted])  # fmt: skip
    heads = ["actor", "weights left", "ANN in ONNX Runtime, µs", "**`policy.act`**", "the core", "exported C",
             "compressed ANN in C, skipping zeros", "… and pruned weights", "Cortex-M7 instructions (of dense)",
             "of the compressed ANN that skips both"]  # fmt: skip
    notes = sorted({told(row["conditions"]) for row in measured})
    return "\n\n".join([table(heads, rows), *notes])


def shipped() -> str:
    """Return the table of the shipped students' cards, and of those in `examples/trained`."""
    rows = []
    beside = [f"{folder.relative_to(ROOT)}" for folder in sorted(TRAINED.glob("*-compressed"))]
    for name in [*(name for name in names() if name.endswith("-compressed")), *beside]:
        found = read_bundle(ROOT / name if name in beside else path(name))
        card = found.card["returns"]
        own = found.card["compression"]
        rows.append([name, f"{card['energy_share']:.3f}", f"{own['density']:.2f}",
                     f"{card['ann']['mean']:,.1f} → {card['snn']['mean']:,.1f}",
                     f"{card['retention_of_means']:.3f} · {card['retention_of_medians']:.3f}",
                     f"{100 * card['ann_failed']:.0f} % · {100 * card['snn_failed']:.0f} %",
                     str(card["seeds"][1] - card["seeds"][0] + 1)])  # fmt: skip
    heads = ["policy", "energy", "weights left", "return: original → compressed, spiking", "retention: mean · median",
             "failed: original · spiking", "episodes"]  # fmt: skip
    return table(heads, rows)


TEXTS: dict[str, Callable[[], str]] = {
    "compression": targets,
    "compression-curve": curve,
    "compression-seeds": seeds,
    "compression-falls": falls,
    "compression-precision": precision,
    "compression-counts": counts,
    "compression-blocks": blocks,
    "compression-speed": speed,
    "compression-shipped": shipped,
}
"""What stands between which markers."""


def main() -> None:
    """Rewrite the page's tables."""
    page = PAGE.read_text()
    for marker, text in TEXTS.items():
        page = replaced(page, marker, text())
    write_atomically(PAGE, page.encode())
    print(PAGE)


if __name__ == "__main__":
    main()
