"""Seconds and memory of `convert`.

    python -m benchmarks.measure_convert time                                      # 256×256 actor, a minute
    python -m benchmarks.measure_convert memory                                    # the same actor, two minutes
    python -m benchmarks.measure_convert time pixels-small-cartpole-swingup --observations 200

Observations are those of the actor's own episodes, recorded beforehand. A conversion of a hundred of them, which does
not count, loads what is loaded once. Beside the wall time stands the processor time, which
other programs disturb less.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import resource
import subprocess
import sys
import time
from typing import Annotated, Any

import numpy as np
import typer

from snn_policy import Actor, convert, load_actor
from snn_policy.exported import path

VECTORS = "td3-HalfCheetah-v5"
KINDS: dict[str, dict[str, Any]] = {
    "sigma-delta": {},
    "IF T=8": {"neuron": "if", "timesteps": 8},
    "MT differential T=4": {"neuron": "mt", "coding": "differential", "timesteps": 4},
}
WARM_UP = 100
app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
Name = Annotated[str, typer.Argument(help="of a shipped actor")]


def recorded(actor: Actor, observations: int, most: int) -> np.ndarray:
    """So many observations, of which at most so many are recorded and then repeated."""
    own = actor.collect(str(actor.env_id), min(observations, most), progress=True)
    return np.resize(own, (observations, *own.shape[1:]))


@app.command("time")
def seconds(
    name: Name = VECTORS, observations: Annotated[int, typer.Option(help="to convert with", min=WARM_UP)] = 10_000
) -> None:
    """Seconds of a conversion, for sigma-delta, IF and MT neurons."""
    actor = load_actor(path(name))
    given = recorded(actor, observations, observations)
    for kind, settings in KINDS.items():
        convert(actor, given[:WARM_UP], **settings)
        wall, processor = time.perf_counter(), time.process_time()
        convert(actor, given, **settings)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(f"{kind:20} {wall:6.2f} s, of the processor {processor:6.2f} s", flush=True)


@app.command()
def memory(
    name: Name = VECTORS,
    observations: Annotated[str, typer.Option(help="numbers of them, separated by commas")] = "10000,100000",
) -> None:
    """By how much the process grows at most while it converts: of every kind and number, a process of its own."""
    for count in observations.split(","):
        for kind in KINDS:
            subprocess.run([sys.executable, __file__, "growth", name, kind, count], check=True)


@app.command()
def growth(name: Name, kind: str, observations: int) -> None:
    """One line of `memory`; at most 10,000 observations are recorded and repeated."""
    actor, settings = load_actor(path(name)), KINDS[kind]
    given = recorded(actor, observations, 10_000)
    convert(actor, given[:WARM_UP], **settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    convert(actor, given, **settings)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{kind:20} {observations:9,} observations of {given.nbytes / 2**20:6.1f} MiB: "
          f"{grown / 2**10:6.1f} MiB more", flush=True)  # fmt: skip


if __name__ == "__main__":
    app()
