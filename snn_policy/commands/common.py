"""What the commands share: their common options, where policies are found, and where results go."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from snn_policy.atomic_files import write_atomically
from snn_policy.bundle.files import DECISION_FILE, GRAPH_FILES, POLICY_FILE
from snn_policy.commands.arguments import STDOUT
from snn_policy.energy import PROFILES
from snn_policy.progress import busy as busy

if TYPE_CHECKING:
    from snn_policy.actor import Actor
    from snn_policy.exporting.onnx_policy import OnnxPolicy
    from snn_policy.policy import SpikingPolicy

Command = TypeVar("Command", bound=Callable[..., None])
RESULT_OF = "snn-policy"
FORMATS = (
    "a bundle directory, a Stable-Baselines3 .zip, an .onnx file, a TorchScript archive or a checkpoint (.pt, .pth), "
    "a reference .safetensors + .json pair"
)

EnvironmentOption = Annotated[
    str | None,
    typer.Option("--env", metavar="ID", help="Gymnasium id; by default the one stored with the policy."),
]
EpisodesOption = Annotated[int, typer.Option(help="Whole episodes to run.", min=1)]
SeedOption = Annotated[int, typer.Option(help="Seed of the first episode; the following ones count on.", min=0)]
NumEnvsOption = Annotated[
    int | None, typer.Option(help="Environments side by side; by default at most 10 per worker.", min=1)
]
WorkersOption = Annotated[
    int, typer.Option(help="Processes that share the episodes; 0: one per core. Starting them takes seconds.", min=0)
]
ProfileOption = Annotated[
    str,
    typer.Option(
        metavar="NAME", help=f"What operations cost: {', '.join(PROFILES)}, or all of them. JSON always has all."
    ),
]
JsonOption = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="[FILE|-]",
        help="Everything measured as JSON: to FILE (ending in .json), or alone on stdout for '-' or no FILE.",
    ),
]


def with_options_of(function: Callable[..., Any], *without: str) -> Callable[[Command], Command]:
    """Let a command take another function's options, too: it is given them by keyword, after its own.

    Args:
        function: what it passes them on to; an argument of its command line comes first.
        without: names of options that the command does not take.
    """

    def extended(command: Command) -> Command:
        own = [option for option in signature(command).parameters.values() if option.kind != Parameter.VAR_KEYWORD]
        mine = {option.name for option in own}
        theirs = [option for option in signature(function).parameters.values() if option.name not in {*without, *mine}]
        first, *rest = (option.replace(kind=Parameter.KEYWORD_ONLY) for option in theirs)
        options = [first, *(option.replace(kind=Parameter.KEYWORD_ONLY) for option in own), *rest]
        command.__signature__ = Signature(options)  # pyright: ignore[reportFunctionMemberAccess]
        return command

    return extended


def check_target(target: str | None) -> None:
    """Raise before any long work if the JSON file could not be written, or is not an earlier result to replace."""
    if target is None or target == STDOUT:
        return
    path = Path(target).resolve()
    check_directory(path.parent, must_exist=True)
    if path.exists() and not _is_result(path):
        raise ValueError(f"{target}: exists and is not a result of snn-policy; choose another name for the JSON")


def _is_result(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("result_of") == RESULT_OF


def check_directory(directory: Path, must_exist: bool = False) -> None:
    """Raise before any long work if files could not be written into this directory (to be made, if missing)."""
    existing = directory.absolute()
    while not existing.exists() and not must_exist:
        existing = existing.parent
    if not existing.is_dir():
        what = "not a directory" if existing.exists() else "no such directory"
        raise ValueError(f"{existing}: {what}; choose another place")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"{existing}: not writable; choose another directory")


def write_json(values: Mapping[str, Any], target: str | None) -> bool:
    """Write where `--json` asks for it; whether stdout belongs to the JSON, so that nothing else may go there.

    Raises:
        OSError: naming the file, which is left as it was.
    """
    if target is None:
        return False
    text = json.dumps({"result_of": RESULT_OF, **values}, indent=1, allow_nan=False) + "\n"
    if target == STDOUT:
        sys.stdout.write(text)
        return True
    write_atomically(Path(target).resolve(), text.encode())
    return False


def place_of(source: str) -> Path:
    """Return a path as given, or a shipped policy's directory where there is no such path but such a name."""
    from snn_policy.exported import names
    from snn_policy.exported import path as shipped

    path = Path(source)
    return path if path.exists() or source not in names() else shipped(source)


def is_bundle(path: Path) -> bool:
    return (path / POLICY_FILE).is_file() or (path.name == POLICY_FILE and path.is_file())


def is_exported(path: Path) -> bool:
    """Return whether it is an exported graph, or a directory of them without the bundle they came from."""
    if path.name in GRAPH_FILES and path.is_file():
        return True
    return not is_bundle(path) and (path / DECISION_FILE).is_file()


def read_actor(source: str, **options: Any) -> "Actor":
    """Return the ANN of any source; options as `load_actor` takes them, None for those not given."""
    from snn_policy.sources import load_actor

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return load_actor(place_of(source), **given)
    except TypeError as error:  # an option that this kind of source does not take
        raise ValueError(f"{source}: {error}") from error


def read_spiking_policy(source: str) -> "SpikingPolicy | OnnxPolicy":
    """Return a bundle's policy, run by the package, or an exported graph's, run by ONNX Runtime."""
    from snn_policy.policy import SpikingPolicy

    path = place_of(source)
    if is_exported(path):
        from snn_policy.exporting.onnx_policy import OnnxPolicy

        return OnnxPolicy(path)
    if path.exists() and not is_bundle(path):
        raise ValueError(f"{source}: not a spiking policy; make one with: snn-policy convert {source} --out DIR")
    return SpikingPolicy.load(path.parent if path.name == POLICY_FILE else path)


def environment_of(policy: "Actor | SpikingPolicy | OnnxPolicy", env: str | None) -> str:
    """Return the environment asked for, or the policy's own."""
    known: Any = getattr(policy, "actor", policy)
    chosen = env or known.env_id
    if chosen is None:
        raise ValueError(f"{known.name}: its environment is not known; give it with --env ID")
    return chosen


def read_recording(path: Path, shape: tuple[int, ...]) -> Any:
    """Return the recorded observations in a .npy or .npz file, or in a folder that `train collect` has written.

    Args:
        shape: the policy's observation shape.

    Raises:
        FileNotFoundError: no such file.
        ValueError: naming the file: no recording, or not one of usable observations of that shape.
    """
    from snn_policy.calibration.recordings import as_recordings

    found = _recorded(path, shape)
    with naming(path):
        return as_recordings(found, shape)


@contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Name the file in what is said of its observations; None where they are from an environment."""
    try:
        yield
    except ValueError as problem:
        if path is None or not str(problem).startswith("observations"):
            raise
        raise ValueError(f"{path}: {problem}") from None


def _recorded(path: Path, shape: tuple[int, ...]) -> Any:
    from snn_policy.calibration import recording_files

    if not path.is_dir():
        return recording_files.read_recording(path, shape)
    import numpy as np

    from snn_policy.calibration.episodes import EpisodeRecording
    from snn_policy.offline.datasets import load_dataset

    data = load_dataset(path)
    ends = data.terminations | data.truncations
    return EpisodeRecording(data.observations, np.append(True, ends[:-1]))
