"""Reading datasets in Minari's format: `DIR/data/` with `metadata.json` and the episodes.

An episode of T steps stores T+1 observations, so o' costs no space. HDF5 episodes are read here, within bounds;
Minari's other formats (Arrow, Parquet) by Minari itself. Nothing that the metadata names is made or imported.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy.errors import SourceError
from snn_policy.offline.hdf5 import BoundedArrays, member, open_hdf5
from snn_policy.offline.replay_files import built
from snn_policy.offline.transitions import Transitions
from snn_policy.untrusted_files import MEGABYTE, checked, parse_json, reading

METADATA, EPISODES = "metadata.json", "main_data.hdf5"
FORMATS = ("hdf5", "arrow", "parquet")
QUALITIES = ("medium-replay", "medium-expert", "medium", "expert", "random", "simple", "human", "cloned")
MOST_ROWS = 10**9
Episode = dict[str, Any]


def data_directory(directory: Path) -> Path:
    """Return the folder that holds a dataset's metadata: DIR/data, or DIR itself.

    Raises:
        SourceError: there is none.
    """
    for candidate in (directory / "data", directory):
        if (candidate / METADATA).is_file():
            return candidate
    raise SourceError(f"{directory}: no Minari dataset (no data/{METADATA}); collect one: snn-policy train collect")


def stored_directory(dataset_id: str) -> Path | None:
    """Return the data folder of a dataset of the local Minari store (MINARI_DATASETS_PATH), None where it has none."""
    store = os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets"
    data = Path(store) / dataset_id / "data"
    return data if (data / METADATA).is_file() else None


def read_minari(data: Path) -> Transitions:
    """Read all episodes in order; where one neither terminated nor was truncated, its last row counts as truncated.

    Args:
        data: the folder that holds metadata.json.

    Raises:
        SourceError: truncated, incomplete, altered, or of spaces that are no arrays of numbers.
    """
    metadata = parse_json(checked(data / METADATA, 16 * MEGABYTE).read_bytes(), data / METADATA)
    with reading(data, "Minari dataset"):
        episodes, steps = (_count(metadata, name) for name in ("total_episodes", "total_steps"))
        shapes = {name: _box_shape(metadata, f"{name[:-1]}_space") for name in ("observations", "actions")}
        fields = _joined(_episodes(data, metadata, episodes), shapes)
        if len(fields["rewards"]) != steps:
            raise SourceError(f"holds {len(fields['rewards'])} steps of {steps}; it is incomplete, collect it again")
    dataset_id = metadata.get("dataset_id")
    name = dataset_id if isinstance(dataset_id, str) else data.parent.name
    return built(data, **fields, env_id=_environment(metadata), quality=_quality(metadata, name), name=name)


def _count(metadata: dict[str, Any], name: str) -> int:
    value = metadata.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_ROWS:
        raise SourceError(f"{METADATA}: {name} is {value!r}, not a count")
    if value == 0:
        raise SourceError(f"{METADATA}: {name} is 0; it is empty, or was never finished")
    return value


def _box_shape(metadata: dict[str, Any], name: str) -> tuple[int, ...]:
    text = metadata.get(name)
    space = json.loads(text) if isinstance(text, str) else None
    if not isinstance(space, dict) or not isinstance(shape := space.get("shape"), list):
        kind = space.get("type") if isinstance(space, dict) else text
        raise SourceError(f"{METADATA}: {name} is {kind!r}; only Box spaces (one array of numbers) can be trained on")
    return tuple(int(size) for size in shape)


def _episodes(data: Path, metadata: dict[str, Any], episodes: int) -> Iterator[Episode]:
    stored_as = metadata.get("data_format", "hdf5")
    if stored_as not in FORMATS:
        raise SourceError(f"{METADATA}: data_format {stored_as!r}; expected one of {', '.join(FORMATS)}")
    if stored_as == "hdf5":
        yield from _hdf5_episodes(data / EPISODES, episodes)
        return
    try:
        from minari.dataset.minari_storage import MinariStorage

        storage = MinariStorage.read(data)
    except ImportError as error:
        raise ImportError(f"{data}: reading {stored_as} needs: pip install 'minari[arrow]' ({error})") from None
    yield from storage.get_episodes(range(episodes))  # pyright: ignore[reportReturnType]


def _hdf5_episodes(path: Path, episodes: int) -> Iterator[Episode]:
    bounded = BoundedArrays()
    with open_hdf5(path, "file of episodes") as file:
        for index in range(episodes):
            group = member(file, f"episode_{index}")
            if not hasattr(group, "keys"):
                raise SourceError(f"episode_{index} is not a group of arrays")
            names = ("observations", "actions", "rewards", "terminations", "truncations")
            yield {name: bounded.read(group, name) for name in names}


def _joined(episodes: Iterator[Episode], shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    parts: dict[str, list[Any]] = {}
    for index, episode in enumerate(episodes):
        for name, array in _rows(index, episode, shapes).items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _rows(index: int, episode: Episode, shapes: dict[str, tuple[int, ...]]) -> Episode:
    """Return one episode's rows as `Transitions` has them."""
    arrays = {name: np.asarray(episode[name]) for name in ("rewards", "terminations", "truncations", *shapes)}
    steps = arrays["rewards"].shape[0] if arrays["rewards"].ndim == 1 else -1
    expected = {
        "rewards": (steps,), "terminations": (steps,), "truncations": (steps,),
        "observations": (steps + 1, *shapes["observations"]), "actions": (steps, *shapes["actions"]),
    }  # fmt: skip
    for name, shape in expected.items():
        if arrays[name].shape != shape or steps < 1:
            raise SourceError(f"episode_{index}: {name} has shape {arrays[name].shape}, expected {shape}")
    observations = arrays.pop("observations")
    truncations = arrays["truncations"].copy()
    truncations[-1] |= not arrays["terminations"][-1]
    return {
        **arrays,
        "truncations": truncations,
        "observations": observations[:-1],
        "next_observations": observations[1:],
    }


def _environment(metadata: dict[str, Any]) -> str | None:
    """Return the id in the recorded specification; never one that would import a module."""
    try:
        env_id = json.loads(metadata["env_spec"])["id"]
    except (LookupError, TypeError, ValueError):
        return None
    return env_id if isinstance(env_id, str) and re.fullmatch(r"[\w./-]+", env_id) else None


def _quality(metadata: dict[str, Any], name: str) -> str | None:
    if isinstance(given := metadata.get("quality"), str):
        return given
    last = re.sub(r"-v\d+$", "", name.split("/")[-1])
    return next((quality for quality in QUALITIES if last == quality or last.endswith(f"-{quality}")), None)
