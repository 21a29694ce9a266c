"""Rules by which `object_state.Recording` records Python's, NumPy's and torch's objects.

What is an instance of a class written in Python is its attributes and slots. Whatever keeps contents that Python cannot
see is refused (`OpaqueError`): iterators, objects of C code, and threads that run or wait.
"""

import array
import datetime
import decimal
import enum
import functools
import io
import logging
import random
import re
import struct
import threading
import types
import weakref
from collections import deque
from typing import Any

import numpy as np

from snn_policy.analysis.object_state import OpaqueError, Recording, Rule, nothing

_UNCHANGING = (
    int, float, complex, decimal.Decimal, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range,
    slice, type, types.ModuleType, types.MappingProxyType, types.WrapperDescriptorType,
    types.MethodWrapperType, types.GenericAlias, property, BaseException, np.generic, np.dtype, np.ufunc, enum.Enum,
    re.Pattern, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, weakref.ref, np.random.SeedSequence,
)  # fmt: skip
"""Kinds that hold nothing that changes."""
_POINTER = struct.calcsize("P")
_OUTSIDE = (io.IOBase, logging.Logger)
"""Kinds that lead out of the program: what was written stays written."""
_OUTSIDE_NAMES = frozenset({"_thread.lock", "_thread.RLock", "_csv.writer"})


_OF_THREADS = (threading.Thread, threading.Condition)
"""Kinds whose attributes the threads themselves keep."""


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


def plain_rule(kind: type) -> Rule:
    """Return the rule of a kind of Python's, NumPy's or torch's, or of a class that is written in Python."""
    if issubclass(kind, _UNCHANGING + _OUTSIDE) or f"{kind.__module__}.{kind.__qualname__}" in _OUTSIDE_NAMES:
        return nothing
    for known, rule in _RULES:
        if issubclass(kind, known):
            return _with_attributes(rule) if _has_attributes(kind) and known not in _OF_THREADS else rule
    package = kind.__module__.partition(".")[0]
    if package in ("jax", "jaxlib"):
        return nothing
    if package == "torch" and not _is_plain(kind):
        return _tensor if hasattr(kind, "copy_") else _torch_generator if hasattr(kind, "set_state") else nothing
    if kind.__name__ == "cython_function_or_method":
        return _builtin
    if not _is_plain(kind):
        return _opaque
    slots = _slots(kind)
    if slots:
        return functools.partial(_slotted, names=slots, attributed=_has_attributes(kind))
    return attributes if _has_attributes(kind) else nothing


def _is_plain(kind: type) -> bool:
    """Return whether instances have room for nothing but attributes: whatever more there is, C code keeps."""
    extra = len(_slots(kind)) + (getattr(kind, "__dictoffset__", 0) > 0) + (getattr(kind, "__weakrefoffset__", 0) > 0)
    return kind.__basicsize__ <= object.__basicsize__ + extra * _POINTER


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


def _numbers(recording: Recording, value: Any) -> None:
    recording.keep(_restore_list, value, value[:])


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


def _builtin(recording: Recording, value: Any) -> None:
    recording.visit(getattr(value, "__self__", None))


def _thread(recording: Recording, value: threading.Thread) -> None:
    if value.is_alive():
        raise OpaqueError(type(value))


def _condition(recording: Recording, value: threading.Condition) -> None:
    """Refuse what a thread waits for: it would wait for ever if those who wait were put back."""
    if getattr(value, "_waiters", None):
        raise OpaqueError(type(value))


def _partial(recording: Recording, value: functools.partial[Any]) -> None:
    recording.visit_all(enumerate((value.func, value.args, value.keywords)))


def _tensor(recording: Recording, value: Any) -> None:
    recording.keep(_restore_tensor, value, value.detach().clone())


def _torch_generator(recording: Recording, value: Any) -> None:
    recording.keep(type(value).set_state, value, value.get_state())


_RULES: tuple[tuple[type, Rule], ...] = (
    (np.ndarray, _array),
    (tuple, _elements),
    (frozenset, _elements),
    (list, _list),
    (deque, _deque),
    (dict, _dict),
    (set, _set),
    (bytearray, _bytes),
    (array.array, _numbers),
    (np.random.Generator, _generator),
    (np.random.BitGenerator, _bit_generator),
    (np.random.RandomState, _random_state),
    (random.Random, _random),
    (types.FunctionType, _function),
    (types.CellType, _cell),
    (types.MethodType, _method),
    (types.BuiltinFunctionType, _builtin),
    (functools.partial, _partial),
    (threading.Thread, _thread),
    (threading.Condition, _condition),
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
