"""A sweep's workers on this machine: one process per core, each with a job at hand and one in advance.

As in `snn_policy.evaluation.workers`, and for its reasons, the processes are spawned ones with a pipe each: who died of
what is known, the job at hand is lost and nothing else, and a worker whose parent is gone ends with its pipe.
"""

import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from snn_policy.evaluation.workers import death_of, end_process, interrupts_held, usable_cores
from snn_policy.sweeps.engine import Lost
from snn_policy.sweeps.work import THREADS, Job, Performer

AT_ONCE = 2
"""Jobs per worker: one that it does, and one that it goes on with while the first one's answer is written."""
REFRESH_SECONDS = 0.5


class LocalWorkers:
    """Run jobs in processes of this machine; see `engine.Engine`.

    Args:
        workers: processes; 0: one per core. A program that asks for them must do so under `if __name__ == "__main__":`.
    """

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers or usable_cores()
        self._workers: list[_Worker] = []

    @property
    def free(self) -> int:
        return self.workers * AT_ONCE - sum(len(worker.jobs) for worker in self._workers)

    def put(self, content: Any) -> Any:
        return content

    def submit(self, job: Job, content: Any) -> None:
        if len(self._workers) < self.workers and all(worker.jobs for worker in self._workers):
            self._workers.append(_Worker(f"worker {len(self._workers) + 1} of {self.workers}"))
        min(self._workers, key=lambda worker: len(worker.jobs)).send(job, content)

    def wait(self) -> list[tuple[Job, Any]]:
        busy = {worker.connection: worker for worker in self._workers if worker.jobs}
        ends = {worker.process.sentinel: worker for worker in self._workers}
        ready = wait([*busy, *ends], REFRESH_SECONDS)
        answered = [(worker, worker.answers()) for connection, worker in busy.items() if connection in ready]
        ended = [answer for _, (answers, _) in answered for answer in answers]
        gone = {worker for worker, (_, whole) in answered if not whole}
        gone |= {worker for end, worker in ends.items() if end in ready}
        for worker in gone:
            ended += worker.bury()
            self._workers.remove(worker)
        return ended

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            end_process(worker.process, worker.connection)
        self._workers.clear()


class _Worker:
    """Hold one process, and the jobs that it was sent and has not answered, the one at hand first."""

    def __init__(self, name: str) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_live, args=(theirs,), name=name)
        self.jobs: deque[Job] = deque()
        with interrupts_held(), _one_thread_each():
            self.process.start()
        theirs.close()

    def send(self, job: Job, content: Any) -> None:
        self.jobs.append(job)
        with suppress(BrokenPipeError, ConnectionResetError):  # it is gone: `wait` finds out
            self.connection.send((job, content))

    def answers(self) -> tuple[list[tuple[Job, Any]], bool]:
        """Return what has been answered, and whether the connection is open still."""
        found = []
        try:
            while self.jobs and self.connection.poll():
                found.append((self.jobs[0], self.connection.recv()))
                self.jobs.popleft()
        except (EOFError, ConnectionResetError, OSError):
            return found, False
        return found, True

    def bury(self) -> list[tuple[Job, Any]]:
        """Return last answers, and the rest as lost, of a process that ended; only the job at hand can be why."""
        found, _ = self.answers()
        end_process(self.process, self.connection)
        reason = death_of(self.process, begun=True)
        lost = [(job, Lost(reason if number == 0 else "")) for number, job in enumerate(self.jobs)]
        self.jobs.clear()
        return found + lost


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that start in this block use one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _live(connection: Connection) -> None:
    """Live a worker's whole life: jobs are taken in as they come, done in turn, and answered."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    jobs: queue.SimpleQueue[tuple[Job, Any]] = queue.SimpleQueue()
    threading.Thread(target=_take_in, args=(connection, jobs), daemon=True).start()
    performer = Performer()
    while True:
        job, content = jobs.get()
        connection.send(performer.perform(job, content))


def _take_in(connection: Connection, jobs: "queue.SimpleQueue[tuple[Job, Any]]") -> None:
    """Read jobs until the parent is gone, and end with it."""
    while True:
        try:
            jobs.put(connection.recv())
        except (EOFError, OSError):
            os._exit(1)
