"""The errors a user can cause, beyond Python's own `ValueError` and `TypeError`."""


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
