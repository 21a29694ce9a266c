"""Ways to run one and the same `SpikingNetwork`: they share its state format and give the same decisions.

"event" adds only the weights of neurons that spiked (the compiled core; the default, and on a CPU the fastest at every
batch size that was tried, 1 to 1024 rows; where the core is not built, the default says so and is "numpy"); "numpy"
runs the network's own array-API code on NumPy, the reference; "torch" runs that on torch tensors; "torch:cuda",
"torch:cuda:1" and the like name the device. All of them run every graph of stages, recurrent ones, too; one whose
last stage reads by a convolution is left to "torch" (where it is installed) or "numpy". A row's result does not depend
on its batch, to the bit, except with "torch"; "event" works through many rows in blocks, and keeps the order of every
row's sums.
"""

from importlib.util import find_spec

from snn_policy.actor import Actor
from snn_policy.ann.convolution import Conv2d
from snn_policy.session import Engine, ReferenceSession
from snn_policy.spiking.network import SpikingNetwork

ENGINE_NAMES = ("auto", "event", "numpy", "torch")


class ReferenceEngine:
    """Run the network's own code on NumPy: what the other engines are held to."""

    def __init__(self, network: SpikingNetwork) -> None:
        self.network, self.decide = network, network.decide

    def session(self, rows: int) -> ReferenceSession:
        return ReferenceSession(self, self.network, rows)


def _ends_in_convolution(actor: Actor) -> bool:
    return any(isinstance(one.map, Conv2d) for one in actor.graph.stages[-1].connections)


def default_engine(actor: Actor) -> str:
    """Return the name of the engine that "auto" stands for."""
    if _ends_in_convolution(actor):
        return "torch" if find_spec("torch") else "numpy"
    from snn_policy.engines.core import library

    return "event" if library.available() else "numpy"


def check_engine(actor: Actor, name: str) -> None:
    """Refuse an engine that cannot run the actor's conversions here, before anything is recorded or calibrated.

    Raises:
        ValueError: an unknown name, or a torch device that is not there.
        ValueError: "event" where the network ends in a convolution.
        ModuleNotFoundError: "torch" where torch is not installed.
        NoCoreError: "event" where the compiled core is not built.
    """
    kind, _, device = name.partition(":")
    match name if kind != "torch" else kind:
        case "auto" | "numpy":
            return
        case "event":
            if _ends_in_convolution(actor):
                raise ValueError("engine 'event': the last layer must be linear; take 'torch' or 'numpy'")
            from snn_policy.engines.core import library

            library.core()
        case "torch":
            from snn_policy.engines.torch_engine import engine_device

            engine_device(device or "cpu")
        case _:
            known = ", ".join(ENGINE_NAMES)
            raise ValueError(f"engine {name!r}: expected one of {known} or torch:DEVICE, as in torch:cuda")


def make_engine(network: SpikingNetwork, name: str) -> Engine:
    """Return the engine of that name for the network.

    Raises:
        ValueError, ModuleNotFoundError, NoCoreError: see `check_engine`.
    """
    check_engine(network.actor, name)
    if name == "auto":
        name = default_engine(network.actor)
    if name == "event":
        from snn_policy.engines.core.engine import EventEngine

        return EventEngine(network)
    if name == "numpy":
        return ReferenceEngine(network)
    from snn_policy.engines.torch_engine import TorchEngine

    return TorchEngine(network, name.partition(":")[2] or "cpu")
