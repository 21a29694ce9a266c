"""Compiled spike calibration of one layer of one row, and the error spikes that the adaptive form goes by.

The same steps as `snn_policy.spike_calibration`, which has the equations and their sources.
"""

import math
from typing import Any

import numpy as np

from snn_policy.engines.event_kernels import HALF, ONE, ZERO, add_rows, compiled, gather
from snn_policy.spike_calibration import FAR

FAR_AWAY = np.float32(FAR)
PASS_ROWS = 4


@compiled
def simulate(drive: Any, bias: Any, start: Any, threshold: Any, steps: int, noted: Any) -> None:
    """Run IF neurons from v[0] = start; `noted` (4, n) is left with n, final v, m_f, m_s."""
    spikes, v, after_spike, silent = noted[0], noted[1], noted[2], noted[3]
    for k in range(start.shape[0]):
        spikes[k], v[k], after_spike[k], silent[k] = ZERO, start[k], FAR_AWAY, -FAR_AWAY
    for t in range(steps):
        x = drive[t % drive.shape[0]]
        for k in range(start.shape[0]):
            potential = v[k] + (x[k] + bias[k])
            fires = (potential > threshold[k]) & (threshold[k] > ZERO)
            left = potential - threshold[k] if fires else potential
            spikes[k] += ONE if fires else ZERO
            after_spike[k] = min(after_spike[k], left) if fires else after_spike[k]
            silent[k] = silent[k] if fires else max(silent[k], left)
            v[k] = left


@compiled
def calibrate(
    drive: Any, bias: Any, start: Any, threshold: Any, steps: int, iterations: int, literal: bool, epsilon: Any,
    noted: Any,
) -> None:  # fmt: skip
    """Move `start`, v[0], in place; `noted` (6, n) is scratch: a pass, then the first pass's n and final v."""
    for iteration in range(iterations):
        now = noted[:PASS_ROWS]
        simulate(drive, bias, start, threshold, steps, now)
        if iteration == 0 or literal:
            for k in range(start.shape[0]):
                noted[PASS_ROWS, k], noted[PASS_ROWS + 1, k] = now[0, k], now[1, k]
        before = np.float32(0 if literal else iteration)
        for k in range(start.shape[0]):
            n, v, theta = noted[PASS_ROWS, k], noted[PASS_ROWS + 1, k], threshold[k]
            if theta <= ZERO:
                continue
            if (v < theta * -before) & (n > before):
                start[k] -= max(theta, now[2, k] + theta * epsilon)
            elif (v >= theta * (before + ONE)) & (n < steps - before):
                start[k] += max(theta, theta + theta * epsilon - now[3, k])


@compiled
def shadow_layer(
    shadow: Any, weights: Any, bias: Any, threshold: Any, levels: Any, net: Any, timesteps: int, z: Any, indices: Any,
    sizes: Any,
) -> Any:  # fmt: skip
    """The quantised ANN's layer: z (n,) is left with its activation; returns Σ |a·T/θ − n|."""
    for k in range(z.shape[0]):
        z[k] = bias[k]
    add_rows(weights, indices, sizes, gather(shadow, indices, sizes), z)
    errors = ZERO
    for k in range(z.shape[0]):
        if threshold[k] > ZERO:
            step = threshold[k] / levels
            z[k] = min(max(np.float32(math.floor(z[k] / step + HALF)), ZERO), levels) * step
            errors += abs(z[k] * np.float32(timesteps) - net[k]) / threshold[k]
        else:
            z[k] = ZERO
    return errors
