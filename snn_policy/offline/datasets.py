"""Datasets of transitions by what they are stored as: Minari, D4RL's HDF5, or this project's own replay buffers.

    data = load_dataset("runs/datasets/HalfCheetah-v5-expert")      # a directory in Minari's format
    data = load_dataset("mujoco/halfcheetah/expert-v0")             # in the local Minari store
    data = load_dataset("halfcheetah_medium-v2.hdf5")               # a D4RL file
    data = load_dataset("runs/medium-HalfCheetah/replay.npz")       # a replay buffer

Files are data: none of them is ever unpickled, and nothing they name is imported.
"""

from dataclasses import replace
from pathlib import Path

from snn_policy.errors import SourceError
from snn_policy.offline.d4rl_files import read_d4rl
from snn_policy.offline.minari_files import data_directory, read_minari, stored_directory
from snn_policy.offline.minari_writing import save_dataset
from snn_policy.offline.replay_files import read_replay
from snn_policy.offline.transitions import Transitions, concatenate

__all__ = ["Transitions", "concatenate", "load_dataset", "save_dataset"]

ACCEPTED = "a directory in Minari's format, the id of a dataset in the local Minari store, a D4RL .hdf5, a replay .npz"


def load_dataset(path_or_id: str | Path, *, env_id: str | None = None, quality: str | None = None) -> Transitions:
    """Read a dataset, whole, into memory.

    Args:
        path_or_id: see `ACCEPTED`.
        env_id: its environment, in place of what the file says.
        quality: its quality, in place of what the file says.

    Raises:
        SourceError: no such dataset, damaged, incomplete, of another format, or with values nobody can learn from.
        ImportError: h5py or minari is missing.
    """
    data = _read(Path(path_or_id), str(path_or_id))
    return replace(data, env_id=env_id or data.env_id, quality=quality or data.quality)


def _read(path: Path, given: str) -> Transitions:
    if path.is_dir():
        return read_minari(data_directory(path))
    ending = path.suffix.lower()
    if path.exists() or ending in (".hdf5", ".h5", ".npz"):
        if ending in (".hdf5", ".h5"):
            return read_d4rl(path)
        if ending == ".npz":
            return read_replay(path)
        raise SourceError(f"{path}: a file of unknown ending; expected {ACCEPTED}")
    stored = stored_directory(given)
    if stored is None:
        raise SourceError(f"{given}: no such file, directory or Minari dataset; expected {ACCEPTED}")
    return read_minari(stored)
