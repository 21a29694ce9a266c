"""Torch modules whose forward is no chain of layers, to graphs of stages; recurrent ones with their state in buffers.

`torch_symbolic` follows forward. It is called again until it is known which of the module's tensors it writes: those
are memories. The actor is compared with the module itself on consecutive random observations.
"""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_check import compare, sizes_found
from snn_policy.sources.graph_inputs import Inputs, joined_inputs
from snn_policy.sources.graph_memories import RESETS, Memories, Reading, remembering
from snn_policy.sources.no_chain import Asked
from snn_policy.sources.stage_builder import build
from snn_policy.sources.stage_plan import Program
from snn_policy.sources.symbolic import Symbolic
from snn_policy.sources.torch_symbolic import Follower, Traced, traced_constant
from snn_policy.sources.vecnormalize import ObservationStatistics

Slot = tuple[str, str, int]
"""A module's path, its attribute, and which of several tensors in that; −1 where it is the tensor itself."""


def read_module_graph(twin: nn.Module, asked: Asked) -> Actor:
    """Read a module, already an inert copy in evaluation mode, whose forward maps observations to actions.

    Raises:
        UnsupportedLayerError: a function that no rule reads, a branch on values, or hidden state that is not its own.
        SourceError: the observation's size is not known.
    """
    normaliser = asked.normaliser

    def program() -> Program:
        return remembering(lambda memories: _follow(twin, inputs.parts, memories, normaliser), _path)

    inputs = sizes_found(
        _parameters(twin), asked.observation_shape, _widths(twin), lambda parts: _follow(twin, parts, {}, normaliser)
    )
    read = program()
    if read.memories and _reset(twin):
        read = program()
    actor = build(read, shape=inputs.shape, **asked.facts)
    running = copy.deepcopy(twin)
    compare(actor, lambda row: _acted(running, inputs, row), normaliser, "its forward")
    return actor


def _path(slot: Slot) -> str:
    return ".".join(filter(None, slot[:2]))


def _parameters(twin: nn.Module) -> list[str]:
    parameters = list(inspect.signature(twin.forward).parameters.values())
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one.name for one in parameters if one.default is one.empty and one.kind not in kinds]
    if not needed:
        needed = [one.name for one in parameters[:1]]
    if not needed:
        raise UnsupportedLayerError("forward", type(twin).__name__, "it takes no observation", "Pass the policy")
    return needed


def _widths(twin: nn.Module) -> list[int]:
    """Return sizes that the observation may have: what the layers take, and lengths of constants beside them."""
    sizes = [int(weight.shape[1]) for _, weight in twin.named_parameters() if weight.ndim == 2]
    return sizes + [int(buffer.shape[-1]) for _, buffer in twin.named_buffers() if buffer.ndim in (1, 2)]


def _follow(
    twin: nn.Module,
    parts: Mapping[str, tuple[int, ...]],
    memories: Memories[Slot],
    normaliser: Sequence[ObservationStatistics],
) -> Reading[Slot]:
    """Call forward once: the observation, the action, and of every slot the tensor before and after."""
    running = copy.deepcopy(twin)
    dtype = next((one.dtype for one in running.parameters() if one.is_floating_point()), torch.float32)
    before = _made_symbolic(running, memories, dtype)
    observation, values = joined_inputs(parts, normaliser)
    follower = Follower(dtype)
    handles = [part.register_forward_pre_hook(_noting(follower, path)) for path, part in running.named_modules()]
    try:
        with torch.no_grad(), follower:
            result = running(*(Traced(Symbolic.holding(value), dtype) for value in values))
    except ValueError as problem:
        if isinstance(problem, UnsupportedLayerError | SourceError):
            raise
        raise SourceError(f"{follower.path}: {_line(problem)}") from problem
    except Exception as problem:
        reason = f"it cannot be followed at {follower.path} ({_line(problem)})"
        raise UnsupportedLayerError("forward", type(twin).__name__, reason, "Pass an ONNX export of it") from problem
    finally:
        for handle in handles:
            handle.remove()
    after = {slot: tensor.symbolic for slot, tensor in _slots(running) if isinstance(tensor, Traced)}
    return observation, _action(result), {slot: (before.get(slot), tensor) for slot, tensor in after.items()}


def _noting(follower: Follower, path: str) -> Any:
    def note(*_: Any) -> None:
        follower.path = path or "forward"

    return note


def _action(result: Any) -> Value:
    if isinstance(result, tuple | list | dict):
        kind = type(result).__name__
        remedy = "Wrap it so that forward returns the deterministic action only"
        raise UnsupportedLayerError("forward", kind, "it returns several values", remedy)
    if not isinstance(result, Traced):
        raise UnsupportedLayerError("forward", "constant", "its action does not depend on the observation", "")
    return result.symbolic.value


def _slots(module: nn.Module) -> Iterator[tuple[Slot, Any]]:
    """Yield the tensors that modules hold, but for their parameters."""
    for path, part in module.named_modules():
        for name, held in (*part._buffers.items(), *vars(part).items()):
            if name in ("_parameters", "_buffers", "_modules") or isinstance(held, nn.Parameter):
                continue
            if isinstance(held, torch.Tensor):
                yield (path, name, -1), held
            elif isinstance(held, tuple | list) and held and all(isinstance(one, torch.Tensor) for one in held):
                for number, one in enumerate(held):
                    if not isinstance(one, nn.Parameter):
                        yield (path, name, number), one


def _made_symbolic(
    module: nn.Module, memories: Memories[Slot], dtype: Any
) -> dict[Slot, Symbolic]:  # fmt: skip
    """Put symbolic tensors in the place of all but parameters; return them."""
    made: dict[Slot, Traced] = {}
    for slot, tensor in list(_slots(module)):
        if slot not in memories:
            made[slot] = traced_constant(tensor)
    for slot, (memory, shape) in memories.items():
        made[slot] = Traced(Symbolic.holding(Value.of(memory, shape)), dtype)
    grouped: dict[tuple[str, str], dict[int, Traced]] = {}
    for (path, name, number), tensor in made.items():
        grouped.setdefault((path, name), {})[number] = tensor
    for (path, name), tensors in grouped.items():
        part = module.get_submodule(path)
        value: Any = tensors[-1] if -1 in tensors else tuple(tensors[number] for number in sorted(tensors))
        if name in part._buffers:
            part._buffers[name] = value
        else:
            vars(part)[name] = value
    return {slot: tensor.symbolic for slot, tensor in made.items()}


def _reset(twin: nn.Module) -> bool:
    """Reset the copy by its own method, where it has one that needs nothing."""
    for name in RESETS:
        method = getattr(twin, name, None)
        if not callable(method):
            continue
        parameters = inspect.signature(method).parameters.values()
        if any(one.default is one.empty and one.kind == one.POSITIONAL_OR_KEYWORD for one in parameters):
            continue
        with torch.no_grad():
            try:
                method()
            except Exception:
                continue
        return True
    return False


def _acted(running: nn.Module, inputs: Inputs, row: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return what the module makes of one observation, (inputs,)."""
    dtype = next((one.dtype for one in running.parameters() if one.is_floating_point()), torch.float32)
    given = [torch.as_tensor(part).to(dtype) for part in inputs.split(row)]
    with torch.no_grad():
        result = running(*given)
    return result.double().numpy().reshape(-1)


def _line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
