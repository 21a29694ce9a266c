"""rsl_rl's models, live: what they export themselves stands for them, with normaliser and head."""

from typing import Any

from snn_policy.errors import SourceError, UnsupportedLayerError, warn

_EXPORTS = ("as_jit", "as_onnx")


def exportable(module: Any) -> Any:
    """Return what a model exports by `as_jit` or `as_onnx`; another module as it is.

    A network of rsl_rl's alone (`model.mlp`) gets a warning: the model's observation normaliser is not a part of it.

    Raises:
        SourceError: the model's own export fails.
        UnsupportedLayerError: the model has forward hooks, which its export lacks.
    """
    export = next((getattr(module, name) for name in _EXPORTS if callable(getattr(module, name, None))), None)
    if export is not None:
        if getattr(module, "_forward_hooks", None) or getattr(module, "_forward_pre_hooks", None):
            reason = f"what {export.__name__}() exports is without it, and cannot be compared with the model"
            raise UnsupportedLayerError(type(module).__name__, "hook", reason, "Remove it first")
        try:
            return export()
        except Exception as problem:
            line = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
            name = f"{type(module).__name__}.{export.__name__}()"
            raise SourceError(f"{name} fails ({line}); pass what it should export as a module of its own") from problem
    if type(module).__module__.split(".")[0] == "rsl_rl" and type(module).__name__ in ("MLP", "CNN"):
        warn(
            f"{type(module).__name__} is one network of an rsl_rl model, whose observation normaliser is not a part of "
            "it: where there is one, raw observations give wrong actions. Pass the model itself, or model.as_jit()",
        )
    return module
