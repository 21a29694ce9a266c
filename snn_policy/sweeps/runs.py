"""Cells put together: one run for every policy in every environment, with its ANN on the same seeds."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np

from snn_policy.evaluation.results import Comparison, Evaluation
from snn_policy.evaluation.statistics import failures
from snn_policy.sweeps.cell_record import ANN, CellResult
from snn_policy.sweeps.equivalence import Equivalence, equivalence
from snn_policy.sweeps.profiles import Pair, Share, at_least_as_good, share_of
from snn_policy.sweeps.read_results import SweepResults
from snn_policy.sweeps.source_code import OWN

MOST_NAMED = 3
"""Versions of a package that a remark names."""


@dataclass(frozen=True)
class Run:
    """Hold all episodes of one policy in one environment, of one cell or of several with seeds of their own.

    Attributes:
        actor, setting, environment: as they are shown; two that differ are never shown alike.
        cells: with their results, in the order of the grid.
        anns: the cells of its ANN on the same seeds, one per cell; None where it is missing.
    """

    number: int
    actor: str
    setting: str
    environment: str
    cells: tuple[CellResult, ...]
    anns: tuple[CellResult | None, ...]

    @property
    def spiking(self) -> bool:
        return self.cells[0].role != ANN

    @property
    def anchor(self) -> str:
        """Return what it is called in a page and in tables: r1, r2, …"""
        return f"r{self.number}"

    @cached_property
    def evaluation(self) -> Evaluation:
        """Return all its episodes."""
        return pooled([cell.evaluation for cell in self.cells])

    @cached_property
    def comparison(self) -> Comparison | None:
        """Return it beside its ANN, on the seeds that both have; None for an ANN, or without such seeds."""
        both = [(ann, cell) for ann, cell in zip(self.anns, self.cells, strict=True) if ann is not None]
        if not both or not self.spiking:
            return None
        anns, snns = (pooled([cell.evaluation for cell in side]) for side in zip(*both, strict=True))
        return Comparison(anns, snns, both[0][0].dense_multiply_accumulates)

    @property
    def pair(self) -> Pair:
        """Return the returns of ANN and SNN on the same seeds."""
        compared = self.compared
        return compared.ann.returns, compared.snn.returns

    @property
    def compared(self) -> Comparison:
        """Return the comparison of a run that has one."""
        if self.comparison is None:
            raise ValueError(f"{self.actor}, {self.setting}: nothing to compare with")
        return self.comparison

    @cached_property
    def as_good(self) -> Share:
        return at_least_as_good(self.pair)

    @cached_property
    def failed(self) -> Share:
        """Return the share of failed episodes, by its ANN's median."""
        ann, snn = self.pair
        return share_of(failures(snn, ann))

    def loss(self, delta: float) -> Equivalence:
        """Return what is known of its loss of return."""
        return equivalence(*self.pair, delta)


def pooled(parts: Sequence[Evaluation]) -> Evaluation:
    """Return one evaluation of all these episodes; costs and times are averages over all decisions."""
    if len(parts) == 1:
        return parts[0]
    weights = np.array([part.decisions for part in parts], np.float64)

    def mean(values: Iterable[Any]) -> Any:
        return np.average(np.array(list(values), np.float64), axis=0, weights=weights).tolist()

    layers = {len(part.spikes) for part in parts}
    events = [part.events for part in parts]
    return Evaluation(
        environment=parts[0].environment,
        seeds=tuple(seed for part in parts for seed in part.seeds),
        returns=tuple(value for part in parts for value in part.returns),
        lengths=tuple(length for part in parts for length in part.lengths),
        num_envs=parts[0].num_envs,
        decisions=sum(part.decisions for part in parts),
        spikes=tuple(mean(p.spikes for p in parts)) if len(layers) == 1 else (mean(sum(p.spikes) for p in parts),),
        versions=parts[0].versions,
        events=None if None in events else mean(events),
        policy_seconds=sum(part.policy_seconds for part in parts),
        environment_seconds=sum(part.environment_seconds for part in parts),
        workers=max(part.workers for part in parts),
        **{name: mean(getattr(part, name) for part in parts) for name in
           ("synaptic_operations", "multiply_accumulates", "iterations", "error_spikes", "microseconds")},
    )  # fmt: skip


def runs_of(results: SweepResults, purpose: str) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """Return the runs of one purpose, in the order of the grid, and what a reader of them should know.

    Cells of one policy and environment are put together; a cell with a seed that is there already is left out, and
    said to be.
    """
    groups: dict[tuple[str, ...], list[CellResult]] = defaultdict(list)
    seen: dict[tuple[str, ...], set[int]] = defaultdict(set)
    remarks: list[str] = []
    for cell in results.cells.values():
        if cell.purpose != purpose:
            continue
        group = _identity(cell)
        seeds = set(cell.evaluation.seeds)
        if seeds & seen[group]:
            remarks.append(f"{cell.place}: its seeds are in another cell of the same policy; it is left out")
            continue
        seen[group] |= seeds
        groups[group].append(cell)
    actors = _distinct({(c.actor, c.actor_digest): c.actor for g in groups.values() for c in g})
    places = _distinct({(c.environment, c.options): _environment(c) for g in groups.values() for c in g})
    settings = _settings([cell for group in groups.values() for cell in group])
    runs = tuple(
        Run(
            number,
            actors[cells[0].actor, cells[0].actor_digest],
            settings[cells[0].setting, cells[0].engine],
            places[cells[0].environment, cells[0].options],
            tuple(cells),
            tuple(results.cells.get(cell.baseline or "") for cell in cells),
        )
        for number, cells in enumerate(groups.values(), 1)
    )
    return runs, tuple(remarks + list(_remarks(runs)))


def _remarks(runs: Sequence[Run]) -> Iterable[str]:
    """Yield what makes runs less comparable than they look."""
    for run in runs:
        without = sum(ann is None for ann in run.anns)
        if run.spiking and without:
            these = f"{without} of its {len(run.cells)} cells lack" if len(run.cells) > 1 else "its cell lacks"
            yield f"{run.actor}, {run.setting}, {run.environment}: {these} the ANN on the same seeds"
    cells = [cell for run in runs for cell in run.cells]
    yield from _of_versions(cells)
    yield from _of_code(cells)


def _of_versions(cells: Sequence[CellResult]) -> Iterable[str]:
    """Yield a remark per package that cells have several versions of; that some need fewer packages is none."""
    met: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        for name, version in cell.evaluation.versions.items():
            met[name].add(version)
    for name, versions in sorted(met.items()):
        if len(versions) > 1:
            told = ", ".join(sorted(versions)[:MOST_NAMED]) + (", …" if len(versions) > MOST_NAMED else "")
            yield f"the cells were computed with {len(versions)} versions of {name}: {told} (see the cells)"


def _of_code(cells: Sequence[CellResult]) -> Iterable[str]:
    """Yield a remark per package whose source code was in several states in cells of the same versions."""
    states: dict[tuple[str, str], set[str]] = defaultdict(set)
    for cell in cells:
        for code in cell.code or ({},):
            for name, digest in (code or {OWN: "unknown"}).items():
                states[name, canonical_versions(cell)].add(digest)
    for name in dict.fromkeys(name for name, _ in states):
        most = max(len(found) for (package, _), found in states.items() if package == name)
        if most > 1:
            yield (
                f"cells of the same versions were computed with {most} states of the source code of {name}, which was "
                "edited in between (see the cells)"
            )


def canonical_versions(cell: CellResult) -> str:
    """Return the versions of one cell, as JSON."""
    return json.dumps(cell.evaluation.versions, sort_keys=True)


def _identity(cell: CellResult) -> tuple[str, ...]:
    return (*_task(cell), cell.setting, cell.engine)


def _task(cell: CellResult) -> tuple[str, ...]:
    return cell.actor, cell.actor_digest, cell.environment, cell.options


def _settings(cells: Sequence[CellResult]) -> dict[tuple[str, str], str]:
    """Return how settings with their engines are shown: without the engine where no actor met the setting with two."""
    met: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for cell in cells:
        met[(*_task(cell), cell.setting)].add(cell.engine)
    split = {setting for (*_, setting), engines in met.items() if len(engines) > 1}
    labels = {(c.setting, c.engine if c.setting in split else ""): c.label for c in cells}
    named = {key: f"{label}, {key[1]} engine" if key[1] else label for key, label in labels.items()}
    shown = _distinct(named)
    return {(c.setting, c.engine): shown[c.setting, c.engine if c.setting in split else ""] for c in cells}


def _environment(cell: CellResult) -> str:
    return cell.environment if cell.options == "{}" else f"{cell.environment} {cell.options[:60]}"


def _distinct(names: dict[Any, str]) -> dict[Any, str]:
    """Return the names, with a number behind those that several have, so that all differ."""
    often, taken = Counter(names.values()), set(names.values())
    shown = {}
    for thing, name in names.items():
        if often[name] > 1:
            name = next(numbered for n in count(1) if (numbered := f"{name} #{n}") not in taken)
            taken.add(name)
        shown[thing] = name
    return shown
