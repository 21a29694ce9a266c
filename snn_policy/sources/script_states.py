"""How a TorchScript program's forward is called: parameters by their declared types, and what runs it."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.passed_states import State, mapped, names_state
from snn_policy.sources.script_graph import NumericInterpreter, Place
from snn_policy.sources.script_program import Program as Script
from snn_policy.sources.script_program import named_arrays
from snn_policy.sources.state_calls import Array, Call, Caller


class ScriptCaller(Caller):
    """Run a program, which starts with `starts` in its modules' tensors; see `Caller`."""

    def __init__(self, script: Script, given: Any = None) -> None:
        arguments = forward_of(script).args
        required = arguments.args[1 : len(arguments.args) - len(arguments.defaults)]
        kinds = {one.arg: declared(one) for one in required}
        for name, kind in kinds.items():
            if "Tensor" not in kind:
                raise UnsupportedLayerError("forward", name, f"it takes a {kind}", "Export one that takes tensors only")
        later = arguments.args[len(arguments.args) - len(arguments.defaults) :]
        optional = [one.arg for one in later if "Tensor" in declared(one) and names_state(one.arg)]
        nested = [name for name, kind in kinds.items() if kind != "Tensor"]
        self._script, self._arrays = script, list(named_arrays(script.root))
        shapes = [(name, tuple(array.shape)) for name, array in self._arrays]
        self._runner = NumericInterpreter(script, {})
        super().__init__(list(kinds), optional, shapes, given, nested)

    def started(self, starts: Mapping[Place, Array]) -> "ScriptCaller":
        """Return a new one whose modules hold `starts`."""
        twin = ScriptCaller(self._script)
        twin._runner.starts = {place: twin._runner.wrapped(array) for place, array in starts.items()}
        return twin

    def arguments(
        self, call: Call, parts: Sequence[Any], states: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return forward's positional and named arguments."""
        given = dict(zip(call.inputs, parts, strict=True)) | dict(states)
        positional = [given.pop(name) for name in self._needed]
        return positional, given

    def run(self, call: Call, parts: Sequence[Array], states: Mapping[str, State]) -> Any:
        tensors = mapped(dict(states), lambda leaf: leaf if hasattr(leaf, "detach") else self._runner.wrapped(leaf))
        return self._runner.decide(*self.arguments(call, [self._runner.wrapped(part) for part in parts], tensors))

    @property
    def returned(self) -> ast.expr | None:
        """Return the expression that forward returned last."""
        return self._runner.returned

    def first(self, method: str) -> Iterator[State]:
        if self._runner.has(method):
            try:
                yield mapped(self._runner.call(method), lambda leaf: np.asarray(leaf.detach()))
            except Exception:
                return

    def held(self) -> Iterator[Array]:
        yield from (array for _, array in self._arrays if array.dtype.kind == "f")


def forward_of(script: Script) -> ast.FunctionDef:
    """Return the root's forward.

    Raises:
        UnsupportedLayerError: it has none.
    """
    known = script.classes.get(script.root.kind)
    forward = known.methods.get("forward") if known else None
    if forward is None:
        remedy = "Export a module whose forward maps the observation to the deterministic action"
        raise UnsupportedLayerError("forward", script.root.name, "it has no forward", remedy)
    return forward


def declared(argument: ast.arg) -> str:
    """Return a parameter's type."""
    return ast.unparse(argument.annotation) if argument.annotation is not None else "Tensor"


def node_without(node: ast.expr | None, call: Call) -> ast.expr | None:
    """Return the expression of a result without the states; None where it is not known."""
    if not call.places:
        return node
    if not isinstance(node, ast.Tuple):
        return None
    used = {path[0] for path in call.places}
    return ast.Tuple(elts=[part for place, part in enumerate(node.elts) if place not in used], ctx=ast.Load())
