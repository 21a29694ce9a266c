"""Objects that are a part of a policy, or a function of one: each is refused with the name of what to pass instead."""

import inspect
from typing import Any

from snn_policy.errors import UnsupportedLayerError

_PACKAGES = ("stable_baselines3", "sb3_contrib")
_PARTS = ("Actor", "QNetwork", "QuantileNetwork")


def refuse_parts(source: Any) -> None:
    """Refuse parts of Stable-Baselines3's algorithms, methods, functions and classes.

    Raises:
        UnsupportedLayerError: a network that is one part of an algorithm.
        TypeError: a method, a function, or a class.
    """
    owner = getattr(source, "__self__", None)
    if inspect.ismethod(source) and owner is not None and not inspect.isclass(owner):
        what, whole = f"{type(owner).__name__}.{source.__name__}", _whole(owner)
        raise TypeError(f"cannot read a policy from {what}, a bound method: pass the {whole} itself")
    if inspect.isclass(source):
        raise TypeError(f"cannot read a policy from the class {source.__name__}: pass an instance of it")
    if inspect.isroutine(source) or type(source).__name__ == "partial":
        name = getattr(source, "__name__", type(source).__name__)
        raise TypeError(f"cannot read a policy from {name}, a function: pass the module or algorithm that it calls")
    bases = [base for base in type(source).__mro__ if base.__module__.split(".")[0] in _PACKAGES]
    names = {base.__name__ for base in bases}
    if not bases or "BaseAlgorithm" in names or ("BasePolicy" in names and not names & set(_PARTS)):
        return
    if any(base.__name__ == "Module" and base.__module__.startswith("torch.nn") for base in type(source).__mro__):
        reason = "it is one part of an algorithm: action bounds, observation statistics and other layers lie elsewhere"
        remedy = "Instead, pass the algorithm itself: load_actor(model), or load_actor(model.policy)"
        raise UnsupportedLayerError("source", type(source).__name__, reason, remedy)


def _whole(owner: Any) -> str:
    bases = {base.__name__ for base in type(owner).__mro__}
    if bases & {"BaseAlgorithm", "BasePolicy"}:
        return "algorithm"
    return "module" if "Module" in bases else type(owner).__name__
