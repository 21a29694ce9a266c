"""Compiled spike calibration of one layer of one row, and the error spikes that the adaptive form goes by.

The same steps as `snn_policy.spike_calibration`, which has the equations and their sources.
"""

import math
from typing import Any

import numpy as np

from snn_policy.engines.event_kernels import HALF, ONE, ZERO, compiled
from snn_policy.spike_calibration import FAR

FAR_AWAY = np.float32(FAR)
PASS_ROWS = 4


@compiled
def integrate_and_fire(v: Any, x: Any, threshold: Any, fired: Any) -> None:
    """One step; `fired` is 1 where a neuron spiked."""
    for k in range(v.shape[0]):
        potential = v[k] + x[k]
        fires = (potential > threshold[k]) & (threshold[k] > ZERO)
        fired[k] = ONE if fires else ZERO
        v[k] = potential - threshold[k] if fires else potential


@compiled
def simulate(drive: Any, start: Any, threshold: Any, steps: int, noted: Any) -> None:
    """Run IF neurons on the drive, bias included, from v[0] = start.

    `noted` (≥ 7, ≥ n) is left with n, final v, m_f, m_s; its last row is scratch.
    """
    n = start.shape[0]
    spikes, v, after_spike, silent, fired = noted[0, :n], noted[1, :n], noted[2, :n], noted[3, :n], noted[-1, :n]
    for k in range(n):
        spikes[k], v[k], after_spike[k], silent[k] = ZERO, start[k], FAR_AWAY, -FAR_AWAY
    for t in range(steps):
        integrate_and_fire(v, drive[t % drive.shape[0]], threshold, fired)
        for k in range(n):
            spikes[k] += fired[k]
        for k in range(n):
            after_spike[k] = min(after_spike[k], v[k]) if fired[k] != ZERO else after_spike[k]
        for k in range(n):
            silent[k] = silent[k] if fired[k] != ZERO else max(silent[k], v[k])


@compiled
def calibrate(
    drive: Any, start: Any, threshold: Any, steps: int, iterations: int, literal: bool, epsilon: Any, noted: Any
) -> None:
    """Move `start`, v[0], in place; `noted` (≥ 7, ≥ n) is scratch: a pass, then the first pass's n and final v."""
    for iteration in range(iterations):
        simulate(drive, start, threshold, steps, noted)
        if iteration == 0 or literal:
            for k in range(start.shape[0]):
                noted[PASS_ROWS, k], noted[PASS_ROWS + 1, k] = noted[0, k], noted[1, k]
        before = np.float32(0 if literal else iteration)
        for k in range(start.shape[0]):
            n, v, theta = noted[PASS_ROWS, k], noted[PASS_ROWS + 1, k], threshold[k]
            if theta <= ZERO:
                continue
            if (v < theta * -before) & (n > before):
                start[k] -= max(theta, noted[2, k] + theta * epsilon)
            elif (v >= theta * (before + ONE)) & (n < steps - before):
                start[k] += max(theta, theta + theta * epsilon - noted[3, k])


@compiled
def shadow_errors(z: Any, threshold: Any, levels: Any, net: Any, timesteps: int) -> Any:
    """The quantised ANN's layer: z (n,), its input, is left with its activation; returns Σ |a·T/θ − n|."""
    errors = ZERO
    for k in range(z.shape[0]):
        if threshold[k] > ZERO:
            step = threshold[k] / levels
            z[k] = np.float32(math.floor(min(max(z[k] / step + HALF, ZERO), levels))) * step
            errors += abs(z[k] * np.float32(timesteps) - net[k]) / threshold[k]
        else:
            z[k] = ZERO
    return errors
