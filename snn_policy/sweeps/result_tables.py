"""What a sweep found, as tables."""

import json
import math

from snn_policy.energy import PROFILES
from snn_policy.evaluation.results import Evaluation
from snn_policy.sweeps.equivalence import MEANING
from snn_policy.sweeps.findings import Findings, SettingSummary
from snn_policy.sweeps.runs import Run
from snn_policy.sweeps.table_values import (
    UNKNOWN,
    Column,
    Table,
    Value,
    confidence,
    figure,
    finite,
    integer,
    interval,
    nothing,
    number,
    percent,
    share,
    text,
)

SHOWN_THRESHOLDS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
POLICY = (
    Column("actor", ("actor",), False),
    Column("environment", ("environment",), False),
    Column("setting", ("setting",), False),
)


def tables_of(found: Findings) -> list[Table]:
    """Return all tables that are the same whenever the results are: none of them holds a time."""
    made = [overview, retention, equivalence_table, energy, energies, failures, profiles]
    chosen = [selection] if found.selecting else []
    return [make(found) for make in (*made, *chosen, cells, missing)]


def overview(found: Findings) -> Table:
    """Make a row per setting, over all actors."""

    def row(summary: SettingSummary) -> tuple[Value, ...]:
        kept, failed, claimed = summary.retention, summary.failed, summary.claimed
        return (
            text(summary.setting),
            integer(len(summary.runs)),
            interval(kept.mean, kept.low, kept.high),
            figure(summary.worst),
            share(summary.as_good),
            share(failed),
            Value(f"{claimed} of {len(summary.runs)}", (claimed,)),
            percent(summary.energy_of_skipping),
        )

    note = (
        f"Every actor weighs the same. Mean retention: of the mean returns, with a stratified 95 % bootstrap interval. "
        f"Worst: of the actor that keeps least. Loss < {found.delta:g}: of how many actors it can be claimed with 95 % "
        f"confidence. Energy ({found.profile.name}): the geometric mean of SNN/ANN, the ANN skipping zeros."
    )
    columns = (
        Column("setting", ("setting",), False),
        Column("actors", ("actors",)),
        Column("mean retention [95 %]", ("retention", "retention_low", "retention_high")),
        Column("worst", ("worst",)),
        Column("≥ its ANN on the same seed [95 %]", ("as_good", "as_good_low", "as_good_high", "episodes")),
        Column("failed episodes [95 %]", ("failed", "failed_low", "failed_high", "failed_of")),
        Column(f"loss < {found.delta:g}", ("claimed",)),
        Column("energy of skipping ANN", ("energy_share",)),
    )
    return Table("overview", "Settings, over all actors", note, columns, tuple(row(one) for one in found.summaries))


def retention(found: Findings) -> Table:
    """Make a row per run: what it returned, and how much of its ANN's return that is."""

    def row(run: Run) -> tuple[Value, ...]:
        own, both = run.evaluation, run.comparison
        if both is None:
            kept = (nothing(3), nothing(3))
        else:
            kept = (
                interval(both.retention_of_means, *both.retention_of_means_interval),
                interval(both.retention_of_medians, *both.retention_of_medians_interval),
            )
        spread = Value(f"{number(own.mean)} ± {number(own.std)}", (own.mean, own.std))
        return (*policy(run), *kept, spread, figure(own.median), integer(own.episodes))

    note = (
        "Return: mean ± standard deviation over episodes. Retention: 1 − (ANN − SNN)/|ANN| of means and of medians, on "
        "the same seeds, with 95 % bootstrap intervals over pairs of episodes."
    )
    columns = (
        *POLICY,
        Column("retention of means [95 %]", ("retention", "retention_low", "retention_high")),
        Column("retention of medians [95 %]", ("of_medians", "of_medians_low", "of_medians_high")),
        Column("return", ("mean", "std")),
        Column("median", ("median",)),
        Column("episodes", ("episodes",)),
    )
    return Table("retention", "Return and retention", note, columns, tuple(row(run) for run in found.runs))


def equivalence_table(found: Findings) -> Table:
    """Make a row per spiking run: is its loss below δ, and does it do as well as its ANN on the same seed?"""

    def row(run: Run) -> tuple[Value, ...]:
        loss = found.losses[run.number]
        bound = nothing(1) if loss.bound is None else Value(f"{loss.bound:.4f}", (loss.bound,))
        return (
            *policy(run),
            text(loss.verdict),
            Value(UNKNOWN if math.isnan(loss.loss) else f"{loss.loss:+.4f}", (finite(loss.loss),)),
            bound,
            confidence(loss.confidence),
            confidence(loss.confidence_of_gain),
            share(run.as_good),
        )

    meanings = "; ".join(f"“{verdict}”: {meaning}" for verdict, meaning in MEANING.items())
    note = (
        f"Loss: 1 − retention of means, on the same seeds; δ = {found.delta:g}. Confidence is the lower one of a "
        "paired t-test (one-sided, for loss and gain each: together TOST) and of a paired bootstrap. “Below” is the "
        "smallest δ that could be claimed with 95 % confidence. Failures that did not happen on these seeds are in no "
        f"figure: from n episodes without any, up to about 3/n may fail.\n{meanings}.\n“≥ its ANN”: the share of "
        "seeds, with Wilson's interval. A copy has 100 %; a policy that is as good, but takes another way, wins and "
        "loses by chance: about 50 %."
    )
    columns = (
        *POLICY,
        Column("verdict", ("verdict",), False),
        Column("loss", ("loss",)),
        Column("below (95 %)", ("loss_below",)),
        Column(f"confidence: loss < {found.delta:g}", ("confidence",)),
        Column(f"gain < {found.delta:g}", ("confidence_of_gain",)),
        Column("≥ its ANN on the same seed [95 %]", ("as_good", "as_good_low", "as_good_high", "episodes")),
    )
    return Table("equivalence", "Is it as good as its ANN?", note, columns, tuple(row(run) for run in found.compared))


def energy(found: Findings) -> Table:
    """Make a row per run: what a decision costs, by the chosen profile of energy."""

    def row(run: Run) -> tuple[Value, ...]:
        own, both = run.evaluation, run.comparison
        nanojoules = own.energy_by(found.profile)
        return (
            *policy(run),
            figure(own.mean),
            figure(own.spikes_per_decision) if run.spiking else nothing(1),
            figure(own.synaptic_operations) if run.spiking else nothing(1),
            figure(own.multiply_accumulates),
            nothing(1) if nanojoules is None else figure(nanojoules),
            nothing(1) if both is None else percent(found.dense_share(run)),
            percent(found.energy_share(run, found.profile)),
            text("yes" if run.number in found.front else "no"),
        )

    note = (
        f"Per decision, by {found.profile.name}; counted, not measured (45 nm estimates). An ANN is the one that skips "
        "zeros. On the front: no other policy of its environment returns more for less energy."
    )
    columns = (
        *POLICY,
        Column("return", ("mean",)),
        Column("spikes", ("spikes",)),
        Column("SynOps", ("synaptic_operations",)),
        Column("MACs", ("multiply_accumulates",)),
        Column("nJ", ("nanojoules",)),
        Column("of dense ANN", ("of_dense",)),
        Column("of skipping ANN", ("of_skipping",)),
        Column("on the front", ("front",), False),
    )
    return Table("energy", "Energy", note, columns, tuple(row(run) for run in found.runs))


def energies(found: Findings) -> Table:
    """Make a row per spiking run: its energy as a share of its ANN's that skips zeros, by every profile."""
    rows = tuple(
        (*policy(run), *(percent(found.energy_share(run, profile)) for profile in PROFILES.values()))
        for run in found.compared
    )
    columns = (*POLICY, *(Column(name, (name,)) for name in PROFILES))
    note = (
        "The SNN's energy as a share of that of the ANN that skips zeros, by every profile. Profiles of 8 bits are "
        "about an ANN with 8-bit weights and activations; sram: with weights fetched from memory."
    )
    return Table("energies", "Energy by every profile", note, columns, rows)


def failures(found: Findings) -> Table:
    """Make a row per spiking run: how many episodes fell short of the ANN's median."""

    def row(run: Run) -> tuple[Value, ...]:
        both, failed = run.compared, run.failed
        counts = [round(part * failed.episodes) for part in (both.ann_failed, both.snn_failed)]
        return (
            *policy(run),
            integer(failed.episodes),
            *(integer(failing) for failing in counts),
            share(failed),
            integer(found.alone_failed(run)),
        )

    note = (
        "Failed: a return below the ANN's median by more than 20 % of its size. Intervals are Wilson's. Only the SNN: "
        "on that many seeds the SNN failed and its ANN did not."
    )
    columns = (
        *POLICY,
        Column("episodes", ("episodes",)),
        Column("ANN failed", ("ann_failed",)),
        Column("SNN failed", ("snn_failed",)),
        Column("share of the SNN's [95 %]", ("share", "share_low", "share_high", "share_of")),
        Column("only the SNN", ("only_snn",)),
    )
    return Table("failures", "Failures", note, columns, tuple(row(run) for run in found.compared))


def profiles(found: Findings) -> Table:
    """Make a row per setting: the share of runs that keep at least so much."""

    def row(name: str) -> tuple[Value, ...]:
        profile = found.profile_at(name, SHOWN_THRESHOLDS)
        bands = zip(profile.share, profile.low, profile.high, strict=True)
        return text(name), integer(profile.actors), *(interval(*(float(end) for end in band)) for band in bands)

    columns = (
        Column("setting", ("setting",), False),
        Column("actors", ("actors",)),
        *(Column(f"≥ {tau:g}", (f"at_{tau:g}", f"low_{tau:g}", f"high_{tau:g}")) for tau in SHOWN_THRESHOLDS),
    )
    note = (
        "Share of runs (episodes) whose retention, by the mean of their ANN's returns on the same seeds, is at least "
        "τ; every actor weighs the same; pointwise 95 % bands by stratified bootstrap (Agarwal et al. 2021). The ANN's "
        "own row shows how its returns spread. Settings compare where they are of the same actors."
    )
    names = found.profile_names
    return Table("profiles", "Performance profiles", note, columns, tuple(row(name) for name in names))


def selection(found: Findings) -> Table:
    """Make a row per run on the seeds that served to choose settings."""
    rows = tuple(
        (*policy(run, link=False), text(seeds(run.evaluation)), figure(run.evaluation.mean),
         nothing(1) if (kept := run.comparison) is None else figure(kept.retention_of_means))
        for run in found.selecting
    )  # fmt: skip
    columns = (*POLICY, Column("seeds", ("seeds",), False), Column("return", ("mean",)), Column("retention", ("kept",)))
    note = "Episodes that served to choose settings only; no other table knows them."
    return Table("selection", "Selection", note, columns, rows)


def cells(found: Findings) -> Table:
    """Make a row per cell: what its numbers depend on."""
    rows = tuple(
        (
            text(cell.key),
            *policy(run),
            text(seeds(cell.evaluation)),
            text(cell.actor_digest),
            text(cell.digest),
            text(json.dumps(cell.evaluation.versions, sort_keys=True)),
        )
        for run in found.runs
        for cell in run.cells
    )
    names = ("key", "seeds", "actor_digest", "sha256", "versions")
    key, *rest = (Column(name.replace("_", " "), (name,), False) for name in names)
    note = "Every cell's file is cells/KEY.json; sha256 is its digest, times left out."
    return Table("cells", "Cells", note, (key, *POLICY, *rest), rows)


def missing(found: Findings) -> Table:
    """Make a row per cell of the grid that no figure contains."""
    rows = tuple((text(cell.key), text(cell.reason)) for cell in found.results.missing)
    columns = (Column("cell", ("key",), False), Column("why it is missing", ("reason",), False))
    note = f"{len(rows):,} of {len(found.results.keys):,} cells have no usable result."
    return Table("missing", "Missing cells", note, columns, rows)


def time(found: Findings) -> Table:
    """Make a row per run: how long it took. Times are another's on another machine, and in a file of their own."""

    def row(run: Run) -> tuple[Value, ...]:
        own = run.evaluation
        if not all(cell.timed for cell in run.cells):
            return (*policy(run), *(nothing(1) for _ in range(4)))
        spent = (own.microseconds, own.policy_seconds, own.environment_seconds)
        return (*policy(run), *(figure(part) for part in spent), integer(own.workers))

    columns = (
        *POLICY,
        Column("µs per decision", ("microseconds",)),
        Column("policy, s", ("policy_seconds",)),
        Column("environment, s", ("environment_seconds",)),
        Column("workers", ("workers",)),
    )
    note = "Wall-clock time on the machines that computed the cells, other work beside it included."
    return Table("time", "Time", note, columns, tuple(row(run) for run in found.runs))


def policy(run: Run, link: bool = True) -> tuple[Value, Value, Value]:
    """Return what names a run, linked with what it depends on."""
    anchor = run.anchor if link else None
    return Value(run.actor, (run.actor,), anchor), text(run.environment), text(run.setting)


def seeds(evaluation: Evaluation) -> str:
    """Return seeds as they are written: a range, or ranges."""
    ranges: list[list[int]] = []
    for seed in sorted(evaluation.seeds):
        if ranges and seed == ranges[-1][1] + 1:
            ranges[-1][1] = seed
        else:
            ranges.append([seed, seed])
    return ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in ranges)
