"""Datasets of transitions: in memory, in Minari's format, in D4RL's, and whatever else a file may hold."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from snn_policy.errors import SourceError
from snn_policy.offline.datasets import Transitions, concatenate, load_dataset, save_dataset
from snn_policy.offline.scores import NOTE, normalised_score

h5py = pytest.importorskip("h5py")
minari = pytest.importorskip("minari")
ARRAYS = ("observations", "actions", "rewards", "next_observations", "terminations", "truncations")


def episodes(lengths: tuple[int, ...] = (5, 3, 4), terminated: tuple[int, ...] = (1,), **about: Any) -> Transitions:
    """Pendulum-like episodes whose observations count up, so that every row can be told from every other."""
    rng, parts = np.random.default_rng(0), []
    for index, length in enumerate(lengths):
        observations = 100 * index + np.arange(length + 1, dtype=np.float32)[:, None] + np.zeros(3, np.float32)
        last = np.arange(length) == length - 1
        flags = {"terminations": last & (index in terminated), "truncations": last & (index not in terminated)}
        actions, rewards = rng.uniform(-2, 2, (length, 1)), np.arange(length) + index
        parts.append(Transitions(observations[:-1], actions, rewards, observations[1:], **flags, env_id="Pendulum-v1"))
    return replace(concatenate(parts, "counted"), **about)


def same(one: Transitions, other: Transitions) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)


# ------------------------------------------------------------------------------------------------- in memory


def test_arrays_are_float32_flags_are_bool_and_all_are_read_only():
    data = episodes()
    assert {getattr(data, name).dtype for name in ARRAYS} == {np.dtype(np.float32), np.dtype(np.bool_)}
    assert not any(getattr(data, name).flags.writeable for name in ARRAYS)
    assert (len(data), data.observation_shape, data.action_dim) == (12, (3,), 1)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"rewards": np.zeros(11)}, "rewards: 11 rows, but observations has 12"),
        ({"actions": np.zeros(12)}, "actions: expected 2 axes"),
        ({"next_observations": np.zeros((12, 4))}, "next_observations: shape"),
        ({"actions": np.zeros((12, 0))}, "act_dim"),
        ({"observations": np.full((12, 3), "a")}, "observations: expected real numbers"),
        ({"observations": np.full((12, 3), {}, object)}, "observations: expected real numbers"),
        ({"rewards": np.array([0.0] * 11 + [np.nan])}, r"rewards\[11\]: holds NaN"),
        ({"observations": np.full((12, 3), 1e300)}, r"observations\[0\]: holds NaN, infinity"),
        ({"terminations": np.full(12, 0.5)}, "terminations: expected one boolean"),
        ({"truncations": np.zeros((12, 1))}, "truncations: expected one boolean"),
    ],
)
def test_arrays_that_do_not_agree_or_are_not_finite_are_named(changed: dict[str, Any], named: str):
    with pytest.raises(ValueError, match=named):
        replace(episodes(), **changed)


def test_an_empty_dataset_is_refused():
    none = np.zeros((0, 3), np.float32)
    with pytest.raises(ValueError, match="no rows"):
        Transitions(none, none, np.zeros(0), none, np.zeros(0, bool), np.zeros(0, bool))


def test_normalisation_is_mean_and_standard_deviation_plus_a_thousandth():
    data = episodes()
    mean, std = data.normalisation()
    np.testing.assert_allclose(mean, data.observations.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std, data.observations.std(axis=0) + 1e-3, rtol=1e-6)
    constant = replace(data, observations=np.ones((12, 3)), next_observations=np.ones((12, 3)))
    np.testing.assert_allclose(constant.normalisation()[1], 1e-3, rtol=1e-6)


def test_episodes_end_where_flags_say_and_returns_sum_their_rewards():
    data = episodes()
    assert [(rows.start, rows.stop) for rows in data.episodes()] == [(0, 5), (5, 8), (8, 12)]
    assert data.episode_returns().tolist() == [10.0, 6.0, 14.0]
    assert data.episode_lengths().tolist() == [5, 3, 4]


def test_a_slice_ends_its_last_episode_and_an_empty_one_is_refused():
    part = episodes()[3:7]
    assert part.observations[:, 0].tolist() == [3, 4, 100, 101]
    assert part.truncations.tolist() == [False, True, False, True]
    assert len(episodes()[-2:]) == 2
    for rows in (slice(5, 5), slice(50, 60), slice(None, None, 2)):
        with pytest.raises(ValueError, match=r"none of the 12 rows|consecutive"):
            episodes()[rows]


def test_joined_datasets_do_not_run_into_each_other():
    open_end = replace(episodes((4,), ()), truncations=np.zeros(4, bool))
    joined = concatenate([open_end, episodes()], "both", "medium-expert")
    assert len(joined.episodes()) == 4
    with pytest.raises(ValueError, match="cannot be joined"):
        concatenate([open_end, replace(open_end, actions=np.zeros((4, 2)))], "both")


def test_a_fit_is_checked_against_an_environment_and_a_policy():
    from snn_policy.activations import RELU
    from snn_policy.actor import Actor
    from snn_policy.layers import Head, Linear

    data = episodes()
    data.check_fits("Pendulum-v1")
    with pytest.raises(ValueError, match=r"does not fit environment MountainCarContinuous-v0.*expected \(2,\)"):
        data.check_fits("MountainCarContinuous-v0")
    with pytest.raises(ValueError, match="CartPole-v1: its actions are Discrete"):
        data.check_fits("CartPole-v1")
    layers = (Linear(np.ones((4, 3)), np.zeros(4), RELU), Linear(np.ones((1, 4)), np.zeros(1)))
    data.check_fits(Actor(layers, Head.bounded([-2.0], [2.0]), (3,)))
    with pytest.raises(ValueError, match=r"actions\[\d+\] is outside the bounds \[-1, 1\]"):
        data.check_fits(Actor(layers, Head.bounded([-1.0], [1.0]), (3,)))


# ------------------------------------------------------------------------------------------------- Minari's format


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    save_dataset(episodes(quality="medium"), tmp_path / "Pendulum-v1-medium", {"recipe": {"seed": 3}})
    return tmp_path / "Pendulum-v1-medium"


def test_what_is_saved_is_loaded_to_the_bit(stored: Path):
    data = load_dataset(stored)
    assert same(data, episodes())
    assert (data.env_id, data.quality, data.name) == ("Pendulum-v1", "medium", "Pendulum-v1-medium-v0")
    assert load_dataset(stored / "data").quality == "medium"
    assert load_dataset(stored, env_id="Mine-v0", quality="best").env_id == "Mine-v0"


def test_minari_reads_what_is_saved(stored: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(stored.parent))
    dataset = minari.load_dataset(stored.name)
    assert (dataset.total_episodes, dataset.total_steps) == (3, 12)
    assert [len(episode.observations) for episode in dataset] == [6, 4, 5]
    assert dataset.spec.env_spec.id == "Pendulum-v1"
    assert dataset.action_space == gym.make("Pendulum-v1").action_space
    assert dataset.storage.metadata["recipe"] == {"seed": 3}


def test_what_minari_made_is_read_by_path_and_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from minari.data_collector.episode_buffer import EpisodeBuffer

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rng = np.random.default_rng(1)
    steps = {"rewards": [1.0, 2.0], "terminations": [False, False], "truncations": [False, False]}
    recorded: list[Any] = [rng.normal(size=(3, 3)), rng.uniform(-2, 2, (2, 1))]
    buffers = [EpisodeBuffer(observations=recorded[0], actions=recorded[1], **steps) for _ in range(2)]
    with pytest.warns(UserWarning, match="None"):
        minari.create_dataset_from_buffers("classic/pendulum/expert-v2", buffers, env="Pendulum-v1")
    data = load_dataset("classic/pendulum/expert-v2")
    assert same(data, load_dataset(tmp_path / "classic" / "pendulum" / "expert-v2"))
    assert (data.name, data.quality, data.env_id) == ("classic/pendulum/expert-v2", "expert", "Pendulum-v1")
    np.testing.assert_array_equal(data.next_observations[1], recorded[0][2].astype(np.float32))
    assert data.truncations.tolist() == [False, True, False, True]


def test_neither_saving_nor_loading_touches_the_home_directory(tmp_path: Path):
    program = (
        "import sys; sys.path.insert(0, 'tests'); from test_offline_datasets import episodes;"
        "from snn_policy.offline.datasets import load_dataset, save_dataset; save_dataset(episodes(), sys.argv[1]);"
        "load_dataset(sys.argv[1])\ntry: load_dataset('nobody/has-v0')\nexcept ValueError as e: print(e)"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("MINARI_DATASETS_PATH", None)
    done = run(program, tmp_path / "new", env=environment)
    assert "no such file, directory or Minari dataset" in done.stdout
    assert not (home / ".minari").exists()


def test_something_at_the_place_is_never_overwritten(stored: Path):
    before = (stored / "data" / "main_data.hdf5").read_bytes()
    with pytest.raises(FileExistsError, match="already exists; delete it"):
        save_dataset(episodes((2,)), stored)
    assert (stored / "data" / "main_data.hdf5").read_bytes() == before


def test_rows_that_do_not_follow_one_another_cannot_be_saved_as_an_episode(tmp_path: Path):
    data = replace(episodes(), truncations=np.zeros(12, bool))
    with pytest.raises(ValueError, match="row 5 does not continue row 4"):
        save_dataset(data, tmp_path / "new")
    save_dataset(data.with_cuts(), tmp_path / "new")
    assert same(load_dataset(tmp_path / "new"), episodes())


def run(program: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env=env)


WRITE = (
    "import os, signal, sys; sys.path.insert(0, 'tests'); from test_offline_datasets import episodes;"
    "from snn_policy.offline import minari_writing as writing\n"
)


@pytest.mark.parametrize("moment", ["before the second episode", "before the rename"])
def test_a_writer_killed_on_the_way_leaves_no_dataset(moment: str, tmp_path: Path):
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    program = WRITE + (
        f"original = writing._buffers\ndef dying(data):\n  each = original(data)\n  yield next(each)\n  {kill}\n"
        "writing._buffers = dying\n"
        if moment == "before the second episode"
        else f"writing.Path.rename = lambda *_: {kill}\n"
    )
    target = tmp_path / "new"
    done = run(program + "writing.save_dataset(episodes(), sys.argv[1])", target)
    assert done.returncode == -9
    assert not target.exists()
    with pytest.raises(SourceError, match="no such file"):
        load_dataset(target)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".new.partial-")
    if moment == "before the second episode":
        with pytest.raises(SourceError, match="never finished"):
            load_dataset(left)
    save_dataset(episodes(), target)
    assert same(load_dataset(target), episodes())


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    save = "try: writing.save_dataset(episodes((9_000,)), sys.argv[1])\nexcept OSError as e: print(e)"
    done = run(WRITE + limit + save, tmp_path / "new")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert "no space left for the dataset" in done.stdout
    assert not list(tmp_path.iterdir())


def test_too_little_space_is_found_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(OSError, match="no space left for the dataset"):
        save_dataset(episodes(), tmp_path / "new")
    assert not list(tmp_path.iterdir())


def altered(stored: Path, **values: Any) -> Path:
    path = stored / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return stored


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"total_episodes": 4}, "lacks 'episode_3'"),
        ({"total_episodes": 2}, "holds 8 steps of 12; it is incomplete"),
        ({"total_episodes": 10**12}, "not a count"),
        ({"total_steps": "many"}, "not a count"),
        ({"observation_space": None}, "observation_space is None"),
        ({"observation_space": json.dumps({"type": "Dict", "subspaces": {}})}, "observation_space is 'Dict'"),
        ({"action_space": json.dumps({"type": "Box", "shape": [4]})}, r"actions has shape \(5, 1\), expected \(5, 4\)"),
        ({"data_format": "pickle"}, "data_format 'pickle'"),
    ],
)
def test_metadata_that_does_not_fit_the_data_is_refused(stored: Path, values: dict[str, Any], named: str):
    with pytest.raises(SourceError, match=named):
        load_dataset(altered(stored, **values))


def test_an_environment_that_would_import_a_module_is_not_taken(stored: Path):
    assert load_dataset(altered(stored, env_spec=json.dumps({"id": "os:Shell-v0"}))).env_id is None


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.9])
def test_truncated_episodes_are_refused(stored: Path, kept: float):
    path = stored / "data" / "main_data.hdf5"
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(SourceError, match=r"main_data\.hdf5: not a readable file of episodes"):
        load_dataset(stored)


def test_missing_and_broken_files_of_a_dataset_are_named(stored: Path, tmp_path: Path):
    (stored / "data" / "main_data.hdf5").unlink()
    with pytest.raises(SourceError, match=r"main_data\.hdf5: no such file"):
        load_dataset(stored)
    (stored / "data" / "metadata.json").write_text("{")
    with pytest.raises(SourceError, match=r"metadata\.json: not a readable JSON"):
        load_dataset(stored)
    with pytest.raises(SourceError, match="no Minari dataset"):
        load_dataset(tmp_path)


# ------------------------------------------------------------------------------------------------- D4RL's files


def d4rl(path: Path, **changed: Any) -> Path:
    """A file of three episodes, as D4RL stores them: rows 0–4 timed out, 5–7 fell, 8–11 timed out."""
    data = episodes()
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
    path = d4rl(tmp_path / "walker2d-expert-v2.hdf5", next_observations=episodes().next_observations)
    data = load_dataset(path)
    assert same(data, episodes())
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


def test_files_that_are_no_datasets_are_one_line(stored: Path, tmp_path: Path):
    (tmp_path / "a.hdf5").write_bytes(b"not at all")
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04.")
    refused = {"a.hdf5": "not a readable D4RL", "a.pkl": "unknown ending", "b.h5": "no such file", "b": "Minari store"}
    for name, reason in refused.items():
        with pytest.raises(SourceError, match=reason):
            load_dataset(tmp_path / name)
    with pytest.raises(SourceError, match="give the directory"):
        load_dataset(stored / "data" / "main_data.hdf5")


# ------------------------------------------------------------------------------------------------- replay buffers


def replay(directory: Path, **changed: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "training.json").write_text(json.dumps({"env": "Pendulum-v1"}))
    arrays = {name: getattr(episodes(), name) for name in ARRAYS} | changed
    np.savez_compressed(
        directory / "replay.npz", **{name: array for name, array in arrays.items() if array is not None}
    )
    return directory / "replay.npz"


def test_a_replay_buffer_is_read_with_its_environment_and_its_cuts(tmp_path: Path):
    data = load_dataset(replay(tmp_path / "medium-Pendulum", truncations=np.zeros(12, bool)))
    assert same(data, episodes())
    assert (data.env_id, data.name) == ("Pendulum-v1", "medium-Pendulum")


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch /tmp/unpickled",)


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


# ------------------------------------------------------------------------------------------------- scores


def test_scores_are_d4rls_and_say_so():
    assert normalised_score("HalfCheetah-v5", 12135.0) == pytest.approx(100)
    assert normalised_score("Walker2d-v5", 1.629008) == pytest.approx(0)
    np.testing.assert_allclose(normalised_score("Hopper-v5", [-20.272305, 1607.0138475]), [0, 50], atol=1e-9)
    assert normalised_score("Ant-v5", 3879.7) == pytest.approx(100)
    with pytest.raises(ValueError, match="Pendulum-v1: no D4RL reference returns"):
        normalised_score("Pendulum-v1", 0.0)
    assert "v2" in NOTE
    assert "v5" in NOTE
