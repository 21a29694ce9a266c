"""Time single decisions, one row at a time, beside the baselines, and what `act` adds to the compiled decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from snn_policy.actor import Actor
from snn_policy.bench.baselines import (
    BASELINES,
    ENGINES,
    REFERENCE,
    Builder,
    LeftOut,
    check_linear,
    on_engine,
    onnx_runtime,
    variants_of,
)
from snn_policy.bench.timing import (
    BURST,
    ROUNDS,
    WARM_UP,
    Decide,
    Timing,
    quartiles,
    recorded_stream,
    single_thread,
    take_turns,
    timed,
)
from snn_policy.convert import convert
from snn_policy.engines import make_engine
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import FloatArray
from snn_policy.spiking.network import SpikingNetwork

MEASURED_OVERHEAD = ("sigma-delta 0.02", "MT differential T=4", "IF T=8")


@dataclass(frozen=True)
class Overhead:
    """Hold what `SpikingPolicy.act` costs beyond the event engine's compiled decision (`EventSession.run`), one row.

    Attributes:
        act, kernel: microseconds, medians.
        share: the median over rounds of act / kernel − 1 in the same round.
        spread: the quartiles of that share.
    """

    name: str
    act: float
    kernel: float
    share: float
    spread: tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """Hold what `time_decisions` found.

    Attributes:
        timings: the ANN in ONNX Runtime first.
        notes: who was left out, and why; one line each.
    """

    timings: list[Timing]
    overheads: list[Overhead]
    notes: list[str]


def time_decisions(
    actor: Actor,
    observations: FloatArray,
    engines: Sequence[str] = ENGINES,
    baselines: Mapping[str, Builder] | None = None,
    rounds: int = ROUNDS,
) -> Measured:
    """Time the ANN in ONNX Runtime, each conversion in each engine, and the baselines.

    Args:
        observations: (N, *observation_shape) consecutive; they calibrate the conversions and are decided on.
        baselines: all of `BASELINES` by default.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
        ValueError: an actor with convolutions.
    """
    check_linear(actor)
    timed_calls: dict[str, Decide] = {REFERENCE: onnx_runtime(actor)}
    notes = single_thread()
    converted = {name: convert(actor, observations, neuron=settings) for name, settings in variants_of(actor).items()}
    for name, policy in converted.items():
        for engine in engines:
            try:
                timed_calls[f"{name}, {engine}"] = on_engine(policy, engine).act
            except LeftOut as reason:
                notes.append(f"engine {engine}: left out: {reason}")
    for name, build in (BASELINES if baselines is None else baselines).items():
        try:
            timed_calls[name] = build(actor, converted, observations)
        except LeftOut as reason:
            notes.append(f"{name}: left out: {reason}")
    timings = take_turns(timed_calls, recorded_stream(observations), REFERENCE, rounds=rounds)
    overheads = [
        act_overhead(name, converted[name].network, observations, rounds)
        for name in MEASURED_OVERHEAD
        if name in converted
    ]
    return Measured(timings, overheads, list(dict.fromkeys(notes)))


def act_overhead(name: str, network: SpikingNetwork, observations: FloatArray, rounds: int = ROUNDS) -> Overhead:
    """Time bursts of `act` and of the compiled decision alone, in turns, on the same observations."""
    policy, session = SpikingPolicy(network, engine="event"), make_engine(network, "event").session(1)
    assert session is not None
    stream = recorded_stream(observations)
    acts, kernels = np.empty((rounds, BURST)), np.empty((rounds, BURST))
    for k in range(WARM_UP):
        policy.act(stream(k))
        session.accept(stream(k))
        session.run()
    for turn in range(rounds):
        inputs = [stream(WARM_UP + turn * BURST + place) for place in range(BURST)]
        acts[turn] = timed(policy.act, inputs)
        for place, obs in enumerate(inputs):
            session.accept(obs)
            kernels[turn, place] = timed(session.run, [None])[0]
    low, share, high = quartiles(np.median(acts, axis=1) / np.median(kernels, axis=1) - 1)
    return Overhead(name, 1e6 * float(np.median(acts)), 1e6 * float(np.median(kernels)), share, (low, high))
