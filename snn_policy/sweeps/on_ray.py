"""A sweep's jobs as Ray tasks: on a cluster of this machine alone, or on one that is there already.

The driver holds a bounded number of tasks, whatever the number of cells, and Ray repeats none by itself: a lost task
comes back as `Lost`, and `schedule` hands it in again, so that retries are counted in one place. Answers come back to
the driver, which alone writes; workers need the package and the environments, and no shared folder.
"""

import importlib
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from snn_policy.errors import needs_extra
from snn_policy.evaluation.workers import usable_cores
from snn_policy.sweeps.engine import Lost
from snn_policy.sweeps.work import THREADS, Job, Performer

AT_ONCE = 2
"""Tasks per core of the cluster: one that runs, and one that a worker goes on with at once."""
OBJECT_STORE = 512 * 2**20
"""Bytes of shared memory on a cluster of this machine alone; it holds contents and answers of running tasks."""
REFRESH_SECONDS, COUNT_CORES_SECONDS, REACHABLE_SECONDS = 0.5, 10.0, 5.0
MOST_AT_ONCE = 2048
AGAIN = "what is finished is kept: start the cluster, and run the same command again"
MOST_PATIENCE = 300.0
"""Seconds without any core in the cluster."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # Ray's own 15 lets other programs of the machine starve the workers
}
"""Of Ray, in the environment, where the user has not set them."""


class RayTasks:
    """Run jobs as Ray tasks; see `engine.Engine`.

    Args:
        workers: tasks that run at the same time; 0: as many as the cluster has cores.
        address: of a running cluster, as `ray.init` takes it ("auto", "HOST:PORT", "ray://HOST:PORT"); None: one of
            this machine alone is started, and stopped at the end.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
    """

    def __init__(self, workers: int = 0, address: str | None = None) -> None:
        self._ray, self._limit = _import_ray(), workers
        self._running: dict[Any, Job] = {}
        self._cores, self._counted, self._seen = 0, float("-inf"), time.monotonic()
        self._started = not self._ray.is_initialized()
        self._alone = self._started and address is None
        if self._started:
            self._connect(workers or usable_cores(), address)
        self._node = self._ray.get_runtime_context().get_node_id()
        self._perform = self._ray.remote(num_cpus=1, max_retries=0, retry_exceptions=False)(_perform)

    def _connect(self, workers: int, address: str | None) -> None:
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR,
                                  "runtime_env": {"env_vars": THREADS}}  # fmt: skip
        try:
            if address is None:
                own: dict[str, Any] = {"num_cpus": workers, "object_store_memory": OBJECT_STORE}
                self._ray.init(address="local", include_dashboard=False, **own, **common)
            else:
                _check_reachable(address)
                self._ray.init(address=address, **common)
        except Exception as error:  # Ray raises that very type, too, where its processes take long to start
            said = " ".join(str(error).split())[:200]
            place = "this machine" if address is None else f"--address {address}"
            raise ConnectionError(f"{place}: no Ray cluster there ({said}); start one: ray start --head") from None

    @property
    def workers(self) -> int:
        """Return how many tasks the cluster runs at the same time now; nodes come and go."""
        now = time.monotonic()
        if now - self._counted > COUNT_CORES_SECONDS:
            with self._connected():
                self._cores, self._counted = int(self._ray.cluster_resources().get("CPU", 0)), now
            self._seen = now if self._cores else self._seen
        if now - self._seen > MOST_PATIENCE:
            raise ConnectionError(f"the Ray cluster has had no core for {MOST_PATIENCE:.0f} seconds; {AGAIN}")
        return min(self._cores, self._limit) if self._limit else self._cores

    @property
    def free(self) -> int:
        return min(MOST_AT_ONCE, max(1, self.workers * AT_ONCE)) - len(self._running)

    def put(self, content: Any) -> Any:
        with self._connected():
            return self._ray.put(content)

    def submit(self, job: Job, content: Any) -> None:
        with self._connected():
            self._running[self._perform.remote(job, content)] = job

    def wait(self) -> list[tuple[Job, Any]]:
        with self._connected():
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=REFRESH_SECONDS)
            if ready:  # others may have ended meanwhile
                ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [(self._running.pop(reference), self._answer(reference)) for reference in ready]

    def _answer(self, reference: Any) -> Any:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except exceptions.RayTaskError:  # a defect of the worker's code: what jobs raise is a Failure
            raise
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError) as error:
            return Lost(_reason(error))
        except exceptions.RayError as error:
            self._refuse_to_be_alone()
            return Lost(_reason(error))

    def _refuse_to_be_alone(self) -> None:
        """Say so if the node is gone that the driver is connected to: Ray would end this process without a word."""
        gone = self._alone
        if not gone:
            with self._connected():
                gone = not {node["NodeID"]: node["Alive"] for node in self._ray.nodes()}.get(self._node, True)
        if gone:
            raise ConnectionError(f"the Ray node that this sweep is connected to is gone; {AGAIN}")

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Say in one line that the cluster is gone."""
        try:
            yield
        except (self._ray.exceptions.RayError, OSError) as error:
            raise ConnectionError(f"the Ray cluster does not answer ({_reason(error)}); {AGAIN}") from None

    def close(self) -> None:
        for reference in self._running:
            with suppress(Exception):  # the cluster may be gone
                self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._started:
            self._ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise `OSError` at once where nobody listens: Ray itself tries for minutes."""
    named = re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d{1,5})", address)
    if named:
        socket.create_connection((named[1], int(named[2])), REACHABLE_SECONDS).close()


_performer = Performer()


def _perform(job: Job, content: Any) -> Any:
    """Do one job in a Ray worker's process, which keeps the last policy for the next one."""
    return _performer.perform(job, content)


def _import_ray() -> Any:
    os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise needs_extra("ray", "ray", "--engine ray") from None


def _reason(error: Exception) -> str:
    """Return the first sentence of what Ray says, which goes on for pages."""
    kinds = {"OutOfMemoryError": "memory ran out on its machine", "NodeDiedError": "its machine is gone",
             "WorkerCrashedError": "its process was killed, or its machine is gone",
             "ObjectLostError": "its machine is gone"}  # fmt: skip
    known = [text for name, text in kinds.items() if any(base.__name__ == name for base in type(error).__mro__)]
    return known[0] if known else f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
