"""Who is timed: the ANN in several runtimes, every engine × neuron × T, exported graphs, other ways to simulate spikes.

A contestant that cannot take part here (a package or a compiler is missing, the actor is of another kind) raises
`LeftOut` with the reason.
"""

from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from snn_policy.actor import Actor
from snn_policy.ann.layers import Linear
from snn_policy.bench.timing import Decide
from snn_policy.bundle.files import DECISION_FILE, STEP_FILE
from snn_policy.calibration.open_loop import forward
from snn_policy.convert import check_settings
from snn_policy.engines import ENGINE_NAMES
from snn_policy.errors import UnsupportedLayerError
from snn_policy.exporting.onnx_policy import OnnxPolicy
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import FloatArray
from snn_policy.spiking.neurons import MembraneNeurons
from snn_policy.spiking.settings import IF, MT, SNM, NeuronSettings, SigmaDelta
from snn_policy.spiking.spike_calibration import SpikeCalibration

if TYPE_CHECKING:
    from snn_policy.bench.torch_contestants import TorchPolicy

BASELINE = "ANN, ONNX Runtime"
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
    """A contestant that cannot take part; the message says why."""


def check_linear(actor: Actor) -> None:
    """Raise `ValueError` where the actor has layers that not all contestants run."""
    if not all(isinstance(layer, Linear) for layer in actor.layers):
        raise ValueError(
            f"{actor.name}: convolutions; snn-policy bench times actors whose layers are all linear "
            "(examples/bench_pixels.py those on pictures)"
        )


def stand_for(actor: Actor, settings: NeuronSettings) -> bool:
    """Return whether the neurons of these settings stand for the actor's activations: sigma-delta always does."""
    try:
        check_settings(actor, settings)
    except UnsupportedLayerError:
        return False
    return True


def variants_of(actor: Actor) -> dict[str, NeuronSettings]:
    """Those of `VARIANTS` that the actor converts to."""
    return {name: settings for name, settings in VARIANTS.items() if stand_for(actor, settings)}


def onnx_runtime(actor: Actor, rows: int | None = None) -> Decide:
    """The baseline: the ANN's `session.run` of one observation (*shape), or of batches (rows, *shape).

    Raises:
        ModuleNotFoundError: `onnx` is not installed.
    """
    import onnxruntime

    from snn_policy.exporting.ann import actor_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(actor_onnx(actor), options, providers=["CPUExecutionProvider"])
    if rows is None:
        return lambda obs: session.run(None, {"obs": obs[None]})
    return lambda obs: session.run(None, {"obs": obs})


def on_engine(policy: SpikingPolicy, engine: str) -> SpikingPolicy:
    """The same network, run by that engine."""
    try:
        return SpikingPolicy(policy.network, engine=engine, conversion=policy.conversion)
    except (ValueError, ImportError) as reason:
        raise LeftOut(str(reason)) from None


def _numpy(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    return lambda obs: actor.head(forward(actor, actor.inputs(obs[None]))[-1])


def _act(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    return actor.act


def _on_torch(actor: Actor) -> "TorchPolicy":
    try:
        from snn_policy.bench.torch_contestants import TorchPolicy, sequential
    except ModuleNotFoundError as missing:
        raise LeftOut(f"{missing.name} is not installed") from None
    return TorchPolicy(actor, sequential(actor))


def _torch_eager(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    return _on_torch(actor).act


def _torch_compiled(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    policy = _on_torch(actor)
    import torch

    policy.forward = torch.compile(policy.forward)
    try:
        policy.act(observations[0])
    except RuntimeError as problem:  # where there is no C++ compiler, or one that torch cannot use
        raise LeftOut(f"torch cannot compile here ({str(problem).strip().splitlines()[0][:100]})") from None
    return policy.act


def _torch_loop(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    policy = _on_torch(actor)
    from snn_policy.bench.torch_contestants import IFLoop

    if MEMBRANE not in converted:
        raise LeftOut("IF neurons stand for ReLU and QCFS only")
    neurons = converted[MEMBRANE].network.neurons
    assert isinstance(neurons, MembraneNeurons)
    policy.body = IFLoop(actor, neurons)
    return policy.act


def _spikingjelly(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
    policy = _on_torch(actor)
    from snn_policy.bench.torch_contestants import SpikingJelly

    if not stand_for(actor, SNM()):
        raise LeftOut("its converter knows ReLU only")
    try:
        policy.body = SpikingJelly(actor, observations, converted[MEMBRANE].timesteps)
    except ImportError as missing:
        raise LeftOut(f"{missing.name} is not installed" if missing.name else str(missing)) from None
    return policy.act


def _exported(variant: str, graph: str) -> "Builder":
    def build(actor: Actor, converted: Converted, observations: FloatArray) -> Decide:
        if variant not in converted:
            raise LeftOut("IF neurons stand for ReLU and QCFS only")
        with TemporaryDirectory() as directory:
            converted[variant].export_onnx(directory)
            return OnnxPolicy(directory, graph=graph).act

    return build


Builder = Callable[[Actor, Converted, FloatArray], Decide]
OPPONENTS: dict[str, Builder] = {
    "ANN, NumPy": _numpy,
    "ANN, Actor.act": _act,
    "ANN, torch": _torch_eager,
    "ANN, torch.compile": _torch_compiled,
    f"{SIGMA_DELTA}, {DECISION_FILE}": _exported(SIGMA_DELTA, "decision"),
    f"{SIGMA_DELTA}, {STEP_FILE}": _exported(SIGMA_DELTA, "step"),
    f"{MEMBRANE}, {DECISION_FILE}": _exported(MEMBRANE, "decision"),
    f"{MEMBRANE}, {STEP_FILE}": _exported(MEMBRANE, "step"),
    f"{MEMBRANE}, eager torch loop": _torch_loop,
    f"{MEMBRANE}, SpikingJelly": _spikingjelly,
}
"""Everything but the baseline and the engines; each makes its `act` of one observation, or raises `LeftOut`."""
