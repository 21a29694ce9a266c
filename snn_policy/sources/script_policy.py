"""TorchScript policies that are no chain, to graphs of stages; recurrent ones with their state in buffers."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_check import compare, sizes_found
from snn_policy.sources.graph_inputs import Inputs, joined_inputs
from snn_policy.sources.graph_nodes import Memory, Observation
from snn_policy.sources.script_graph import NumericInterpreter, Place, SymbolicInterpreter
from snn_policy.sources.script_program import Program as Script
from snn_policy.sources.script_values import ScriptModule
from snn_policy.sources.stage_builder import build
from snn_policy.sources.stage_plan import Program
from snn_policy.sources.symbolic import Symbolic, changed
from snn_policy.sources.vecnormalize import ObservationStatistics

MOST_READINGS = 8
RESETS = ("reset_memory", "reset_hidden_states", "reset_hidden_state", "reset_hidden", "reset_states", "reset_state",
          "reset")  # fmt: skip
Choose = Callable[[Any, Any], Any]
"""Of a result and the expression it is returned by, the part that is the action."""


def read_script_graph(
    script: Script,
    names: Sequence[str],
    choose: Choose,
    *,
    observation_shape: Any,
    low: npt.ArrayLike | None,
    high: npt.ArrayLike | None,
    env_id: str | None,
    name: str,
    normaliser: Sequence[ObservationStatistics] = (),
) -> Actor:
    """Read a program's action, as `read_torchscript` does, whatever its shape.

    Args:
        names: of the inputs.
        choose: see `Choose`.
    """

    def follow(parts: Mapping[str, tuple[int, ...]]) -> tuple[Observation, Value]:
        observation, action, _ = _follow(script, parts, {}, {}, choose, normaliser)
        return observation, action

    inputs = sizes_found(names, observation_shape, _widths(script.root), follow)
    program = _program(script, inputs, {}, choose, normaliser)
    starts: dict[Place, npt.NDArray[Any]] = {}
    if program.memories:
        starts = _reset(script)
        program = _program(script, inputs, starts, choose, normaliser)
    actor = build(program, name=name, shape=inputs.shape, low=low, high=high, env_id=env_id)
    compare(actor, _runner(script, inputs, starts, choose), normaliser, "torch, function by function,")
    return actor


def _program(
    script: Script, inputs: Inputs, starts: Mapping[Place, npt.NDArray[Any]], choose: Choose,
    normaliser: Sequence[ObservationStatistics],
) -> Program:  # fmt: skip
    memories: dict[Place, tuple[Memory, tuple[int, ...]]] = {}
    for _ in range(MOST_READINGS):
        observation, action, places = _follow(script, inputs.parts, memories, starts, choose, normaliser)
        written = {place: pair for place, pair in places.items() if changed(*pair)}
        if set(written) <= set(memories):
            after = {memories[place][0]: places[place][1].value for place in memories if place in places}
            return Program(observation, action, after)
        for place, (first, last) in written.items():
            if place not in memories:
                constant = None if first is None else first.original
                start = np.zeros(last.shape) if constant is None else np.asarray(constant, np.float64)
                memories[place] = Memory(start.reshape(-1), path=place[1], kind="memory"), start.shape
    raise SourceError("what its program writes changes from reading to reading; refused")


def _follow(
    script: Script,
    parts: Mapping[str, tuple[int, ...]],
    memories: Mapping[Place, tuple[Memory, tuple[int, ...]]],
    starts: Mapping[Place, npt.NDArray[Any]],
    choose: Choose,
    normaliser: Sequence[ObservationStatistics],
) -> tuple[Observation, Value, dict[Place, tuple[Symbolic | None, Symbolic]]]:
    given = {place: Symbolic.holding(array) for place, array in starts.items()}
    given |= {place: Symbolic.holding(Value.of(memory, shape)) for place, (memory, shape) in memories.items()}
    reader = SymbolicInterpreter(script, given)
    observation, values = joined_inputs(parts, normaliser)
    result = reader.run([Symbolic.holding(value) for value in values])
    action = choose(result, reader.returned)
    places = {place: (reader.fields.get(place), last) for place, last in reader.after()}
    return observation, action.value, places


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
    script: Script, inputs: Inputs, starts: Mapping[Place, npt.NDArray[Any]], choose: Choose
) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]:  # fmt: skip
    runner = NumericInterpreter(script, {})
    runner.starts = {place: runner.wrapped(array) for place, array in starts.items()}

    def run(row: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        result = choose(runner.decide(inputs.split(row)), runner.returned)
        return result.double().numpy().reshape(-1)

    return run


def quiet(action: Choose) -> Choose:
    """Return the same choice, which tells nothing."""

    def choose(result: Any, node: Any) -> Any:
        with warnings.catch_warnings(action="ignore"):
            return action(result, node)

    return choose
