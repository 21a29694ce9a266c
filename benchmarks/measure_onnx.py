"""How exported graphs compare with their policies: flips, differences, time against the ANN in ONNX Runtime, files.

    python -m benchmarks.measure_onnx ACTOR [ACTOR …]      # anything that load_actor reads, or shipped policies' names

Times are medians of single decisions of one row on one thread, in bursts of 50, everything interleaved in this process;
a ratio is the median over the bursts of a contestant's median by the ANN's in the same burst.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from snn_policy import Actor, OnnxPolicy, convert, load_actor
from snn_policy.bundle.files import DECISION_FILE
from snn_policy.exported import names, path
from snn_policy.exporting.ann import actor_onnx
from snn_policy.exporting.graph_session import Graph, GraphEngine
from snn_policy.exporting.verification import DECISIONS, verify

BURST, BURSTS = 50, 60


def session(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def host(file: Path) -> Callable[[Any], Any]:
    """A plain host of a decision graph: `run` with the memory that the last call gave."""
    graph = session(file)
    memory: dict[str, Any] = {each.name: np.zeros((1, *each.shape[1:]), np.float32) for each in graph.get_inputs()[1:]}
    outputs = ["action", *(f"{name.removesuffix('in')}out" for name in memory)]

    def act(obs: Any) -> Any:
        action, *after = graph.run(outputs, {"obs": obs[None], **memory})
        memory.update(zip(memory, after, strict=True))
        return action

    return act


def seconds(act: Callable[[Any], Any], obs: Any) -> float:
    begin = time.perf_counter()
    act(obs)
    return time.perf_counter() - begin


def measure(name: str, actor: Actor, directory: Path) -> None:
    assert actor.env_id is not None, "the actor's environment is not known"
    observations = actor.collect(actor.env_id, steps=DECISIONS + BURST * BURSTS)
    policy = convert(actor, observations)
    for file in policy.export_onnx(directory).files:
        found = verify(policy.network, file, observations[:DECISIONS])
        print(f"{name} {file.name} ({file.stat().st_size / 1024:.0f} KiB): {found.decisions} decisions, "
              f"{found.flips} flips, action {found.action_difference:.1e}, "
              f"memory {found.memory_differences['memory']:.1e} quanta")  # fmt: skip
    policy.export_onnx(directory / "static", batch=1, counts=False)
    ann, exported = session(actor_onnx(actor)), OnnxPolicy(directory)
    buffers = GraphEngine(Graph(directory / DECISION_FILE)).session(1)
    step = OnnxPolicy(directory, graph="step")

    def alone(obs: Any) -> None:
        buffers.accept(obs)
        buffers.run()

    contestants: dict[str, Callable[[Any], Any]] = {
        "ANN, session.run": lambda obs: ann.run(None, {"obs": obs[None]}),
        "decision graph, session.run": host(directory / DECISION_FILE),
        "the same, batch=1, counts=False": host(directory / "static" / DECISION_FILE),
        "decision graph, bound buffers": alone,
        "OnnxPolicy.act": exported.act,
        "OnnxPolicy.act, step graph": step.act,
        "SpikingPolicy.act": policy.act,
    }
    times = {name: np.empty(BURSTS) for name in contestants}
    for burst in range(BURSTS):
        stream = observations[DECISIONS + burst * BURST :][:BURST]
        for contestant, act in contestants.items():
            times[contestant][burst] = np.median([seconds(act, obs) for obs in stream]) * 1e6
    baseline = times["ANN, session.run"]
    for contestant, each in times.items():
        print(f"  {contestant:32s} {np.median(each):7.1f} µs  × {np.median(each / baseline):.2f}")
    overhead = np.median(times["OnnxPolicy.act"] / times["decision graph, bound buffers"]) - 1
    print(f"  act beyond its graph: {100 * overhead:.0f} %")


if __name__ == "__main__":
    for source in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as place:
            measure(Path(source).name, load_actor(path(source) if source in names() else source), Path(place))
