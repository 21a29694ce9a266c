"""Time of a decision per engine, neuron and batch, with pytest-benchmark; `snn-policy bench` has the ratios to the ANN.

Plain `pytest` and `make test` run each once, as a test, without timing. To time them, in one process:

    make bench                                                        # or, to store and compare:
    pytest -n 0 --benchmark-enable tests/benchmarks --benchmark-autosave
    pytest -n 0 --benchmark-enable tests/benchmarks --benchmark-compare --benchmark-compare-fail=median:20%
"""

import time
from typing import Any

import numpy as np
import pytest

from snn_policy import Actor, SpikingPolicy, convert
from snn_policy.engines import ENGINE_NAMES
from tests.actors import ALL_ACTIVATIONS, random_actor, walk

NEURONS: dict[str, dict[str, Any]] = {
    "sigma-delta": {},
    "MT differential T=4": {"neuron": "mt", "coding": "differential", "timesteps": 4},
    "SNM T=8": {"neuron": "snm", "timesteps": 8},
    "IF T=8": {"neuron": "if", "timesteps": 8},
}
ENGINES = tuple(name for name in ENGINE_NAMES if name != "auto")
ROWS = (1, 256)
CALLS = 500


@pytest.fixture(scope="module")
def actor() -> Actor:
    """Untrained weights of the usual size, 17 → 256 → 256 → 6."""
    return random_actor(shape=(17,), widths=(256, 256), outputs=6)


@pytest.fixture(scope="module")
def converted(actor: Actor) -> dict[str, SpikingPolicy]:
    return {name: convert(actor, walk(500, (17,)), **settings) for name, settings in NEURONS.items()}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("neuron", NEURONS)
def test_act(neuron: str, engine: str, rows: int, converted: dict[str, SpikingPolicy], benchmark: Any) -> None:
    if engine == "torch":
        torch = pytest.importorskip("torch")
        torch.set_num_threads(1)
    policy, step = SpikingPolicy(converted[neuron].network, engine=engine), iter(range(10**9))
    observations = walk(200, (rows, 17))
    benchmark.group = f"{neuron}, {rows} row{'s' if rows > 1 else ''}"
    actions = benchmark(lambda: policy.act(observations[next(step) % len(observations)]))
    assert actions.shape == (rows, 6)
    assert (abs(actions) <= np.maximum(abs(policy.low), abs(policy.high))).all()


@pytest.mark.parametrize("activation", ["relu", "silu", "elu", "leaky_relu", "qcfs"])
def test_torchs_export_of_the_ann_is_not_faster(activation: str) -> None:
    """Shortest times of calls that take turns, which other programs on the machine can only lengthen."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from snn_policy.exporting.ann import actor_onnx
    from tests.baselines import session, torch_graph

    (function,) = (element for element in ALL_ACTIVATIONS if element.name == activation)
    actor = random_actor(activation=function, shape=(17,), widths=(256, 256), outputs=6)
    graphs = {"ours": session(actor_onnx(actor)), "torch": session(torch_graph(actor))}
    observations = walk(50, (1, 17))
    shortest = dict.fromkeys(graphs, np.inf)
    for _ in range(CALLS):
        for name, graph in graphs.items():
            for obs in observations[:5]:
                begin = time.perf_counter()
                graph.run(None, {"obs": obs})
                shortest[name] = min(shortest[name], time.perf_counter() - begin)
    assert shortest["ours"] < 1.1 * shortest["torch"]


@pytest.mark.parametrize("rows", ROWS)
def test_the_ann(rows: int, actor: Actor, benchmark: Any) -> None:
    """The ANN in ONNX Runtime, to compare with."""
    pytest.importorskip("onnx")
    from snn_policy.bench.baselines import onnx_runtime

    decide, observations = onnx_runtime(actor, rows), walk(1, (rows, 17))[0]
    benchmark.group = f"ANN, {rows} row{'s' if rows > 1 else ''}"
    (actions,) = benchmark(decide, observations)
    assert actions.shape == (rows, 6)
