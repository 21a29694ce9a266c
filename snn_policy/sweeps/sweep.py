"""sweep(): a plan and a directory → the results that are missing. Everything else is in the modules beside it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from snn_policy.checks import require, whole
from snn_policy.sweeps.cells import Cell
from snn_policy.sweeps.directory import SweepDirectory
from snn_policy.sweeps.engine import Engine
from snn_policy.sweeps.local import LocalWorkers
from snn_policy.sweeps.other_code import find_other_code
from snn_policy.sweeps.plan import Chosen, Plan
from snn_policy.sweeps.schedule import Outcome, Scheduler
from snn_policy.sweeps.selection import choose
from snn_policy.sweeps.source_code import CodeSeen
from snn_policy.sweeps.watching import watching

ENGINES = ("local", "ray")
DEFAULT_RETRIES = 3


@dataclass(frozen=True)
class Summary:
    """Hold what a run of a sweep found and did.

    Attributes:
        cells: of the whole sweep; computed: those finished by this run.
        episodes: run by it.
        lost: jobs whose worker, or its machine, was lost on the way.
        failures: cells that cannot be computed, one line each.
        chosen: what was chosen, and why; None without a selection.
        other_code: what there is that was computed with other source code, in one clause; None where nothing was.
    """

    directory: Path
    cells: int
    computed: int
    episodes: int
    lost: int
    seconds: float
    failures: list[str] = field(default_factory=list)
    chosen: dict[str, Any] | None = None
    other_code: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**vars(self), "directory": str(self.directory)}


def make_engine(engine: str = "local", workers: int = 0, address: str | None = None) -> Engine:
    """Return what carries out jobs.

    Raises:
        ValueError: an unknown name, or an address of no cluster.
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
    """
    require(engine in ENGINES, f"engine {engine!r}: expected one of {', '.join(ENGINES)}")
    require(whole(workers, 0, 10**6), f"workers {workers!r}: expected a whole number from 0 to a million")
    require(address is None or engine == "ray", f"address {address}: of engine ray only; add --engine ray")
    if engine == "local":
        return LocalWorkers(workers)
    from snn_policy.sweeps.on_ray import RayTasks

    return RayTasks(workers, address)


def sweep(
    plan: Plan,
    directory: str | Path,
    *,
    engine: str = "local",
    workers: int = 0,
    address: str | None = None,
    retries: int = DEFAULT_RETRIES,
    accept_other_code: bool = False,
    progress: bool = False,
) -> Summary:
    """Compute the cells of a plan that the directory lacks; a run that was stopped at any moment goes on where it was.

    With several processes, call it under `if __name__ == "__main__":`.

    Args:
        engine: "local": processes of this machine; "ray": tasks of a Ray cluster.
        workers: processes, or tasks at the same time; 0: one per core.
        address: of a Ray cluster that runs already.
        retries: how often a job is run again whose worker died.
        accept_other_code: keep what was computed with other source code of the same version, in an edited checkout.
        progress: show a bar on stderr, or, where that is no terminal, a line every half minute.

    Raises:
        ValueError: a directory of something else, or of results of other source code; too many cells that fail;
            workers with other versions.
        BlockingIOError: another sweep is running in the directory.
        OSError: a result cannot be written; what is finished is kept.
    """
    require(whole(retries, 0, 1000), f"retries {retries!r}: expected a whole number from 0 to 1000")
    begin = time.perf_counter()
    with SweepDirectory(Path(directory)) as place:
        code = CodeSeen()
        other = _check_code(plan, place, code, accept_other_code)
        runner = make_engine(engine, workers, address)
        try:
            outcome, chosen, told = Outcome(), None, None
            cells = _write_grid(plan, place, None, None)
            if plan.selection is not None:
                outcome = _run(plan.selecting, place, runner, retries, code, "choosing", progress)
                if not outcome.failures:
                    chosen, told = choose(plan, place)
                    cells = _write_grid(plan, place, chosen, told)
            if not outcome.failures:
                outcome += _run(lambda: plan.reporting(chosen), place, runner, retries, code, "sweeping", progress)
        finally:
            runner.close()
    seconds = time.perf_counter() - begin
    done = (outcome.cells, outcome.episodes, outcome.lost)
    return Summary(Path(directory), cells, *done, seconds, outcome.failures, told, other)


def _check_code(plan: Plan, place: SweepDirectory, code: CodeSeen, accept: bool) -> str | None:
    """Refuse a directory with results of other source code, unless they are accepted; return what they are."""
    other = find_other_code(chain(plan.selecting(), plan.reporting()), place, code)
    if other is None or accept:
        return other and str(other)
    raise ValueError(f"{place.path}: {other}; choose another --out, go back to that code, or --accept-other-code")


def _write_grid(plan: Plan, place: SweepDirectory, chosen: Chosen | None, told: dict[str, Any] | None) -> int:
    """Write which cells the sweep has, as far as that is known, and return how many."""
    select = None
    if plan.selection is not None:
        seeds = [plan.selection.seeds.first, plan.selection.seeds.count]
        rule = {"within": plan.selection.within, "per": plan.selection.per}
        select = {"seeds": seeds, **rule, "chosen": told or {}}
    reported = plan.reporting(chosen)
    if plan.selection is not None and chosen is None:
        reported = (cell for cell in reported if cell.setting is None)
    keys = [cell.key for cell in chain(plan.selecting(), reported)]
    place.write_sweep(plan.name, plan.text, keys, select)
    return len(keys)


def _run(
    cells: Callable[[], Iterator[Cell]],
    place: SweepDirectory,
    runner: Engine,
    retries: int,
    code: CodeSeen,
    what: str,
    progress: bool,
) -> Outcome:
    """Run the cells that have no result; those of the grid are made twice, and never held."""
    missing = _missing(cells(), place)
    with watching(what, *missing, enabled=progress) as watcher:
        scheduler = Scheduler(place, runner, watcher, retries, code)
        scheduler.run(cells())
    return scheduler.outcome


def _missing(cells: Iterator[Cell], place: SweepDirectory) -> tuple[int, int]:
    """Return how many cells, and how many episodes, have no file yet."""
    missing, episodes = 0, 0
    for cell in cells:
        if not place.has_cell(cell.key):
            missing += 1
            episodes += sum(seeds.count for seeds in cell.batches() if not place.has_batch(cell.key, seeds))
    return missing, episodes
