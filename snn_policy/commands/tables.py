"""Results as tables for the terminal (rich), each narrow enough for 80 columns."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from snn_policy.energy import PROFILES, Profile
from snn_policy.evaluation.results import Comparison, Evaluation

if TYPE_CHECKING:
    from snn_policy.bench.decisions import Overhead
    from snn_policy.bench.timing import Timing

UNKNOWN = "–"
EVERY = tuple(PROFILES.values())
OPPONENTS = {
    "ann_dense": "ANN, dense", "ann_skipping": "ANN, skipping", "ann_dense_8bit": "8-bit ANN, dense",
    "ann_skipping_8bit": "8-bit ANN, skipping", "compressed_dense": "sparse ANN, dense",
    "compressed_skipping": "sparse ANN, skipping", "compressed_dense_8bit": "8-bit sparse ANN, dense",
    "compressed_skipping_8bit": "8-bit sparse ANN, skipping", "snn": "SNN",
}  # fmt: skip
"""Rows of the table of energies: the names of `Comparison.energies_by`, and what is printed."""


def print_comparison(console: Console, result: Comparison, profiles: Sequence[Profile] = EVERY) -> None:
    """Print all tables of a comparison, and the conventions that its energies follow; the first profile's in detail."""
    console.print(task_table(result))
    console.print(cost_table(result, profiles[0]))
    console.print(energy_table(result, profiles))
    console.print(convention(profiles), style="dim")


def convention(profiles: Sequence[Profile] = EVERY) -> str:
    """Return what the energies by these profiles are."""
    lines = ["Energy is counted, not measured (45 nm estimates; docs/energy.md)."]
    for profile in profiles:
        fetching = f"{profile.per_weight:g} pJ per weight" if profile.per_weight else "memory left out"
        lines.append(
            f"{profile.name}: {profile.synaptic_operation:g} pJ per synaptic operation, "
            f"{profile.multiply_accumulate:.3g} pJ per MAC, {fetching}"
        )
    return "\n".join(lines)


def energy_table(result: Comparison, profiles: Sequence[Profile] = EVERY) -> Table:
    """Return nanojoules of a decision by each profile: the SNN, and every ANN that it could be asked to beat.

    A float32 ANN has no place in an 8-bit profile. The last rows are the SNN as shares of the two that are fair.
    """
    table = _table("energy of one decision in nJ, by profile")
    for profile in profiles:
        table.add_column(profile.name.replace("-", "\n", 1), justify="right")
    found = {profile: result.energies_by(profile) for profile in profiles}
    for name, shown in OPPONENTS.items():
        if name in found[profiles[0]]:
            kept = [name.endswith(("8bit", "snn")) or profile.eight_bit != profile.name for profile in profiles]
            values = [found[profile][name] if keep else None for profile, keep in zip(profiles, kept, strict=True)]
            if any(value is not None for value in values):
                table.add_row(shown, *(UNKNOWN if value is None else _decimal(value) for value in values))
    for name in ("ann_skipping_8bit", "compressed_skipping_8bit"):
        if name in found[profiles[0]]:
            shares = [(found[profile]["snn"], found[profile][name]) for profile in profiles]
            table.add_row(f"SNN of {OPPONENTS[name]}", *(_share_of(snn, ann) for snn, ann in shares))
    return table


def _share_of(part: float | None, whole: float | None) -> str:
    return UNKNOWN if part is None or whole is None else _percent(part, whole)


def task_table(result: Comparison) -> Table:
    """Make rows ANN and SNN: what the episodes returned."""
    ann, snn = result.ann, result.snn
    table = _table(f"{ann.environment}, {_episodes(ann)}")
    for heading in ("return", "median", "retention\nof means", "retention\nof medians", "failed\nepisodes"):
        table.add_column(heading, justify="right")
    table.add_row("ANN", _spread(ann), _decimal(ann.median), "1", "1", _count(result.ann_failed, ann))
    retention = (_share_of_one(share) for share in (result.retention_of_means, result.retention_of_medians))
    table.add_row("SNN", _spread(snn), _decimal(snn.median), *retention, _count(result.snn_failed, snn))
    return table


def cost_table(result: Comparison, profile: Profile = EVERY[0]) -> Table:
    """Return what one decision costs: the dense ANN, the ANN that skips zeros, the SNN."""
    ann, snn, found = result.ann, result.snn, result.energies_by(profile)
    table = _table(f"one decision ({_together(ann)} made at a time)")
    counted, derived = ("spikes", "events", "SynOps", "MACs"), ("of\ndense", "of\nskipping", "µs")
    for heading in (*counted, "energy\nin nJ", *derived):
        table.add_column(heading, justify="right")

    def energies(name: str) -> tuple[str, str, str]:
        value = found[name]
        shares = (_share_of(value, found[whole]) for whole in ("ann_dense", "ann_skipping"))
        return (UNKNOWN if value is None else _decimal(value), *shares)  # pyright: ignore[reportReturnType]

    table.add_row(
        "ANN, dense", UNKNOWN, UNKNOWN, UNKNOWN, f"{result.dense_multiply_accumulates:,}", *energies("ann_dense"),
        _decimal(ann.microseconds),
    )  # fmt: skip
    table.add_row(
        "ANN, skipping",
        UNKNOWN,
        _events(ann),
        UNKNOWN,
        f"{ann.multiply_accumulates:,.0f}",
        *energies("ann_skipping"),
        "",
    )
    table.add_row(
        "SNN", _decimal(snn.spikes_per_decision), _events(snn), f"{snn.synaptic_operations:,.0f}",
        f"{snn.multiply_accumulates:,.0f}", *energies("snn"), _decimal(snn.microseconds),
    )  # fmt: skip
    return table


def evaluation_table(result: Evaluation, kind: str, profiles: Sequence[Profile] = EVERY) -> Table:
    """Return one policy's episodes and the cost of its decisions."""
    table = _table(f"{kind} on {result.environment}, {_episodes(result)}")
    table.add_column("", justify="right")
    table.show_header = False
    low, high = result.interval
    table.add_row("return, mean ± std", _spread(result))
    table.add_row("median", _decimal(result.median))
    middle = f"{_decimal(result.interquartile_mean)} [{_decimal(low)}, {_decimal(high)}]"
    table.add_row("interquartile mean [95 %]", middle)
    lengths = f"{min(result.lengths)} to {max(result.lengths)}"
    table.add_row("episode length", lengths if len(set(result.lengths)) > 1 else str(result.lengths[0]))
    if kind == "SNN":
        table.add_row("spikes per decision", _decimal(result.spikes_per_decision))
        table.add_row("events: weights fetched", _events(result))
        table.add_row("synaptic operations", f"{result.synaptic_operations:,.0f}")
    table.add_row("MACs" if kind == "SNN" else "MACs, skipping zeros", f"{result.multiply_accumulates:,.0f}")
    for profile in profiles:
        energy = result.energy_by(profile)
        table.add_row(f"energy, {profile.name}", UNKNOWN if energy is None else f"{_decimal(energy)} nJ")
    table.add_row(f"time per decision, {_together(result)} at once", f"{_decimal(result.microseconds)} µs")
    if result.render_seconds is not None:
        table.add_row("time spent on", _time_spent(result, result.render_seconds))
    return table


def shipped_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the shipped bundles and what their cards say; the energy is a share of the dense ANN's."""
    table = _table("policies shipped with snn-policy", corner="name")
    table.add_column("neuron")
    for heading in ("ANN return", "SNN return", "energy"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        measured = row["card"].get("returns", {})
        share = measured.get("energy_share")
        table.add_row(
            row["name"], row["conversion"].get("neuron", UNKNOWN),
            *(_card_return(measured.get(kind, {})) for kind in ("ann", "snn")),
            UNKNOWN if share is None else f"{share:.1%}",
        )  # fmt: skip
    return table


def dataset_table(made: Mapping[str, Any]) -> Table:
    """Return what `snn-policy train collect` made: `DatasetSummary`'s values with the environment and the quality."""
    table = _table(f"{made['env_id']} {made['quality']}")
    table.add_column("", justify="right")
    table.show_header = False
    lengths = (made["shortest"], made["longest"])
    table.add_row("transitions", f"{made['steps']:,}")
    table.add_row("episodes", f"{made['episodes']:,}")
    table.add_row("unfinished episodes", f"{made['episodes'] - made['whole_episodes']:,}")
    table.add_row("terminated episodes", f"{made['terminated']:,}")
    table.add_row("episode length", " to ".join(str(length) for length in sorted(set(lengths))))
    mean, score = made["mean"], made["score"]
    table.add_row("return, mean ± std", UNKNOWN if mean is None else _mean_and_std(mean, made["std"]))
    table.add_row("D4RL normalised score", UNKNOWN if score is None else f"{score:.1f}")
    return table


def timing_table(name: str, timings: "Sequence[Timing]") -> Table:
    """Make rows of times of single decisions, the baseline first."""
    table = _table(f"{name}, one row at a time", corner="one decision")
    for heading in ("median\nµs", "p99\nµs", "× baseline", "quartiles", "× its\np99"):
        table.add_column(heading, justify="right")
    for timing in timings:
        ratio, low, high, tail = (_ratio(value) for value in (timing.ratio, *timing.spread, timing.p99_ratio))
        table.add_row(timing.name, _decimal(timing.median), _decimal(timing.p99), ratio, f"{low}–{high}", tail)
    return table


def overhead_table(overheads: "Sequence[Overhead]") -> Table:
    """Return what `SpikingPolicy.act` adds to the compiled decision."""
    table = _table("policy.act beyond the compiled kernel", corner="event engine, one row")
    for heading in ("act µs", "kernel µs", "more", "quartiles"):
        table.add_column(heading, justify="right", no_wrap=True)
    for overhead in overheads:
        low, high = overhead.spread
        table.add_row(
            overhead.name,
            f"{overhead.act:.1f}",
            f"{overhead.kernel:.1f}",
            f"{overhead.share:+.0%}",
            f"{low:+.0%} to {high:+.0%}",
        )
    return table


def demo_conclusion(result: Comparison, card: Mapping[str, Any]) -> list[str]:
    """Return what the demo's numbers mean, how they compare with the shipped policy's card, and what to try next."""
    share, fair = result.energy_share, result.snn.energy / result.ann.energy
    kept = f"{result.retention_of_means:.1%} of the mean and {result.retention_of_medians:.1%} of the median return"
    return [
        f"On these episodes the spiking policy keeps {kept} for {share:.0%} of the dense ANN's energy, "
        f"{fair:.0%} of the energy of an ANN that skips zeros.",
        *_in_other_profiles(result),
        *_failures_on_the_card(card),
        "The times are this CPU's (the ANN in NumPy); the energies are about event-driven hardware, not this CPU.",
        "Next, your own: snn-policy convert MODEL.zip --env ID --out run/mine; snn-policy compare run/mine",
    ]


def _failures_on_the_card(card: Mapping[str, Any]) -> list[str]:
    """Return what is known of failures from more episodes than a demo runs: a few decide nothing."""
    returns = card.get("returns", {})
    seeds, shares = returns.get("seeds"), (returns.get("ann_failed"), returns.get("snn_failed"))
    if seeds is None or None in shares:
        return []
    first, last = seeds
    episodes = last - first + 1
    ann, snn = (round(share * episodes) for share in shares)
    return [
        f"Failed episodes are rare and come by chance: on its card's {episodes}, seeds {first}–{last}, "
        f"{ann} of the ANN and {snn} of the shipped SNN."
    ]


def _in_other_profiles(result: Comparison) -> list[str]:
    """Say what becomes of that saving where arithmetic is cheap, and where weights are fetched."""
    shares = []
    for name in ("int8-45nm", "int8-45nm-sram"):
        found = result.energies_by(PROFILES[name])
        shares.append(_share_of(found["snn"], found["ann_skipping_8bit"]))
    return [
        f"Against an 8-bit ANN that skips zeros: {shares[0]} where only arithmetic counts, {shares[1]} with weights "
        "fetched from SRAM."
    ]


def _table(title: str, corner: str = "") -> Table:
    layout = {"box": box.HORIZONTALS, "padding": (0, 1, 0, 0), "pad_edge": False}
    table = Table(title=title, title_justify="left", title_style="bold", **layout)
    table.add_column(corner, no_wrap=True)
    return table


def _episodes(result: Evaluation) -> str:
    first, last = result.seeds[0], result.seeds[-1]
    return f"1 episode, seed {first}" if first == last else f"{result.episodes} episodes, seeds {first}–{last}"


def _events(result: Evaluation) -> str:
    return UNKNOWN if result.events is None else f"{result.events:,.0f}"


def _together(result: Evaluation) -> int:
    """Say how many decisions one process makes at a time."""
    return -(-result.num_envs // result.workers)


def _time_spent(result: Evaluation, drawing: float) -> str:
    total = result.policy_seconds + result.environment_seconds
    parts = {"drawing": drawing, "policy": result.policy_seconds, "physics": result.environment_seconds - drawing}
    return ", ".join(f"{name} {_percent(seconds, total)}" for name, seconds in parts.items())


def _decimal(value: float) -> str:
    """Write three figures or more, without an exponent."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 1_000 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _ratio(value: float) -> str:
    """Write three figures; whole numbers from 100 on."""
    return f"{value:,.0f}" if value >= 100 else _decimal(value)


def _spread(result: Evaluation) -> str:
    return _mean_and_std(result.mean, result.std)


def _mean_and_std(mean: float, std: float) -> str:
    return f"{mean:,.0f} ± {std:,.0f}" if abs(mean) >= 1_000 else f"{_decimal(mean)} ± {_decimal(std)}"


def _share_of_one(value: float) -> str:
    return UNKNOWN if value != value else f"{value:.3f}"


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else UNKNOWN


def _count(share: float, result: Evaluation) -> str:
    return f"{round(share * result.episodes)} of {result.episodes}"


def _card_return(evaluation: Mapping[str, Any]) -> str:
    mean, std = evaluation.get("mean"), evaluation.get("std")
    return UNKNOWN if mean is None or std is None else _mean_and_std(mean, std).replace(" ", "")
