"""TorchScript policies that are no chain, to graphs of stages; recurrent ones with their state in buffers or passed."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_check import compare, sizes_found
from snn_policy.sources.graph_inputs import Inputs, joined_inputs
from snn_policy.sources.graph_memories import RESETS, Memories, Reading, remembering
from snn_policy.sources.graph_nodes import Observation
from snn_policy.sources.no_chain import Asked
from snn_policy.sources.passed_states import at, leaves_of, mapped
from snn_policy.sources.script_graph import Place, SymbolicInterpreter
from snn_policy.sources.script_program import Program as Script
from snn_policy.sources.script_states import ScriptCaller, node_without
from snn_policy.sources.script_values import ScriptModule, Unread
from snn_policy.sources.stage_builder import build
from snn_policy.sources.stage_plan import Program
from snn_policy.sources.state_calls import Call, either
from snn_policy.sources.symbolic import Symbolic, changed
from snn_policy.sources.vecnormalize import ObservationStatistics

Choose = Callable[[Any, Any], Any]
"""Of a result and the expression it is returned by, the part that is the action."""


def read_script_graph(script: Script, choose: Choose, asked: Asked) -> Actor:
    """Read a program's action, as `read_torchscript` does, whatever its shape.

    Args:
        choose: see `Choose`; it is given the results that are no recurrent states.
    """
    return either(ScriptCaller(script, asked.observation_shape), lambda caller: _read(script, caller, choose, asked))


def _read(script: Script, caller: ScriptCaller, choose: Choose, asked: Asked) -> Actor:
    normaliser = asked.normaliser
    starts: dict[Place, npt.NDArray[Any]] = {}
    lost: list[UnsupportedLayerError | None] = []

    def follow(parts: Mapping[str, tuple[int, ...]]) -> tuple[Observation, Value]:
        observation, action, _ = _follow(script, caller, parts, {}, {}, choose, normaliser, lost)
        return observation, action

    def program() -> Program:
        return remembering(
            lambda memories: _follow(script, caller, inputs.parts, memories, starts, choose, normaliser, lost),
            lambda place: place[1],
        )

    inputs = sizes_found(caller.inputs, caller.given, _widths(script.root), follow)
    read = program()
    if read.memories:
        starts = _reset(script)
        read = program()
    actor = build(read, shape=inputs.shape, **asked.facts)
    if lost[0] is not None:
        raise lost[0]
    call = caller.call(inputs.parts)
    run = _runner(caller.started(starts), call, inputs, choose)
    compare(actor, run, normaliser, "torch, function by function,")
    call.tell(asked.name)
    return actor


def _follow(
    script: Script,
    caller: ScriptCaller,
    parts: Mapping[str, tuple[int, ...]],
    memories: Memories[Place],
    starts: Mapping[Place, npt.NDArray[Any]],
    choose: Choose,
    normaliser: Sequence[ObservationStatistics],
    lost: list[UnsupportedLayerError | None],
) -> Reading[Place]:
    call = caller.call(parts)
    given = {place: Symbolic.holding(array) for place, array in starts.items()}
    given |= {place: Symbolic.holding(Value.of(memory, shape)) for place, (memory, shape) in memories.items()}
    passed = {(0, f"input {path[0]}", number): Symbolic.holding(np.array(start))
              for number, (path, start) in enumerate(leaves_of(dict(call.states)))}  # fmt: skip
    passed = {place: given.pop(place, tensor) for place, tensor in passed.items()}
    reader = SymbolicInterpreter(script, given)
    observation, values = joined_inputs(parts, normaliser)
    leaves = iter(passed.values())
    states = mapped(dict(call.states), lambda _: next(leaves))
    observed = [Symbolic.holding(value) for value in call.shaped(values)]
    result = reader.run(*caller.arguments(call, observed, states))
    action = choose(call.rest(result), node_without(reader.returned, call))
    places = {place: (reader.fields.get(place), last) for place, last in reader.after()}
    lost[:] = [reader.memory.lost({place[:2] for place, pair in places.items() if changed(*pair)})]
    for (place, first), path in zip(passed.items(), call.places, strict=True):
        places[place] = first, _tensor(at(result, path))
    return observation, action.value, places


def _tensor(held: Any) -> Symbolic:
    if isinstance(held, Unread):
        raise held.error
    return held


def _reset(script: Script) -> dict[Place, npt.NDArray[Any]]:
    """Return what the root's own reset leaves in the modules' tensors."""
    reader = SymbolicInterpreter(script, {})
    for name in RESETS:
        if reader.has(name):
            try:
                reader.call(name)
            except ValueError:
                continue
            found = {place: last.constant for place, last in reader.after()
                     if changed(reader.fields.get(place), last)}  # fmt: skip
            return {place: array for place, array in found.items() if array is not None}
    return {}


def _widths(root: ScriptModule) -> list[int]:
    """Return sizes that the observation may have: what weights take, and lengths of constants beside them."""
    found: list[int] = []
    waiting, seen = [root], {id(root)}
    while waiting:
        module = waiting.pop(0)
        for value in module.fields.values():
            if isinstance(value, np.ndarray) and 1 <= value.ndim <= 3:
                found += [int(size) for size in value.shape[-2:]][::-1]
            elif isinstance(value, ScriptModule) and id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)
    return found


def _runner(
    caller: ScriptCaller, call: Call, inputs: Inputs, choose: Choose
) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]:
    decide = caller.decider(call)

    def run(row: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        action = choose(decide(inputs.split(row)), node_without(caller.returned, call))
        return action.double().numpy().reshape(-1)

    return run


def quiet(action: Choose) -> Choose:
    """Return the same choice, which tells nothing."""

    def choose(result: Any, node: Any) -> Any:
        with warnings.catch_warnings(action="ignore"):
            return action(result, node)

    return choose
