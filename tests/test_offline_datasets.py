"""Datasets in Minari's format: both ways, interrupted writing, and directories that only look like one."""

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
from snn_policy.offline.datasets import load_dataset, save_dataset
from tests.recorded import counted, same

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    save_dataset(counted(quality="medium"), tmp_path / "Pendulum-v1-medium", {"recipe": {"seed": 3}})
    return tmp_path / "Pendulum-v1-medium"


def test_what_is_saved_is_loaded_to_the_bit(stored: Path):
    data = load_dataset(stored)
    assert same(data, counted())
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
        "import sys; from tests.recorded import counted;"
        "from snn_policy.offline.datasets import load_dataset, save_dataset; save_dataset(counted(), sys.argv[1]);"
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
        save_dataset(counted((2,)), stored)
    assert (stored / "data" / "main_data.hdf5").read_bytes() == before


def test_rows_that_do_not_follow_one_another_cannot_be_saved_as_an_episode(tmp_path: Path):
    data = replace(counted(), truncations=np.zeros(12, bool))
    with pytest.raises(ValueError, match="row 5 does not continue row 4"):
        save_dataset(data, tmp_path / "new")
    save_dataset(data.with_cuts(), tmp_path / "new")
    assert same(load_dataset(tmp_path / "new"), counted())


def run(program: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env=env)


WRITE = (
    "import os, signal, sys; from tests.recorded import counted;"
    "from snn_policy.offline import minari_writing as writing\n"
)


@pytest.mark.parametrize("moment", ["write_bytes", "chmod", "rename"])
def test_a_writer_killed_on_the_way_leaves_no_dataset(moment: str, tmp_path: Path):
    kill = f"writing.Path.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    target = tmp_path / "new"
    done = run(WRITE + kill + "writing.save_dataset(counted(), sys.argv[1])", target)
    assert done.returncode == -9
    assert not target.exists()
    with pytest.raises(SourceError, match="no such file"):
        load_dataset(target)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".new.partial-")
    if moment == "write_bytes":
        with pytest.raises(SourceError, match="never finished"):
            load_dataset(left)
    save_dataset(counted(), target)
    assert same(load_dataset(target), counted())


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    save = "try: writing.save_dataset(counted((9_000,)), sys.argv[1])\nexcept OSError as e: print(e)"
    done = run(WRITE + limit + save, tmp_path / "new")
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")
    assert "no space left; free some" in done.stdout
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


def test_a_flipped_bit_in_the_values_is_found(stored: Path):
    path, value = stored / "data" / "main_data.hdf5", np.float32(202).tobytes()
    content = path.read_bytes()
    assert value in content
    path.write_bytes(content.replace(value, np.float32(203).tobytes(), 1))
    with pytest.raises(SourceError, match=r"main_data\.hdf5: not a readable"):
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
