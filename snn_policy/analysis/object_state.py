"""Record what all mutable objects hold that can be reached from one of them, and put it back in place.

Objects keep their identity: two names for one array still are that, a view still shows its base, a generator is still
the one that others hold. What is recorded of an object depends on its kind; `rule_of` gives
the rules of kinds that another module knows how to save. What has no contents that Python can see is refused.
"""

import datetime
import enum
import functools
import io
import logging
import random
import re
import types
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

Restore = Callable[[Any, Any], None]
Rule = Callable[["Recording", Any], None]

_UNCHANGING = (
    int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range, slice, type,
    types.ModuleType, types.BuiltinFunctionType, types.MappingProxyType, types.WrapperDescriptorType,
    types.MethodWrapperType, types.GenericAlias, property, np.generic, np.dtype, np.ufunc, enum.Enum, re.Pattern,
    datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, weakref.ref, np.random.SeedSequence,
)  # fmt: skip
"""Kinds that hold nothing that changes."""
_OUTSIDE = (io.IOBase, logging.Logger)
"""Kinds that lead out of the program: what was written stays written."""
_OUTSIDE_NAMES = frozenset({"_thread.lock", "_thread.RLock", "_csv.writer"})


class OpaqueError(TypeError):
    """Report an object without contents that Python can see; `path` leads to it from where the recording began."""

    def __init__(self, kind: type) -> None:
        self.kind, self.path = kind, list[str]()
        super().__init__(f"{kind.__module__}.{kind.__qualname__}")


class Recording:
    """Hold the contents of objects, as they were when it was made.

    Args:
        root: where to begin.
        rule_of: gives the rule of a kind that somebody else knows how to save, else None.
        rules: of kinds met so far; filled.
        reuse: an earlier recording that is not needed any more: it gives its buffers away.

    Attributes:
        buffers: of what is large, by the identity of the object whose contents they hold: the object and the buffer.
    """

    def __init__(
        self,
        root: Any,
        rule_of: Callable[[type], Rule | None],
        rules: dict[type, Rule],
        reuse: "Recording | None" = None,
    ) -> None:
        self.entries: list[tuple[Restore, Any, Any]] = []
        self.buffers: dict[int, tuple[Any, Any]] = {} if reuse is None else reuse.give_away()
        self.used_up = False
        self._seen: dict[int, Any] = {}  # and keeps what it has seen alive, so that no identity comes twice
        self._rule_of, self._rules = rule_of, rules
        self.visit(root)

    def visit(self, value: Any) -> None:
        """Record a value and what it refers to, unless it is recorded already."""
        kind = type(value)
        rule = self._rules.get(kind)
        if rule is None:
            rule = self._rules[kind] = self._rule_of(kind) or _rule_of(kind)
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


def attributes(recording: Recording, value: Any) -> None:
    """Record an object's attributes: the rule of what is an instance of a class written in Python."""
    kept = value.__dict__.copy()
    recording.keep(restore_attributes, value, kept)
    recording.visit_all(kept.items())


def some_attributes(recording: Recording, value: Any, names: Any) -> None:
    """Record those attributes of an object that are named."""
    own = value.__dict__
    kept = {name: own[name] for name in names if name in own}
    recording.keep(_restore_some, value, kept)
    recording.visit_all(kept.items())


def nothing(recording: Recording, value: Any) -> None:
    """Record nothing: the rule of what does not change, or whose contents are no state."""


def _rule_of(kind: type) -> Rule:
    if issubclass(kind, _UNCHANGING + _OUTSIDE) or f"{kind.__module__}.{kind.__qualname__}" in _OUTSIDE_NAMES:
        return nothing
    for known, rule in _RULES:
        if issubclass(kind, known):
            return _with_attributes(rule) if _has_attributes(kind) else rule
    if kind.__module__.partition(".")[0] == "torch" and hasattr(kind, "copy_"):
        return _tensor
    if kind.__module__.partition(".")[0] in ("jax", "jaxlib"):
        return nothing
    slots = _slots(kind)
    if slots:
        return functools.partial(_slotted, names=slots, attributed=_has_attributes(kind))
    if _has_attributes(kind):
        return attributes
    return nothing if kind.__basicsize__ == object.__basicsize__ else _opaque


def _has_attributes(kind: type) -> bool:
    return bool(getattr(kind, "__dictoffset__", 0))


def _slots(kind: type) -> tuple[str, ...]:
    """Return the names that classes of this kind keep outside of its `__dict__`."""
    names: list[str] = []
    for cls in kind.__mro__:
        own = cls.__dict__.get("__slots__", ())
        for name in (own,) if isinstance(own, str) else own:
            if name not in ("__dict__", "__weakref__"):
                hidden = name.startswith("__") and not name.endswith("__")
                names.append(f"_{cls.__name__.lstrip('_')}{name}" if hidden else name)
    return tuple(names)


def _opaque(recording: Recording, value: Any) -> None:
    raise OpaqueError(type(value))


def _with_attributes(rule: Rule) -> Rule:
    def both(recording: Recording, value: Any) -> None:
        rule(recording, value)
        attributes(recording, value)

    return both


def _slotted(recording: Recording, value: Any, *, names: tuple[str, ...], attributed: bool) -> None:
    kept = {name: getattr(value, name) for name in names if hasattr(value, name)}
    recording.keep(functools.partial(_restore_slots, names=names), value, kept)
    recording.visit_all(kept.items())
    if attributed:
        attributes(recording, value)


def _array(recording: Recording, value: np.ndarray) -> None:
    if value.dtype.hasobject:
        recording.visit_all(enumerate(value.ravel().tolist()))
    if value.flags.writeable:
        recording.keep(np.copyto, value, value.copy())


def _list(recording: Recording, value: list[Any]) -> None:
    recording.keep(_restore_list, value, list(value))
    recording.visit_all(enumerate(value))


def _deque(recording: Recording, value: deque[Any]) -> None:
    recording.keep(_restore_growing, value, list(value))
    recording.visit_all(enumerate(value))


def _dict(recording: Recording, value: dict[Any, Any]) -> None:
    kept = list(value.items())
    recording.keep(_restore_dict, value, kept)
    recording.visit_all(kept)
    for key, _ in kept:
        recording.visit(key)


def _set(recording: Recording, value: set[Any]) -> None:
    recording.keep(_restore_dict, value, list(value))
    recording.visit_all(enumerate(value))


def _elements(recording: Recording, value: Any) -> None:
    recording.visit_all(enumerate(value))


def _bytes(recording: Recording, value: bytearray) -> None:
    recording.keep(_restore_list, value, bytes(value))


def _generator(recording: Recording, value: np.random.Generator) -> None:
    recording.visit(value.bit_generator)


def _bit_generator(recording: Recording, value: np.random.BitGenerator) -> None:
    recording.keep(_restore_bit_generator, value, value.state)


def _random_state(recording: Recording, value: np.random.RandomState) -> None:
    recording.keep(np.random.RandomState.set_state, value, value.get_state(legacy=False))


def _random(recording: Recording, value: random.Random) -> None:
    recording.keep(random.Random.setstate, value, value.getstate())


def _function(recording: Recording, value: types.FunctionType) -> None:
    for cell in value.__closure__ or ():
        recording.visit(cell)


def _cell(recording: Recording, value: types.CellType) -> None:
    try:
        contents = value.cell_contents
    except ValueError:  # not filled yet
        return
    recording.keep(_restore_cell, value, contents)
    recording.visit(contents)


def _method(recording: Recording, value: types.MethodType) -> None:
    recording.visit(value.__self__)
    recording.visit(value.__func__)


def _partial(recording: Recording, value: functools.partial[Any]) -> None:
    recording.visit_all(enumerate((value.func, value.args, value.keywords)))


def _tensor(recording: Recording, value: Any) -> None:
    recording.keep(_restore_tensor, value, value.detach().clone())


_RULES: tuple[tuple[type, Rule], ...] = (
    (np.ndarray, _array),
    (tuple, _elements),
    (frozenset, _elements),
    (list, _list),
    (deque, _deque),
    (dict, _dict),
    (set, _set),
    (bytearray, _bytes),
    (np.random.Generator, _generator),
    (np.random.BitGenerator, _bit_generator),
    (np.random.RandomState, _random_state),
    (random.Random, _random),
    (types.FunctionType, _function),
    (types.CellType, _cell),
    (types.MethodType, _method),
    (functools.partial, _partial),
)


def restore_attributes(value: Any, kept: dict[str, Any]) -> None:
    """Give an object these attributes and no others."""
    own = value.__dict__
    own.clear()
    own.update(kept)


def _restore_some(value: Any, kept: dict[str, Any]) -> None:
    value.__dict__.update(kept)


def _restore_slots(value: Any, kept: dict[str, Any], *, names: tuple[str, ...]) -> None:
    for name in names:
        if name in kept:
            object.__setattr__(value, name, kept[name])
        elif hasattr(value, name):
            object.__delattr__(value, name)


def _restore_list(value: Any, kept: Any) -> None:
    value[:] = kept


def _restore_growing(value: deque[Any], kept: list[Any]) -> None:
    value.clear()
    value.extend(kept)


def _restore_dict(value: Any, kept: list[Any]) -> None:
    value.clear()
    value.update(kept)


def _restore_bit_generator(value: Any, kept: Any) -> None:
    value.state = kept


def _restore_cell(value: types.CellType, kept: Any) -> None:
    value.cell_contents = kept


def _restore_tensor(value: Any, kept: Any) -> None:
    value.data.copy_(kept)
