"""What carries out a sweep's jobs: `local.LocalWorkers` on this machine, `on_ray.RayTasks` on a cluster."""

from typing import Any, NamedTuple, Protocol

from snn_policy.sweeps.work import Job


class Lost(NamedTuple):
    """Stand for the answer of a job whose worker, or its machine, is gone; nothing is known of the job itself."""

    reason: str


class Engine(Protocol):
    """Run jobs somewhere, a bounded number at a time."""

    @property
    def workers(self) -> int:
        """Return how many run at the same time."""
        ...

    @property
    def free(self) -> int:
        """Return how many jobs may be handed in now."""
        ...

    def put(self, content: Any) -> Any:
        """Return what stands for a content in `submit`, for as long as somebody holds it."""
        ...

    def submit(self, job: Job, content: Any) -> None: ...
    def wait(self) -> list[tuple[Job, Any]]:
        """Return jobs that have ended since, if any has within half a second, with their answers or `Lost`."""
        ...

    def close(self) -> None: ...
