"""Copies of the user's module: an inert one, which is read, and one with its hooks, which the actor must agree with."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError, warn
from snn_policy.sources.graph_check import TOLERANCE, compare
from snn_policy.sources.random_streams import drawing_nothing
from snn_policy.sources.refusals import COMPLEX
from snn_policy.sources.several_results import quietly_chosen
from snn_policy.sources.torch_nodes import REMEDY
from snn_policy.sources.torch_states import dtype_of
from snn_policy.sources.vecnormalize import ObservationStatistics

_FORWARD = ("_forward_hooks", "_forward_pre_hooks")
_BACKWARD = ("_backward_hooks", "_backward_pre_hooks")
_FLAGS = ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs")


@dataclass(frozen=True, eq=False)
class Hooks:
    """Know the forward hooks of a module, and compare an actor with the module as they leave it."""

    module: nn.Module

    @property
    def paths(self) -> list[str]:
        """Return where there are any."""
        return sorted(set(_hooked(self.module, _FORWARD)))

    def compare(
        self,
        actor: Actor,
        decider: Callable[[nn.Module], Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]],
        normaliser: Sequence[ObservationStatistics],
        tolerance: float = TOLERANCE,
    ) -> None:
        """Compare an actor that agrees with the inert copy with one that has its hooks, where there are any.

        Args:
            decider: what a copy makes of one observation, and of those before.

        Raises:
            UnsupportedLayerError: they differ, or a hook fails.
        """
        paths = self.paths
        if not paths:
            return
        own = _traced(self.module) if isinstance(self.module, torch.jit.ScriptModule) else _copied(self.module)
        remedy = "Remove it, or put what it does into forward"
        try:
            with drawing_nothing(own):
                compare(actor, decider(own), normaliser, "with its hooks it", tolerance)
        except SourceError as problem:
            raise UnsupportedLayerError(", ".join(paths), "hook", str(problem), remedy) from problem
        except UnsupportedLayerError as problem:
            random = "random" in problem.reason
            reason = problem.reason if random else "with it the module makes other actions than its forward does"
            raise UnsupportedLayerError(", ".join(paths), "hook", reason, remedy) from problem


def inert_copy(module: nn.Module, told: bool = True) -> nn.Module:
    """Return a copy on the CPU, in evaluation mode, without hooks, which a warning names where they are `told`."""
    twin = _copied(module)
    hooked = sorted(set(_hooked(module, (*_FORWARD, *_BACKWARD))))
    for part in twin.modules():
        for key in (*_FORWARD, *_BACKWARD):
            getattr(part, key, {}).clear()
    if hooked and told:
        _tell(hooked)
    for name, tensor in (*twin.named_parameters(), *twin.named_buffers()):
        if tensor.is_complex():
            raise UnsupportedLayerError(name, *COMPLEX)
    return twin


def compare_traced(
    module: Any, actor: Actor, output: str | None = None, normaliser: Sequence[ObservationStatistics] = ()
) -> None:
    """Compare an actor with a module that `torch.jit.trace` made, where that has hooks: its archive has none.

    Raises:
        UnsupportedLayerError: they differ, or a hook fails.
    """
    hooks, shape = Hooks(module), actor.observation_shape

    def decider(own: nn.Module) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]:
        dtype = dtype_of(own)
        return lambda row: (
            quietly_chosen(own(torch.as_tensor(row.reshape(1, *shape)).to(dtype)), output).double().numpy()
        )

    if hooks.paths:
        _tell(hooks.paths)
        with torch.no_grad():
            hooks.compare(actor, decider, normaliser)


def _tell(paths: Sequence[str]) -> None:
    warn(f"hooks on {', '.join(paths)} are not part of the conversion")


def _traced(module: Any) -> nn.Module:
    """Return a copy of a traced module, with its hooks."""
    twin = copy.deepcopy(module).cpu()
    for key in (*_FORWARD, *_FLAGS):
        getattr(twin, key).update(getattr(module, key))
    return twin


def _copied(module: nn.Module) -> nn.Module:
    """Return a copy on the CPU, in evaluation mode, with its hooks: shared where they cannot be copied."""
    kind = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedLayerError("module", kind, "a scripted module cannot be traced", "Pass the original module")
    original = getattr(module, "_orig_mod", module)  # torch.compile
    _refuse_computed_weights(original)
    try:
        twin = copy.deepcopy(original, _states_without_history(original))
    except Exception:
        shared = {id(hook): hook for part in original.modules() for key in (*_FORWARD, *_BACKWARD)
                  for hook in getattr(part, key, {}).values()}  # fmt: skip
        try:
            twin = copy.deepcopy(original, _states_without_history(original) | shared)
        except Exception as problem:
            line = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
            raise UnsupportedLayerError("module", kind, f"it cannot be copied ({line})", REMEDY) from problem
    if original is not module:
        _take_over(twin, module)
    return twin.cpu().eval()


def _take_over(twin: nn.Module, compiled: nn.Module) -> None:
    """Give a copy the forward hooks of what torch.compile has put around its original: they act outside of its own."""
    for key in _FLAGS:
        getattr(twin, key).update(getattr(compiled, key))
    twin._forward_hooks = OrderedDict({**twin._forward_hooks, **compiled._forward_hooks})
    twin._forward_pre_hooks = OrderedDict({**compiled._forward_pre_hooks, **twin._forward_pre_hooks})


def _hooked(module: nn.Module, keys: Sequence[str]) -> Iterator[str]:
    """Yield the paths of parts with hooks."""
    original = getattr(module, "_orig_mod", module)
    for path, part in (("", module), *original.named_modules()):
        if any(getattr(part, key, None) for key in keys):
            yield path or "module"


def _states_without_history(module: nn.Module) -> dict[int, Any]:
    """Return copies, by identity, of tensors that a forward with gradients left in modules: they cannot be copied."""
    held: list[Any] = []
    for part in module.modules():
        for value in (*part._buffers.values(), *vars(part).values()):
            held += value if isinstance(value, tuple | list) else [value]
    tensors = [one for one in held if isinstance(one, torch.Tensor) and not one.is_leaf]
    return {id(one): one.detach().clone() for one in tensors}


def _refuse_computed_weights(module: nn.Module) -> None:
    for path, part in module.named_modules():
        for hook in part._forward_pre_hooks.values():
            if type(hook).__name__ in ("WeightNorm", "SpectralNorm"):
                remedy = "Call torch.nn.utils.remove_weight_norm (or remove_spectral_norm) on it first"
                raise UnsupportedLayerError(path or "module", "weight norm", "a hook computes its weights", remedy)
