"""Ways to run one and the same `SpikingNetwork`: they share its state format and give the same decisions.

"event" adds only the weights of neurons that spiked (compiled; the default); "numpy" runs the network's own
array-API code on NumPy, the reference; "torch" runs that on torch tensors, for large batches and GPUs.
"""

from typing import Any, Protocol

import numpy.typing as npt

from snn_policy.engines.event import EventEngine, EventSession
from snn_policy.network import SpikingNetwork, State
from snn_policy.protocol import Decision, FloatArray

__all__ = ["ENGINE_NAMES", "Engine", "EventEngine", "EventSession", "make_engine"]

ENGINE_NAMES = ("auto", "event", "numpy", "torch")


class Engine(Protocol):
    """Runs decisions of NumPy arrays; see `SpikingNetwork.decide`."""

    def decide(self, obs: FloatArray, state: Any) -> tuple[npt.NDArray[Any], State, Decision]: ...


def make_engine(network: SpikingNetwork, name: str) -> Engine:
    """The engine of that name for the network.

    Raises:
        ValueError: an unknown name.
        ModuleNotFoundError: "torch" where torch is not installed.
    """
    if name not in ENGINE_NAMES:
        raise ValueError(f"engine {name!r}: expected one of {', '.join(ENGINE_NAMES)}")
    if name in ("auto", "event"):
        return EventEngine(network)
    if name == "torch":
        from snn_policy.engines.torch_engine import TorchEngine

        return TorchEngine(network)
    return network
