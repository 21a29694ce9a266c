"""Writing datasets in Minari's format, each complete or not at all.

Everything goes into a hidden folder beside the target, is flushed to the disk and only then renamed to it. A process
killed on the way leaves that hidden folder (`.NAME.partial-…`, safe to delete) and no dataset.
"""

import errno
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from snn_policy.offline.transitions import Transitions
from snn_policy.sources.files import needs_extra

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
OVERHEAD = 1.5
"""Free space asked for in advance, over the arrays' own size: HDF5 stores them in chunks that are not full."""


def save_dataset(data: Transitions, directory: str | Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a dataset that `load_dataset`, and Minari itself, read.

    Minari finds it by name with MINARI_DATASETS_PATH set to the parent directory. Its id is the directory's name,
    with -v0 where that has no version. Infos are not stored; observations and actions are stored as float32.

    Args:
        directory: a place where nothing is yet; its parents are made.
        about: what else to store as metadata: `algorithm_name`, `description`, and any other key with JSON values.

    Raises:
        FileExistsError: there is something at the place.
        ValueError: rows of one episode that do not follow one another, which this format cannot hold.
        OSError: no space left, or no permission; nothing is left behind.
    """
    target = Path(directory).absolute()
    check_free(target)
    data = data.ended()
    if len(cuts := data.cuts()):
        raise ValueError(
            f"{data.name}: row {cuts[0] + 1} does not continue row {cuts[0]}, though no episode ends there; "
            "Minari stores whole episodes: mark the cuts with data.with_cuts() first"
        )
    with _in_place_of(target, data) as partial:
        _write(data, partial / "data", _dataset_id(target.name), dict(about or {}))


def check_free(target: Path) -> None:
    """Raise `FileExistsError` if there is something at the place where a dataset shall go."""
    if target.exists():
        raise FileExistsError(errno.EEXIST, "already exists; delete it or choose another directory", str(target))


def _dataset_id(name: str) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
    base, _, version = plain.rpartition("-v")
    return plain if base and version.isdigit() else f"{plain}-v0"


@contextmanager
def _in_place_of(target: Path, data: Transitions) -> Iterator[Path]:
    """A folder that becomes `target` when the block ends well, and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    needed = int(OVERHEAD * (data.observations.nbytes + data.actions.nbytes + 6 * len(data)))
    if shutil.disk_usage(target.parent).free < needed:
        raise _full(target)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        with _clear_errors(target):
            yield partial
            partial.chmod(0o755)
            for path in (*partial.rglob("*"), partial):
                _flush(path)
        check_free(target)
        partial.rename(target)
        _flush(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _clear_errors(target: Path) -> Iterator[None]:
    """One line for what HDF5 reports as several, or as a RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError) as problem:
        number = getattr(problem, "errno", None)
        text = str(problem)
        if number in FULL or "No space left" in text or "File too large" in text or "unable to extend" in text:
            raise _full(target) from problem
        reason = (getattr(problem, "strerror", None) or text or type(problem).__name__).splitlines()[0]
        raise OSError(number or errno.EIO, f"cannot be written ({reason}); nothing was left", str(target)) from problem


def _full(target: Path) -> OSError:
    return OSError(errno.ENOSPC, "no space left for the dataset; free some, or choose another directory", str(target))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(data: Transitions, directory: Path, dataset_id: str, about: dict[str, Any]) -> None:
    try:
        import h5py  # noqa: F401
        import minari
        from minari.dataset.minari_storage import MinariStorage
    except ImportError as error:
        raise needs_extra(f"minari and h5py ({error})", "train") from None
    bound = np.float32(np.inf)
    storage = MinariStorage.new(
        directory,
        observation_space=gym.spaces.Box(-bound, bound, data.observation_shape),
        action_space=_action_space(data),
        env_spec=gym.registry.get(data.env_id or ""),
        data_format="hdf5",
    )
    storage.update_metadata(
        {"dataset_id": dataset_id, "minari_version": minari.__version__, "quality": data.quality, **about}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        storage.update_episodes(_buffers(data))
    storage.update_metadata({"dataset_size": float(storage.get_size())})


def _action_space(data: Transitions) -> gym.spaces.Box:
    """The environment's own where it can be made, else unbounded."""
    from snn_policy.environments import make_environment

    bound = np.float32(np.inf)
    unbounded = gym.spaces.Box(-bound, bound, (data.action_dim,))
    try:
        env = make_environment(data.env_id or "")
    except ValueError:
        return unbounded
    env.close()
    fits = isinstance(env.action_space, gym.spaces.Box) and env.action_space.shape == unbounded.shape
    return env.action_space if fits else unbounded  # pyright: ignore[reportReturnType]


def _buffers(data: Transitions) -> Iterator[Any]:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    for rows in data.episodes():
        last = data.next_observations[rows.stop - 1 : rows.stop]
        yield EpisodeBuffer(
            observations=np.concatenate([data.observations[rows], last]),  # pyright: ignore[reportArgumentType]
            actions=data.actions[rows],  # pyright: ignore[reportArgumentType]
            rewards=data.rewards[rows],  # pyright: ignore[reportArgumentType]
            terminations=data.terminations[rows],  # pyright: ignore[reportArgumentType]
            truncations=data.truncations[rows],  # pyright: ignore[reportArgumentType]
        )
