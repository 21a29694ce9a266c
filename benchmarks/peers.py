"""Measure this package beside SpikingJelly, sinabs and a plain loop in torch, and write docs/comparison.md's tables.

    python -m benchmarks.peers                              # makes .nightly/peers, then measures all parts in it
    python -m benchmarks.peers --only returns --resume      # goes on where a run was stopped, with the same --steps
    python -m benchmarks.peers --steps 250                  # episodes cut there: a quarter of the time
    python -m benchmarks.peers --only timing,accepts        # some parts anew, the others as they are stored
    python -m benchmarks.peers --small --out run/peers      # a trial of minutes, documents untouched
    python -m benchmarks.peers --tables-only                # tables and picture from benchmarks/results/peers.json

It installs nothing into the project's environment: `peers_environment` makes one of its own, and this command starts
itself there. The parts: `returns` (episodes), `timing` (single decisions and batches), `accepts` (what each converter
does with a module), `state` (what a forgotten reset does), `exports` (ONNX, NIR).
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.conditions import conditions, load
from benchmarks.peers_environment import inside, make_environment, run_inside, versions
from benchmarks.places import RESULTS
from snn_policy.atomic_files import write_atomically

STORED = "peers.json"
PARTS = ("returns", "timing", "accepts", "state", "exports")
SMALL = {"episodes": 2, "steps": 50, "recorded": 600, "timesteps": (4,), "rounds": 3, "actors": ("td3-Pendulum-v1",)}
"""What a trial measures: an actor that the package ships, so that no reference actors are needed."""
FULL = {"episodes": 20, "steps": None, "recorded": 3_000, "timesteps": (4, 8, 16, 32), "rounds": 40, "actors": None}
Found = dict[str, Any]


def main(
    only: Annotated[str, typer.Option(help="parts, separated by commas")] = ",".join(PARTS),
    out: Annotated[Path, typer.Option(help=f"directory of {STORED}")] = RESULTS,
    small: Annotated[bool, typer.Option("--small", help="a trial: one small shipped actor, few episodes")] = False,
    steps: Annotated[int | None, typer.Option(help="cut episodes there; by default the environment does")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="keep the cells of returns that are stored")] = False,
    tables_only: Annotated[bool, typer.Option("--tables-only", help="measure nothing")] = False,
) -> None:
    """Measure the parts in an environment of their own, and rewrite the page's tables and picture."""
    wanted = only.split(",")
    if unknown := sorted(set(wanted) - set(PARTS)):
        raise typer.BadParameter(f"--only {','.join(unknown)}: expected some of {', '.join(PARTS)}")
    if not tables_only:
        if not inside():
            make_environment()
            raise typer.Exit(run_inside(sys.argv[1:]))
        for part in wanted:
            measure(part, out / STORED, SMALL if small else {**FULL, "steps": steps}, resume)
    if out.resolve() == RESULTS.resolve():
        from benchmarks.peers_tables import write_page

        write_page(read(out / STORED))


def measure(part: str, file: Path, effort: Found, resume: bool) -> None:
    """Measure a part and store it, with its conditions, beside those that are stored."""
    import torch

    torch.set_num_threads(1)
    before = load()
    if part == "returns":
        from benchmarks.peers_returns import run_cells

        known = read(file).get("returns", []) if resume else []
        found: Any = run_cells(effort, known, lambda rows: store(file, returns=rows))
    else:
        from benchmarks import peers_exports, peers_probes, peers_timing

        probes = {"timing": peers_timing.timing, "accepts": peers_probes.accepts, "state": peers_probes.state,
                  "exports": peers_exports.exports}  # fmt: skip
        found = probes[part](effort)
    conditions_of = {**read(file).get("conditions", {}), part: {**conditions(before), "peers": versions()}}
    store(file, conditions=conditions_of, **{part: found})


def read(file: Path) -> Found:
    """Return what is stored, nothing where there is no file."""
    return json.loads(file.read_text()) if file.is_file() else {}


def store(file: Path, **parts: Any) -> None:
    """Store parts beside those of the file, all on one line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {**read(file), **parts}
    write_atomically(file, (json.dumps(kept, separators=(",", ":"), allow_nan=False) + "\n").encode())


if __name__ == "__main__":
    typer.run(main)
