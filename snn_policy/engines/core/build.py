"""Compiles the core's C sources into one shared library; needs nothing but Python and a C compiler.

    python -m snn_policy.engines.core.build        # in a source tree: builds the library beside the sources

`setup.py` runs this file by itself, before anything of the package can be imported: it imports nothing of it.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
LIBRARY = "_core.dll" if sys.platform == "win32" else "_core.so"
POSITION_INDEPENDENT = () if sys.platform == "win32" else ("-fPIC",)
FLAGS = ("-std=c99", "-O3", *POSITION_INDEPENDENT, "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno",
         "-fvisibility=hidden", "-fno-asynchronous-unwind-tables")  # fmt: skip
STRIPPED = ("-s",) if sys.platform.startswith("linux") else ()
MICROSOFT_FLAGS = ("/O2", "/fp:precise", "/utf-8")
"""For Microsoft's compiler, which setup.py finds through setuptools."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "avx2": ("-mavx2",),
    "avx512": ("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mprefer-vector-width=512"),
}
"""Copies of the core by instruction set, those after the first for x86-64 alone; all give the same bits."""


class NoCompilerError(Exception):
    """Report that there is no C compiler, or it failed; the message says which."""


def fingerprint() -> int:
    """Return a checksum of the sources: a library built from others is not used."""
    total = 0
    for source in sorted([*SOURCES.glob("*.h"), *SOURCES.glob("*.c")]):
        total = zlib.crc32(source.read_bytes(), total)
    return total


def compiler() -> list[str]:
    """Return the C compiler's command: the environment's CC, or the first that is installed.

    Raises:
        NoCompilerError: there is none.
    """
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    raise NoCompilerError("no C compiler found (cc, gcc, clang, or the environment's CC)")


def architectures() -> tuple[str, ...]:
    """Return the processors to build for: this machine's, or on macOS those of the environment's ARCHFLAGS (-arch
    arm64 …)."""
    words = shlex.split(os.environ.get("ARCHFLAGS", "")) if sys.platform == "darwin" else []
    named = [word for flag, word in pairwise(words) if flag == "-arch"]
    return tuple(dict.fromkeys(named)) or (platform.machine().lower(),)


def variants() -> tuple[str, ...]:
    """Return the copies to build; those for x86-64 only where the library is for nothing else."""
    return tuple(VARIANTS) if set(architectures()) <= {"x86_64", "amd64"} else ("plain",)


def variant_flags(variant: str) -> tuple[str, ...]:
    """Return the flags of one copy beside `FLAGS`; where there are copies for newer processors, the plain one, for
    those of before 2013, is made small."""
    return ("-Os",) if variant == "plain" and len(variants()) > 1 else VARIANTS[variant]


def definitions(variant: str) -> dict[str, str]:
    """Return the macros of one copy."""
    macros = {"SNN_VARIANT": variant}
    if variant == "plain":
        macros |= {"SNN_FIRST_VARIANT": "1", "SNN_FINGERPRINT": f"{fingerprint()}u"}
        if len(variants()) > 1:
            macros["SNN_MORE_VARIANTS"] = "1"
    return macros


def build(target: Path, extra: Sequence[str] = ()) -> Path:
    """Compile the library to the path `target`, replacing it at once; `extra` flags go to compiler and linker.

    Raises:
        NoCompilerError: as `compiler`, or the compiler refused.
    """
    command = compiler()
    if sys.platform == "darwin":
        extra = [*(word for name in architectures() for word in ("-arch", name)), *extra]
    with tempfile.TemporaryDirectory() as scratch:
        objects = [Path(scratch, f"{variant}.o") for variant in variants()]
        for variant, path in zip(variants(), objects, strict=True):
            macros = [f"-D{name}={value}" for name, value in definitions(variant).items()]
            flags, source = (*FLAGS, *variant_flags(variant), *extra), str(SOURCES / "library.c")
            _run([*command, *flags, *macros, "-c", source, "-o", str(path)])
        linked = Path(scratch, LIBRARY)
        _run([*command, "-shared", *STRIPPED, *extra, *map(str, objects), "-o", str(linked)])
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copyfile(linked, beside)
        os.replace(beside, target)
    return target


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as problem:
        raise NoCompilerError(f"{command[0]}: {problem.strerror}") from None
    if done.returncode:
        first = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[0]
        raise NoCompilerError(f"{command[0]}: {first}")


if __name__ == "__main__":
    try:
        print(build(SOURCES / LIBRARY))
    except NoCompilerError as problem:
        sys.exit(str(problem))
