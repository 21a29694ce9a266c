"""Which of several values that a program returns is the action: the one asked for, or the one whose name says so."""

import ast
import re
import warnings
from typing import Any

from snn_policy.errors import SourceError, warn
from snn_policy.sources.script_values import Unread

_ACTIONS = re.compile(r"(deterministic_)?(mean_)?actions?(_mean)?|mu|mean")


def chosen(result: Any, node: ast.expr | None, output: str | None) -> Any:
    """Return the result that is the action.

    Args:
        result: one value, or several in a tuple, a list or a dictionary.
        node: the expression that was returned, whose names are asked; None where it is not known.
        output: its name, or its number.
    """
    parts = _parts(result, node)
    if len(parts) == 1 and output is None:
        one = next(iter(parts.values()))
    elif output is not None:
        if output not in parts:
            raise SourceError(f"output {output!r}: expected one of {', '.join(parts)}")
        one = parts[output]
    else:
        named = [key for key in parts if _ACTIONS.fullmatch(key)]
        unread = [value for value in parts.values() if isinstance(value, Unread)]
        if len(named) != 1 and len(unread) == len(parts):  # whichever is the action, it cannot be read
            raise unread[0].error
        if len(named) != 1:
            found = ", ".join(f"{key} {_described(value)}" for key, value in parts.items())
            raise SourceError(f"it returns several values: {found}; pass output= with the one that is the action")
        warn(f"of {', '.join(parts)}, the output {named[0]} is taken; pass output= for another")
        one = parts[named[0]]
    if isinstance(one, Unread):
        raise one.error
    return one


def quietly_chosen(result: Any, output: str | None) -> Any:
    """Return the same, and tell nothing."""
    with warnings.catch_warnings(action="ignore"):
        return chosen(result, None, output)


def _parts(result: Any, node: ast.expr | None) -> dict[str, Any]:
    if isinstance(result, dict):
        return {str(key): value for key, value in result.items()}
    if not isinstance(result, tuple | list):
        return {"0": result}
    if hasattr(result, "_fields"):  # a named tuple
        return dict(zip(result._fields, result, strict=True))  # pyright: ignore[reportAttributeAccessIssue]
    nodes = node.elts if isinstance(node, ast.Tuple | ast.List) else []
    names = [part.id if isinstance(part, ast.Name) and not part.id.startswith("_") else "" for part in nodes]
    names += [""] * (len(result) - len(names))
    plain = [re.sub(r"(?<=\D)\d+$", "", name) for name in names]
    kept = [name if name and plain.count(name) == 1 else "" for name in plain]
    return {name or str(index): value for index, (name, value) in enumerate(zip(kept, result, strict=True))}


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"({type(value).__name__.lower()})" if shape is None else str(tuple(shape[1:]))
