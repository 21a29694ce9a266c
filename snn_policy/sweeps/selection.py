"""Choosing settings: per actor and environment, by episodes that nothing is reported on.

Retention is that of the mean return on the same seeds; what is above 1 counts as 1, since it is chance that a
conversion does better than its ANN. Of all settings within `within` of the best retention, the one that needs the
least energy is chosen.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from snn_policy.evaluation.statistics import retention
from snn_policy.sweeps.cells import Cell
from snn_policy.sweeps.directory import SweepDirectory
from snn_policy.sweeps.plan import CHOICES, Plan
from snn_policy.sweeps.settings import Setting

Candidate = tuple[float, float, Cell]
"""Retention, at most 1, nanojoules per decision, and the cell."""
Tried = TypeVar("Tried", bound=tuple[float, float, Any])


def choose(plan: Plan, directory: SweepDirectory) -> tuple[dict[tuple[str, str], list[Setting]], dict[str, Any]]:
    """Return the chosen settings, and what `sweep.json` says of them: "ACTOR in ENVIRONMENT" → why.

    Where one is chosen of every table [[settings]], ", settings NUMBER" follows there.

    Raises:
        ValueError: a cell that the choice needs has no result.
    """
    assert plan.selection is not None
    candidates: dict[tuple[str, str, int], list[Candidate]] = {}
    single = plan.selection.per == CHOICES[0]
    ann = 0.0
    for cell in plan.selecting():
        found = directory.cell(cell.key)
        if found is None:
            raise ValueError(f"{cell.title}: no result to choose by; run the same command again")
        mean, energy = float(found["evaluation"]["mean"]), float(found["evaluation"]["energy"])
        if cell.setting is None:
            ann = mean
        else:
            kept = min(1.0, float(retention(ann, mean)))
            group = (cell.actor.name, cell.place.label, 0 if single else cell.setting.table)
            candidates.setdefault(group, []).append((kept, energy, cell))
    chosen: dict[tuple[str, str], list[Setting]] = {}
    told = {}
    for (actor, environment, number), tried in candidates.items():
        best = least_energy(tried, plan.selection.within)
        assert best[2].setting is not None
        chosen.setdefault((actor, environment), []).append(best[2].setting)
        told[f"{actor} in {environment}" + (f", settings {number}" if number else "")] = _told(best)
    return chosen, told


def least_energy(tried: Sequence[Tried], within: float) -> Tried:
    """Return the choice among (retention, at most 1, energy, what it is of).

    A retention that is no number, because the ANN returns 0, comes last.
    """
    known = [one for one in tried if one[0] == one[0]] or tried
    highest = max(kept for kept, _, _ in known)
    return min((one for one in known if not one[0] < highest - within), key=lambda one: one[1])


def _told(one: Candidate) -> dict[str, Any]:
    kept, energy, cell = one
    record = cell.record
    return {
        "label": cell.label, "settings": record["settings"], "compression": record["compression"],
        "retention": kept if kept == kept else None, "energy": energy, "key": cell.key,
    }  # fmt: skip
