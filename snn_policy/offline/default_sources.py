"""Where `snn-policy train collect` finds actors and replay buffers for the tasks it knows.

Experts are the reference actors in the folder that SNN_POLICY_REFERENCE_DIR names, else those shipped with the package:
nothing here looks at a place that the user has not named. Medium actors and replay buffers are what
`examples/train_actor.py train TASK --stop-at RETURN --run runs/medium-NAME` leaves behind in the working directory.
"""

import os
from pathlib import Path

EXPERTS = {
    "HalfCheetah-v5": ("tqc-HalfCheetah-v3", "td3-HalfCheetah-v5"),
    "Hopper-v5": ("ppo-Hopper-v3", "td3-Hopper-v5"),
    "Walker2d-v5": ("sac-Walker2d-v3", "td3-Walker2d-v5"),
}
"""Per task, the reference actor and the shipped one that takes its place."""
MEDIUM_RETURNS = {"HalfCheetah-v5": 4000, "Hopper-v5": 820, "Walker2d-v5": 1300}
"""About a third of the reference experts' returns."""


def expert_of(task: str) -> Path:
    """Return the reference actor (a path without ending) or the shipped bundle.

    Raises:
        ValueError: a task that has neither.
    """
    from snn_policy.exported import names
    from snn_policy.exported import path as shipped

    reference, bundle = EXPERTS.get(task, ("", f"td3-{task}"))
    folder = os.environ.get("SNN_POLICY_REFERENCE_DIR")
    if reference and folder and Path(folder, f"{reference}.safetensors").is_file():
        return Path(folder, reference)
    if bundle in names():
        return shipped(bundle)
    raise ValueError(
        f"{task}: no expert is known; give one with --source ACTOR, "
        "or name the folder of the reference actors in SNN_POLICY_REFERENCE_DIR"
    )


def medium_of(task: str) -> Path:
    """Return the actor of a stopped training run: the last one, or the best before it.

    Raises:
        ValueError: there is no such run here.
    """
    return _of_run(task, ("last.zip", "best.zip"), "--medium ACTOR")


def replay_of(task: str) -> Path:
    """Return the replay buffer of a stopped training run.

    Raises:
        ValueError: there is none.
    """
    return _of_run(task, ("replay.npz",), "--replay FILE")


def label(path: Path) -> str:
    """Return a short name for tables and metadata, without the place: the run's where the file's says nothing."""
    said_by_run = path.stem in ("last", "best", "replay", "model") and path.parent.name
    return path.parent.name if said_by_run else path.name.removesuffix(".zip")


def _of_run(task: str, files: tuple[str, ...], option: str) -> Path:
    run = Path("runs") / f"medium-{task.rpartition('-v')[0] or task}"
    for name in files:
        if (run / name).is_file():
            return run / name
    target = MEDIUM_RETURNS.get(task, "RETURN")
    raise ValueError(
        f"{run}: no {files[0]}; give {option}, or train one with: "
        f"python examples/train_actor.py train {task} --stop-at {target} --run {run}"
    )
