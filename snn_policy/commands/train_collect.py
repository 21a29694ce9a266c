"""`snn-policy train collect`: an offline dataset in one of D4RL's four qualities, in Minari's format."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from snn_policy.commands.common import (
    FORMATS,
    JsonOption,
    busy,
    check_directory,
    check_target,
    read_actor,
    write_json,
)

if TYPE_CHECKING:
    from snn_policy.actor import Actor
    from snn_policy.offline.transitions import Transitions

QUALITIES = ("expert", "medium", "medium-replay", "medium-expert")
TAKES = {
    "expert": {"source", "steps", "seed", "noise"},
    "medium": {"medium", "steps", "seed", "noise"},
    "medium-replay": {"replay"},
    "medium-expert": {"source", "medium", "steps", "seed", "noise"},
}
"""The options that each quality takes."""

Task = Annotated[str, typer.Argument(metavar="TASK", help="A Gymnasium id, such as HalfCheetah-v5.")]
Quality = Annotated[str, typer.Option(metavar="|".join(QUALITIES), help="As in D4RL.", show_default=False)]
Source = Annotated[str | None, typer.Option(metavar="ACTOR", help=f"Expert: a shipped policy's name, or {FORMATS}.")]
Medium = Annotated[str | None, typer.Option(metavar="ACTOR", help="The medium actor; runs/medium-NAME/last.zip.")]
Replay = Annotated[Path | None, typer.Option(metavar="FILE", help="Its replay buffer; runs/medium-NAME/replay.npz.")]
Steps = Annotated[int | None, typer.Option(help="Transitions, exactly; 100000 by default.", min=1)]
Seed = Annotated[int | None, typer.Option(help="Of the first episode and of the noise; 0 by default.", min=0)]
Noise = Annotated[
    float | None,
    typer.Option(help="Of the actions: Gaussian, in half-ranges; 0.1 by default.", min=0, max=1),
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Must not exist yet; runs/datasets/TASK-QUALITY by default.")
]


def register(app: typer.Typer) -> None:
    """Add the command to `snn-policy train`."""
    app.command("collect")(collect)


def collect(
    task: Task,
    quality: Quality,
    source: Source = None,
    medium: Medium = None,
    replay: Replay = None,
    steps: Steps = None,
    seed: Seed = None,
    noise: Noise = None,
    out: Out = None,
    json: JsonOption = None,
) -> None:
    """Make an offline dataset of a task: rollouts of trained actors, or a replay buffer, written in Minari's format.

    [bold]Examples[/]:

    snn-policy train collect HalfCheetah-v5 --quality expert

    snn-policy train collect Walker2d-v5 --quality medium-expert --source expert.zip --medium medium.zip
    """
    from snn_policy.offline.minari_writing import check_free, check_installed, save_dataset

    options = {"source": source, "medium": medium, "replay": replay, "steps": steps, "seed": seed, "noise": noise}
    given = {name: value for name, value in options.items() if value is not None}
    _check_options(quality, set(given))
    directory = out or Path("runs") / "datasets" / f"{task}-{quality}"
    check_target(json)
    check_installed()
    check_free(directory)
    check_directory(directory)
    data, recipe = _replayed(task, given) if quality == "medium-replay" else _rolled_out(task, quality, given)
    about = {"algorithm_name": data.name, "description": _description(data), "recipe": recipe}
    with busy("writing"):
        save_dataset(data, directory, about)
    _report(data, directory, recipe, json)


def _check_options(quality: str, given: set[str]) -> None:
    if quality not in QUALITIES:
        raise ValueError(f"--quality {quality!r}: expected one of {', '.join(QUALITIES)}")
    for name in sorted(given - TAKES[quality]):
        takes = ", ".join(f"--{option}" for option in sorted(TAKES[quality]))
        raise ValueError(f"--{name}: the quality {quality} does not take it; it takes {takes}")


def _rolled_out(task: str, quality: str, given: dict[str, Any]) -> "tuple[Transitions, dict[str, Any]]":
    from snn_policy.offline.collect import DEFAULT_NOISE, DEFAULT_STEPS, medium_expert, rollout
    from snn_policy.offline.default_sources import expert_of, medium_of

    settings = {"steps": DEFAULT_STEPS, "seed": 0, "noise": DEFAULT_NOISE}
    settings |= {name: given[name] for name in settings if name in given}
    wanted = {"expert": ["source"], "medium": ["medium"], "medium-expert": ["medium", "source"]}[quality]
    default = {"source": expert_of, "medium": medium_of}
    actors = [_actor(Path(given[name]) if name in given else default[name](task)) for name in wanted]
    if quality == "medium-expert":
        data = medium_expert(actors[0], actors[1], task, **settings, progress=True)
    else:
        data = rollout(actors[0], task, **settings, quality=quality, progress=True)
    return data, {"actors": [actor.name for actor in actors], **settings}


def _actor(path: Path) -> "Actor":
    from snn_policy.offline.default_sources import label

    return replace(read_actor(str(path)), name=label(path))


def _replayed(task: str, given: dict[str, Any]) -> "tuple[Transitions, dict[str, Any]]":
    from snn_policy.offline.collect import medium_replay
    from snn_policy.offline.datasets import load_dataset
    from snn_policy.offline.default_sources import label, replay_of

    path = given.get("replay") or replay_of(task)
    with busy("reading"):
        data = medium_replay(replace(load_dataset(path), name=label(path)), task)
    return data, {"replay": data.name}


def _description(data: "Transitions") -> str:
    return f"{data.env_id} {data.quality}: transitions of {data.name}, collected by snn-policy"


def _report(data: "Transitions", directory: Path, recipe: dict[str, Any], json: str | None) -> None:
    from rich.console import Console

    from snn_policy.commands.tables import dataset_table
    from snn_policy.offline.collect import summarise
    from snn_policy.offline.scores import NOTE

    summary = asdict(summarise(data))
    document = {"out": str(directory), "env_id": data.env_id, "quality": data.quality, "recipe": recipe, **summary}
    if not write_json(document, json):
        console = Console()
        console.print(dataset_table(document))
        if summary["score"] is not None:
            console.print(NOTE, style="dim")
        print(f"wrote {directory}; read it with snn_policy.offline.datasets.load_dataset, or with Minari")
