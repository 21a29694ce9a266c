"""Record what all mutable objects hold that can be reached from one of them, and put it back in place.

Objects keep their identity: two names for one array still are that, a view still shows its base, a generator is still
the one that others hold. By what rule an object of some kind is recorded, the caller says: `object_rules` has those of
Python's and NumPy's kinds.
"""

from collections.abc import Callable
from typing import Any

Restore = Callable[[Any, Any], None]
Rule = Callable[["Recording", Any], None]


def nothing(recording: "Recording", value: Any) -> None:
    """Record nothing: the rule of what does not change, or whose contents are no state."""


class OpaqueError(TypeError):
    """Report an object without contents that Python can see; `path` leads to it from where the recording began."""

    def __init__(self, kind: type) -> None:
        self.kind, self.path = kind, list[str]()
        super().__init__(f"{kind.__module__}.{kind.__qualname__}")


class Recording:
    """Hold the contents of objects, as they were when it was made.

    Args:
        root: where to begin.
        rule_of: gives the rule by which an object of a kind is recorded.
        rules: of kinds met so far; filled.
        reuse: an earlier recording that is not needed any more: it gives its buffers away.

    Attributes:
        buffers: of what is large, by the identity of the object whose contents they hold: the object and the buffer.
    """

    def __init__(
        self,
        root: Any,
        rule_of: Callable[[type], Rule],
        rules: dict[type, Rule],
        reuse: "Recording | None" = None,
    ) -> None:
        self.entries: list[tuple[Restore, Any, Any]] = []
        self.buffers: dict[int, tuple[Any, Any]] = {} if reuse is None else reuse.give_away()
        self.used_up = False
        self._seen: dict[int, Any] = {}  # and keeps what it has seen alive, so that no identity comes twice
        self._rule_of, self._rules = rule_of, rules
        self.visit(root)

    def __deepcopy__(self, memo: Any) -> "Recording":
        return self  # of these objects, whoever holds it

    def visit(self, value: Any) -> None:
        """Record a value and what it refers to, unless it is recorded already."""
        kind = type(value)
        rule = self._rules.get(kind)
        if rule is None:
            rule = self._rules[kind] = self._rule_of(kind)
        if rule is nothing:
            return
        if id(value) not in self._seen:
            self._seen[id(value)] = value
            rule(self, value)

    def visit_all(self, named: Any) -> None:
        """Record the values of (name, value) pairs."""
        for name, value in named:
            try:
                self.visit(value)
            except OpaqueError as error:
                error.path.insert(0, str(name))
                raise

    def keep(self, restore: Restore, value: Any, contents: Any) -> None:
        """Remember that `restore(value, contents)` puts the value's contents back."""
        self.entries.append((restore, value, contents))

    def give_away(self) -> dict[int, tuple[Any, Any]]:
        """Return the buffers, after which nothing can be restored any more."""
        self.entries, self.used_up = [], True
        return self.buffers

    def restore(self) -> None:
        """Put back all contents."""
        for restore, value, contents in self.entries:
            restore(value, contents)
