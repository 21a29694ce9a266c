"""Which network an exported file is of: a digest in it, by which a directory is searched for another policy's exports.

ONNX graphs need none: `policy.json` names their sums (`snn_policy.bundle.files`).
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from snn_policy.bundle.networks import describe_network
from snn_policy.errors import warn
from snn_policy.spiking.network import SpikingNetwork

STATED = re.compile(rb"network-sha256-[0-9a-f]{64}")
"""In C a comment says it, in TorchScript and NIR the metadata (`NETWORK_KEY`), which both keep uncompressed."""
NETWORK_KEY = "network"
PATTERNS = ("*.h", "src/*.h", "*.pt", "*.nir")
LARGEST_SEARCHED = 2**27
NOT_OF_THE_NETWORK = ("name", "env_id", "provenance")


def network_digest(network: SpikingNetwork) -> str:
    """Return a text with the SHA-256 of what decides about actions; of weights as float16, in which bundles may be."""
    described, arrays = describe_network(network)
    actor = {key: value for key, value in described["actor"].items() if key not in NOT_OF_THE_NETWORK}
    total = hashlib.sha256(json.dumps({**described, "actor": actor}, sort_keys=True).encode())
    for name in sorted(arrays):
        with np.errstate(over="ignore"):
            kept = arrays[name].astype(np.float16 if name.endswith(".weight") else np.float32)
        total.update(name.encode() + (kept + 0).tobytes())  # + 0: bundles of sparse weights forget the sign of a zero
    return f"network-sha256-{total.hexdigest()}"


def warn_of_other_exports(directory: Path, network: SpikingNetwork) -> None:
    """Warn of files beside a policy's that say they are of another network; those that say nothing pass."""
    stated = dict(_stated(directory))
    own = network_digest(network) if stated else ""
    others = [file.relative_to(directory).as_posix() for file, digest in stated.items() if digest != own]
    if others:
        names = ", ".join(name if name.isprintable() else ascii(name) for name in others)
        warn(f"{directory}: {names}: exported from another policy than the one saved here; export anew, or delete")


def _stated(directory: Path) -> Iterator[tuple[Path, str]]:
    for file in sorted(file for pattern in PATTERNS for file in directory.glob(pattern)):
        with contextlib.suppress(OSError):  # what cannot be read says nothing
            if file.is_file() and file.stat().st_size <= LARGEST_SEARCHED:
                found = STATED.search(file.read_bytes())
                if found is not None:
                    yield file, found[0].decode()
