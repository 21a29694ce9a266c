"""Check the findings of "Error Amplification Limits ANN-to-SNN Conversion" (arXiv 2601.21778) on the reference actors.

    python -m benchmarks.error_amplification run                         # stop and start it as you like
    python -m benchmarks.error_amplification run --episodes 10 --decisions 0 --out results.json
    python -m benchmarks.error_amplification noise                       # the same errors' size, without their order
    python -m benchmarks.error_amplification table --page docs/error-amplification.md

A case is an actor and a conversion: IF neurons under rate coding, thresholds from maxima, T = 4, 8, 16 and α = 0, 0.3,
0.5, 1; and the default neuron. Every finished case of one protocol (episodes, decisions per episode, seed) is kept and
not measured again; the cases come in an order in which a part of them says most. Actors are those of
SNN_POLICY_REFERENCE_DIR, or of ../shared/policies beside the project.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: these matrices are small

import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import typer

from benchmarks.markers import replaced
from benchmarks.places import REFERENCE_ACTORS, RESULTS
from snn_policy import IF, Actor, SpikingPolicy, convert, load_actor
from snn_policy.analysis import consistency, decomposition, sensitivity, walk
from snn_policy.analysis.residuals import residual_cosines
from snn_policy.analysis.traces import record_traces
from snn_policy.atomic_files import write_atomically
from snn_policy.protocol import FloatArray

MARKER = "findings"
FILE, NOISE_FILE = (RESULTS / f"error_amplification{part}.json" for part in ("", "_noise"))
ENVIRONMENTS = {
    "tqc-HalfCheetah-v3": "HalfCheetah-v5",
    "sac-Walker2d-v3": "Walker2d-v5",
    "ppo-Hopper-v3": "Hopper-v5",
    "dqn-CartPole-v1": "CartPole-v1",
}
OBSERVATIONS, RECORDING_SEED, FIRST_SEED = 5_000, 0, 500_000
DEFAULT = (0, 0.0)
"""Stands for the default neuron among (T, α)."""
NOISE_OF = (8, 0.0)
VARIANTS = [
    (8, 0.0), DEFAULT, (8, 1.0), (4, 0.0), (16, 0.0), (8, 0.5), (4, 1.0), (16, 1.0), (8, 0.3), (4, 0.5), (16, 0.5),
    (4, 0.3), (16, 0.3),
]  # fmt: skip
FIGURES = (
    "consistency", "beside_ann", "correction", "drift", "residual_cosine", "error", "changed", "policy", "states",
    "interaction", "length", "lost",
)  # fmt: skip
PER_CENT = ("policy", "states", "interaction", "length", "lost")
Case = dict[str, Any]
application = typer.Typer(add_completion=False)


@application.command()
def run(
    episodes: Annotated[int, typer.Option(min=2)] = 10,
    decisions: Annotated[int, typer.Option(min=0, help="per episode at most; 0: to its end")] = 0,
    actors: Annotated[str, typer.Option(help="separated by commas")] = ",".join(ENVIRONMENTS),
    out: Path = FILE,
) -> None:
    """Measure what is missing."""
    until = decisions or None

    def find(actor: str, timesteps: int, alpha: float) -> Case:
        return measured(actor, timesteps, alpha, episodes, until)

    measure(conversions(actors), episodes, until, find, out)


def measure(
    keys: Iterable[Case], episodes: int, decisions: int | None, find: Callable[..., Case], out: Path
) -> None:  # fmt: skip
    """Measure the cases that the file does not hold yet, and write it after each; `find` takes a key's values."""
    cases = kept(out)
    for key in keys:
        case = {**key, "episodes": episodes, "decisions": decisions, "seed": FIRST_SEED}
        if any(case.items() <= held.items() for held in cases):
            continue
        began = time.perf_counter()
        cases.append({**case, **find(*key.values())})
        write_atomically(out, json.dumps(cases, separators=(",", ":")).encode())
        print(f"{' '.join(map(str, key.values()))}: {time.perf_counter() - began:.0f} s", flush=True)


def conversions(actors: str) -> Iterator[Case]:
    """Yield every conversion of every actor, all actors of a variant before the next."""
    for timesteps, alpha in VARIANTS:
        for actor in actors.split(","):
            yield {"actor": actor, "timesteps": timesteps, "alpha": alpha}


def kept(file: Path) -> list[Case]:
    """Return the cases measured so far."""
    return json.loads(file.read_text()) if file.exists() else []


@cache
def recorded(name: str) -> tuple[Actor, FloatArray]:
    """Return an actor and its recorded observations."""
    actor = load_actor(REFERENCE_ACTORS / f"{name}.safetensors")
    return actor, actor.collect(ENVIRONMENTS[name], OBSERVATIONS, seed=RECORDING_SEED)


def converted(name: str, timesteps: int, alpha: float) -> SpikingPolicy:
    """Return the conversion of a case."""
    actor, observations = recorded(name)
    if not timesteps:
        return convert(actor, observations)
    return convert(actor, observations, neuron=IF(timesteps=timesteps, threshold="max", alpha=alpha))


def environment_of(name: str, decisions: int | None) -> Callable[[], gym.Env]:
    """Return what makes an actor's environment, whose episodes end after so many decisions."""
    return lambda: gym.make(ENVIRONMENTS[name], max_episode_steps=decisions)


def measured(name: str, timesteps: int, alpha: float, episodes: int, decisions: int | None) -> Case:
    """Return the figures of a case: each with mean and interval."""
    actor, policy = recorded(name)[0], converted(name, timesteps, alpha)

    env = environment_of(name, decisions)
    walks = walk(actor, policy, env, episodes, FIRST_SEED)
    found = consistency(actor, policy, env, walks=walks).summary
    found |= decomposition(actor, policy, env, walks=walks).summary
    traces = record_traces(policy, actor, env, episodes=2, seed=FIRST_SEED)
    found["residual_cosine"] = residual_cosines(policy, traces).summary["all"]
    return {figure: measure.as_dict() for figure, measure in found.items()}


@application.command()
def noise(
    episodes: Annotated[int, typer.Option(min=2)] = 10,
    decisions: Annotated[int, typer.Option(min=0, help="per episode at most; 0: to its end")] = 0,
    actors: Annotated[str, typer.Option(help="separated by commas")] = ",".join(ENVIRONMENTS),
    out: Path = NOISE_FILE,
) -> None:
    """Measure what errors of the size of IF T = 8, α = 0 cost the ANN: constant, slow, white and alternating ones."""
    until = decisions or None
    keys = [{"actor": name} for name in actors.split(",")]
    measure(keys, episodes, until, lambda name: disturbed(name, episodes, until), out)


def disturbed(name: str, episodes: int, decisions: int | None) -> Case:
    """Return the errors' size, and what each kind of that size costs the ANN."""
    actor, env = recorded(name)[0], environment_of(name, decisions)
    walks = walk(actor, converted(name, *NOISE_OF), env, 2, FIRST_SEED)
    errors = np.concatenate([episode.errors / walks.unit for episode in walks.ann])
    size = float(np.sqrt(np.mean(errors**2)))
    found = sensitivity(actor, env, episodes, FIRST_SEED, size=size, gains=(1.0,)).summary
    return {"size": size, **{kind.partition("@")[0]: lost.as_dict() for kind, lost in found.items()}}


@application.command()
def table(
    file: Path = FILE,
    noise_file: Path = NOISE_FILE,
    page: Annotated[
        Path | None, typer.Option(help="a page whose tables are written anew, such as the docs' own")
    ] = None,
) -> None:
    """Print the tables, in Markdown, or write them into a page."""
    cases = kept(file)
    text = "\n".join([*tables(cases), *beside_ann_table(cases), *noise_table(kept(noise_file))])
    if page is None:
        print(text)
    else:
        page.write_text(replaced(page.read_text(), MARKER, text))


def tables(cases: list[Case]) -> Iterator[str]:
    """Yield the lines of all tables, one protocol after the other."""
    for episodes, decisions in sorted({(case["episodes"], case["decisions"] or 0) for case in cases}):
        chosen = [case for case in cases if (case["episodes"], case["decisions"] or 0) == (episodes, decisions)]
        until = f"of at most {decisions} decisions" if decisions else "to their end"
        yield f"{episodes} episodes of each policy, {until}, seeds {FIRST_SEED}…\n"
        for actor in ENVIRONMENTS:
            yield from lines(actor, [case for case in chosen if case["actor"] == actor])


def beside_ann_table(cases: list[Case]) -> Iterator[str]:
    """Yield the lines of the table of errors in the ANN's own episodes: a row for every actor and T, a column for every
    α; of every conversion the figures of most episodes."""
    most = {(case["actor"], case["timesteps"], case["alpha"]): case for case in sorted(cases, key=whole_episodes)}
    alphas = sorted({alpha for _, _, alpha in most})
    if cases:
        yield "| consistency beside the ANN | " + " | ".join(f"α = {alpha:g}" for alpha in alphas) + " |"
        yield "|---" * (1 + len(alphas)) + "|"
    for actor in ENVIRONMENTS:
        for timesteps in sorted({t for name, t, _ in most if name == actor}, key=lambda t: t or 99):
            cells = [most.get((actor, timesteps, alpha)) for alpha in alphas]
            label = f"IF T={timesteps}" if timesteps else "default neuron (its own α)"
            shown_cells = (shown("beside_ann", case["beside_ann"]) if case else "" for case in cells)
            yield f"| {actor}, {label} | " + " | ".join(shown_cells) + " |"
    yield ""


def whole_episodes(case: Case) -> tuple[bool, int]:
    """Return what orders protocols: whole episodes last, and the more the later."""
    return not case["decisions"], case["episodes"]


def noise_table(cases: list[Case]) -> Iterator[str]:
    """Yield the lines of the table of disturbed ANNs."""
    kinds = ("bias", "low_passed", "white", "alternating")
    if cases:
        yield "| ANN, disturbed: lost % | size | " + " | ".join(kind.replace("_", "-") for kind in kinds) + " |"
        yield "|---" * (2 + len(kinds)) + "|"
    for case in cases:
        yield f"| {case['actor']} | {case['size']:.2f} | {' | '.join(shown('lost', case[kind]) for kind in kinds)} |"


def lines(actor: str, cases: list[Case]) -> list[str]:
    """Return the table of an actor."""
    if not cases:
        return []
    names = [name for name in FIGURES if name != "changed" or any(case[name]["mean"] != 1 for case in cases)]
    heads = [name.replace("_", " ") + " %" * (name in PER_CENT) for name in names]
    rows = [f"| {actor} | {' | '.join(heads)} |", "|---" * (1 + len(names)) + "|"]
    for case in sorted(cases, key=lambda case: (case["timesteps"] or 99, case["alpha"])):
        label = f"IF T={case['timesteps']}, α={case['alpha']:g}" if case["timesteps"] else "default neuron"
        rows.append(f"| {label} | " + " | ".join(shown(name, case.get(name)) for name in names) + " |")
    return [*rows, ""]


def shown(name: str, figure: dict[str, Any] | None) -> str:
    """Return a mean and its interval."""
    digits = 1 if name in PER_CENT else 2
    if figure is None or figure["mean"] is None:
        return "–"
    low, high = figure["interval"]
    interval = f" ({low:.{digits}f} … {high:.{digits}f})" if low is not None else ""
    return f"{figure['mean']:.{digits}f}{interval}"


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=UserWarning, module="glfw")
    application()
