"""How long a decision takes, as a ratio to the ANN in ONNX Runtime: one process, one thread, everything interleaved.

Times on a shared machine drift; the ratio of two measurements taken moments apart drifts far less. Each round
times a burst of decisions of every contestant on the same real observations, one row at a time; a ratio is the
median over the rounds of a contestant's time by ONNX Runtime's in the same round.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from snn_policy.actor import Actor
from snn_policy.convert import convert
from snn_policy.protocol import FloatArray
from snn_policy.spike_calibration import SpikeCalibration

BASELINE = "ANN, ONNX Runtime"
BURST, ROUNDS, WARM_UP = 50, 60, 20
VARIANTS: dict[str, dict[str, Any]] = {
    "sigma-delta 0.02": {},
    "MT differential T=4": {"neuron": "mt", "coding": "differential", "timesteps": 4},
    "IF T=8": {"neuron": "if", "timesteps": 8},
    "IF T=16": {"neuron": "if", "timesteps": 16},
    "IF T=8, calibration I=1": {"neuron": "if", "timesteps": 8, "calibration": SpikeCalibration(1)},
}
Decide = Callable[[FloatArray], Any]


@dataclass(frozen=True)
class Timing:
    """One contestant's decisions of one row.

    Attributes:
        median, p99: microseconds per decision, over all decisions.
        ratio: the median over rounds of its time by the baseline's in the same round.
        spread: the quartiles of that ratio.
    """

    name: str
    median: float
    p99: float
    ratio: float
    spread: tuple[float, float]


def time_decisions(actor: Actor, observations: FloatArray, engines: Sequence[str] = ("event",)) -> list[Timing]:
    """Time the ANN (ONNX Runtime, NumPy, torch where installed) and the conversions in each engine.

    Args:
        observations: (N, *observation_shape) consecutive; they calibrate the conversions and are decided on.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
    """
    contestants: dict[str, Decide] = {BASELINE: _onnx_runtime(actor), "ANN, Actor.act": actor.act, **_torch(actor)}
    relu = all(layer.activation is not None and layer.activation.name == "relu" for layer in actor.hidden)
    for name, settings in VARIANTS.items():
        if relu or not settings:
            for engine in engines:
                label = name if engine == "event" else f"{name}, {engine}"
                contestants[label] = convert(actor, observations, engine=engine, **settings).act
    return _interleaved(contestants, observations)


def _onnx_runtime(actor: Actor) -> Decide:
    import onnxruntime

    from snn_policy.ann_onnx import actor_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(actor_onnx(actor), options, providers=["CPUExecutionProvider"])
    return lambda obs: session.run(None, {"obs": obs[None]})


def _torch(actor: Actor) -> dict[str, Decide]:
    try:
        import torch
    except ModuleNotFoundError:
        return {}
    from snn_policy.engines.torch_engine import with_arrays

    torch.set_num_threads(1)
    twin = with_arrays(actor, torch.tensor)

    def decide(obs: FloatArray) -> Any:
        with torch.inference_mode():
            return twin.head(twin.activations(torch.from_numpy(obs[None]))[1]).numpy()

    return {"ANN, Actor on torch": decide}


def _interleaved(contestants: dict[str, Decide], observations: FloatArray) -> list[Timing]:
    needed = WARM_UP + ROUNDS * BURST
    stream = np.resize(observations, (needed, *observations.shape[1:]))
    for decide in contestants.values():
        for obs in stream[:WARM_UP]:
            decide(obs)
    times = {name: np.empty((ROUNDS, BURST)) for name in contestants}
    for turn in range(ROUNDS):
        burst = stream[WARM_UP + turn * BURST :][:BURST]
        for name, decide in contestants.items():
            for place, obs in enumerate(burst):
                begin = time.perf_counter()
                decide(obs)
                times[name][turn, place] = time.perf_counter() - begin
    baseline = np.median(times[BASELINE], axis=1)
    return [_timing(name, 1e6 * each, np.median(each, axis=1) / baseline) for name, each in times.items()]


def _timing(name: str, microseconds: Any, ratios: Any) -> Timing:
    low, ratio, high = (float(each) for each in np.percentile(ratios, (25, 50, 75)))
    median, p99 = (float(each) for each in np.percentile(microseconds, (50, 99)))
    return Timing(name, median, p99, ratio, (low, high))
