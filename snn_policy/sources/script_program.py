"""The text of a TorchScript archive: its classes and functions, parsed, and never run.

Archives hold their program as text (`code/`), in a language whose grammar is a part of Python's.
"""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.script_values import ScriptModule
from snn_policy.sources.torch_archive import STORAGES, Tensor, TorchArchive
from snn_policy.untrusted_files import MEGABYTE

LARGEST_CODE = 2 * MEGABYTE
_HELPERS = ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist", "restore_type_tag")


@dataclass(frozen=True)
class ScriptClass:
    """Hold a class's methods, the names of its fields in order (of a NamedTuple), and those of its parameters."""

    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Program:
    """Hold what an archive holds.

    Attributes:
        root: the saved module.
        classes, functions: by full name.
        constants: the tensors that the program refers to by number.
        narrow: whether all floats that its modules hold are narrower than float32.
    """

    root: ScriptModule
    classes: dict[str, ScriptClass]
    functions: dict[str, ast.FunctionDef]
    constants: tuple[Any, ...]
    narrow: bool = False


class _Held:
    """Stand for a function that hands on its first argument."""

    def __new__(cls, value: Any = None, *_: Any) -> Any:
        return value


def read_program(archive: TorchArchive) -> Program:
    """Parse an archive's text, and rebuild the module that it saves.

    Raises:
        SourceError: damaged, or with more text than a policy has.
        UnsupportedLayerError: objects that restore themselves by a program of their own.
    """
    classes, functions, size = dict[str, ScriptClass](), dict[str, ast.FunctionDef](), 0
    for name in sorted(archive.names):
        inner = name.removeprefix(archive.root)
        if not (name.startswith(archive.root) and inner.startswith("code/") and inner.endswith(".py")):
            continue
        text = archive.member(inner, LARGEST_CODE)
        size += len(text)
        if size > LARGEST_CODE:
            raise SourceError(f"its program has more than {LARGEST_CODE // MEGABYTE} MB; refused")
        module = inner.removeprefix("code/").removesuffix(".py").replace("/", ".")
        with warnings.catch_warnings(action="ignore"):
            parsed = ast.parse(text.decode())
        _collect(parsed, module, classes, functions)
    root = archive.pickled("data.pkl", _stand_in)
    if not isinstance(root, ScriptModule):
        raise SourceError(f"its root is a {type(root).__name__}, not a module")
    floats = {kind for kind in archive.kinds if STORAGES[kind][0] == "f" or kind == "BFloat16Storage"}
    held = archive.pickled("constants.pkl", _stand_in) if archive.holds("constants.pkl") else ()
    constants = tuple(constant.values if isinstance(constant, Tensor) else constant for constant in held)
    for module in named_modules(root):
        if "__setstate__" in classes.get(module.kind, ScriptClass()).methods:
            reason = "it restores itself by a program of its own, which is not run (quantised weights?)"
            raise UnsupportedLayerError(module.path or "module", module.name, reason, "Export the float policy")
    narrow = bool(floats) and floats <= {"HalfStorage", "BFloat16Storage"}
    return Program(root, classes, functions, constants, narrow)


def _stand_in(module: str, name: str) -> Any:
    if module == "__torch__" or module.startswith("__torch__."):
        return type(name, (ScriptModule,), {"kind": f"{module}.{name}"})
    return _Held if module == "torch.jit._pickle" and name in _HELPERS else None


def _collect(
    parsed: ast.Module, module: str, classes: dict[str, ScriptClass], functions: dict[str, ast.FunctionDef]
) -> None:
    for node in parsed.body:
        if isinstance(node, ast.FunctionDef):
            functions[f"{module}.{node.name}"] = node
        elif isinstance(node, ast.ClassDef):
            methods = {inner.name: inner for inner in node.body if isinstance(inner, ast.FunctionDef)}
            fields = [inner for inner in node.body if isinstance(inner, ast.AnnAssign)]
            named = [field.target.id for field in fields if isinstance(field.target, ast.Name)]
            constants = {
                field.target.id: field.value.value
                for field in fields
                if isinstance(field.target, ast.Name) and isinstance(field.value, ast.Constant)
            }
            classes[f"{module}.{node.name}"] = ScriptClass(methods, named, constants, _parameters(node))


def _parameters(node: ast.ClassDef) -> frozenset[str]:
    """Return the names that a class lists as its parameters."""
    lists = [inner.value for inner in node.body if isinstance(inner, ast.Assign) and
             ast.unparse(inner.targets[0]) == "__parameters__"]  # fmt: skip
    entries = [entry for one in lists if isinstance(one, ast.List) for entry in one.elts]
    return frozenset(str(entry.value) for entry in entries if isinstance(entry, ast.Constant))


def named_modules(root: ScriptModule) -> Iterator[ScriptModule]:
    """Yield all modules once, and give them their paths."""
    seen, waiting = {id(root)}, [root]
    while waiting:
        module = waiting.pop()
        yield module
        for key, value in module.fields.items():
            if isinstance(value, Tensor):
                module.fields[key] = value = value.values
            if isinstance(value, list) and value and all(isinstance(item, Tensor) for item in value):
                module.fields[key] = [item.values for item in value]
            if isinstance(value, ScriptModule) and id(value) not in seen:
                seen.add(id(value))
                value.path = f"{module.path}.{key}" if module.path else str(key)
                waiting.append(value)


def named_arrays(root: ScriptModule) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Yield the arrays that modules hold, with their paths, in the modules' own order."""
    waiting, seen = [root], {id(root)}
    while waiting:
        module = waiting.pop(0)
        for key, value in module.fields.items():
            if isinstance(value, np.ndarray):
                yield f"{module.path}.{key}" if module.path else str(key), value
            elif isinstance(value, ScriptModule) and id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)


def arrays_of(root: ScriptModule) -> list[np.ndarray[Any, Any]]:
    """Return the arrays that modules hold, and which outlive a decision."""
    found = [value for module in named_modules(root) for value in module.fields.values()]
    flat = [inner for value in found for inner in (value if isinstance(value, list) else [value])]
    return [value for value in flat if isinstance(value, np.ndarray)]
