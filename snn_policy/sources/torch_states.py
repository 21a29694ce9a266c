"""How a torch module's forward is called: its parameters, and a copy of it that is called with numbers."""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.passed_states import State, mapped, names_state
from snn_policy.sources.state_calls import Array, Call, Caller

_PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class ModuleCaller(Caller):
    """Call a copy of a module, or itself where it is not `copied`; see `Caller`."""

    def __init__(self, twin: nn.Module, given: Any = None, copied: bool = True) -> None:
        parameters = list(inspect.signature(twin.forward).parameters.values())
        needed = [one.name for one in parameters if one.default is one.empty and one.kind in _PLAIN]
        needed = needed or [one.name for one in parameters[:1] if one.kind in _PLAIN]
        if not needed:
            raise UnsupportedLayerError("forward", type(twin).__name__, "it takes no observation", "Pass the policy")
        optional = [one.name for one in parameters[1:] if one.default is None and names_state(one.name)]
        spread = [one.name for one in parameters if one.kind == one.VAR_POSITIONAL and names_state(one.name)]
        self.twin = copy.deepcopy(twin) if copied else twin
        self._order, self._variadic = needed, next(iter(spread), "")
        shapes = [(name, tuple(weight.shape)) for name, weight in twin.named_parameters()]
        super().__init__(needed, (*optional, *spread), shapes, given)

    def arguments(
        self, call: Call, parts: Sequence[Any], states: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return forward's positional and named arguments."""
        given = dict(zip(call.inputs, parts, strict=True)) | dict(states)
        spread = given.pop(self._variadic, ())
        positional = [given.pop(name) for name in self._order if name in given]
        return [*positional, *(spread if isinstance(spread, tuple | list) else [spread])], given

    def run(self, call: Call, parts: Sequence[Array], states: Mapping[str, State]) -> Any:
        dtype = dtype_of(self.twin)
        tensors = mapped(dict(states), lambda leaf: torch.as_tensor(leaf).to(dtype))
        observations = [torch.as_tensor(part).to(dtype) for part in parts]
        positional, named = self.arguments(call, observations, tensors)
        with torch.no_grad():
            return self.twin(*positional, **named)

    def first(self, method: str) -> Iterator[State]:
        found = getattr(self.twin, method, None)
        for arguments in ((), (1,)) if callable(found) else ():
            try:
                with torch.no_grad():
                    yield mapped(found(*arguments), lambda leaf: np.array(leaf.detach().numpy()))  # pyright: ignore
            except Exception:
                continue

    def held(self) -> Iterator[Array]:
        for tensor in (*self.twin.parameters(), *self.twin.buffers()):
            yield tensor.detach().float().numpy()


def dtype_of(module: nn.Module) -> Any:
    """Return the type of a module's weights."""
    return next((one.dtype for one in module.parameters() if one.is_floating_point()), torch.float32)
