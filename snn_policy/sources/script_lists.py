"""Lists that a TorchScript program changes: the functions that do, on lists of values of any kind."""

from typing import Any

from snn_policy.errors import SourceError

LISTS = ("append", "_set_item", "pop", "insert", "clear")


def changed_list(name: str, held: list[Any], rest: list[Any], path: str) -> Any:
    """Change a list as a program does; return what that returns."""
    try:
        match name:
            case "append":
                held.append(rest[0])
            case "insert":
                held.insert(rest[0], rest[1])
            case "clear":
                held.clear()
            case "pop":
                return held.pop(*rest)
            case _:
                held[rest[0]] = rest[1]
    except (TypeError, IndexError) as problem:
        raise SourceError(f"{path} ({name}): its arguments do not fit it ({problem})") from problem
    return held
