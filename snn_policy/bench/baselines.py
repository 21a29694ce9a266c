"""Make what is timed: the ANN in ONNX Runtime and in NumPy, exported graphs, and the conversions of `VARIANTS`.

A baseline that cannot take part here (a package or a compiler is missing, the actor is of another kind) raises
`LeftOut` with the reason.
"""

from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from snn_policy.actor import Actor
from snn_policy.ann.convolution import Conv2d
from snn_policy.bench.timing import Decide
from snn_policy.bundle.files import DECISION_FILE, STEP_FILE
from snn_policy.calibration.open_loop import forward
from snn_policy.convert import check_settings
from snn_policy.engines import ENGINE_NAMES
from snn_policy.errors import UnsupportedLayerError
from snn_policy.exporting.onnx_policy import OnnxPolicy
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import FloatArray
from snn_policy.spiking.settings import IF, MT, SNM, NeuronSettings, SigmaDelta
from snn_policy.spiking.spike_calibration import SpikeCalibration

REFERENCE = "ANN, ONNX Runtime"
"""The baseline that all ratios are to."""
SIGMA_DELTA, MEMBRANE = "sigma-delta 0.02", "IF T=16"
VARIANTS: dict[str, NeuronSettings] = {
    SIGMA_DELTA: SigmaDelta(),
    **{f"MT differential T={t}": MT(coding="differential", timesteps=t) for t in (2, 4, 8)},
    "SNM T=8": SNM(timesteps=8),
    **{f"IF T={t}": IF(timesteps=t) for t in (4, 8, 16, 32)},
    "IF T=8, calibration I=1": IF(timesteps=8, calibration=SpikeCalibration(1)),
}
"""Settings by the name in the tables."""
ENGINES = tuple(name for name in ENGINE_NAMES if name != "auto")
Converted = Mapping[str, SpikingPolicy]


class LeftOut(Exception):
    """Report that a baseline cannot take part; the message says why."""


def check_linear(actor: Actor) -> None:
    """Raise `ValueError` where the actor has a network that not all baselines run."""
    if any(isinstance(one.map, Conv2d) for stage in actor.graph.stages for one in stage.connections):
        raise ValueError(f"{actor.name}: convolutions; snn-policy bench times actors whose layers are all linear")


def stand_for(actor: Actor, settings: NeuronSettings) -> bool:
    """Return whether the neurons of these settings stand for the actor's activations: sigma-delta always does."""
    try:
        check_settings(actor, settings)
    except UnsupportedLayerError:
        return False
    return True


def variants_of(actor: Actor) -> dict[str, NeuronSettings]:
    """Return those of `VARIANTS` that the actor converts to."""
    return {name: settings for name, settings in VARIANTS.items() if stand_for(actor, settings)}


def onnx_runtime(actor: Actor, rows: int | None = None) -> Decide:
    """Return what all ratios are to, the ANN's `session.run` of one observation (*shape), or of batches (rows, *shape).

    A recurrent actor goes on from call to call.

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
    """
    import onnxruntime

    from snn_policy.exporting.ann import actor_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(actor_onnx(actor), options, providers=["CPUExecutionProvider"])
    memories = {one.name: np.zeros((rows or 1, one.shape[1]), np.float32) for one in session.get_inputs()[1:]}
    if memories:
        return _carrying(session, memories, rows is None)
    if rows is None:
        return lambda obs: session.run(None, {"obs": obs[None]})
    return lambda obs: session.run(None, {"obs": obs})


def _carrying(session: Any, memories: dict[str, FloatArray], single: bool) -> Decide:
    def decide(obs: FloatArray) -> Any:
        action, *after = session.run(None, {"obs": obs[None] if single else obs, **memories})
        memories.update(zip(memories, after, strict=True))
        return [action]

    return decide


def on_engine(policy: SpikingPolicy, engine: str) -> SpikingPolicy:
    """Return a policy of the same network, run by that engine; raise `LeftOut` where the engine cannot run it."""
    try:
        return SpikingPolicy(policy.network, engine=engine, conversion=policy.conversion)
    except (ValueError, ImportError) as reason:
        raise LeftOut(str(reason)) from None


def _numpy(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    if actor.graph.is_chain:
        return lambda obs: actor.head(forward(actor, actor.inputs(obs[None]))[-1])
    state = actor.initial_state(1)

    def decide(obs: FloatArray) -> Any:
        nonlocal state
        action, state = actor.step(obs[None], state)
        return action

    return decide


def _act(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    return actor.act


def _exported(variant: str, graph: str) -> "Builder":
    def build(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
        if variant not in converted:
            raise LeftOut("IF neurons stand for ReLU and QCFS only")
        with TemporaryDirectory() as directory:
            converted[variant].export_onnx(directory)
            return OnnxPolicy(directory, graph=graph).act

    return build


Builder = Callable[[Actor, Converted, FloatArray], Decide]
BASELINES: dict[str, Builder] = {
    "ANN, NumPy": _numpy,
    "ANN, Actor.act": _act,
    f"{SIGMA_DELTA}, {DECISION_FILE}": _exported(SIGMA_DELTA, "decision"),
    f"{SIGMA_DELTA}, {STEP_FILE}": _exported(SIGMA_DELTA, "step"),
    f"{MEMBRANE}, {DECISION_FILE}": _exported(MEMBRANE, "decision"),
    f"{MEMBRANE}, {STEP_FILE}": _exported(MEMBRANE, "step"),
}
"""What is timed beside ONNX Runtime's ANN and the engines: each makes its `act` of one observation or raises `LeftOut`.

`benchmarks/torch_baselines.py` has more, in torch.
"""
