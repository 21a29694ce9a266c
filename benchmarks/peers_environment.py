"""Make the environment in which the peers are measured: a venv of its own under .nightly/, never the project's.

The project with everything it can use, at the versions of constraints.txt, and beside it SpikingJelly and sinabs at
the versions below, without what they ask for: sinabs wants nir ≤ 1.0.4 and SpikingJelly nir ≥ 1.0.7, so that pip finds
no set that suits both; torchvision, torchaudio, TensorBoard and samna are not needed by what is measured.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.places import ROOT

PLACE = ROOT / ".nightly" / "peers"
PEERS = ("spikingjelly==2.0.0", "sinabs==3.1.3", "nirtorch==2.6", "loguru==0.7.3", "pbr==7.1.3")
PIP = ("-m", "pip", "install", "-q", "--disable-pip-version-check")


def interpreter() -> Path:
    """Return the environment's Python."""
    return PLACE / "bin" / "python"


def inside() -> bool:
    """Return whether this process runs in the environment."""
    return Path(sys.prefix).resolve() == PLACE.resolve()


def make_environment() -> None:
    """Make the environment, if it is not as it should be.

    PIP_FLAGS are handed on to pip, as in the Makefile.

    Raises:
        subprocess.CalledProcessError: a package could not be installed.
    """
    wanted = "\n".join((*PEERS, (ROOT / "constraints.txt").read_text()))
    stamp = PLACE / "installed.txt"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    print(f"installing the peers and the project into {PLACE.relative_to(ROOT)} (torch included: a few minutes)")
    flags = os.environ.get("PIP_FLAGS", "").split()
    if not interpreter().exists():
        subprocess.run([sys.executable, "-m", "venv", PLACE], check=True)
    own = [interpreter(), *PIP, *flags]
    subprocess.run([*own, "-c", ROOT / "constraints.txt", "-e", f"{ROOT}[all]"], check=True)
    subprocess.run([*own, "--no-deps", *PEERS], check=True)
    stamp.write_text(wanted)


def run_inside(arguments: list[str]) -> int:
    """Run `python -m benchmarks.peers` in the environment with these arguments; return its exit status."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run([interpreter(), "-m", "benchmarks.peers", *arguments], cwd=ROOT, env=variables).returncode


def versions() -> dict[str, str]:
    """Return the versions of the peers' packages in this environment."""
    return {name: version(name) for name in (wanted.partition("==")[0] for wanted in PEERS)}
