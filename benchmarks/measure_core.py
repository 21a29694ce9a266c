"""The compiled core's decision beside the same ANN in plain C, by the same compiler: dense, and skipping zeros.

    python -m benchmarks.measure_core td3-HalfCheetah-v5          # a shipped policy's name, or any source of an actor

Prints medians over rounds in which all take turns, in one process and on one thread, calls from Python included.
"""

import ctypes
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy import Actor, SpikingPolicy, convert, load_actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Linear
from snn_policy.engines.core import build
from snn_policy.engines.core.engine import EventEngine
from snn_policy.exported import names, path

ROUNDS, BURST = 200, 50


def plain(actor: Actor, skip: bool) -> Callable[[Any], Any]:
    """The ANN's layers (ReLU, linear) in plain C, on normalised observations."""
    folder = Path(tempfile.mkdtemp())
    native = ("-std=c99", "-O3", "-march=native", "-ffp-contract=off", "-fPIC", "-shared")
    source = Path(__file__).with_name("plain_ann.c")
    build._run([*build.compiler(), *native, str(source), "-o", str(folder / "ann.so")])
    run = ctypes.CDLL(str(folder / "ann.so")).plain_ann
    layers = [layer for layer in actor.layers if isinstance(layer, Linear)]
    if len(layers) < len(actor.layers) or any(each.activation != RELU for each in layers[:-1]):
        raise SystemExit(f"{actor.name}: the plain ANN has linear layers and ReLU only")
    kept = [np.ascontiguousarray(layer.weight.T) for layer in layers], [layer.bias for layer in layers]
    weights, biases = ((ctypes.c_void_p * len(layers))(*(each.ctypes.data for each in part)) for part in kept)
    sizes = np.array([layers[0].inputs, *(layer.outputs for layer in layers)], np.int32)
    obs, hidden, y = (np.zeros(size, np.float32) for size in (sizes[0], 2 * max(sizes), sizes[-1]))
    pointers = [ctypes.c_void_p(each.ctypes.data) for each in (obs, hidden, y)]
    size_pointer = ctypes.c_void_p(sizes.ctypes.data)

    def decide(given: Any, _kept: Any = (kept, sizes, hidden)) -> Any:
        obs[...] = given
        run(weights, biases, size_pointer, len(layers), int(max(sizes)), int(skip), *pointers)
        return y

    return decide


def kernel(policy: SpikingPolicy) -> Callable[[Any], Any]:
    """The core's decision without the policy around it."""
    session = EventEngine(policy.network).session(1)

    def decide(given: Any) -> Any:
        session.obs[...] = given
        return session.run()

    return decide


def main(source: str) -> None:
    actor = load_actor(path(source) if source in names() else Path(source))
    observations = actor.collect(str(actor.env_id), steps=2_000, seed=0)
    policy = convert(actor, observations)
    stream = actor.inputs(observations)
    calls = {
        "plain C, dense": (plain(actor, False), stream),
        "plain C, skipping zeros": (plain(actor, True), stream),
        "core": (kernel(policy), observations),
        "policy.act": (policy.act, observations),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS):
        for name, (decide, given) in calls.items():
            begin = time.perf_counter()
            for step in range(BURST):
                decide(given[(turn * BURST + step) % len(given)])
            times[name].append((time.perf_counter() - begin) / BURST)
    dense = np.array(times["plain C, dense"])
    for name, found in times.items():
        print(f"{name:<24}{np.median(found) * 1e6:8.2f} µs   {np.median(found / dense):.2f} of the dense one")


if __name__ == "__main__":
    main(sys.argv[1])
