"""The source code that results are computed with, by digest: what versions do not say where somebody edits a checkout.

A digest is of the files that Python imports, wherever they lie: an installed wheel and a checkout of the same code have
the same one. The packages are this one, and the one that an environment's class is from where no version is recorded.
"""

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeGuard

import gymnasium as gym

from snn_policy.sweeps.digests import hash_of
from snn_policy.sweeps.places import Place

OWN = "snn_policy"
ELSEWHERE = ("wrappers", "exported")
"""Parts of this package that a checkout has beside it, and a wheel within."""
ENDINGS = (".py", ".c", ".h")
WITH_VERSIONS = ("gymnasium", "mujoco", "dm_control", "shimmy")
"""Packages of environments whose version is in a cell's name, and shimmy, by which Gymnasium makes dm_control's."""
MAIN = ("__main__", "__mp_main__")
DIGITS, SHOWN, MOST_PACKAGES = 32, 10, 100
NAME, DIGEST = re.compile(r"\w{1,100}"), re.compile(r"[0-9a-f]{32}")
Code = dict[str, str]
"""Digests by package; empty where a result does not say what it was computed with."""


def code_of(place: Place) -> Code:
    """Return the digests of the code here that results in this environment depend on."""
    found = {name: package_digest(name) for name in (OWN, *_of_environment(place.id))}
    return {name: digest for name, digest in found.items() if digest is not None}


def package_digest(name: str) -> str | None:
    """Return the digest of a package's or a module's sources; None where there are no files of it."""
    contents = {relative: file.read_bytes().replace(b"\r\n", b"\n") for relative, file in _sources(name)}
    digests = {relative: hashlib.sha256(content).hexdigest() for relative, content in contents.items()}
    return hash_of(digests)[:DIGITS] if digests else None


def _sources(name: str) -> Iterator[tuple[str, Path]]:
    """Yield source files, each under its name within the package."""
    for folder in _folders(name):
        if folder.is_file():
            yield folder.name, folder
            continue
        for file in folder.rglob("*"):
            relative = file.relative_to(folder)
            if file.suffix in ENDINGS and file.is_file() and not (name == OWN and relative.parts[0] in ELSEWHERE):
                yield relative.as_posix(), file
    if name == OWN:
        for part in ELSEWHERE:
            yield from ((f"{part}/{relative}", file) for relative, file in _sources(f"{OWN}.{part}"))


def _folders(name: str) -> list[Path]:
    """Return where a package is imported from, or a module's file."""
    if name in MAIN:
        file = getattr(sys.modules["__main__"], "__file__", None)
        return [] if file is None else [Path(file)]
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):  # it is gone, or was never imported from a file
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.has_location and spec.origin else []


def _of_environment(identifier: str) -> Iterator[str]:
    """Yield the package that an environment's class is from, unless its version is recorded."""
    module, colon, _ = identifier.rpartition(":")
    if not colon:
        entry: Any = getattr(gym.registry.get(identifier), "entry_point", None)
        while isinstance(entry, partial):
            entry = entry.func
        module = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
    top = module.partition(".")[0]
    if top and top not in (OWN, *WITH_VERSIONS):
        yield "__main__" if top in MAIN else top


class CodeSeen:
    """Remember every environment's code as it was when it was first asked for."""

    def __init__(self) -> None:
        self._found: dict[str, Code] = {}

    def at(self, place: Place) -> Code:
        if place.id not in self._found:
            self._found[place.id] = code_of(place)
        return self._found[place.id]


def distinct(codes: Iterable[Code]) -> list[Code]:
    """Return every state of the code once, in the order of their first appearance."""
    found: list[Code] = []
    for code in codes:
        if code not in found:
            found.append(code)
    return found


def is_code(value: Any) -> TypeGuard[Code]:
    """Return whether a file's value is digests by package."""
    if not isinstance(value, dict) or len(value) > MOST_PACKAGES:
        return False
    return all(NAME.fullmatch(name) and DIGEST.fullmatch(str(digest)) for name, digest in value.items())


def shown(code: Mapping[str, str]) -> str:
    """Return digests short enough for a line."""
    return ", ".join(f"{name} {digest[:SHOWN]}" for name, digest in sorted(code.items())) or "unknown code"
