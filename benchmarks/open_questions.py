"""The open questions of "Error Amplification Limits ANN-to-SNN Conversion" (arXiv 2601.21778), tried.

    python -m benchmarks.open_questions alpha           # α without a search; again with --timesteps 4
    python -m benchmarks.open_questions help            # why spiking sometimes helps: its parts, added to the ANN alone
    python -m benchmarks.open_questions hidden          # partly observed tasks: recurrent policies, stacked frames
    python -m benchmarks.open_questions agents          # two agents in one task
    python -m benchmarks.open_questions table --page docs/error-amplification.md

Every actor that is finished is kept in `benchmarks/results/open_questions.json` and not measured again, so a command
may be stopped and started. What is chosen is chosen on the seeds 600000…, and reported on 700000….
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: these matrices are small

import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import alpha_rules, beyond_one_observer, disturbed_ann
from benchmarks.markers import replaced
from benchmarks.places import RESULTS
from benchmarks.studied_actors import rounded
from snn_policy.atomic_files import write_atomically

MARKER, FILE = "open-questions", RESULTS / "open_questions.json"
application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

ALPHA_ACTORS, HELPED_ACTORS = ",".join(alpha_rules.ACTORS), ",".join(disturbed_ann.ACTORS)
TASKS, SPRINGS = ",".join(beyond_one_observer.TASKS), "0,1,4"
Names = Annotated[str, typer.Option(help="separated by commas")]
TITLES = {
    "alpha-8": "**α without a search.** The rule's α: share of the best α's return (95 % interval) / failed episodes.",
    "alpha-4": "**The same at T = 4.**",
    "help": "**Parts of spiking, added to the ANN.** Strength: share of the ANN's return (95 % interval) / failed "
    "episodes; + helps, − harms: for certain, and by more than 0.5 % of the return or in the failures.",
    "hidden": "**Partly observed tasks.** Errors in half-ranges (discrete: one-hot).",
    "agents": "**Two agents.** Shares of the ANN pair's return (95 % interval) / failed episodes.",
}
Out = Annotated[Path, typer.Option(help="the file of all results")]


@application.command()
def alpha(actors: Names = ALPHA_ACTORS, episodes: int = 50, timesteps: int = 8, out: Out = FILE) -> None:
    """Compare rules for α with the best of a grid, IF neurons."""
    measure(f"alpha-{timesteps}", actors, lambda name: alpha_rules.measured(name, episodes, timesteps), out)


@application.command("help")
def parts(actors: Names = HELPED_ACTORS, episodes: int = 200, out: Out = FILE) -> None:
    """Add each part of what spiking does to actions to the ANN alone."""
    measure("help", actors, lambda name: disturbed_ann.measured(name, episodes), out)


@application.command()
def hidden(tasks: Names = TASKS, episodes: int = 50, out: Out = FILE) -> None:
    """Measure error amplification in partly observed tasks."""
    measure("hidden", tasks, lambda name: beyond_one_observer.measured(name, episodes), out)


@application.command()
def agents(springs: Names = SPRINGS, episodes: int = 50, out: Out = FILE) -> None:
    """Measure what two agents keep that a spring of this stiffness couples."""
    measure("agents", springs, lambda name: beyond_one_observer.measured_pair(name, episodes), out)


def measure(question: str, names: str, find: Callable[[str], dict[str, Any]], out: Path) -> None:
    """Measure the names that the file does not hold yet, and write it after each."""
    for name in names.split(","):
        if name in kept(out).get(question, {}):
            continue
        began = time.perf_counter()
        record, found = rounded(find(name)), kept(out)
        found.setdefault(question, {})[name] = record
        write_atomically(out, json.dumps(found, separators=(",", ":"), allow_nan=False).encode())
        print(f"{question} {name}: {time.perf_counter() - began:.0f} s", flush=True)


def kept(file: Path) -> dict[str, dict[str, Any]]:
    """Return what was measured so far: question → name → record."""
    return json.loads(file.read_text()) if file.exists() else {}


@application.command()
def table(file: Path = FILE, page: Annotated[Path | None, typer.Option(help="written anew")] = None) -> None:
    """Print the tables, in Markdown, or write them into a page."""
    written = text(kept(file))
    if page is None:
        print(written)
    else:
        page.write_text(replaced(page.read_text(), MARKER, written))


def text(found: dict[str, dict[str, Any]]) -> str:
    """Return all tables, each after the line that says what it holds."""
    tables = {
        "alpha-8": alpha_rules.table,
        "alpha-4": partial(alpha_rules.table, timesteps=4),
        "help": disturbed_ann.table,
        "hidden": beyond_one_observer.table,
        "agents": beyond_one_observer.pair_table,
    }
    return "\n\n".join("\n".join([TITLES[name], "", *tables[name](found[name])]) for name in tables if name in found)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning, module="glfw")
    application()
