"""The compiled entry: `decide`, one decision of a whole batch; see `event_plan` for the blocks it works on."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy.engines.compilation import entry
from snn_policy.engines.event_convolution import CONVOLUTION
from snn_policy.engines.event_kernels import compiled
from snn_policy.engines.event_membrane import decide_membrane
from snn_policy.engines.event_plan import (
    DECISIONS,
    LAYERS,
    MACS,
    MACS_COUNT,
    OPERATIONS,
    OUTPUTS,
    ROW_SIZE,
    SIGMA_DELTA,
    SPIKING,
    SUMS,
    WORK_ROWS,
)
from snn_policy.engines.event_sigma_delta import decide_sigma_delta
from snn_policy.neurons import LARGEST_SPIKE
from snn_policy.protocol import LARGEST_OBSERVATION
from snn_policy.spike_calibration import FAR

LARGEST = np.float32(LARGEST_OBSERVATION)


@compiled
def finite(given: Any) -> Any:
    """Whether every value is finite and no larger than `LARGEST_OBSERVATION`."""
    good = True
    for row in range(given.shape[0]):
        for j in range(given.shape[1]):
            good &= abs(np.float32(given[row, j])) <= LARGEST
    return good


@compiled
def tally(counts: Any, plan: Any) -> None:
    """Add its linear layers to one row's operations, and its decision to the sums since its reset."""
    spiking = plan[0, SPIKING]
    first = 1 + plan[0, LAYERS] - spiking
    operations = 0
    for layer in range(spiking):
        if plan[first + layer, CONVOLUTION] == 0:
            operations += counts[layer] * plan[first + layer, OUTPUTS]
    counts[spiking + OPERATIONS] += operations
    counts[spiking + MACS_COUNT] = plan[0, MACS]
    counts[spiking + DECISIONS] += 1
    for column in range(spiking + 2):
        counts[spiking + SUMS + column] += counts[column]


def _fingerprint() -> int:
    """Of the compiled code's sources, and of the constants that it takes from elsewhere. Numba's cache looks only at
    the file of the function that it holds, and would go on using what has changed in another one."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    digest.update(repr((LARGEST_OBSERVATION, LARGEST_SPIKE, FAR)).encode())
    return int.from_bytes(digest.digest()[:4], "big")


def _compile(fingerprint: int) -> Any:
    """`decide`; what a function closes over is part of its key in Numba's cache."""

    @entry
    def decide(
        obs: Any, state: Any, parameters: Any, plan: Any, scratch: Any, indices: Any, actions: Any, counts: Any,
        block: int,
    ) -> bool:  # fmt: skip
        """One decision of every row; False, with nothing touched, where an observation is not finite.

        Args:
            obs: (rows, inputs) float64 or float32.
            state: (rows, …), counts: (rows, …): updated in place; actions: (rows, action size): filled.
            scratch: float32 block, indices: (trains, row size) int32, for `block` rows at a time.
        """
        if fingerprint < 0 or not finite(obs):
            return False
        width, trains = plan[0, ROW_SIZE], indices.shape[0]
        buffers = scratch.reshape(-1, width)
        work, decoded, shadow = buffers[:WORK_ROWS], buffers[WORK_ROWS:][:block], buffers[WORK_ROWS + block :][:block]
        sizes, totals = buffers[WORK_ROWS + 2 * block :][:trains], buffers[WORK_ROWS + 2 * block + trains :]
        counts[:, plan[0, SPIKING] + OPERATIONS] = 0
        for row in range(0, obs.shape[0], block):
            end = min(row + block, obs.shape[0])
            if plan[0, SIGMA_DELTA]:
                decide_sigma_delta(obs[row:end], state[row:end], parameters, plan, work, indices, sizes, totals,
                                   actions[row:end], counts[row:end])  # fmt: skip
            else:
                decide_membrane(obs[row:end], state[row:end], parameters, plan, work, indices, sizes, totals, decoded,
                                shadow, actions[row:end], counts[row:end])  # fmt: skip
        for row in range(obs.shape[0]):
            tally(counts[row], plan)
        return True

    return decide


decide = _compile(_fingerprint())
