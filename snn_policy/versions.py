"""The versions that a result depends on, to be stored beside it."""

import platform
from importlib.metadata import PackageNotFoundError, version

RECORDED = (
    "snn-policy", "numpy", "gymnasium", "mujoco", "dm-control", "torch", "stable-baselines3", "onnxruntime",
    "spikingjelly",
)  # fmt: skip


def installed_versions() -> dict[str, str]:
    """Return the version per installed package of those that results depend on, and Python's."""
    versions = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
