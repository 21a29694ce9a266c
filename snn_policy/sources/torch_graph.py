"""Torch modules whose forward is no chain of layers, to graphs of stages; recurrent ones with their state in buffers.

`torch_symbolic` follows forward. It is called again until it is known which of the module's tensors it writes: those
are memories. The actor is compared with the module itself on consecutive random observations.
"""

import copy
import inspect
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from snn_policy.sources.narrow_casts import narrow_weights
from snn_policy.sources.no_chain import Asked, Decisive
from snn_policy.sources.passed_states import at, leaves_of, mapped
from snn_policy.sources.random_streams import drawing_nothing
from snn_policy.sources.several_results import quietly_chosen
from snn_policy.sources.stage_builder import build
from snn_policy.sources.state_calls import Call, either
from snn_policy.sources.symbolic import Symbolic
from snn_policy.sources.torch_hidden import refuse_hidden_state
from snn_policy.sources.torch_hooks import Hooks
from snn_policy.sources.torch_states import ModuleCaller, dtype_of
from snn_policy.sources.torch_symbolic import Follower, Misfit, Traced, traced_constant
from snn_policy.sources.vecnormalize import ObservationStatistics

Slot = tuple[str, str, int]
"""A module's path, its attribute, and which of several tensors in that; −1 where it is the tensor itself."""


def read_module_graph(twin: nn.Module, asked: Asked, output: str | None, hooks: Hooks) -> Actor:
    """Read a module, already an inert copy in evaluation mode, whose forward maps observations to actions.

    States that forward takes and returns are memories; `output` says which of several other results is the action.

    Raises:
        UnsupportedLayerError: a function that no rule reads, a branch on values, or hidden state that is not its own.
        SourceError: the observation's size is not known, or its state's.
        Decisive: there is no such output, or hooks make other actions.
    """
    return either(ModuleCaller(twin, asked.observation_shape), lambda caller: _read(twin, caller, asked, output, hooks))


def _read(twin: nn.Module, caller: ModuleCaller, asked: Asked, output: str | None, hooks: Hooks) -> Actor:
    normaliser = asked.normaliser

    def follow(parts: Mapping[str, tuple[int, ...]], memories: Memories[Slot]) -> Reading[Slot]:
        return _follow(twin, caller, parts, memories, normaliser, output)

    def guess(parts: Mapping[str, tuple[int, ...]]) -> Any:
        found = follow(parts, {})[:2]
        _refuse_repeated(parts, lambda wider: follow(wider, {}))
        return found

    inputs = sizes_found(caller.inputs, caller.given, _widths(twin), guess)
    read = remembering(lambda memories: follow(inputs.parts, memories), _path)
    if read.memories and _reset(twin):
        read = remembering(lambda memories: follow(inputs.parts, memories), _path)
    actor = build(read, shape=inputs.shape, **asked.facts)
    call = caller.call(inputs.parts)
    checked = ModuleCaller(twin)
    with drawing_nothing(checked.twin):
        compare(actor, _runner(checked, call, inputs, output), normaliser, "its forward")
    refuse_hidden_state(twin, _first_action(call, inputs, output), asked.name)

    def hooked(own: nn.Module) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]:
        if read.memories:
            _reset(own)
        return _runner(ModuleCaller(own, copied=False), call, inputs, output)

    try:
        hooks.compare(actor, hooked, normaliser)
    except UnsupportedLayerError as error:
        raise Decisive(error) from None
    call.tell(asked.name)
    return actor


def _path(slot: Slot) -> str:
    return ".".join(filter(None, slot[:2]))


def _widths(twin: nn.Module) -> list[int]:
    """Return sizes that the observation may have: what the layers take, and lengths of constants beside them."""
    sizes = [int(weight.shape[1]) for _, weight in twin.named_parameters() if weight.ndim == 2]
    return sizes + [int(buffer.shape[-1]) for _, buffer in twin.named_buffers() if buffer.ndim]


def _refuse_repeated(
    parts: Mapping[str, tuple[int, ...]], follow: Callable[[Mapping[str, tuple[int, ...]]], Any]
) -> None:
    """Refuse an observation of one value that is guessed, where it would be repeated beside several others.

    Raises:
        Misfit: two values do not fit there.
    """
    for name in (name for name, shape in parts.items() if shape == (1,)):
        try:
            follow({**parts, name: (2,)})
        except Misfit:
            raise
        except ValueError:
            continue


def _follow(
    twin: nn.Module,
    caller: ModuleCaller,
    parts: Mapping[str, tuple[int, ...]],
    memories: Memories[Slot],
    normaliser: Sequence[ObservationStatistics],
    output: str | None,
) -> Reading[Slot]:  # fmt: skip
    """Call forward once: the observation, the action, and of every slot the tensor before and after."""
    call, running, dtype = caller.call(parts), copy.deepcopy(twin), dtype_of(twin)
    passed = _passed(call, memories, dtype)
    own = {slot: memory for slot, memory in memories.items() if slot not in passed}
    before = _made_symbolic(running, own, dtype)
    observation, values = joined_inputs(parts, normaliser)
    follower = Follower(dtype, narrow_weights(twin))
    handles = [part.register_forward_pre_hook(_noting(follower, path)) for path, part in running.named_modules()]
    leaves = iter(passed.values())
    states = mapped(dict(call.states), lambda _: next(leaves))
    observed = [Traced(Symbolic.holding(value), dtype) for value in call.shaped(values)]
    positional, named = caller.arguments(call, observed, states)
    try:
        with drawing_nothing(running), torch.no_grad(), follower:
            result = running(*positional, **named)
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
    before |= {slot: tensor.symbolic for slot, tensor in passed.items()}
    for slot, place in zip(passed, call.places, strict=True):
        held = at(result, place)
        after[slot] = (held if isinstance(held, Traced) else traced_constant(held)).symbolic
    action = _action(call.rest(result), bool(call.places), output)
    return observation, action, {slot: (before.get(slot), tensor) for slot, tensor in after.items()}


def _passed(call: Call, memories: Memories[Slot], dtype: Any) -> dict[Slot, Traced]:
    """Return a symbolic tensor for every leaf of the states, in order."""
    made: dict[Slot, Traced] = {}
    for number, (path, start) in enumerate(leaves_of(dict(call.states))):
        slot = ("", f"input {path[0]}", number)
        content = Value.of(*memories[slot]) if slot in memories else np.array(start)
        made[slot] = Traced(Symbolic.holding(content), dtype)
    return made


def _noting(follower: Follower, path: str) -> Any:
    def note(*_: Any) -> None:
        follower.path = path or "forward"

    return note


def _action(result: Any, stateful: bool, output: str | None) -> Value:
    if isinstance(result, tuple | list | dict) and not stateful and output is None:
        kind = type(result).__name__
        remedy = "Wrap it so that forward returns the deterministic action only, or pass output="
        raise UnsupportedLayerError("forward", kind, "it returns several values", remedy)
    try:
        result = quietly_chosen(result, output)
    except SourceError as error:
        raise (error if output is None else Decisive(error)) from None
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
            elif isinstance(held, tuple | list | deque) and held and all(isinstance(one, torch.Tensor) for one in held):
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
        value: Any = tensors.get(-1)
        if value is None:
            kept = [tensors[number] for number in sorted(tensors)]
            held = part._buffers.get(name, vars(part).get(name))
            value = _like(held, kept)
        if name in part._buffers:
            part._buffers[name] = value
        else:
            vars(part)[name] = value
    return {slot: tensor.symbolic for slot, tensor in made.items()}


def _like(held: Any, tensors: list[Traced]) -> Any:
    """Return tensors in a list, a deque or a tuple, as they were held."""
    if isinstance(held, deque):
        return deque(tensors, held.maxlen)
    return tensors if isinstance(held, list) else tuple(tensors)


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


def _runner(
    caller: ModuleCaller, call: Call, inputs: Inputs, output: str | None
) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]:
    """Return what the module makes of one observation, (inputs,), and of those before."""
    decide = caller.decider(call)
    return lambda row: quietly_chosen(decide(inputs.split(row)), output).double().numpy().reshape(-1)


def _first_action(call: Call, inputs: Inputs, output: str | None) -> Callable[[nn.Module], npt.NDArray[np.float64]]:
    """Return what calls a module once, from a reset, on one observation that stays the same."""
    row = np.random.default_rng(1).standard_normal(int(np.prod(inputs.shape))).astype(np.float32)
    return lambda module: _runner(ModuleCaller(module, copied=False), call, inputs, output)(row)


def _line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
