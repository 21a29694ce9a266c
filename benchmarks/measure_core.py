"""Time the compiled core beside the same ANN in plain C, by the same compiler: dense, and skipping zeros.

    python -m benchmarks.measure_core td3-HalfCheetah-v5          # a shipped policy's name, or any source of an actor

Prints medians over rounds in which all take turns, in one process and on one thread, calls from Python included.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.plain_c import Decide, exported, plain_ann
from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.commands.common import read_actor
from snn_policy.engines.core.engine import EventEngine
from snn_policy.protocol import FloatArray

ROUNDS, BURST = 200, 50
DENSE, SKIPPING, CORE, ACT, EXPORTED = "plain C, dense", "plain C, skipping zeros", "core", "policy.act", "exported C"


def kernel(policy: SpikingPolicy) -> Decide:
    """Return the core's decision without the policy around it."""
    session = EventEngine(policy.network).session(1)

    def decide(given: FloatArray) -> Any:
        session.obs[...] = given
        return session.run()

    return decide


def measure(actor: Actor, observations: FloatArray, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Return the median microseconds of each call, and their ratio to the dense ANN's in the same round.

    Args:
        observations: (N, *shape) consecutive; they calibrate the conversion and are decided on.

    Raises:
        LeftOut: as `plain_ann`.
    """
    policy = convert(actor, observations, engine="event")
    normalised = actor.inputs(observations)
    return in_turns({
        DENSE: (plain_ann(actor, False), normalised),
        SKIPPING: (plain_ann(actor, True), normalised),
        CORE: (kernel(policy), observations),
        ACT: (policy.act, observations),
        EXPORTED: (exported(policy), observations),
    }, DENSE, rounds)  # fmt: skip


def in_turns(
    calls: Mapping[str, tuple[Decide, FloatArray]], baseline: str, rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Time each call on its observations; return as `measure`, with the ratio to the call named `baseline`.

    Args:
        clock: `time.thread_time` where the machine is busy: it stands still while others run.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name, (decide, given) in calls.items():
            begin = clock()
            for step in range(BURST):
                decide(given[(turn * BURST + step) % len(given)])
            times[name].append((clock() - begin) / BURST)
    reference = np.array(times[baseline])
    return {
        name: {"microseconds": float(np.median(spent)) * 1e6, "ratio": float(np.median(spent / reference))}
        for name, spent in times.items()
    }


def main(source: str) -> None:
    """Print what `measure` finds on 2,000 observations of the actor's own episodes."""
    actor = read_actor(source)
    for name, found in measure(actor, actor.collect(str(actor.env_id), steps=2_000)).items():
        print(f"{name:<24}{found['microseconds']:8.2f} µs   {found['ratio']:.2f} of the dense one")


if __name__ == "__main__":
    main(sys.argv[1])
