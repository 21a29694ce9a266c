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
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as problem:
        reason = str(problem).partition("\n")[0]
        message = f"{asked.format(name)}: torch cannot use this device here ({reason}); take {instead!r}"
        raise ValueError(message) from None
    return device


def engine_device(name: str) -> Any:
    """Return the torch device of an engine; raises as `usable_device`, naming the engine."""
    return usable_device(name, "engine 'torch:{}'", "torch")


class TorchEngine:
    """Run decisions on a torch device; take and give NumPy arrays. Its sessions keep their memory there.

    Raises:
        ValueError: a device that torch does not know, or that is not there.
    """

    def __init__(self, network: SpikingNetwork, device: str = "cpu") -> None:
        self.device, self._of_arrays = engine_device(device), network
        self.network = torch_network(network, self._tensor)

    def _tensor(self, array: npt.NDArray[Any]) -> Array:
        import torch

        return torch.tensor(array, device=self.device)

    def session(self, rows: int) -> "TorchSession":
        return TorchSession(self, self._of_arrays, rows)

    def decide(self, obs: FloatArray, state: State) -> tuple[npt.NDArray[Any], State, Decision]:
        """Decide as `SpikingNetwork.decide`, with NumPy arrays in and out."""
        action, new_state, decision = self.decide_there(obs, self.sent(state))
        return action, fetched(new_state), decision

    def decide_there(self, obs: FloatArray, state: State) -> tuple[npt.NDArray[Any], State, Decision]:
        """Do as `decide`, with the state before and after in tensors of the device."""
        import torch

        with torch.inference_mode():
            action, new_state, decision = self.network.decide(self._tensor(obs), state)
        arrays = [getattr(decision, field.name).cpu().numpy() for field in dataclasses.fields(decision)]
        return action.cpu().numpy(), new_state, Decision(*arrays)

    def sent(self, state: State) -> State:
        """Return a state of arrays as tensors of the device."""
        return type(state)(*(self._tensor(array) for array in state))


def fetched(state: State) -> State:
    """Return a state of tensors as NumPy arrays of their own."""
    return type(state)(*(tensor.cpu().numpy().copy() for tensor in state))


class TorchSession(ReferenceSession):
    """Keep the rows' memory on the device from decision to decision; see `Session`."""

    def __init__(self, engine: TorchEngine, network: SpikingNetwork, rows: int) -> None:
        self._there = engine
        super().__init__(engine, network, rows)

    @property
    def state(self) -> State:
        return fetched(self._state)

    def _decide(self) -> tuple[npt.NDArray[Any], State, Decision]:
        return self._there.decide_there(self._obs, self._state)

    def store(self, state: Any) -> None:
        self._state = self._there.sent(state)

    def restore(self, memory: tuple[npt.NDArray[Any], ...]) -> None:
        self.store(type(self._state)(*memory))
