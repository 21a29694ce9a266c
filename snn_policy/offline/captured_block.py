"""A block of TD3+BC's gradient steps as one CUDA graph: a GPU waits for no launch of a kernel between them.

A step of these small networks is some hundred kernels of a few microseconds each, and starting them one by one takes
longer than running them.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from snn_policy.offline.batches import BLOCK_STEPS, Batch, PackedData

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

    Args:
        apply: takes one step with a minibatch, given what the optimisers need to know of the step's number.
        factors: returns that, as numbers, of a step counted from 1; as many in every block at the same place.
    """

    def __init__(
        self,
        data: PackedData,
        batch_size: int,
        device: torch.device,
        apply: Callable[[Batch, Sequence[Tensor]], None],
        factors: Callable[[int], tuple[float, ...]],
    ) -> None:
        self._of_step, self._graph = factors, torch.cuda.CUDAGraph()
        shape, most = (BLOCK_STEPS, batch_size), max(len(factors(step + 1)) for step in range(BLOCK_STEPS))
        self._rows, self._noise, self._factors = (
            torch.zeros(size, device=device)
            for size in ((*shape, data.rows.shape[1]), (*shape, data.actions), (BLOCK_STEPS, most))
        )
        with _one_capture_at_a_time:
            torch.cuda.synchronize(device)
            stream = torch.cuda.current_stream(device)
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                for index, batch in enumerate(data.batches(self._rows, self._noise)):
                    apply(batch, self._factors[index].unbind()[: len(factors(index + 1))])

    def run(self, rows: Tensor, noise: Tensor, after: int) -> None:
        """Take the BLOCK_STEPS steps after so many with these rows and this noise, of the CPU."""
        most = self._factors.shape[1]
        padded = [(*self._of_step(after + 1 + step), *[0.0] * most)[:most] for step in range(BLOCK_STEPS)]
        for here, new in ((self._rows, rows), (self._noise, noise), (self._factors, torch.tensor(padded))):
            here.copy_(new.pin_memory(), non_blocking=True)
        self._graph.replay()
