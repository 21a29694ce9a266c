"""Compare exported graphs with their policies: flips, differences, time against the ANN in ONNX Runtime, files.

    python -m benchmarks.measure_onnx ACTOR [ACTOR …]      # anything that load_actor reads, or shipped policies' names

Times are medians of single decisions of one row on one thread, in bursts of 50, everything interleaved in this process;
a ratio is the median over the bursts of a call's median by the ANN's in the same burst.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from snn_policy import Actor, OnnxPolicy, SpikingPolicy, convert
from snn_policy.bundle.files import DECISION_FILE
from snn_policy.commands.common import read_actor
from snn_policy.exporting.ann import actor_onnx
from snn_policy.exporting.graph_session import Graph, GraphEngine
from snn_policy.exporting.verification import DECISIONS, verify
from snn_policy.protocol import FloatArray

BURST, BURSTS = 50, 60
ANN, RUN, STATIC, BOUND = "ANN", "session.run", "batch=1, counts=False", "bound buffers"
ACT, STEP, SPIKING = "OnnxPolicy.act", "step graph", "SpikingPolicy.act"
Call = Callable[[Any], Any]


def session(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def host(file: Path) -> Call:
    """Return a plain host of a decision graph: `run` with the memory that the last call gave."""
    graph = session(file)
    memory: dict[str, Any] = {
        given.name: np.zeros((1, *given.shape[1:]), np.float32) for given in graph.get_inputs()[1:]
    }
    outputs = ["action", *(f"{name.removesuffix('in')}out" for name in memory)]

    def act(obs: Any) -> Any:
        action, *after = graph.run(outputs, {"obs": obs[None], **memory})
        memory.update(zip(memory, after, strict=True))
        return action

    return act


def seconds(act: Call, obs: Any) -> float:
    begin = time.perf_counter()
    act(obs)
    return time.perf_counter() - begin


def measure(actor: Actor, bursts: int = BURSTS) -> dict[str, Any]:
    """Return the flips and differences of both graphs, microseconds and ratios by call, and `act` beyond its graph."""
    assert actor.env_id is not None, "the actor's environment is not known"
    observations = actor.collect(actor.env_id, steps=DECISIONS + BURST * bursts)
    policy = convert(actor, observations)
    with tempfile.TemporaryDirectory() as place:
        graphs = {}
        for file in policy.export_onnx(place).files:
            found = verify(policy.network, file, observations[:DECISIONS])
            graphs[file.name] = {
                "kibibytes": file.stat().st_size / 1024,
                "decisions": found.decisions,
                "flips": found.flips,
                "action_difference": float(found.action_difference),
                "memory_difference": float(found.memory_differences["memory"]),
            }
        times = _timed(_calls(policy, Path(place)), observations[DECISIONS:], bursts)
    return {
        "name": actor.name,
        "widths": list(actor.widths),
        "graphs": graphs,
        "microseconds": {name: float(np.median(spent)) for name, spent in times.items()},
        "ratios": {name: float(np.median(spent / times[ANN])) for name, spent in times.items()},
        "act_beyond_graph": float(np.median(times[ACT] / times[BOUND]) - 1),
    }


def _calls(policy: SpikingPolicy, directory: Path) -> dict[str, Call]:
    policy.export_onnx(directory / "static", batch=1, counts=False)
    ann, buffers = session(actor_onnx(policy.actor)), GraphEngine(Graph(directory / DECISION_FILE)).session(1)

    def bound(obs: Any) -> None:
        buffers.accept(obs)
        buffers.run()

    return {
        ANN: lambda obs: ann.run(None, {"obs": obs[None]}),
        RUN: host(directory / DECISION_FILE),
        STATIC: host(directory / "static" / DECISION_FILE),
        BOUND: bound,
        ACT: OnnxPolicy(directory).act,
        STEP: OnnxPolicy(directory, graph="step").act,
        SPIKING: policy.act,
    }


def _timed(calls: dict[str, Call], observations: FloatArray, bursts: int) -> dict[str, Any]:
    """Return the median microseconds of every burst of each call, (bursts,)."""
    times = {name: np.empty(bursts) for name in calls}
    for burst in range(bursts):
        stream = observations[burst * BURST :][:BURST]
        for name, act in calls.items():
            times[name][burst] = np.median([seconds(act, obs) for obs in stream]) * 1e6
    return times


def report(found: dict[str, Any]) -> None:
    for name, graph in found["graphs"].items():
        print(f"{found['name']} {name} ({graph['kibibytes']:.0f} KiB): {graph['decisions']} decisions, "
              f"{graph['flips']} flips, action {graph['action_difference']:.1e}, "
              f"memory {graph['memory_difference']:.1e} quanta")  # fmt: skip
    for name, ratio in found["ratios"].items():
        print(f"  {name:24s} {found['microseconds'][name]:7.1f} µs  × {ratio:.2f}")
    print(f"  act beyond its graph: {100 * found['act_beyond_graph']:.0f} %")


if __name__ == "__main__":
    for source in sys.argv[1:]:
        report(measure(read_actor(source)))
