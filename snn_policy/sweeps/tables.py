"""Reading a user's TOML, one table at a time: every mistake is one line with the key, what it holds, and the remedy."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from snn_policy.checks import whole
from snn_policy.untrusted_files import MEGABYTE, checked

LONGEST = 4 * MEGABYTE
SHOWN = 60
"""Characters of a wrong value that a message repeats."""
REQUIRED: Any = object()


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the file's text, and what it holds.

    Raises:
        ValueError: no such file, no text, or not TOML.
    """
    content = checked(path, LONGEST).read_bytes()
    try:
        text = content.decode()
        return text, tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # both UnicodeDecodeError and TOMLDecodeError are ValueErrors
        reason = "tables too deep" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{path}: not a TOML file ({reason})") from None


class Table:
    """Take the keys of one table in turn; `end` refuses those that nobody took.

    Args:
        place: where it stands, such as "[[settings]] 2", for messages.
    """

    def __init__(self, values: Any, file: Path, place: str = "") -> None:
        self._file, self._place = file, place
        if not isinstance(values, Mapping):
            raise ValueError(f"{file}: {place} = {shown(values)}: expected a table")
        self._values, self._known = dict(values), set[str]()

    @property
    def folder(self) -> Path:
        """Return the folder of the file: paths in it start there."""
        return self._file.parent

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def fail(self, key: str, expected: str) -> NoReturn:
        """Raise `ValueError` naming file, table, key and value."""
        place = " ".join(part for part in (self._place, key) if part)
        if key in self._values:
            raise ValueError(f"{self._file}: {place} = {shown(self._values[key])}: {expected}")
        raise ValueError(f"{self._file}: {place}: missing; {expected}")

    def told(self, message: str) -> str:
        """Return a message about this table as a whole, with the file and the table before it."""
        return f"{self._file}: {self._place}: {message}" if self._place else f"{self._file}: {message}"

    def take(self, key: str, fits: Callable[[Any], bool], expected: str, default: Any = REQUIRED) -> Any:
        """Return the value of a key if it fits, the default where there is none."""
        self._known.add(key)
        if key not in self._values:
            if default is REQUIRED:
                self.fail(key, expected)
            return default
        if not fits(self._values[key]):
            self.fail(key, expected)
        return self._values[key]

    def text(self, key: str, expected: str, default: Any = REQUIRED) -> Any:
        """Return a text that is not empty."""
        return self.take(key, lambda value: isinstance(value, str) and value.strip() != "", expected, default)

    def whole(self, key: str, low: int, high: int, default: Any = REQUIRED) -> Any:
        """Return a whole number within bounds, both included."""
        return self.take(
            key, lambda value: whole(value, low, high), f"expected a whole number, {low:,} to {high:,}", default
        )

    def flag(self, key: str, default: bool) -> bool:
        return self.take(key, lambda value: isinstance(value, bool), "expected true or false", default)

    def wholes(self, key: str, low: int, high: int, default: Any = REQUIRED) -> list[int]:
        """Return a list of whole numbers, at least one."""

        def fits(value: Any) -> bool:
            return _filled(value) and all(whole(item, low, high) for item in value)

        return list(self.take(key, fits, f"expected a list of at least one whole number, {low:,} to {high:,}", default))

    def table(self, key: str) -> "Table | None":
        """Return a table inside this one, None where there is none."""
        given = self.take(key, lambda value: isinstance(value, dict), f"expected a table, [{key}]", None)
        return None if given is None else Table(given, self._file, f"[{key}]")

    def tables(self, key: str, expected: str, default: Any = REQUIRED) -> "list[Table]":
        """Return the tables of a list, [[key]], at least one."""

        def fits(value: Any) -> bool:
            return _filled(value) and all(isinstance(item, dict) for item in value)

        given = self.take(key, fits, f"expected at least one table [[{key}]]: {expected}", default)
        return [Table(item, self._file, f"[[{key}]] {number}") for number, item in enumerate(given, 1)]

    def rest(self) -> dict[str, Any]:
        """Return all that was not taken yet, as taken."""
        left = {key: value for key, value in self._values.items() if key not in self._known}
        self._known |= left.keys()
        return left

    def end(self) -> None:
        """Refuse keys that nobody took."""
        for key in self._values:
            if key not in self._known:
                similar = get_close_matches(key, self._known, 1)
                hint = f"did you mean {similar[0]}?" if similar else f"it has {', '.join(sorted(self._known))}"
                self.fail(key, f"no such key here; {hint}")


def shown(value: Any) -> str:
    """Return a value as a message repeats it, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _filled(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
