"""The policies shipped with the package, by `examples/train_actor.py export` and `examples/export_qcfs.py`.

from snn_policy.exported import names, path
policy = SpikingPolicy.load(path("td3-HalfCheetah-v5"))
"""

from pathlib import Path

DIRECTORY = Path(__file__).parent


def names() -> list[str]:
    """Return the shipped policies, by name."""
    return sorted(card.parent.name for card in DIRECTORY.glob("*/policy.json"))


def path(name: str) -> Path:
    """Return the directory of a shipped policy.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in names():
        raise ValueError(f"{name!r}: no such shipped policy; there are {', '.join(names()) or 'none'}")
    return DIRECTORY / name
