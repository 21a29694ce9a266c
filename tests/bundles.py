"""Where a bundle's files are, for the tests that damage, forge or compare them."""

from pathlib import Path

BUNDLE_FILES = ("policy.json", "weights")


def file_of(directory: Path, name: str) -> Path:
    """`policy.json`, or the one file of weights, whatever sum it is named by."""
    if name != "weights":
        return directory / name
    (weights,) = directory.glob("weights*.safetensors*")
    return weights
