"""Writing datasets in Minari's format, each complete or not at all.

Everything goes into a hidden folder beside the target, is flushed to the disk and only then renamed to it. A process
killed on the way leaves that hidden folder (`.NAME.partial-…`, safe to delete) and no dataset.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from snn_policy.offline.minari_files import EPISODES
from snn_policy.offline.transitions import FLAG_ARRAYS, Transitions

FULL, FULL_ERRORS = "no space left; free some, or choose another place", {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
        ImportError: minari or h5py is missing.
    """
    target = Path(directory).absolute()
    check_installed()
    check_free(target)
    data = data.ended()
    if len(cuts := data.cuts()):
        raise ValueError(
            f"{data.name}: row {cuts[0] + 1} does not continue row {cuts[0]}, though no episode ends there; "
            "Minari stores whole episodes: mark the cuts with data.with_cuts() first"
        )
    with _in_place_of(target) as partial:
        _write(data, partial / "data", _dataset_id(target.name), dict(about or {}))


def check_installed() -> None:
    """Raise `ImportError` if what writes datasets is missing."""
    try:
        import h5py  # noqa: F401
        import minari  # noqa: F401
    except ImportError as error:
        raise ImportError(f"writing a dataset needs pip install 'snn-policy[train]' ({error})") from None


def check_free(target: Path) -> None:
    """Raise `FileExistsError` if there is something at the place where a dataset shall go."""
    if target.exists():
        raise FileExistsError(errno.EEXIST, "already exists; delete it or choose another directory", str(target))


def _dataset_id(name: str) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
    base, _, version = plain.rpartition("-v")
    return plain if base and version.isdigit() else f"{plain}-v0"


@contextmanager
def _in_place_of(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes `target` when the block ends well, and vanishes when it does not."""
    partial = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        yield partial
        partial.chmod(0o755)
        for path in (*partial.rglob("*"), partial):
            _flush(path)
        check_free(target)
        partial.rename(target)
        _flush(target.parent)
    except FileExistsError:
        raise
    except OSError as problem:
        reason = FULL if problem.errno in FULL_ERRORS else f"cannot be written ({problem.strerror or problem})"
        raise OSError(problem.errno, f"{reason}; nothing was left there", str(target)) from problem
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(data: Transitions, directory: Path, dataset_id: str, about: dict[str, Any]) -> None:
    import minari
    from minari.dataset.minari_storage import MinariStorage

    episodes = _hdf5_image(data)
    bound = np.float32(np.inf)
    storage = MinariStorage.new(
        directory,
        observation_space=gym.spaces.Box(-bound, bound, data.observation_shape),
        action_space=_action_space(data),
        env_spec=gym.registry.get(data.env_id or ""),
        data_format="hdf5",
    )
    (directory / EPISODES).write_bytes(episodes)
    contents = {"dataset_id": dataset_id, "minari_version": minari.__version__, "quality": data.quality}
    counts = {"total_episodes": len(data.episodes()), "total_steps": len(data), "dataset_size": len(episodes) / 1e6}
    storage.update_metadata({**contents, **about, **counts})


def _hdf5_image(data: Transitions) -> bytes:
    """Return the episodes file, in Minari's layout, with checksums.

    Built in memory, and not by Minari (0.5.4 was tried), which writes to the disk through HDF5: where the disk is full,
    that ends the process by a segmentation fault, without an error; and it stores no checksums.
    """
    import h5py

    with h5py.File("episodes", "w", driver="core", backing_store=False, track_order=True) as file:
        for index, rows in enumerate(data.episodes()):
            group = file.create_group(f"episode_{index}")
            group.attrs.update({"id": index, "total_steps": rows.stop - rows.start})
            last = data.next_observations[rows.stop - 1 : rows.stop]
            arrays = {name: getattr(data, name)[rows] for name in ("actions", "rewards", *FLAG_ARRAYS)}
            arrays["observations"] = np.concatenate([data.observations[rows], last])
            for name, array in arrays.items():
                grows = {"chunks": True, "maxshape": (None, *array.shape[1:])}
                group.create_dataset(name, data=array, fletcher32=True, **grows)
        file.flush()
        return file.id.get_file_image()


def _action_space(data: Transitions) -> gym.spaces.Box:
    """Return the environment's own where it can be made, else unbounded."""
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
