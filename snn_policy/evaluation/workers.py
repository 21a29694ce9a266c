"""Share episodes among several processes, each with a copy of the policy and environments of its own.

The processes are spawned, not forked: a forked one can neither draw pictures nor use the threads of torch. A row whose
episode is over takes the next seed that no worker has taken yet, so all are busy until the seeds run out.

`concurrent.futures.ProcessPoolExecutor` was tried: it does not say which worker died of what, waits for a worker that
heeds no signal (30 s of a 30 s task), and its workers outlive a parent that is killed; the tests ask for all three.
"""

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

import gymnasium as gym

from snn_policy.environments import EnvironmentSource, make_environments
from snn_policy.evaluation.episodes import CostRecorder, Episode, Totals, run_episodes
from snn_policy.observations import environment_name
from snn_policy.protocol import Policy

REFRESH_SECONDS = 0.1
"""How long a finished episode may wait to be shown."""
GRACE_SECONDS = 2.0
"""How long a worker may take to end; an environment may have made it ignore the signal to."""
_REMEDIES = {
    "policy": "use workers=1",
    "env": "give an id, or a function defined at the top level of a module (no lambda), or use workers=1",
}


@dataclass(frozen=True)
class WorkerResult:
    """Hold what one worker has done."""

    environment: str
    finished: list[Episode]
    totals: Totals


@dataclass(frozen=True)
class WorkerTask:
    """Hold what a worker is sent; policy and environment are pickled apart, to name the one that cannot be read."""

    pickled: dict[str, bytes]
    seed: int
    rows: int
    workers: int


class EpisodeQueue:
    """Hand out the episodes\' numbers, and count those taken and finished by all workers together."""

    def __init__(self, context: SpawnContext, episodes: int) -> None:
        self._episodes, self._lock, self._counts = episodes, context.Lock(), context.RawArray("q", 2)

    def take(self) -> int | None:
        """Return the next episode\'s index, if there is one left."""
        with self._lock:
            index = self._counts[0]
            self._counts[0] = min(index + 1, self._episodes)
        return index if index < self._episodes else None

    def finish(self) -> None:
        """Count one more finished episode."""
        with self._lock:
            self._counts[1] += 1

    @property
    def finished(self) -> int:
        """Read without the lock, which a worker that was killed may hold."""
        return self._counts[1]


def run_in_workers(
    policy: Policy,
    env: EnvironmentSource,
    episodes: int,
    seed: int,
    rows: Sequence[int],
    bar: AbstractContextManager[Callable[[], None]],
) -> list[WorkerResult]:
    """Run episodes 0, 1, … from seed on in one process per entry of `rows`, the environments of each.

    Args:
        bar: entered once all environments are made; what it gives is called for every finished episode.

    Returns:
        The results of those workers that have run any.

    Raises:
        ValueError: the policy or the environment cannot be sent.
        ChildProcessError: a worker died.
        Exception: whatever a worker raises, of the same type where that can be sent.
    """
    spec = gym.registry.get(env) if isinstance(env, str) else None
    pickled = {name: _pickled(name, value) for name, value in (("policy", policy), ("env", (env, spec)))}
    context = get_context("spawn")
    queue, workers = EpisodeQueue(context, episodes), {}
    try:
        for worker in range(len(rows)):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, queue), name=f"worker {worker + 1} of {len(rows)}")
            with interrupts_held():
                process.start()
                workers[ours] = process
            theirs.close()
        for connection, own_rows in zip(workers, rows, strict=True):
            with suppress(BrokenPipeError, ConnectionResetError):  # it died: `_answers` tells
                connection.send(WorkerTask(pickled, seed, own_rows, len(rows)))
        _answers(workers)
        with bar as advance:
            return [result for result in _answers(workers, queue, advance) if result is not None]
    finally:
        for process in workers.values():
            process.terminate()
        for connection, process in workers.items():
            end_process(process, connection)


def end_process(process: SpawnProcess, connection: Connection) -> None:
    """Wait a little for a process that was told to end, kill it if it does not, and close its connection."""
    process.join(GRACE_SECONDS)
    process.kill()
    process.join()
    connection.close()


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _answers(
    workers: dict[Connection, SpawnProcess],
    queue: EpisodeQueue | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[Any]:
    """Return one message of every worker; raise the first failure. Meanwhile finished episodes are shown."""
    waiting, answers, shown = dict(workers), [], 0
    while waiting:
        wait(list(waiting), REFRESH_SECONDS)
        for connection, process in list(waiting.items()):
            alive = process.is_alive()
            if connection.poll():
                answers.append(_answer(connection, process, queue is not None))
                del waiting[connection]
            elif not alive:  # and a process of its own keeps the connection open
                raise ChildProcessError(death_of(process, queue is not None))
        for _ in range(queue.finished - shown if queue else 0):
            advance()
            shown += 1
    return answers


def _answer(connection: Connection, process: SpawnProcess, begun: bool) -> Any:
    try:
        answer = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        raise ChildProcessError(death_of(process, begun)) from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def death_of(process: SpawnProcess, begun: bool) -> str:
    """Return what to say of a process that ended; `begun`: while it ran episodes, not before."""
    code = process.exitcode or 0
    if code < 0:
        name = signal.Signals(-code).name
        return f"{process.name} was killed ({name}); if memory ran out, use fewer workers or environments"
    remedy = "" if begun else '; a script that asks for workers must do so under: if __name__ == "__main__":'
    return f"{process.name} ended with exit code {code} before its work was done{remedy}"


def _pickled(name: str, value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:  # whatever the value's own code raises
        raise ValueError(f"{name}: cannot be sent to worker processes ({error}); {_REMEDIES[name]}") from error


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from processes started in this block; their parent does, right after it, and ends them.

    The tracker of shared resources must run already: starting it lets signals through again.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, queue: EpisodeQueue) -> None:
    """Live a worker\'s whole life."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        answer = _run_episodes(connection.recv(), queue, ready=lambda: connection.send(None))
    except Exception as error:
        answer = _sendable(error)
    connection.send(answer)


def _leave_with_parent() -> None:
    """End with the parent: one that is killed cannot end its workers."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_episodes(task: WorkerTask, queue: EpisodeQueue, ready: Callable[[], None]) -> WorkerResult | None:
    """Return what this worker has done, if anything was left for it; call `ready` once its environments are made."""
    policy: Policy = _unpickled("policy", task)
    env, spec = _unpickled("env", task)
    if spec is not None:
        gym.registry.setdefault(env, spec)  # ids that only the parent's own code registers
    _keep_to(max(1, usable_cores() // task.workers))
    envs = _own_environments(env, policy, task.rows)
    try:
        ready()
        recorder = CostRecorder(policy, envs)
        finished = run_episodes(recorder, envs, task.seed, queue.take, queue.finish)
        return WorkerResult(environment_name(envs[0]), finished, recorder.totals()) if finished else None
    finally:
        for env in envs:
            env.close()


def _own_environments(env: EnvironmentSource, policy: Policy, rows: int) -> list[gym.Env]:
    """Make this worker's environments; one more than a single one, so that a function that gives it twice is found."""
    envs = make_environments(env, policy, rows if isinstance(env, str) else max(rows, 2))
    for spare in envs[rows:]:
        spare.close()
    return envs[:rows]


def _keep_to(threads: int) -> None:
    """Allow so many threads to torch, where the policy uses it, and to Mesa's renderer: workers share the cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
    os.environ.setdefault("LP_NUM_THREADS", str(threads))


def _unpickled(name: str, task: WorkerTask) -> Any:
    try:
        return pickle.loads(task.pickled[name])
    except (AttributeError, ImportError) as error:
        raise ValueError(f"{name}: cannot be loaded in a worker process ({error}); {_REMEDIES[name]}") from error


def _sendable(error: Exception) -> Exception:
    """Return the error, or one of the nearest built-in type where another process could not restore it as it is."""
    try:
        twin = pickle.loads(pickle.dumps(error))
        faithful = type(twin) is type(error) and str(twin) == str(error)
    except Exception:  # whatever the error's own code raises
        faithful = False
    if not faithful:
        kind = next(base for base in type(error).__mro__ if base.__module__ == "builtins")
        said, error = error, kind(str(error))
        error.__traceback__ = said.__traceback__
    error.add_note("in a worker process:\n" + "".join(traceback.format_tb(error.__traceback__)))
    return error
