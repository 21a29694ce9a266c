"""How many spike trains the event engine should work through together: `snn_policy.engines.core.engine.TRAINS`.

    python -m benchmarks.measure_trains            # a random 17→256→256→6 actor, 256 rows

Prints, for every number of trains, the time of a decision of the whole batch as a share of that with one row at a time:
the median over rounds in which all take turns, in one process and on one thread.
"""

import time
from itertools import pairwise

import numpy as np

from snn_policy import Actor, convert
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.engines.core.engine import EventEngine
from snn_policy.policy import SpikingPolicy

ROWS, STEPS, ROUNDS = 256, 20, 15
TRAINS = (1, 8, 16, 32, 64, 128, 256, 512)
CASES = {"sigma-delta": {}, "IF T=8": {"neuron": "if", "timesteps": 8}, "IF T=16": {"neuron": "if", "timesteps": 16}}


def random_actor() -> Actor:
    rng, sizes = np.random.default_rng(0), (17, 256, 256, 6)
    layers = []
    for inputs, outputs in pairwise(sizes):
        weight = (rng.normal(size=(outputs, inputs)) * np.sqrt(2 / inputs)).astype(np.float32)
        layers.append(Linear(weight, np.zeros(outputs, np.float32), RELU if outputs == 256 else None))
    return Actor(tuple(layers), Head.bounded([-1] * 6, [1] * 6), (17,), None)


def walks(rng: np.random.Generator) -> np.ndarray:
    """(STEPS, ROWS, 17) float32: slow walks of unit variance, one per row."""
    values = [rng.normal(size=(ROWS, 17))]
    for _ in range(STEPS - 1):
        values.append(0.95 * values[-1] + np.sqrt(1 - 0.95**2) * rng.normal(size=(ROWS, 17)))
    return np.array(values, np.float32)


def seconds(policy: SpikingPolicy, trains: int, stream: np.ndarray) -> float:
    """Return one pass over the stream with that many trains in flight."""
    session = EventEngine(policy.network, trains=trains).session(ROWS)
    begin = 0.0
    for step, batch in enumerate(stream):
        begin = time.perf_counter() if step == 2 else begin  # the first decisions fill the memory and the caches
        session.obs[...] = batch
        session.run()
    return time.perf_counter() - begin


def main() -> None:
    actor, stream = random_actor(), walks(np.random.default_rng(1))
    recording = stream.swapaxes(0, 1).reshape(-1, 17)
    print("trains      " + "".join(f"{trains:>8}" for trains in TRAINS))
    for name, settings in CASES.items():
        policy = convert(actor, recording, **settings)
        times = np.array([[seconds(policy, trains, stream) for trains in TRAINS] for _ in range(ROUNDS)])
        shares = np.median(times / times[:, :1], axis=0)
        print(f"{name:<12}" + "".join(f"{share:>8.2f}" for share in shares))


if __name__ == "__main__":
    main()
