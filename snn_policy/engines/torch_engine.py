"""The network's own code on torch tensors: for large batches, on CPU or GPU."""

import copy
import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.protocol import Array, Decision, FloatArray
from snn_policy.session import ReferenceSession
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.neurons import SigmaDeltaNeurons
from snn_policy.spiking.state import State


def with_arrays(value: Any, convert: Any) -> Any:
    """Return a copy of nested dataclasses and tuples in which every array is replaced by `convert(array)`."""
    if isinstance(value, np.ndarray):
        return convert(value)
    if isinstance(value, tuple):
        converted = [with_arrays(item, convert) for item in value]
        return type(value)(*converted) if hasattr(value, "_fields") else tuple(converted)
    if dataclasses.is_dataclass(value):
        twin, names = copy.copy(value), [field.name for field in dataclasses.fields(value)]
        for cached in set(vars(twin)) - set(names):
            del vars(twin)[cached]
        for name in names:
            object.__setattr__(twin, name, with_arrays(getattr(value, name), convert))
        return twin
    return value


def torch_network(network: SpikingNetwork, convert: Any) -> SpikingNetwork:
    """Return the network with every array that a decision uses replaced by `convert(array)`, a tensor."""
    converted: dict[int, Any] = {}

    def once(array: npt.NDArray[Any]) -> Any:
        if id(array) not in converted:
            converted[id(array)] = array, convert(array)  # the array is kept, and with it its identity
        return converted[id(array)][1]

    twin = with_arrays(network, once)
    if isinstance(network.neurons, SigmaDeltaNeurons):
        object.__setattr__(twin.neurons, "powers", convert(np.asarray(network.neurons.powers)))
    return twin


def usable_device(name: str, asked: str = "device '{}'", instead: str = "cpu") -> Any:
    """Return the torch device of that name, after an array has been there and back.

    Args:
        asked, instead: what the error names as asked for, and as the way out.

    Raises:
        ValueError: a device that torch does not know, or that is not there.
    """
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu().numpy()
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        reason = str(problem).partition("\n")[0]
        message = f"{asked.format(name)}: torch cannot use this device here ({reason}); take {instead!r}"
        raise ValueError(message) from None
    return device


def engine_device(name: str) -> Any:
    """Return the torch device of an engine; raises as `usable_device`, naming the engine."""
    return usable_device(name, "engine 'torch:{}'", "torch")


class TorchEngine:
    """Run decisions on a torch device; take and give NumPy arrays.

    Raises:
        ValueError: a device that torch does not know, or that is not there.
    """

    def __init__(self, network: SpikingNetwork, device: str = "cpu") -> None:
        self.device, self._of_arrays = engine_device(device), network
        self.network = torch_network(network, self._tensor)

    def _tensor(self, array: npt.NDArray[Any]) -> Array:
        import torch

        return torch.tensor(array, device=self.device)

    def session(self, rows: int) -> ReferenceSession:
        return ReferenceSession(self, self._of_arrays, rows)

    def decide(self, obs: FloatArray, state: State) -> tuple[npt.NDArray[Any], State, Decision]:
        """Decide as `SpikingNetwork.decide`, with NumPy arrays in and out."""
        import torch

        with torch.inference_mode():
            action, new_state, decision = self.network.decide(self._tensor(obs), with_arrays(state, self._tensor))
        arrays = [getattr(decision, field.name).cpu().numpy() for field in dataclasses.fields(decision)]
        return action.cpu().numpy(), type(state)(*(array.cpu().numpy() for array in new_state)), Decision(*arrays)
