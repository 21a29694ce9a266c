"""The driver's loop: cells one after another, their jobs handed to an engine, every answer written.

At any time a bounded number of cells is open, whatever the number of cells: those whose jobs run, wait for a place, or
for a conversion. What a lost worker had at hand is handed in again, a limited number of times.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from snn_policy.sweeps.batches import Batch, put_together
from snn_policy.sweeps.cells import Cell, PlannedActor, Seeds
from snn_policy.sweeps.contents import policy_code
from snn_policy.sweeps.directory import SweepDirectory
from snn_policy.sweeps.engine import Engine, Lost
from snn_policy.sweeps.source_code import Code, CodeSeen, distinct, is_code
from snn_policy.sweeps.work import Failure, Job

MOST_FAILURES = 20
"""Cells that may fail before the sweep stops: by then it is more than one setting that is wrong."""


class Watcher(Protocol):
    """Follow how far a sweep is."""

    def advance(self, episodes: int, cell: bool = False) -> None:
        """Count finished episodes, and a finished cell."""
        ...

    def note(self, message: str) -> None:
        """Show a line."""
        ...


@dataclass(eq=False)
class OpenCell:
    """Hold a cell that is not finished: batches at hand, seeds still out, what its jobs need, what made its policy."""

    cell: Cell
    missing: list[Seeds]
    done: dict[Seeds, Batch]
    content: Any = None
    converted_by: Code | None = None
    failed: str | None = None
    attempts: dict[Any, int] = field(default_factory=dict)


@dataclass
class Outcome:
    """Count what a run has done; `failures` holds the first ones, one line each."""

    cells: int = 0
    episodes: int = 0
    lost: int = 0
    failures: list[str] = field(default_factory=list)

    def __add__(self, other: "Outcome") -> "Outcome":
        """Return both together."""
        counts = (self.cells + other.cells, self.episodes + other.episodes, self.lost + other.lost)
        return Outcome(*counts, self.failures + other.failures)


class Scheduler:
    """Run cells to their end.

    Args:
        retries: how often a job is handed in again whose worker died.
        code: what jobs are done with.
    """

    def __init__(
        self, directory: SweepDirectory, engine: Engine, watcher: Watcher, retries: int, code: CodeSeen
    ) -> None:
        self._directory, self._engine, self._watcher, self._retries = directory, engine, watcher, retries
        self._code = code
        self._ready: deque[tuple[OpenCell, Job]] = deque()
        self._running: dict[Job, OpenCell] = {}
        self._converting: dict[str, list[OpenCell]] = {}
        self._actors: dict[str, Any] = {}
        self._open = 0
        self.outcome = Outcome()

    def run(self, cells: Iterator[Cell]) -> None:
        """Run all cells that have no result yet.

        Raises:
            OSError: a result cannot be written.
            ValueError: a worker that no job can be done by, or too many cells that fail.
        """
        waiting = iter(cells)
        while True:
            more = self._hand_in(waiting)
            if not self._running:
                if not more and not self._ready:
                    return
                continue
            for job, answer in self._engine.wait():
                self._take(job, answer)

    def _hand_in(self, cells: Iterator[Cell]) -> bool:
        """Hand in what the engine has room for, opening cells as needed; return whether there may be more of them."""
        while self._engine.free > 0:
            if self._ready:
                opened, job = self._ready.popleft()
                if opened.failed is None:
                    self._running[job] = opened
                    self._engine.submit(job, self._content(opened, job))
                continue
            if self._open >= 2 * self._engine.workers + 2:  # they wait for conversions
                return True
            cell = next(cells, None)
            if cell is None:
                return False
            self._begin(cell)
        return True

    def _begin(self, cell: Cell) -> None:
        """Open a cell, unless it is finished."""
        if self._directory.cell(cell.key) is not None:
            self._directory.forget_batches(cell.key)
            return
        found = {seeds: self._directory.batch(cell.key, seeds) for seeds in cell.batches()}
        done = {seeds: batch for seeds, batch in found.items() if batch is not None}
        missing = [seeds for seeds in found if seeds not in done]
        opened = OpenCell(cell, missing, done)
        self._open += 1
        if not missing:
            files = None if cell.policy_key is None else self._directory.policy(cell.policy_key)
            opened.converted_by = None if files is None else policy_code(files)
            self._finish(opened)
        elif cell.policy_key is None:
            opened.content = self._actor(cell.actor)
            self._queue_episodes(opened)
        else:
            self._prepare(opened, cell.policy_key)

    def _prepare(self, opened: OpenCell, key: str) -> None:
        """Find the cell's policy, or have it made; cells that need the same one wait together."""
        if key in self._converting:
            self._converting[key].append(opened)
            return
        files = self._directory.policy(key)
        if files is not None:
            opened.content, opened.converted_by = self._engine.put(files), policy_code(files)
            self._queue_episodes(opened)
        else:
            self._converting[key] = [opened]
            self._ready.append((opened, self._job(opened.cell, "convert")))

    def _queue_episodes(self, opened: OpenCell) -> None:
        self._ready += [(opened, self._job(opened.cell, "episodes", seeds)) for seeds in opened.missing]

    def _job(self, cell: Cell, kind: Any, seeds: Seeds | None = None) -> Job:
        made_of = cell.policy_key or cell.actor.digest
        return Job(kind, cell.actor.name, made_of, cell.setting, cell.engine, cell.place, cell.protocol,
                   cell.record["versions"], seeds, self._code.at(cell.place))  # fmt: skip

    def _content(self, opened: OpenCell, job: Job) -> Any:
        return self._actor(opened.cell.actor) if job.kind == "convert" else opened.content

    def _actor(self, actor: PlannedActor) -> Any:
        if actor.digest not in self._actors:
            self._actors[actor.digest] = self._engine.put(actor.content)
        return self._actors[actor.digest]

    def _take(self, job: Job, answer: Any) -> None:
        opened = self._running.pop(job)
        if isinstance(answer, Lost):
            self._lost(opened, job, answer.reason)
        elif isinstance(answer, Failure):
            if answer.final:
                raise ValueError(answer.reason)
            self._fail(opened, job, answer.reason)
        elif job.kind == "convert":
            self._directory.write_policy(job.made_of, answer)
            content = self._engine.put(answer)
            for cell in self._converting.pop(job.made_of):
                cell.content, cell.converted_by = content, job.code
                self._queue_episodes(cell)
        else:
            assert job.seeds is not None
            self._keep(opened, job.seeds, {**answer, "code": job.code})

    def _keep(self, opened: OpenCell, seeds: Seeds, batch: Batch) -> None:
        """Write a finished batch, or the cell where it was the last one."""
        opened.done[seeds] = batch
        opened.missing.remove(seeds)
        if not opened.missing and opened.failed is None:
            self._finish(opened)
        else:
            self._directory.write_batch(opened.cell.key, seeds, batch)
        self.outcome.episodes += seeds.count
        self._watcher.advance(seeds.count)

    def _finish(self, opened: OpenCell) -> None:
        evaluation, timing = put_together(opened.cell.seeds, opened.done, self._engine.workers)
        codes = [opened.done[seeds].get("code") for seeds in opened.cell.batches()]
        made_by = [] if opened.converted_by is None else [opened.converted_by]
        evaluation["code"] = distinct([*made_by, *(code if is_code(code) else {} for code in codes)])
        self._directory.write_cell(opened.cell, evaluation, timing)
        self._open -= 1
        self.outcome.cells += 1
        self._watcher.advance(0, cell=True)

    def _lost(self, opened: OpenCell, job: Job, reason: str) -> None:
        """Hand a lost job in again, before all others; an empty reason: it was not at hand yet."""
        if reason:
            self.outcome.lost += 1
            tried = opened.attempts[job.seeds] = opened.attempts.get(job.seeds, 0) + 1
            what = "its conversion" if job.seeds is None else f"its episodes {job.seeds}"
            if tried > self._retries:
                self._fail(opened, job, f"{what} ended {tried} times with their worker: {reason}")
                return
            self._watcher.note(f"{opened.cell.title}: {what} will be run again: {reason}")
        self._ready.appendleft((opened, job))

    def _fail(self, opened: OpenCell, job: Job, reason: str) -> None:
        """Give up a cell, and those that wait for the same conversion; what they have finished stays."""
        together = self._converting.pop(job.made_of, [opened]) if job.kind == "convert" else [opened]
        for cell in together:
            if cell.failed is None:
                cell.failed = reason
                self._open -= 1
                self.outcome.failures.append(f"{cell.cell.title}: {reason}")
                self._watcher.note(self.outcome.failures[-1])
        if len(self.outcome.failures) >= MOST_FAILURES:
            raise ValueError(f"{len(self.outcome.failures)} cells failed, the last one: {self.outcome.failures[-1]}")
