"""Gradient steps per CPU-second of TD3+BC, beside a plain torch implementation; interleaved, so that both share a mood.

python tests/benchmarks/td3bc_speed.py
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.extend(str(Path(__file__).resolve().parents[depth]) for depth in (1, 2))

from plain_td3bc import PlainTD3BC

from benchmarks.random_transitions import random_data
from snn_policy.offline.batches import BLOCK_STEPS, Batch, PackedData
from snn_policy.offline.td3bc import TD3BC, TD3BCSettings

STEPS, ROUNDS = 128, 6


def plain_batch(data: PackedData, rng: np.random.Generator) -> Batch:
    """A batch drawn as the published code draws it: one index array per step."""
    chosen = data.rows[rng.integers(0, len(data.rows), 256)]
    start = data.observations + data.actions
    return Batch(
        chosen[:, :start],
        chosen[:, start : start + data.observations],
        chosen[:, -2],
        chosen[:, -1],
        torch.randn(256, data.actions),
    )


def seconds(work: Callable[[], None]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def main() -> None:
    torch.set_num_threads(1)
    data, rng = random_data(), np.random.default_rng(0)
    plain = PlainTD3BC(TD3BC(data, TD3BCSettings()))
    runs = {name: TD3BC(data, TD3BCSettings(activation=name)) for name in ("relu", "qcfs", "spiking")}

    def plainly() -> None:
        for _ in range(STEPS):
            plain.update(plain_batch(data, rng))

    spent: dict[str, list[float]] = {"plain": [], **{name: [] for name in runs}}
    for _ in range(ROUNDS + 1):
        spent["plain"].append(seconds(plainly))
        for name, run in runs.items():
            until = run.step - run.step % BLOCK_STEPS + STEPS
            spent[name].append(seconds(lambda run=run, until=until: run.train(until)))
    rates = {name: STEPS / float(np.median(times[1:])) for name, times in spent.items()}
    for name, rate in rates.items():
        print(f"{name:8s} {rate:6.0f} steps per CPU-second   × {rate / rates['plain']:.2f}")


if __name__ == "__main__":
    main()
