"""Actors and converted policies as bytes: what they are known by, what workers are sent, and back again.

An actor is one safetensors file whose header describes it as a bundle would; its name, its environment and where it
came from are left out, so that equal networks have equal bytes. A converted policy is the files of its bundle.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import load, save

from snn_policy.actor import Actor
from snn_policy.bundle.files import POLICY_FILE
from snn_policy.bundle.networks import describe_actor, read_actor
from snn_policy.policy import SpikingPolicy
from snn_policy.sweeps.source_code import Code, is_code

ROOM = 4 * 2**30
DESCRIPTION = "actor"
CODE = "code"
"""In a policy's card: by which source code it was converted."""
Files = dict[str, bytes]
"""A bundle's files by name."""


def actor_bytes(actor: Actor) -> bytes:
    """Return the actor as bytes, the same for the same network."""
    described, arrays = describe_actor(replace(actor, name="actor", env_id=None, provenance={}))
    dense = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(dense, metadata={DESCRIPTION: json.dumps(described, sort_keys=True)})


def actor_of(content: bytes, name: str) -> Actor:
    """Return the actor of `actor_bytes`, under that name."""
    size = int.from_bytes(content[:8], "little")
    described = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][DESCRIPTION])
    return replace(read_actor(described, load(content), ROOM), name=name)


def digest(content: bytes) -> str:
    """Return the SHA-256."""
    return hashlib.sha256(content).hexdigest()


def policy_files(policy: SpikingPolicy) -> Files:
    """Return the files of the policy's bundle."""
    with TemporaryDirectory() as folder:
        policy.save(folder)
        return files_in(Path(folder))


def policy_code(files: Files) -> Code:
    """Return by which source code a whole policy was converted; empty where it does not say."""
    code = json.loads(files[POLICY_FILE]).get("card", {}).get(CODE)
    return code if is_code(code) else {}


def files_in(directory: Path) -> Files:
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir()) if file.is_file()}


def policy_of(files: Files, engine: str) -> SpikingPolicy:
    """Return the policy of a bundle's files; checked as every bundle is."""
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / Path(name).name).write_bytes(content)
        return SpikingPolicy.load(folder, engine=engine)
