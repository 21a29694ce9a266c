"""TorchScript programs that are no chain: followed with symbolic tensors, and once more with torch's, for the check.

Both interpreters follow the archive's text as the reader of chains does (`script_interpreter`); they differ in what a
tensor is. Only functions of the shared table are ever called, each by itself; what is written into the module's tensors
is found by looking at them before and after.
"""

import ast
from collections.abc import Iterator
from typing import Any

import numpy as np

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.affine_values import Value
from snn_policy.sources.graph_nodes import Unfinished
from snn_policy.sources.narrow_casts import refuse_narrow_script
from snn_policy.sources.refusals import refusal, rounding
from snn_policy.sources.script_constants import NO_RESULT, constant_result
from snn_policy.sources.script_interpreter import Interpreter
from snn_policy.sources.script_lists import LISTS, changed_list
from snn_policy.sources.script_operations import attentive, tensor_fact
from snn_policy.sources.script_program import Program
from snn_policy.sources.script_values import ScriptModule, Unread
from snn_policy.sources.symbolic import Symbolic, filled_like, held, leaves, observed, plain
from snn_policy.sources.value_movements import MOVES
from snn_policy.sources.value_operators import READ, UNCHANGED, applied

Place = tuple[int, str, int]
"""A module's identity, its attribute, and which of several tensors in that; −1 where it is the tensor itself."""
_FLOATS = (5, 6, 7, 15)
_FACTS = ("size", "dim", "len", "numel", "dtype", "device", "is_cuda", "is_floating_point", "requires_grad")
_WRITES = ("copy", "fill", "zero")
_KNOWN = frozenset((*MOVES, *READ, *UNCHANGED, *_WRITES, "index", "index_put", "zeros_like", "ones_like", "full_like",
                    "empty_like", "new_zeros", "new_ones", "new_full", "eq", "ne", "item"))  # fmt: skip
"""Functions that torch may be asked for."""


class TensorInterpreter(Interpreter):
    """Hold what both have in common; `tensor` is the type of their tensors.

    Attributes:
        starts: tensors that modules hold from the beginning, in the place of the archive's.
        fields: the tensors that modules held when they were first asked for.
    """

    tensor: Any = ()

    def __init__(self, program: Program, starts: dict[Place, Any]) -> None:
        super().__init__(program)
        self.starts, self.fields = starts, dict[Place, Any]()

    def wrapped(self, array: Any) -> Any:
        """Return a tensor of constants."""
        raise NotImplementedError

    def computed(self, name: str, arguments: list[Any], keywords: dict[str, Any], path: str) -> Any:
        """Return what a function makes of tensors."""
        raise NotImplementedError

    def call(self, name: str) -> Any:
        """Call a method of the root that takes nothing, and return what it returns."""
        return self._method(self._program.root, name, [], {})

    def has(self, name: str) -> bool:
        """Return whether the root has a method that takes nothing."""
        known = self._program.classes.get(self._program.root.kind)
        method = None if known is None else known.methods.get(name)
        return method is not None and len(method.args.args) - len(method.args.defaults) <= 1

    def after(self) -> Iterator[tuple[Place, Any]]:
        """Yield the tensors that modules hold now, of those that they were asked for or given."""
        places = {place[:2] for place in self.fields} | set(self.memory.now)
        for owner, name in places:
            value = self.memory.now.get((owner, name))
            if value is None:
                value = [self.fields[key] for key in sorted(self.fields) if key[:2] == (owner, name)]
                value = value[0] if (owner, name, -1) in self.fields else value
            if isinstance(value, self.tensor):
                yield (owner, name, -1), value
            elif isinstance(value, list | tuple):
                yield from (((owner, name, k), one) for k, one in enumerate(value) if isinstance(one, self.tensor))

    def _refused(self, module: ScriptModule) -> Unread | None:
        return attentive(module)

    def _field(self, owner: Any, name: str) -> Any:
        if not isinstance(owner, ScriptModule) or (id(owner), name) in self.memory.now:
            return super()._field(owner, name)
        found = {place: value for place, value in self.starts.items() if place[:2] == (id(owner), name)}
        if found:
            for place, value in found.items():
                self.fields.setdefault(place, value)
            if (id(owner), name, -1) in found:
                return self.fields[id(owner), name, -1]
            return self.memory.now.setdefault((id(owner), name), self._listed(owner, name, found))
        value = super()._field(owner, name)
        if isinstance(value, np.ndarray):
            return self.fields.setdefault((id(owner), name, -1), self.wrapped(value))
        if isinstance(value, list | tuple) and value and all(isinstance(one, np.ndarray) for one in value):
            own = [self.fields.setdefault((id(owner), name, k), self.wrapped(one)) for k, one in enumerate(value)]
            self.memory.now[id(owner), name] = own
            return own
        return value

    def _listed(self, owner: ScriptModule, name: str, found: Any) -> list[Any]:
        """Return a list's values, of which those `found` are memories and the others as they are saved."""
        saved = owner.fields.get(name, ())
        saved = list(saved) if isinstance(saved, list | tuple) else []
        places = range(max(len(saved), 1 + max(number for *_, number in found)))
        for number in places:
            place = (id(owner), name, number)
            if place not in found and number < len(saved) and isinstance(saved[number], np.ndarray):
                self.fields.setdefault(place, self.wrapped(saved[number]))
        return [self.fields[place] for k in places if (place := (id(owner), name, k)) in self.fields]

    def _assign(self, target: ast.expr, value: Any, local: dict[str, Any]) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, self.tensor):
            value = list(self._call_torch("unbind", [value, 0], {}))
        if isinstance(target, ast.Subscript):
            owner, index = self._value(target.value, local), self._value(target.slice, local)
            if isinstance(owner, list) and isinstance(index, int) and -len(owner) <= index < len(owner):
                owner[index] = value
                return
        super()._assign(target, value, local)

    def _entry(self, owner: Any, index: Any) -> Any:
        if isinstance(owner, self.tensor) and not isinstance(index, Unread):
            return self._call_torch("select", [owner, 0, index], {})
        return super()._entry(owner, index)

    def _number(self, value: Any) -> Any:
        """Return the constant that a tensor is."""
        raise NotImplementedError

    def _decided(self, value: Any) -> bool:
        return super()._decided(self._number(value) if isinstance(value, self.tensor) else value)

    def _builtin(self, node: ast.Call, arguments: list[Any], local: dict[str, Any]) -> Any:
        numbers = [self._number(one) if isinstance(one, self.tensor) else one for one in arguments]
        taken = isinstance(node.func, ast.Name) and node.func.id in ("int", "float", "bool")
        return super()._builtin(node, numbers if taken else arguments, local)

    def _call_torch(self, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        path = self._paths[-1] or "forward"
        in_place = name.endswith("_") and not name.endswith("__")
        name = name.removesuffix("_") if in_place else name
        name = "detach" if name == "data" else name
        if name in LISTS and isinstance(arguments[0], list):
            return changed_list(name, arguments[0], arguments[1:], path)
        unread = next((one for one in leaves([arguments, keywords]) if isinstance(one, Unread)), None)
        if unread is not None:
            return unread
        if name in ("__is__", "__isnot__"):
            return (arguments[0] is arguments[1]) == (name == "__is__")
        try:
            given = [self._lifted(one) for one in arguments]
            named = {key: self._lifted(one) for key, one in keywords.items()}
            if not any(isinstance(one, self.tensor) for one in leaves([given, named])):
                result = constant_result(name, arguments, keywords)
                return Unread(refusal(path, name)) if result is NO_RESULT else self._lifted(result)
            if name in _FACTS and isinstance(given[0], self.tensor):
                return self._fact(name, given[0], given[1:])
            _check_cast(name, given, named, path)
            if in_place:
                return self.written_into(name, given, named, path)
            return self.computed(name, given, named, path)
        except ValueError as problem:
            return Unread(problem)
        except (TypeError, IndexError, KeyError, AttributeError) as problem:
            return Unread(SourceError(f"{path} ({name}): its arguments do not fit it ({problem})"))

    def written_into(self, name: str, given: list[Any], named: dict[str, Any], path: str) -> Any:
        """Return the first argument, after a function has changed it."""
        raise NotImplementedError

    def _lifted(self, argument: Any) -> Any:
        if isinstance(argument, np.ndarray):
            return self.wrapped(argument)
        if isinstance(argument, list | tuple):
            return type(argument)(self._lifted(one) for one in argument)
        return argument

    def _fact(self, name: str, x: Any, rest: list[Any]) -> Any:
        shape = tuple(int(size) for size in x.shape)
        return tensor_fact(name, list(shape), rest, int(np.prod(shape)))


def _check_cast(name: str, given: list[Any], named: dict[str, Any], path: str) -> None:
    kinds = [one for one in (*given[1:], named.get("dtype")) if type(one) is int]
    if name == "to" and kinds and kinds[0] not in _FLOATS and observed(given[:1]):
        raise rounding(path, name)


class SymbolicInterpreter(TensorInterpreter):
    """Follow a program with symbolic tensors."""

    tensor = Symbolic

    def wrapped(self, array: Any) -> Symbolic:
        return Symbolic.holding(array)

    def _number(self, value: Symbolic) -> Any:
        constant = value.constant
        if constant is None:
            reason = "its program branches on values: it makes a number of the observation"
            remedy = "Keep forward free of branches"
            raise UnsupportedLayerError(self._paths[-1] or "forward", "if", reason, remedy)
        return constant.item() if constant.size == 1 else constant

    def computed(self, name: str, arguments: list[Any], keywords: dict[str, Any], path: str) -> Any:
        if name in ("gather", "index_select") and observed(arguments[1:]):
            raise refusal(path, name)
        if name in MOVES and isinstance(arguments[0], Symbolic):
            rest = [_constants(one) for one in arguments[1:]]
            return arguments[0].moved(name, *rest, **{key: _constants(one) for key, one in keywords.items()})
        if name == "index":
            return arguments[0].entry(_index(arguments[1]))
        filled = filled_like(name, arguments, keywords)
        if filled is not None:
            return Symbolic.holding(filled)
        if name in ("linear", "addmm") and not observed([arguments, keywords]):
            given = arguments[1 if name == "addmm" else 0]
            return held(_forgotten(plain(given), plain(arguments[1 if name == "linear" else 2]), name, path))
        if not observed([arguments, keywords]):
            result = constant_result(name, plain(arguments), plain(keywords))
            result = _of_torch(name, arguments, keywords) if result is NO_RESULT else result
            return Unread(refusal(path, name)) if result is NO_RESULT else self._lifted(_array(result))
        given, named = plain(arguments), plain(keywords)
        refuse_narrow_script(self._program.narrow, name, given, named, path)
        return held(applied("script_batch_norm" if name == "batch_norm" else name, given, named, path))

    def written_into(self, name: str, given: list[Any], named: dict[str, Any], path: str) -> Any:
        target = given[0]
        if name == "index_put":
            target.entry(_index(given[1])).write(plain(given[2]))
            return target
        if name in _WRITES:
            new = np.zeros(target.shape, np.float32) if name == "zero" else plain(given[1])
        else:
            result = self.computed(name, given, named, path)
            if isinstance(result, Unread):
                return result
            new = plain(result)
        target.write(new)
        return target


def _forgotten(x: Any, matrix: Any, name: str, path: str) -> Value:
    """Return what is refused if the action needs it: a linear layer of constants, which may turn out to be memories."""
    width = np.shape(matrix)[0 if name == "linear" else 1]
    node = Unfinished(Value.constant(x).flat, "forgetting", width, ("Linear",), path=path, kind="Linear")
    return Value.of(node, (*np.shape(x)[:-1], width))


class NumericInterpreter(TensorInterpreter):
    """Run a program decision by decision, each function by torch itself."""

    def __init__(self, program: Program, starts: dict[Place, Any]) -> None:
        import torch

        super().__init__(program, starts)
        self.tensor = torch.Tensor

    def decide(self, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """Return what forward makes of tensors; what it writes stays for the next decision."""
        self._steps = 0
        return self.run(arguments, keywords)

    def wrapped(self, array: Any) -> Any:
        import torch

        held = np.array(array)
        return torch.as_tensor(held.astype(np.float32) if held.dtype.kind == "f" else held)

    def _number(self, value: Any) -> Any:
        return value.item()

    def computed(self, name: str, arguments: list[Any], keywords: dict[str, Any], path: str) -> Any:
        import torch

        if name.removesuffix("_") not in _KNOWN:
            numbers = [self._number(one) if isinstance(one, torch.Tensor) and one.numel() == 1 else one
                       for one in arguments]  # fmt: skip
            result = constant_result(name, numbers, keywords)
            return Unread(refusal(path, name)) if result is NO_RESULT else result
        with torch.no_grad():
            made = getattr(torch.ops.aten, name)(*arguments, **keywords)
        return list(made) if isinstance(made, tuple | list) else made

    def written_into(self, name: str, given: list[Any], named: dict[str, Any], path: str) -> Any:
        return self.computed(f"{name}_", given, named, path)


def _of_torch(name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """Return what torch makes of constants, for functions of the table."""
    import torch

    if name not in _KNOWN:
        return NO_RESULT

    def real(argument: Any) -> Any:
        if isinstance(argument, Symbolic):
            return torch.as_tensor(np.array(argument.constant))
        if isinstance(argument, list | tuple):
            return type(argument)(real(one) for one in argument)
        return argument

    with torch.no_grad():
        made = getattr(torch.ops.aten, name)(*real(arguments), **{key: real(one) for key, one in keywords.items()})
    if isinstance(made, tuple | list):
        return [one.numpy() if isinstance(one, torch.Tensor) else one for one in made]
    return made.numpy() if isinstance(made, torch.Tensor) else made


def _constants(argument: Any) -> Any:
    if isinstance(argument, Symbolic):
        constant = argument.constant
        return (
            argument if constant is None else constant.item() if constant.size == 1 and not constant.ndim else constant
        )
    if isinstance(argument, list | tuple):
        return type(argument)(_constants(one) for one in argument)
    return argument


def _index(indices: Any) -> Any:
    found = []
    for one in indices if isinstance(indices, list | tuple) else [indices]:
        constant = one.constant if isinstance(one, Symbolic) else one
        if isinstance(one, Symbolic) and constant is None:
            reason = "which entries it takes depends on the observation"
            raise UnsupportedLayerError("forward", "index", reason, "Take fixed entries")
        found.append(slice(None) if constant is None else constant)
    return tuple(found)


def _array(result: Any) -> Any:
    """Return NumPy's own numbers as arrays."""
    return np.asarray(result) if isinstance(result, np.generic) else result
