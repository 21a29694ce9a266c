"""Where episodes begin is carried beside the observations, and lays recordings out."""

import copy
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from snn_policy.calibration import recording_files
from snn_policy.calibration.episodes import EpisodeRecording, known_starts, lanes
from snn_policy.calibration.recording_files import read_recording
from snn_policy.calibration.recordings import as_recordings
from tests.actors import random_actor

STARTS = np.array([1, 0, 0, 1, 0, 1, 0, 0, 0, 0], bool)
ROWS = np.arange(30, dtype=np.float32).reshape(10, 3)


def recording() -> EpisodeRecording:
    return EpisodeRecording(ROWS, STARTS)


KEPT = {
    "slice": (lambda r: r[2:7], STARTS[2:7]),
    "open slice": (lambda r: r[4:], STARTS[4:]),
    "slice in a tuple": (lambda r: r[(slice(1, 4),)], STARTS[1:4]),
    "copy": (lambda r: r.copy(), STARTS),
    "copy.copy": (copy.copy, STARTS),
    "deepcopy": (copy.deepcopy, STARTS),
    "float64": (lambda r: r.astype(np.float64), STARTS),
    "pickle": (lambda r: pickle.loads(pickle.dumps(r)), STARTS),
    "twice": (lambda r: r[1:][1:], STARTS[2:]),
}


@pytest.mark.parametrize("way", KEPT)
def test_starts_stay_with_their_rows(way: str) -> None:
    change, starts = KEPT[way]
    found: Any = change(recording())
    assert isinstance(found, EpisodeRecording)
    np.testing.assert_array_equal(found.episode_starts, starts)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(change(np.array(ROWS))))


LOST: dict[str, Any] = {
    "every second": lambda r: r[::2], "backwards": lambda r: r[::-1], "chosen": lambda r: r[np.arange(10)[::-1]],
    "one row": lambda r: r[3], "one column": lambda r: r[:, 1], "sum": lambda r: r + 1.0, "mask": lambda r: r[STARTS],
    "turned": lambda r: r.T, "taken": lambda r: np.take(r, np.arange(10)[::-1], axis=0), "flat": lambda r: r.ravel(),
    "asarray": np.asarray, "stacked": lambda r: np.concatenate([r, r]),
}  # fmt: skip


@pytest.mark.parametrize("way", LOST)
def test_what_moves_rows_loses_them_and_is_right_otherwise(way: str) -> None:
    found = LOST[way](recording())
    assert known_starts(found) is None
    np.testing.assert_array_equal(np.asarray(found), LOST[way](np.array(ROWS)))


def test_single_rows_are_plain_arrays() -> None:
    assert type(recording()[4]) is np.ndarray
    assert {type(row) for row in recording()} == {np.ndarray}


class Short(gym.Env):
    observation_space = gym.spaces.Box(-9, 9, (5,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (3,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left = 3 + int(seed or 0) % 2
        return np.zeros(5, np.float32), {}

    def step(self, action: Any) -> Any:
        self.left -= 1
        return np.ones(5, np.float32) * self.left, 0.0, self.left == 0, False, {}


def test_collect_says_where_its_episodes_begin() -> None:
    rows = random_actor(kind="clip", shape=(5,)).collect(Short, steps=14, seed=0)
    assert isinstance(rows, EpisodeRecording)
    np.testing.assert_array_equal(np.flatnonzero(np.array(rows.episode_starts)), [0, 3, 7, 10])
    np.testing.assert_array_equal(np.asarray(rows).any(axis=1), ~np.asarray(rows.episode_starts))


class Dataset:
    def iterate_episodes(self) -> Any:
        return (type("Episode", (), {"observations": ROWS[a:b]}) for a, b in ((0, 3), (3, 5), (5, 10)))


HANDED_OVER: dict[str, Any] = {
    "minari": (Dataset(), None), "beside": (ROWS, STARTS), "numbers": (ROWS, STARTS.astype(np.int8)),
    "list": (ROWS, STARTS.tolist()), "recording": (recording(), None), "over the recording's": (
        EpisodeRecording(ROWS, np.ones(10, bool)), STARTS),
    "pieces": ([recording()[:4], recording()[4:]], None), "beside pieces": ([ROWS[:4], ROWS[4:]], STARTS),
}  # fmt: skip


@pytest.mark.parametrize("way", HANDED_OVER)
def test_every_form_of_recordings_says_where_episodes_begin(way: str) -> None:
    found = as_recordings(HANDED_OVER[way][0], (3,), HANDED_OVER[way][1])
    np.testing.assert_array_equal(np.asarray(found), ROWS)
    np.testing.assert_array_equal(known_starts(found), STARTS)


@pytest.mark.parametrize("given", [ROWS, [ROWS[:4], ROWS[4:]], [ROWS[:4], recording()[4:]], list(ROWS)])
def test_nothing_is_made_up(given: Any) -> None:
    assert known_starts(as_recordings(given, (3,))) is None


@pytest.mark.parametrize("starts", [STARTS[:9], STARTS[None], np.full(10, 2), np.full(10, np.nan), ["a"] * 10])
def test_starts_that_do_not_fit_are_refused(starts: Any) -> None:
    with pytest.raises(ValueError, match="episode_starts"):
        as_recordings(ROWS, (3,), starts)


@pytest.mark.parametrize("most", [1, 2, 3, 32])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_lanes_hold_every_row_once_in_order_and_are_about_equally_long(seed: int, most: int) -> None:
    starts = np.random.default_rng(seed).random(500) < 0.05
    starts[0] = True
    laid = lanes(starts, most)
    rows = laid.rows[laid.rows >= 0]
    assert sorted(rows) == list(range(500))
    for column, begins in zip(laid.rows.T, laid.begins.T, strict=True):
        inside = column >= 0
        assert (inside[1:] <= inside[:-1]).all()
        np.testing.assert_array_equal(begins[inside], starts[column[inside]])
        follows = np.flatnonzero(inside[1:] & ~begins[1:]) + 1
        np.testing.assert_array_equal(column[follows], column[follows - 1] + 1)
    longest = np.diff(np.append(np.flatnonzero(starts), 500)).max()
    assert len(laid.rows) <= max(longest, 500 // laid.rows.shape[1] + longest)
    for step, (going, begins) in enumerate(laid):
        np.testing.assert_array_equal(going, laid.rows[step][laid.rows[step] >= 0])
        assert len(begins) == len(going)


def stored(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_archives_say_where_episodes_begin(tmp_path: Path, compressed: bool) -> None:
    save: Any = np.savez_compressed if compressed else np.savez
    save(tmp_path / "log.npz", observations=ROWS, episode_starts=STARTS, rewards=np.zeros(10))
    found = read_recording(tmp_path / "log.npz")
    np.testing.assert_array_equal(np.asarray(found), ROWS)
    np.testing.assert_array_equal(known_starts(found), STARTS)


def test_archives_may_not_know_or_say_where_episodes_end(tmp_path: Path) -> None:
    assert known_starts(read_recording(stored(tmp_path / "a.npz", observations=ROWS))) is None
    np.save(tmp_path / "b.npy", ROWS)
    assert known_starts(read_recording(tmp_path / "b.npy")) is None
    ends = np.append(STARTS[1:], True)
    flags = {"terminations": ends & (np.arange(10) < 4), "truncations": ends & (np.arange(10) >= 4)}
    np.testing.assert_array_equal(known_starts(read_recording(stored(tmp_path / "c.npz", observations=ROWS, **flags))),
                                  STARTS)  # fmt: skip


HOSTILE: dict[str, Any] = {
    "pickled": ({"observations": np.array([{}], object)}, "not an array"),
    "no observations": ({"states": ROWS}, "none of them `observations`"),
    "too few starts": ({"observations": ROWS, "episode_starts": STARTS[:4]}, r"episode_starts: shape \(4,\)"),
    "no truth values": ({"observations": ROWS, "episode_starts": ROWS[:, 0]}, "episode_starts"),
    "a number": ({"observations": np.float32(1)}, "single number"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_archives_that_do_not_fit_are_one_clear_error(case: str, tmp_path: Path) -> None:
    arrays, message = HOSTILE[case]
    path = stored(tmp_path / "log.npz", **arrays)
    with pytest.raises(ValueError, match=message) as refusal:
        read_recording(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("cut", [10, 100, 300])
def test_truncated_archives_are_one_clear_error(cut: int, tmp_path: Path) -> None:
    path = stored(tmp_path / "log.npz", observations=ROWS, episode_starts=STARTS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="not an array of numbers"):
        read_recording(path)


def test_archives_that_unpack_to_too_much_are_refused_unread(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(recording_files, "LARGEST_RECORDING", 10**6)
    np.savez_compressed(tmp_path / "log.npz", observations=np.zeros((10**6, 3), np.float32))
    assert (tmp_path / "log.npz").stat().st_size < 10**5
    with pytest.raises(ValueError, match="unpacks to 12,000,128 bytes"):
        read_recording(tmp_path / "log.npz")
