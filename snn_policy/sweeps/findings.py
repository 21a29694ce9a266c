"""What is concluded from a sweep's results, computed once for tables, pictures and the page."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from snn_policy.energy import Profile
from snn_policy.evaluation.statistics import failures
from snn_policy.progress import track
from snn_policy.sweeps.cell_record import REPORT, SELECT
from snn_policy.sweeps.equivalence import FEWEST, Equivalence
from snn_policy.sweeps.profiles import (
    Mean,
    PerformanceProfile,
    Share,
    mean_retention,
    performance_profile,
    share_over_actors,
)
from snn_policy.sweeps.read_results import SweepResults
from snn_policy.sweeps.runs import Run, runs_of

CHOSEN = "chosen on other seeds"
"""Names the settings that were chosen, an actor's its own, taken together."""
CURVE = np.linspace(0, 1.2, 241)
"""The τ of profiles that are drawn."""


@dataclass(frozen=True)
class SettingSummary:
    """Hold what one setting does over all actors.

    Attributes:
        runs: one per actor and environment.
        retention: mean over them; worst: the least of them.
        claimed: of how many the loss is below δ with 95 % confidence.
        energy_of_skipping: geometric mean of the SNN's energy over that of the ANN that skips zeros; None if unknown.
    """

    setting: str
    runs: tuple[Run, ...]
    retention: Mean
    worst: float
    as_good: Share
    failed: Share
    claimed: int
    energy_of_skipping: float | None


@dataclass(frozen=True)
class Findings:
    """Hold the runs of a sweep and what they say.

    Attributes:
        selecting: runs on the seeds that served to choose settings; in no other figure.
        remarks: what a reader should know first, one line each.
        profile: by which energies are drawn and compared.
        losses: by the run's number, of spiking runs that have their ANN beside them.
        front: numbers of the runs that no other of their environment beats in return and energy at once.
    """

    results: SweepResults
    runs: tuple[Run, ...]
    selecting: tuple[Run, ...]
    remarks: tuple[str, ...]
    profile: Profile
    delta: float
    losses: dict[int, Equivalence]
    front: frozenset[int]

    @property
    def compared(self) -> tuple[Run, ...]:
        """Return the spiking runs with their ANN beside them."""
        return tuple(run for run in self.runs if run.comparison is not None)

    @property
    def environments(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(run.environment for run in self.runs))

    @cached_property
    def summaries(self) -> tuple[SettingSummary, ...]:
        """Return a summary per setting, in the order of the grid."""
        return tuple(self._summary(name, runs) for name, runs in self._groups.items())

    @property
    def profile_names(self) -> tuple[str, ...]:
        """Return the settings that have performance profiles: the ANNs' own first."""
        anns = [run for run in self.runs if not run.spiking]
        return (*_by_setting(anns), *self._groups)

    @cached_property
    def _groups(self) -> dict[str, list[Run]]:
        """Return the compared runs by setting, and what was chosen for every actor together, whatever it was."""
        groups = _by_setting(self.compared)
        tasks = {(run.actor, run.environment) for run in self.compared}
        if self.results.select is None or len(groups) < 2 or len(tasks) < len(self.compared):
            return groups
        return {CHOSEN: list(self.compared), **groups}

    @cached_property
    def curves(self) -> dict[str, PerformanceProfile]:
        """Return every setting's performance profile, drawn finely."""
        return {name: self.profile_at(name, CURVE) for name in self.profile_names}

    def profile_at(self, setting: str, thresholds: npt.ArrayLike) -> PerformanceProfile:
        """Return the performance profile of a setting over its actors."""
        own = [run for run in self.runs if not run.spiking and run.setting == setting]
        pairs = [(run.evaluation.returns, run.evaluation.returns) for run in own]
        pairs += [run.pair for run in self._groups.get(setting, [])]
        return performance_profile(pairs, thresholds)

    def energy_share(self, run: Run, profile: Profile) -> float | None:
        """Return an SNN's energy over that of the ANN that skips zeros; None where one of them is not known."""
        if run.comparison is None:
            return None
        energies = run.comparison.energies_by(profile)
        return _ratio(energies["snn"], energies["ann_skipping"])

    def dense_share(self, run: Run) -> float | None:
        """Return an SNN's energy over that of the dense ANN, by the chosen profile."""
        energies = run.compared.energies_by(self.profile)
        return _ratio(energies["snn"], energies["ann_dense"])

    def alone_failed(self, run: Run) -> int:
        """Return on how many seeds the SNN failed and its ANN did not."""
        ann, snn = run.pair
        return int(np.count_nonzero(failures(snn, ann) & ~failures(ann, ann)))

    def _summary(self, setting: str, runs: Sequence[Run]) -> SettingSummary:
        kept = [run.compared.retention_of_means for run in runs]
        shares = [self.energy_share(run, self.profile) for run in runs]
        logs = [math.log(share) for share in shares if share]
        return SettingSummary(
            setting,
            tuple(runs),
            mean_retention([run.pair for run in runs]),
            min((value for value in kept if not math.isnan(value)), default=math.nan),
            share_over_actors([run.as_good for run in runs]),
            share_over_actors([run.failed for run in runs]),
            sum(self.losses[run.number].below for run in runs),
            math.exp(sum(logs) / len(logs)) if logs and len(logs) == len(shares) else None,
        )


@np.errstate(all="ignore")  # what is no number, such as a share of nothing, is shown as unknown
def conclude(results: SweepResults, profile: Profile, delta: float, progress: bool = False) -> Findings:
    """Return what a sweep's results say.

    Raises:
        ValueError: every cell served to choose settings: nothing is left to report.
    """
    runs, remarks = runs_of(results, REPORT)
    selecting, _ = runs_of(results, SELECT)
    if not runs:
        raise ValueError(f"{results.directory}: all its results served to choose settings; none is there to report")
    losses = {}
    for run in track(runs, "comparing", enabled=progress):
        if run.comparison is not None:
            losses[run.number] = run.loss(delta)
            run.comparison.retention_of_means_interval  # noqa: B018  what takes time is done while a bar is shown
            run.comparison.retention_of_medians_interval  # noqa: B018
    found = Findings(results, runs, selecting, remarks, profile, delta, losses, pareto_front(runs, profile))
    return Findings(**{**vars(found), "remarks": (*remarks, *_uneven(found), *_few(found))})


def pareto_front(runs: Sequence[Run], profile: Profile) -> frozenset[int]:
    """Return the numbers of the runs that no other of their environment beats: returns more for no more energy."""
    groups: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for run in runs:
        energy = run.evaluation.energy_by(profile)
        if energy is not None:
            groups[run.environment].append((energy, -run.evaluation.mean, run.number))
    kept: set[int] = set()
    for points in groups.values():
        best = math.inf
        for _, loss, number in sorted(points):
            if loss < best:
                best = loss
                kept.add(number)
    return frozenset(kept)


def _by_setting(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.setting].append(run)
    return dict(groups)


def _uneven(found: Findings) -> list[str]:
    """Return a remark where settings were not measured on the same actors."""
    settings = _by_setting(found.compared).values()
    measured = {frozenset((run.actor, run.environment) for run in runs) for runs in settings}
    if len(measured) < 2:
        return []
    return ["not every setting has results of every actor: such rows over all actors do not compare"]


def _few(found: Findings) -> list[str]:
    """Return a remark where there are too few episodes for claims."""
    fewest = min((loss.episodes for loss in found.losses.values()), default=FEWEST)
    if fewest >= FEWEST:
        return []
    return [f"some policies have only {fewest} episodes beside their ANN; below {FEWEST} nothing is claimed"]


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
