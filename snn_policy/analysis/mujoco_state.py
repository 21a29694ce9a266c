"""Record MuJoCo's data and models, through whatever holds them: its own bindings, or dm_control's physics.

Data are copied whole (`mj_copyData`): what a step has derived, such as the positions of bodies one substep ago, is read
by observations and rewards, and another forward pass would not give it back. Of a model all real numbers are kept,
since tasks set targets and masses there at a reset.
"""

import sys
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.analysis.object_rules import some_attributes
from snn_policy.analysis.object_state import OpaqueError, Recording, Rule, nothing

_OPTIONS = ("timestep", "density", "viscosity", "impratio", "o_margin")
_PHYSICS = ("_data", "_named", "_contexts", "_model", "model", "data", "named")
_views: "weakref.WeakKeyDictionary[Any, list[npt.NDArray[np.float64]]]" = weakref.WeakKeyDictionary()


def mujoco_rule(kind: type) -> Rule | None:
    """Return how objects of this kind are recorded; None where they are not MuJoCo's."""
    names = {f"{cls.__module__}.{cls.__qualname__}" for cls in kind.__mro__}
    if any(name.startswith("dm_control.composer.environment.") for name in names):
        return _composer
    if "dm_control.mujoco.engine.Physics" in names:
        return _physics
    if names & {"dm_control.mujoco.wrapper.core.MjData", "dm_control.mujoco.wrapper.core.MjModel"}:
        return _pointer
    if kind.__module__.partition(".")[0] != "mujoco":
        return nothing if kind.__module__.startswith("dm_control._render") else None
    return {"MjData": _data, "MjModel": _model}.get(kind.__name__, nothing)


def _composer(recording: Recording, value: Any) -> None:
    raise OpaqueError(type(value))


def _physics(recording: Recording, physics: Any) -> None:
    recording.visit(physics.model.ptr)
    recording.visit(physics.data.ptr)
    some_attributes(recording, physics, [name for name in vars(physics) if name not in _PHYSICS])


def _pointer(recording: Recording, value: Any) -> None:
    recording.visit(value.ptr)


def _data(recording: Recording, data: Any) -> None:
    mujoco = sys.modules["mujoco"]
    model = data.model
    recording.visit(model)
    if id(data) not in recording.buffers:
        recording.buffers[id(data)] = data, mujoco.MjData(model)
    saved = recording.buffers[id(data)][1]
    mujoco.mj_copyData(saved, model, data)
    recording.keep(_restore_data, data, saved)


def _restore_data(data: Any, saved: Any) -> None:
    sys.modules["mujoco"].mj_copyData(data, saved.model, saved)


def _model(recording: Recording, model: Any) -> None:
    options = {name: getattr(model.opt, name) for name in _OPTIONS}
    recording.keep(_restore_model, model, (np.concatenate(_numbers(model)).tobytes(), options))


def _restore_model(model: Any, saved: tuple[bytes, dict[str, float]]) -> None:
    numbers, options = saved
    views = _numbers(model)
    if np.concatenate(views).tobytes() != numbers:
        edges = np.cumsum([view.size for view in views])[:-1]
        for view, kept in zip(views, np.split(np.frombuffer(numbers), edges), strict=True):
            view[...] = kept
    for name, value in options.items():
        if getattr(model.opt, name) != value:
            setattr(model.opt, name, value)


def _numbers(model: Any) -> list[npt.NDArray[np.float64]]:
    """Return all real numbers of a model, as flat views on its memory."""
    if model not in _views:
        fields = [getattr(model, name) for name in dir(model) if not name.startswith("_")]
        fields += [model.opt.gravity, model.opt.wind, model.opt.magnetic]
        real = [field for field in fields if isinstance(field, np.ndarray) and field.dtype == np.float64]
        _views[model] = [field.reshape(-1) for field in real]
    return _views[model]
