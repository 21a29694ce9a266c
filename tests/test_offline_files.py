"""Files of others: D4RL's HDF5, replay buffers, and whatever else such a file may hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy.errors import SourceError
from snn_policy.offline.datasets import load_dataset, save_dataset
from tests.recorded import ARRAYS, counted, same

h5py = pytest.importorskip("h5py")


def d4rl(path: Path, **changed: Any) -> Path:
    """A file of three episodes, as D4RL stores them: rows 0–4 timed out, 5–7 fell, 8–11 timed out."""
    data = counted()
    arrays = {"observations": data.observations, "actions": data.actions, "rewards": data.rewards}
    arrays |= {"terminals": data.terminations, "timeouts": data.truncations} | changed
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file.create_dataset(name, data=array)
    return path


def test_a_d4rl_file_is_read_as_d4rl_builds_its_transitions(tmp_path: Path):
    data = load_dataset(d4rl(tmp_path / "hopper_medium_replay-v2.hdf5"))
    assert (data.env_id, data.quality, data.name) == ("Hopper-v5", "medium-replay", "hopper_medium_replay-v2")
    # rows 4 and 11 timed out: what they led to is not stored
    assert data.observations[:, 0].tolist() == [0, 1, 2, 3, 100, 101, 102, 200, 201, 202]
    assert data.next_observations[[0, 3, 4, 9], 0].tolist() == [1, 4, 101, 203]
    assert np.flatnonzero(data.terminations).tolist() == [6]
    assert np.flatnonzero(data.truncations).tolist() == [3, 9]


def test_stored_next_observations_are_used_and_keep_every_row(tmp_path: Path):
    path = d4rl(tmp_path / "walker2d-expert-v2.hdf5", next_observations=counted().next_observations)
    data = load_dataset(path)
    assert same(data, counted())
    assert (data.env_id, data.quality) == ("Walker2d-v5", "expert")


def test_without_timeouts_every_thousandth_row_of_an_episode_is_one(tmp_path: Path):
    rows = np.arange(2_500, dtype=np.float32)[:, None]
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file.update({"observations": rows, "actions": rows * 0, "rewards": rows[:, 0], "terminals": rows[:, 0] == 299})
    data = load_dataset(tmp_path / "mine.h5")
    left_out = set(range(2_500)) - set(data.observations[:, 0].astype(int).tolist())
    assert left_out == {1_299, 2_299, 2_499}
    assert (data.env_id, data.quality, len(data.episodes())) == (None, None, 4)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"terminals": None}, "lacks 'terminals'"),
        ({"rewards": np.zeros(7)}, "different lengths"),
        ({"actions": np.zeros((12, 1)) + np.nan}, r"actions\[0\]: holds NaN"),
        ({"observations": np.zeros(12)}, "observations: expected"),
        ({"observations": np.full((12, 3), b"no")}, "not numbers"),
    ],
)
def test_a_d4rl_file_that_cannot_be_learned_from_is_refused(tmp_path: Path, changed: dict[str, Any], named: str):
    path = d4rl(tmp_path / "bad.hdf5", **changed)
    with pytest.raises(SourceError, match=named) as refusal:
        load_dataset(path)
    assert str(path) in str(refusal.value)


def test_declared_sizes_that_nobody_stored_are_refused_without_reading(tmp_path: Path):
    path = d4rl(tmp_path / "huge.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (10**12, 17), "f4", chunks=(1000, 17))
    with pytest.raises(SourceError, match="observations brings it to 68,"):
        load_dataset(path)
    with h5py.File(path, "a") as file:
        del file["observations"]
        file.create_dataset("observations", (10**6, 17), "f4", chunks=(1000, 17))
    with pytest.raises(SourceError, match="hardly any of it is stored"):
        load_dataset(path)


def test_links_out_of_a_file_are_not_followed(tmp_path: Path):
    d4rl(tmp_path / "other.hdf5")
    path = d4rl(tmp_path / "links.hdf5", rewards=None)
    with h5py.File(path, "a") as file:
        file["rewards"] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), "/rewards")
    with pytest.raises(SourceError, match="'rewards' is a link"):
        load_dataset(path)
    with h5py.File(path, "a") as file:
        del file["rewards"]
        layout = h5py.VirtualLayout((12,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "rewards", (12,))
        file.create_virtual_dataset("rewards", layout)
    with pytest.raises(SourceError, match="stored in another file"):
        load_dataset(path)


def test_files_that_are_no_datasets_are_one_line(tmp_path: Path):
    (tmp_path / "a.hdf5").write_bytes(b"not at all")
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04.")
    refused = {"a.hdf5": "not a readable D4RL", "a.pkl": "unknown ending", "b.h5": "no such file", "b": "Minari store"}
    for name, reason in refused.items():
        with pytest.raises(SourceError, match=reason):
            load_dataset(tmp_path / name)
    save_dataset(counted(), tmp_path / "stored")
    with pytest.raises(SourceError, match="give the directory"):
        load_dataset(tmp_path / "stored" / "data" / "main_data.hdf5")


def replay(directory: Path, **changed: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "training.json").write_text(json.dumps({"env": "Pendulum-v1"}))
    arrays = {name: getattr(counted(), name) for name in ARRAYS} | changed
    np.savez_compressed(
        directory / "replay.npz", **{name: array for name, array in arrays.items() if array is not None}
    )
    return directory / "replay.npz"


def test_a_replay_buffer_is_read_with_its_environment_and_its_cuts(tmp_path: Path):
    data = load_dataset(replay(tmp_path / "medium-Pendulum", truncations=np.zeros(12, bool)))
    assert same(data, counted())
    assert (data.env_id, data.name) == ("Pendulum-v1", "medium-Pendulum")


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"next_observations": None}, "lacks 'next_observations'"),
        ({"rewards": np.array([Bomb()] * 12, object)}, "allow_pickle"),
        ({"rewards": np.full(12, np.inf)}, r"rewards\[0\]: holds NaN, infinity"),
    ],
)
def test_a_replay_buffer_is_never_unpickled_and_must_be_complete(tmp_path: Path, changed: dict[str, Any], named: str):
    with pytest.raises(SourceError, match=named):
        load_dataset(replay(tmp_path / "run", **changed))


def test_a_truncated_replay_buffer_is_refused(tmp_path: Path):
    path = replay(tmp_path / "run")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(SourceError, match="not a readable replay buffer"):
        load_dataset(path)
