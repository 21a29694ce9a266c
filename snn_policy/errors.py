"""The errors a user can cause, beyond Python's own `ValueError` and `TypeError`, and warnings at the user's line."""

import sys
import warnings
from types import FrameType

PACKAGE = __name__.partition(".")[0]
GLUE = ("contextlib", "dataclasses", "functools")
"""Modules of Python through which the package calls itself."""


class UnsupportedLayerError(ValueError):
    """Report a part of the actor that cannot be converted faithfully.

    The message names the part's path inside the source, its type, why it is refused, and the way out.
    """

    def __init__(self, path: str, kind: str, reason: str, remedy: str) -> None:
        super().__init__(f"{path} ({kind}) cannot be converted: {reason}. {remedy}")
        self.path, self.kind, self.reason, self.remedy = path, kind, reason, remedy


class SourceError(ValueError):
    """Report a file that should hold a policy but does not: truncated, tampered with, or of another format."""


def needs_extra(package: str, extra: str = "convert", task: str = "reading this source") -> ModuleNotFoundError:
    """Return the error for an optional package that is not installed; it names the extra that brings it."""
    return ModuleNotFoundError(f"{task} needs {package}: pip install 'snn-policy[{extra}]'", name=package)


def warn(message: str) -> None:
    """Warn (a `UserWarning`) of what the nearest line outside of the package has asked for.

    A number for `stacklevel` would be wrong as soon as the same function is reached in another way.
    """
    frame = _outside(sys._getframe(1))
    known = frame.f_globals
    registry, module = known.setdefault("__warningregistry__", {}), known.get("__name__") or "<unknown>"
    warnings.warn_explicit(message, UserWarning, frame.f_code.co_filename, frame.f_lineno, module, registry)


def _outside(frame: FrameType) -> FrameType:
    """Return the nearest frame outside of the package; the outermost one where there is none, as in a thread."""
    while frame.f_back is not None and _is_ours(frame):
        frame = frame.f_back
    return frame


def _is_ours(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__"))
    return name.partition(".")[0] == PACKAGE or name in GLUE
