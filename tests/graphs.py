"""Hosts of exported graphs for the tests: what a robot's runtime does, in several runtimes, from the names alone."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from snn_policy import SpikingPolicy
from snn_policy.exporting.description import METADATA_KEY, Description, read_description
from snn_policy.spiking.network import SpikingNetwork

Feeds = dict[str, Any]
Runner = Callable[[Feeds], Feeds]


def onnx_runtime(path: Path) -> Runner:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.enable_mem_reuse = False  # as OnnxPolicy opens them, in a fraction of the time
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


def reference_evaluator(path: Path) -> Runner:
    """ONNX's own evaluator; its GatherElements takes at most 64 elements, so this one has its own."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class GatherElements(OpRun):
        def _run(self, data: Any, indices: Any, axis: int = 0) -> tuple[Any]:
            return (np.take_along_axis(data, indices, axis),)

    evaluator = ReferenceEvaluator(str(path), new_ops=[GatherElements])
    names = [str(name) for name in evaluator.output_names]
    return lambda feeds: dict(zip(names, evaluator.run(names, feeds), strict=True))


def openvino_runtime(path: Path) -> Runner:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = core.compile_model(str(path), "CPU", settings).create_infer_request()

    def run(feeds: Feeds) -> Feeds:
        results = request.infer(feeds)
        return {output.get_any_name(): np.array(value) for output, value in results.items()}

    return run


def about(path: Path) -> Description:
    """What a graph says about itself, without a runtime."""
    return read_description({entry.key: entry.value for entry in onnx.load(path).metadata_props}[METADATA_KEY])


def host(run: Runner, described: Description, observations: Any, rows: int = 1) -> list[Feeds]:
    """Decide on every observation (N, rows, *shape), carrying the memories: each decision's outputs, counts summed."""
    memory = {f"memory.{name}.in": np.zeros((rows, width), np.float32) for name, width in described.memories}
    calls = described.timesteps if described.graph == "step" else 1
    decided = []
    for obs in observations:
        counts: Any = 0
        out: Feeds = {}
        for _ in range(calls):
            out = run({"obs": np.asarray(obs, np.float32).reshape(rows, *described.observation_shape), **memory})
            memory = {f"{name[:-4]}.in": value for name, value in out.items() if name.startswith("memory.")}
            counts = counts + out["counts"]
        decided.append({**out, "counts": counts})
    return decided


def expected(policy: SpikingPolicy, observations: Any, rows: int = 1) -> list[Feeds]:
    """The same from the network's own code."""
    network, decided = policy.network, []
    state = network.initial_state(rows)
    for obs in observations:
        batch = np.asarray(obs, np.float32).reshape(rows, *policy.observation_shape)
        action, state, decision = network.decide(batch, state)
        counts = [*decision.spikes.T, decision.synaptic_operations]
        memory = {f"memory.{name}.out": getattr(state, name) for name in state._fields}
        decided.append({"action": action, "counts": np.stack(counts, axis=1), **memory})
    return decided


def worst_differences(found: list[Feeds], wanted: list[Feeds]) -> dict[str, float]:
    """Per output that both have, the largest difference over all decisions."""
    worst: dict[str, float] = {}
    for one, other in zip(found, wanted, strict=True):
        for name in one.keys() & other.keys():
            columns = other[name].shape[-1] if other[name].ndim > 1 else None
            mine = one[name][..., :columns] if name == "counts" else one[name]
            assert mine.shape == other[name].shape, name
            difference = float(abs(mine.astype(np.float64) - other[name]).max(initial=0))
            worst[name] = max(worst.get(name, 0.0), difference)
    return worst


def exported_once(
    network: Callable[..., SpikingNetwork], factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, str | None]]:
    """Of what `network` takes: the directory of its graphs, exported once, and why there is none of a step."""

    @cache
    def export(*of: Any) -> tuple[Path, str | None]:
        directory = factory.mktemp("graphs")
        return directory, SpikingPolicy(network(*of), engine="numpy").export_onnx(directory).step_left_out

    return export
