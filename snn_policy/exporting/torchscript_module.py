"""The two modules of a TorchScript export: one decision, traced from the networks' own code, and the policy that keeps
the memory around it, scripted. Needs torch.

Nothing in them is of this package once they are saved: a program of torch's operators, and buffers.
"""

import warnings
from typing import Any, Final

import torch
from torch import Tensor, nn

from snn_policy.engines.torch_engine import torch_network
from snn_policy.spiking.network import SpikingNetwork
from snn_policy.spiking.state import DERIVED


class Decision(nn.Module):
    """Wrap a decision as a pure function of tensors: (obs, memory) → (action, memory), memory (rows, width)."""

    def __init__(self, network: SpikingNetwork, widths: dict[str, int]) -> None:
        super().__init__()
        self._names, self._widths, self._kind = list(widths), list(widths.values()), type(network.initial_state(1))
        self._network = torch_network(network, torch.tensor)

    def forward(self, obs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        named = torch.split(memory, self._widths, dim=1)
        state = dict.fromkeys(DERIVED, memory[:, :1] * 0) | dict(zip(self._names, named, strict=True))
        given = self._kind(**{name: state.get(name, memory[:, :0]) for name in self._kind._fields})
        action, after, _ = self._network.decide(obs, given)
        return action, torch.cat([getattr(after, name) for name in self._names], dim=1)


class OnBuffers(nn.Module):
    """Wrap a traced function of (obs, memory, *arrays) whose arrays are buffers, so that `.to(device)` moves them."""

    def __init__(self, function: Any, arrays: list[Tensor]) -> None:
        super().__init__()
        self.function = function
        for number, array in enumerate(arrays):
            self.register_buffer(f"array_{number}", array)

    def forward(self, obs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return self.function(obs, memory, *self._buffers.values())


class RecurrentPolicy(nn.Module):
    """Act as deployment scripts expect: `policy(obs)`, `policy.reset_memory()`.

    Attributes:
        memory: (rows, width) of what is carried between decisions; (0, width) until the first one says how many rows.
    """

    shape: Final[list[int]]
    largest: Final[float]

    def __init__(self, decision: Any, shape: tuple[int, ...], width: int, largest: float) -> None:
        super().__init__()
        self.decision, self.shape, self.largest = decision, list(shape), largest
        self.register_buffer("memory", torch.zeros(0, width))

    def forward(self, obs: Tensor) -> Tensor:
        """Decide for one observation, (*shape), or for rows of them, (N, *shape)."""
        single = obs.dim() == len(self.shape)
        batch = (obs.unsqueeze(0) if single else obs).detach().to(torch.float32)
        rows = batch.size(0) if batch.dim() > 0 else 0
        if rows == 0 or list(batch.shape)[1:] != self.shape:
            raise ValueError(f"observation: shape {list(obs.shape)}, expected {self.shape} or rows of it")
        memory = self.memory
        if memory.size(0) == 0:
            memory = torch.zeros([rows, memory.size(1)], dtype=memory.dtype, device=memory.device)
        if memory.size(0) != rows:
            raise ValueError(
                f"observation: a batch of {rows}, but the policy holds the memory of {memory.size(0)} row(s); "
                "call reset_memory() to start anew"
            )
        with torch.no_grad():  # the memory may come from a call in inference mode
            action, after = self.decision(batch, memory)
        usable = torch.isfinite(after).all() & torch.isfinite(action).all() & (batch.abs() <= self.largest).all()
        if not bool(usable):
            raise ValueError("observation: holds NaN, infinity or numbers so large that sums overflow; nothing is kept")
        self.memory = after
        return action[0] if single else action

    @torch.jit.export
    def reset_memory(self) -> None:
        """Forget everything, the number of rows included."""
        self.memory = torch.zeros([0, self.memory.size(1)], dtype=self.memory.dtype, device=self.memory.device)

    @torch.jit.export
    def reset_rows(self, mask: Tensor) -> None:
        """Begin a new episode in the rows where the mask, (rows,), is true or not zero."""
        if self.memory.size(0) > 0:
            if list(mask.shape) != [self.memory.size(0)]:
                raise ValueError(f"mask: shape {list(mask.shape)}, expected [{self.memory.size(0)}]")
            self.memory = self.memory.masked_fill(mask.to(torch.bool).unsqueeze(1), 0.0)

    @torch.jit.export
    def reset(self) -> None:
        """Do as `reset_memory`, under the name that Isaac Lab's exported policies have."""
        self.reset_memory()


def script_module(network: SpikingNetwork, widths: dict[str, int], largest: float) -> Any:
    """Return the scripted policy, on the CPU.

    Args:
        widths: of the memories, by name, in the order of the columns of `memory`.
        largest: the largest number that an observation may hold.
    """
    shape, width = network.actor.observation_shape, sum(widths.values())
    example = torch.zeros(2, *shape), torch.zeros(2, width)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes and bounds, which are constants indeed
        graph = torch.jit.freeze(_traced(Decision(network, widths), example)).graph.copy()
        graph.eraseInput(0)  # the module, of which freezing has left nothing
        _follow_the_device(graph)
        arrays = _lift_arrays(graph)
        function = torch._C._create_function_from_graph("decide", graph)
        decision = _traced(OnBuffers(function, arrays), example)
        torch._C._jit_pass_inline(decision.graph)
    return torch.jit.script(RecurrentPolicy(decision, shape, width, largest).eval())


def _traced(module: nn.Module, example: tuple[Tensor, Tensor]) -> Any:
    return torch.jit.trace(module.eval(), example, check_trace=False)


def _follow_the_device(graph: Any) -> None:
    """Let new tensors be made where the observation lies: tracing has written down the device that it ran on."""
    device = graph.create("prim::device", [next(graph.inputs())], 1)
    graph.prependNode(device)
    device.output().setType(torch._C.DeviceObjType.get())
    for constant in graph.findAllNodes("prim::Constant", recurse=True):
        if isinstance(constant.output().type(), torch._C.DeviceObjType):
            constant.output().replaceAllUsesWith(device.output())


def _lift_arrays(graph: Any) -> list[Tensor]:
    """Turn the graph's constant arrays into further inputs, and return them; single numbers fit any device."""
    arrays = []
    for constant in graph.findAllNodes("prim::Constant", recurse=True):
        value = constant.output().toIValue()
        if isinstance(value, Tensor) and value.dim() > 0:
            constant.output().replaceAllUsesWith(graph.addInput(f"array_{len(arrays)}"))
            arrays.append(value.detach().clone())
    torch._C._jit_pass_dce(graph)
    return arrays
