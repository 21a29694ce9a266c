"""Follow a TorchScript program from its input to its output, without torch, and without computing what depends on it.

Modules, numbers and arrays are known while the program is read, so branches on them are decided, calls are followed
into their functions, and constants are computed. What depends on the observation is an `Observed` value: its shape and
the operations so far. What no rule reads is `Unread`, an error that is raised only if the action depends on it, so that
critics may hold anything. What the program writes is kept in a `ScriptMemory`.
"""

import ast
import math
from typing import Any

import numpy as np

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.budget import Budget
from snn_policy.sources.narrow_casts import refuse_narrow_script
from snn_policy.sources.refusals import joined, refusal
from snn_policy.sources.script_constants import NO_RESULT, constant_result
from snn_policy.sources.script_lists import LISTS, changed_list
from snn_policy.sources.script_memory import ScriptMemory
from snn_policy.sources.script_operations import RECURRENT, applied, attentive
from snn_policy.sources.script_program import Program
from snn_policy.sources.script_values import Observed, ScriptModule, SizeFound, UnknownSize, Unread, values_in

MOST_STEPS, DEEPEST = 200_000, 60
_NAMES: dict[str, Any] = {"inf": math.inf, "nan": math.nan}


class _Returned(Exception):
    def __init__(self, value: Any, node: ast.expr | None) -> None:
        super().__init__()
        self.value, self.node = value, node


class Interpreter:
    """Read a program once; `written` is what earlier readings have found to outlive a decision.

    Attributes:
        memory: what the program has written.
        returned: the expression that the root's forward returned.
    """

    def __init__(self, program: Program, written: frozenset[Any] = frozenset()) -> None:
        self._program, self.memory = program, ScriptMemory(program, written)
        self._steps, self._paths, self._budget = 0, [""], Budget()
        self.returned: ast.expr | None = None

    def run(self, arguments: list[Any], keywords: dict[str, Any] | None = None) -> Any:
        """Return what the root's forward makes of its arguments."""
        return self._method(self._program.root, "forward", arguments, keywords or {}, outermost=True)

    def _method(
        self, module: ScriptModule, name: str, arguments: list[Any], keywords: dict[str, Any], outermost: bool = False
    ) -> Any:
        refused = self._refused(module)
        if refused is not None:
            return refused
        known = self._program.classes.get(module.kind)
        function = known.methods.get(name) if known else None
        if function is None:
            raise SourceError(f"{module.path or module.name}: its program has no {name}")
        self._paths.append(module.path or self._paths[-1])
        try:
            return self._function(function, [module, *arguments], keywords, outermost)
        finally:
            self._paths.pop()

    def _refused(self, module: ScriptModule) -> Unread | None:
        """Return a module that is not followed, by its kind."""
        recurrent = ".torch.nn.modules.rnn." in module.kind
        return Unread(refusal(module.path or "module", module.name)) if recurrent else attentive(module)

    def _function(
        self, function: ast.FunctionDef, arguments: list[Any], keywords: dict[str, Any], outermost: bool = False
    ) -> Any:
        if len(self._paths) > DEEPEST:
            raise SourceError("its program calls itself too deeply; refused")
        names = [argument.arg for argument in function.args.args]
        if len(arguments) > len(names):
            raise SourceError(f"its program gives {function.name} {len(arguments)} arguments; it takes {len(names)}")
        local = dict(zip(names, arguments, strict=False)) | keywords
        defaults = function.args.defaults
        for name, default in zip(names[len(names) - len(defaults) :], defaults, strict=True):
            if name not in local:
                local[name] = self._value(default, local)
        self._paths.append(self._paths[-1])
        try:
            self._block(function.body, local)
        except _Returned as done:
            if outermost:
                self.returned = done.node
            return done.value
        finally:
            self._paths.pop()
        return None

    def _block(self, body: list[ast.stmt], local: dict[str, Any]) -> None:
        for statement in body:
            self._step()
            match statement:
                case ast.Assign(targets=[target], value=value):
                    self._assign(target, self._value(value, local), local)
                case ast.AnnAssign(target=target, value=value) if value is not None:
                    self._assign(target, self._value(value, local), local)
                case ast.Expr(value=value):
                    self._value(value, local)
                case ast.If(test=test, body=then, orelse=otherwise):
                    self._block(then if self._decided(self._value(test, local)) else otherwise, local)
                case ast.For(target=target, iter=entries, body=inner):
                    for entry in self._decided_list(self._value(entries, local)):
                        self._assign(target, entry, local)
                        self._block(inner, local)
                case ast.Return(value=value):
                    raise _Returned(None if value is None else self._value(value, local), value)
                case ast.Pass():
                    pass
                case ast.While():
                    raise refusal(self._paths[-1] or "forward", "loop")
                case _:
                    raise SourceError(f"its program has a statement that none has ({type(statement).__name__})")

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise SourceError(f"its program takes more than {MOST_STEPS} steps; refused")

    def _decided(self, value: Any) -> bool:
        if isinstance(value, Unread):
            raise value.error
        if isinstance(value, Observed):
            reason = "its program branches on values of the observation"
            raise UnsupportedLayerError(self._paths[-1] or "forward", "if", reason, "Keep forward free of branches")
        return bool(value)

    def _decided_list(self, value: Any) -> list[Any]:
        if isinstance(value, Unread):
            raise value.error
        if not isinstance(value, list | tuple | range):
            raise refusal(self._paths[-1] or "forward", "loop")
        return list(value[:MOST_STEPS])

    def _assign(self, target: ast.expr, value: Any, local: dict[str, Any]) -> None:
        match target:
            case ast.Name(id=name):
                local[name] = value
            case ast.Tuple(elts=targets):
                if isinstance(value, Unread):
                    value = [value] * len(targets)
                elif isinstance(value, np.ndarray | Observed) or len(value) != len(targets):
                    raise SourceError("its program takes a value apart that does not have so many parts")
                for part, entry in zip(targets, value, strict=True):
                    self._assign(part, entry, local)
            case ast.Attribute(value=owner, attr=name):
                module = self._value(owner, local)
                if not isinstance(module, ScriptModule):
                    raise SourceError("its program writes to an attribute of no module")
                self.memory.write(module, name, value)
            case ast.Subscript():
                raise SourceError("its program writes into a list; refused")
            case _:
                raise SourceError(f"its program assigns to {type(target).__name__}")

    def _value(self, node: ast.expr, local: dict[str, Any]) -> Any:
        self._step()
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                if name in local:
                    return local[name]
                if name in _NAMES:
                    return _NAMES[name]
                raise SourceError(f"its program uses {name!r}, which it does not define")
            case ast.List(elts=entries):
                return [self._value(entry, local) for entry in entries]
            case ast.Tuple(elts=entries):
                return tuple(self._value(entry, local) for entry in entries)
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return {self._value(key, local): self._value(value, local) for key, value in pairs if key is not None}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._call_torch("neg", [self._value(operand, local)], {})
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._decided(self._value(operand, local))
            case ast.BoolOp(op=operator, values=values):
                either = isinstance(operator, ast.Or)
                decided = (self._decided(self._value(part, local)) for part in values)
                return any(decided) if either else all(decided)
            case ast.IfExp(test=test, body=then, orelse=otherwise):
                return self._value(then if self._decided(self._value(test, local)) else otherwise, local)
            case ast.Subscript(value=owner, slice=index):
                return self._entry(self._value(owner, local), self._value(index, local))
            case ast.Attribute():
                return self._attribute(node, local)
            case ast.Call():
                return self._call(node, local)
        raise SourceError(f"its program has an expression that none has ({type(node).__name__})")

    def _entry(self, owner: Any, index: Any) -> Any:
        if isinstance(owner, Unread) or isinstance(index, Unread):
            return owner if isinstance(owner, Unread) else index
        if isinstance(owner, Observed | np.ndarray):
            return self._call_torch("select", [owner, 0, index], {})
        if isinstance(owner, list | tuple | str | dict):
            return owner[index]
        raise SourceError(f"its program takes an entry of a {type(owner).__name__}")

    def _attribute(self, node: ast.Attribute, local: dict[str, Any]) -> Any:
        dotted = _dotted(node)
        root = dotted.partition(".")[0] if dotted else ""
        if dotted and root not in local:
            if root == "CONSTANTS":
                return self._program.constants[int(dotted.partition(".")[2][1:])]
            return dotted
        return self._field(self._value(node.value, local), node.attr)

    def _field(self, owner: Any, name: str) -> Any:
        if isinstance(owner, Unread):
            return owner
        if isinstance(owner, dict) and name in owner:  # a named tuple
            return owner[name]
        if not isinstance(owner, ScriptModule):
            raise SourceError(f"its program asks a {type(owner).__name__} for its {name}")
        return self.memory.attribute(owner, name)

    def _call(self, node: ast.Call, local: dict[str, Any]) -> Any:
        arguments = [self._value(argument, local) for argument in node.args] if not _takes_type(node) else []
        keywords = {str(keyword.arg): self._value(keyword.value, local) for keyword in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id not in local:
            return self._builtin(node, arguments, local)
        dotted = _dotted(node.func)
        if dotted is not None and dotted.partition(".")[0] not in local:
            return self._named(dotted, arguments, keywords)
        if isinstance(node.func, ast.Attribute):
            owner = self._value(node.func.value, local)
            if isinstance(owner, Unread):
                return owner
            if isinstance(owner, ScriptModule):
                return self._method(owner, node.func.attr, arguments, keywords)
        target = self._value(node.func, local)
        if isinstance(target, str):
            return self._named(target, arguments, keywords)
        raise SourceError("its program calls what is no function")

    def _builtin(self, node: ast.Call, arguments: list[Any], local: dict[str, Any]) -> Any:
        name = node.func.id  # pyright: ignore[reportAttributeAccessIssue]
        if _takes_type(node):
            return None if name == "uninitialized" else self._value(node.args[1], local)
        unread = next((argument for argument in arguments if isinstance(argument, Unread)), None)
        if unread is not None:
            return unread
        match name:
            case "getattr":
                return self._field(*arguments)
            case "int" | "float" | "bool":
                if isinstance(arguments[0], Observed):
                    reason = "it makes a number of the observation"
                    return Unread(UnsupportedLayerError(self._paths[-1] or "forward", name, reason, "Keep tensors"))
                return {"int": int, "float": float, "bool": bool}[name](arguments[0])
            case "str":
                return ""
            case "range":
                return range(*arguments)
        raise SourceError(f"its program calls {name}, which it does not define")

    def _named(self, dotted: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        if dotted.startswith("__torch__."):
            if dotted in self._program.functions:
                return self._function(self._program.functions[dotted], arguments, keywords)
            known = self._program.classes.get(dotted)
            if known is not None and not known.methods:
                return dict(zip(known.names, arguments, strict=False))
            raise SourceError(f"its program uses {dotted}, which it does not define")
        space, _, name = dotted.rpartition(".")
        if dotted == "ops.prim.RaiseException":
            raise SourceError(f"its program refuses its input at {self._paths[-1] or 'forward'}")
        if space in ("torch", "ops.prim", "torch.nn.functional", "ops.aten"):
            made = self._call_torch(name, arguments, keywords)
            self._budget.spend(made)
            return made
        return Unread(refusal(self._paths[-1] or "forward", dotted))

    def _call_torch(self, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        """Apply a function of torch's; one that changes its first argument in place makes it unusable from there on."""
        path = self._paths[-1] or "forward"
        in_place = name.endswith("_") and not name.endswith("__")
        name = name.removesuffix("_") if in_place else name
        given = list(values_in([arguments, keywords]))
        if name in LISTS and isinstance(arguments[0], list):
            self.memory.note_list(arguments[0])
            return changed_list(name, arguments[0], arguments[1:], path)
        if name in RECURRENT:
            return Unread(refusal(path, RECURRENT[name]))
        _take_size(name, given)
        spoiled = (self.memory.spoiled(value) for value in given)
        stale = next((found for found in spoiled if found is not None), None)
        unread = stale or next((value for value in given if isinstance(value, Unread)), None)
        if in_place:
            self.memory.overwrite(arguments[0], path, name)
        if unread is not None:
            return unread
        if name in ("copy", "fill", "zero", "set"):
            return Unread(joined(path, f"{name}_"))
        if any(isinstance(value, Observed) for value in given):
            try:
                refuse_narrow_script(self._program.narrow, name, arguments, keywords, path)
                return applied(name, arguments, keywords, path)
            except ValueError as problem:
                return Unread(problem)
        if "device" in (name, *keywords) and name == "device":
            return "cpu"
        try:
            result = constant_result(name, arguments, keywords)
        except (TypeError, ValueError, IndexError) as problem:
            if isinstance(problem, SourceError | UnsupportedLayerError):
                raise
            return Unread(SourceError(f"{path} ({name}): its arguments do not fit it ({problem})"))
        return Unread(refusal(path, name)) if result is NO_RESULT else result


def _take_size(name: str, given: list[Any]) -> None:
    """Take the number that a size is compared with for the size: programs check what they are given."""
    unknown = [value.root for value in given if isinstance(value, UnknownSize)]
    sizes = [value for value in given if type(value) is int]
    if name in ("eq", "ne") and len(given) == 2 and unknown and sizes and sizes[0] > 0:
        raise SizeFound(unknown[0], sizes[0])


def _takes_type(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in ("annotate", "unchecked_cast", "uninitialized")


def _dotted(node: ast.expr) -> str | None:
    """Return a chain of names, a.b.c; None for another expression."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None
