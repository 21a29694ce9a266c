"""A block of TD3+BC's gradient steps as one CUDA graph: a GPU waits for no launch of a kernel between them.

A step of these small networks is some hundred kernels of a few microseconds each, and starting them one by one takes
longer than running them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snn_policy.offline.batches import BLOCK_STEPS

if TYPE_CHECKING:
    from snn_policy.offline.td3bc import TD3BC

_one_capture_at_a_time = threading.Lock()


def own_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return a stream for one run, so that several can share a GPU; None on other devices."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None


@contextmanager
def working_on(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Run what follows on a stream, after what was begun before and before what comes after; with None, as always."""
    if stream is None:
        yield
        return
    outer = torch.cuda.current_stream(stream.device)
    stream.wait_stream(outer)
    with torch.cuda.stream(stream):
        yield
    outer.wait_stream(stream)


class CapturedBlock:
    """Hold BLOCK_STEPS gradient steps of one run, captured once and run with new minibatches.

    Nothing is run by the capture itself. The run must have taken steps before, on the stream that is current now: then
    torch has prepared all that it prepares at a first use.
    """

    def __init__(self, run: "TD3BC") -> None:
        self.run_of = run
        settings, data = run.settings, run.data
        shape = BLOCK_STEPS, settings.batch_size
        self._rows, self._noise, self._factors = (
            torch.zeros(size, device=run.device)
            for size in ((*shape, data.rows.shape[1]), (*shape, data.actions), (BLOCK_STEPS, 4))
        )
        self._graph = torch.cuda.CUDAGraph()
        with _one_capture_at_a_time:
            torch.cuda.synchronize(run.device)
            stream = torch.cuda.current_stream(run.device)
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                for index, batch in enumerate(data.batches(self._rows, self._noise)):
                    count = len(run.factors(index + 1))
                    run.apply(batch, self._factors[index].unbind()[:count])

    @staticmethod
    def possible(run: "TD3BC") -> bool:
        """Return whether blocks of this run can be captured: on a GPU, where every block moves the actor alike."""
        return run.device.type == "cuda" and BLOCK_STEPS % run.settings.policy_delay == 0

    def run(self, rows: Tensor, noise: Tensor) -> None:
        """Take the run's next BLOCK_STEPS steps with these rows and this noise, of the CPU."""
        run = self.run_of
        factors = torch.zeros(BLOCK_STEPS, 4)
        for index in range(BLOCK_STEPS):
            now = run.factors(run.step + index + 1)
            factors[index, : len(now)] = torch.tensor(now)
        for here, new in ((self._rows, rows), (self._noise, noise), (self._factors, factors)):
            here.copy_(new.pin_memory(), non_blocking=True)
        self._graph.replay()
        run.step += BLOCK_STEPS
