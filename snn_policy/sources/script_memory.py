"""What a TorchScript program writes, and what that makes unusable, while `script_interpreter` follows it.

What is written into modules outlives the decision: a policy that reads it at the next one is recurrent, and refused
where it does. Values that were changed in place are not read any further.
"""

from collections.abc import Collection
from typing import Any

import numpy as np

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.passed_states import names_state
from snn_policy.sources.script_constants import NO_RESULT
from snn_policy.sources.script_operations import VIEWS
from snn_policy.sources.script_program import Program, arrays_of
from snn_policy.sources.script_values import Observed, ScriptModule, Unread, storage_of

_REMEDY = "Script the module (a trace loses what is written), or let forward take its state and return it"
_PAST = frozenset({"past", "history", "hist", "last", "prev", "previous", "recent", "queue", "frames"})


def _names_memory(name: str) -> bool:
    return names_state(name) or not _PAST.isdisjoint(name.lower().split("_"))


class ScriptMemory:
    """Keep what one reading of a program writes; `written` is what earlier readings have found.

    Attributes:
        written: what is written and outlives the decision: (module, attribute) pairs and memories of arrays.
        now: what was written last, by module and attribute.
        read: by module and attribute, the paths of tensors that are called like memories, and no parameters.
    """

    def __init__(self, program: Program, written: frozenset[Any]) -> None:
        self._classes = program.classes
        self._before, self.written = written, set(written)
        self._lasting = {storage_of(array) for array in arrays_of(program.root)}
        self.now: dict[tuple[int, str], Any] = {}
        self._stale: dict[int, Any] = {}
        self.read: dict[tuple[int, str], str] = {}
        self._lists: dict[int, tuple[list[Any], tuple[int, str]]] = {}

    def write(self, module: ScriptModule, name: str, value: Any) -> None:
        """Set a module's attribute, for this decision and those after it."""
        self.written.add((id(module), name))
        self.now[id(module), name] = value

    def attribute(self, owner: ScriptModule, name: str) -> Any:
        """Return a module's attribute: as written last, else as saved; `Unread` where an earlier decision writes it."""
        place = (id(owner), name)
        if place in self.now:
            return self.now[place]
        known = self._classes.get(owner.kind)
        held = owner.fields.get(name, known.constants.get(name, NO_RESULT) if known else NO_RESULT)
        if held is NO_RESULT:
            raise SourceError(f"{owner.path or owner.name}: has no attribute {name}")
        if name == "training":
            return False
        if place in self._before or (isinstance(held, np.ndarray) and storage_of(held) in self._before):
            path = f"{owner.path}.{name}" if owner.path else name
            reason = "it is recurrent: what is written there is read at the next decision"
            return Unread(UnsupportedLayerError(path, "memory", reason, _REMEDY))
        if isinstance(held, list):  # the module's own stays as it is
            held = self.now[place] = list(held)
            self._lists[id(held)] = held, place
        tensor = isinstance(held, np.ndarray) and held.size > 1 and held.dtype.kind == "f"
        if tensor and _names_memory(name) and not (known and name in known.parameters):
            self.read[place] = f"{owner.path}.{name}" if owner.path else name
        return held

    def note_list(self, changed: list[Any]) -> None:
        """Note that a list is about to be changed: it is a memory, if a module holds it."""
        if id(changed) in self._lists:
            self.written.add(self._lists[id(changed)][1])

    def lost(self, written: Collection[tuple[int, str]]) -> UnsupportedLayerError | None:
        """Return the error for a tensor that is read like a memory, and never written: a trace records no assignment.

        Args:
            written: modules and attributes that were written.
        """
        for place, path in self.read.items():
            if place not in written:
                reason = (
                    "it is called like a memory, and never written: it would forget at every step, as traces do whose "
                )
                remedy = (
                    "Write into it (self.h.copy_(h), or self.h[:] = h) before tracing, script the module, or rename it"
                )
                return UnsupportedLayerError(path, "memory", reason + "forward assigns its state anew", remedy)
        return None

    def overwrite(self, target: Any, path: str, name: str) -> None:
        """Mark what a function changes in place, and what that is a view of, as unusable from there on."""
        reason = "values are written into others, which are used again"
        error = UnsupportedLayerError(path, f"{name}_", reason, "Use a policy that is one chain of layers")
        while isinstance(target, Observed):
            self._stale[id(target)] = target, Unread(error)
            target = target.call.arguments[0] if target.call is not None and target.call.name in VIEWS else None
        if isinstance(target, np.ndarray):
            storage = storage_of(target)
            self._stale[storage] = target, Unread(error)
            if storage in self._lasting:
                self.written.add(storage)

    def spoiled(self, value: Any) -> Unread | None:
        """Return the error of a value that was changed in place, itself or the one that it is a view of."""
        while isinstance(value, Observed):
            if id(value) in self._stale:
                return self._stale[id(value)][1]
            value = value.call.arguments[0] if value.call is not None and value.call.name in VIEWS else None
        held = self._stale.get(storage_of(value)) if isinstance(value, np.ndarray) else None
        return held[1] if held else None
