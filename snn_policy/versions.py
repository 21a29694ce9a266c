"""The versions that a result depends on, to be stored beside it."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

RECORDED = (
    "snn-policy", "numpy", "gymnasium", "mujoco", "dm-control", "torch", "stable-baselines3", "onnxruntime",
    "spikingjelly",
)  # fmt: skip


def installed_versions() -> dict[str, str]:
    """Return the version per installed package of those that results depend on, and Python's."""
    versions = {name: _version(name) for name in RECORDED}
    return {"python": platform.python_version(), **{name: found for name, found in versions.items() if found}}


@cache
def _version(name: str) -> str | None:
    """Return the package's version, None where it is not installed; looked up once, which takes milliseconds."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
