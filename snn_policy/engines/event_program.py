"""The compiled entry: `decide`, one decision of a whole batch; see `event_decisions` for the blocks it works on."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy.engines.compilation import entry
from snn_policy.engines.event_decisions import (
    DECISIONS,
    LAYERS,
    MACS,
    MACS_COUNT,
    OPERATIONS,
    OUTPUTS,
    SIGMA_DELTA,
    SPIKING,
    SUMS,
    TIMESTEPS,
    WIDEST,
    WORK_ROWS,
    decide_membrane,
    decide_sigma_delta,
    matrix,
)
from snn_policy.engines.event_kernels import compiled
from snn_policy.protocol import LARGEST_OBSERVATION

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
    """Fill in one row's operations, and add its decision to the sums since its reset."""
    spiking = plan[0, SPIKING]
    first = 1 + plan[0, LAYERS] - spiking
    operations = 0
    for layer in range(spiking):
        operations += counts[layer] * plan[first + layer, OUTPUTS]
    counts[spiking + OPERATIONS], counts[spiking + MACS_COUNT] = operations, plan[0, MACS]
    counts[spiking + DECISIONS] += 1
    for column in range(spiking + 2):
        counts[spiking + SUMS + column] += counts[column]


def _fingerprint() -> int:
    """Of the compiled code's sources. Numba's cache looks only at the file of the function that it holds, and would
    go on using a kernel from another file after that has changed."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return int.from_bytes(digest.digest()[:4], "big")


def _compile(fingerprint: int) -> Any:
    """`decide`; what a function closes over is part of its key in Numba's cache."""

    @entry
    def decide(
        obs: Any, state: Any, parameters: Any, plan: Any, scratch: Any, indices: Any, actions: Any, counts: Any
    ) -> bool:
        """One decision of every row; False, with nothing touched, where an observation is not finite.

        Args:
            obs: (rows, inputs) float64 or float32.
            state: (rows, …), counts: (rows, …): updated in place; actions: (rows, action size): filled.
            scratch: float32 block, indices: (widest + 1,).
        """
        if fingerprint < 0 or not finite(obs):
            return False
        width, timesteps = plan[0, WIDEST] + 1, plan[0, TIMESTEPS]
        work = matrix(scratch, 0, WORK_ROWS, width)
        for row in range(obs.shape[0]):
            if plan[0, SIGMA_DELTA]:
                decide_sigma_delta(obs[row], state[row], parameters, plan, work, indices, actions[row], counts[row])
            else:
                trains = matrix(scratch, WORK_ROWS * width, 2, timesteps * width)
                decide_membrane(
                    obs[row], state[row], parameters, plan, work, trains, indices, actions[row], counts[row]
                )
            tally(counts[row], plan)
        return True

    return decide


decide = _compile(_fingerprint())
