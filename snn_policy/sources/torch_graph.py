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
from snn_policy.sources.graph_nodes import Memory, Observation
from snn_policy.sources.stage_builder import build
from snn_policy.sources.stage_plan import Program
from snn_policy.sources.symbolic import Symbolic, changed
from snn_policy.sources.torch_symbolic import Follower, Traced, traced_constant
from snn_policy.sources.vecnormalize import ObservationStatistics

MOST_READINGS = 8
_RESETS = ("reset_memory", "reset_hidden_states", "reset_hidden_state", "reset_hidden", "reset_states", "reset_state",
           "reset")  # fmt: skip
Slot = tuple[str, str, int]
"""A module's path, its attribute, and which of several tensors in that; −1 where it is the tensor itself."""


def read_module_graph(
    twin: nn.Module,
    *,
    observation_shape: Any,
    low: npt.ArrayLike | None,
    high: npt.ArrayLike | None,
    env_id: str | None,
    name: str,
    normaliser: Sequence[ObservationStatistics] = (),
) -> Actor:
    """Read a module, already an inert copy in evaluation mode, whose forward maps observations to actions.

    Raises:
        UnsupportedLayerError: a function that no rule reads, a branch on values, or hidden state that is not its own.
        SourceError: the observation's size is not known.
    """
    names = _parameters(twin)
    inputs = sizes_found(names, observation_shape, _widths(twin), lambda shapes: _follow(twin, shapes, {}, normaliser))
    program, remembered = _program(twin, inputs, normaliser)
    if remembered and _reset(twin):
        program, _ = _program(twin, inputs, normaliser)
    actor = build(program, name=name, shape=inputs.shape, low=low, high=high, env_id=env_id)
    running = copy.deepcopy(twin)
    compare(actor, lambda row: _acted(running, inputs, row), normaliser, "its forward")
    return actor


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


def _program(
    twin: nn.Module, inputs: Inputs, normaliser: Sequence[ObservationStatistics]
) -> tuple[Program, bool]:  # fmt: skip
    memories: dict[Slot, tuple[Memory, tuple[int, ...]]] = {}
    for _ in range(MOST_READINGS):
        observation, action, slots = _follow(twin, inputs.parts, memories, normaliser)
        written = {slot: (first, last) for slot, (first, last) in slots.items() if changed(first, last)}
        if set(written) <= set(memories):
            after = {memories[slot][0]: slots[slot][1].value for slot in memories if slot in slots}
            return Program(observation, action, after), bool(memories)
        for slot, (first, last) in written.items():
            if slot not in memories:
                original = None if first is None else first.original
                start = np.zeros(last.shape) if original is None else np.asarray(original, np.float64)
                path = ".".join(filter(None, slot[:2]))
                memories[slot] = Memory(start.reshape(-1), path=path, kind="memory"), start.shape
    raise SourceError("what its forward writes changes from reading to reading; refused")


def _follow(
    twin: nn.Module,
    parts: Mapping[str, tuple[int, ...]],
    memories: Mapping[Slot, tuple[Memory, tuple[int, ...]]],
    normaliser: Sequence[ObservationStatistics],
) -> tuple[Observation, Value, dict[Slot, tuple[Symbolic | None, Symbolic]]]:
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
    module: nn.Module, memories: Mapping[Slot, tuple[Memory, tuple[int, ...]]], dtype: Any
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
    for name in _RESETS:
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
