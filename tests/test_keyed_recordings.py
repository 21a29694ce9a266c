"""Recordings of dictionary observations in files: an array under every key, through the command line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer")

from snn_policy import SpikingPolicy, convert
from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear
from snn_policy.calibration.episodes import EpisodeRecording
from snn_policy.calibration.recording_files import read_recording
from snn_policy.cli import main
from snn_policy.protocol import KeyedShape

PARTS = {"goal": (3,), "joints": (2, 2)}
SHAPE, ROWS = KeyedShape(PARTS), 400


def actor() -> Actor:
    rng = np.random.default_rng(0)
    first = Linear(rng.standard_normal((8, 7)) / 2, np.zeros(8), RELU)  # pyright: ignore
    last = Linear(rng.standard_normal((2, 8)) / 2, np.zeros(2))  # pyright: ignore
    return Actor((first, last), Head.bounded([-1, -1], [1, 1]), SHAPE, name="keyed")


def recorded() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {key: rng.standard_normal((ROWS, *shape)).astype(np.float32) for key, shape in PARTS.items()}


@pytest.mark.parametrize("names", ["{}", "observations.{}", "obs.{}", "observations/{}"])
def test_keys_are_found_and_joined_in_the_policys_order(names: str, tmp_path: Path) -> None:
    parts = recorded()
    np.savez(tmp_path / "r.npz", **{names.format(key): parts[key] for key in ("joints", "goal")}, reward=np.zeros(ROWS))
    found = read_recording(tmp_path / "r.npz", SHAPE)
    assert np.array_equal(found, np.concatenate([parts["goal"], parts["joints"].reshape(ROWS, 4)], axis=1))


def test_episode_starts_are_kept(tmp_path: Path) -> None:
    starts = np.arange(ROWS) % 100 == 0
    np.savez(tmp_path / "r.npz", **recorded(), episode_starts=starts)
    found = read_recording(tmp_path / "r.npz", SHAPE)
    assert isinstance(found, EpisodeRecording)
    assert found.episode_starts is not None
    assert np.array_equal(found.episode_starts, starts)


def test_the_command_line_converts_and_exports_with_it(tmp_path: Path) -> None:
    convert(actor(), recorded(), predictor=0).save(tmp_path / "bundle")
    np.savez(tmp_path / "r.npz", **recorded())
    given = ["--observations", str(tmp_path / "r.npz")]
    bundle, again, graphs = (str(tmp_path / name) for name in ("bundle", "again", "graphs"))
    for arguments in (["convert", bundle, "--out", again, "--predictor", "0", *given],
                      ["export", again, "--out", graphs, *given]):  # fmt: skip
        assert main(arguments) == 0
    policy, parts = SpikingPolicy.load(tmp_path / "again"), recorded()
    first: Any = {key: part[0] for key, part in parts.items()}
    assert abs(policy.act(first) - actor().act(first)).max() <= 0.1


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "missing": ({"goal": np.zeros((5, 3))}, "no array 'joints'"),
    "another shape": ({"goal": np.zeros((5, 3)), "joints": np.zeros((5, 3))}, "joints"),
    "other lengths": ({"goal": np.zeros((5, 3)), "joints": np.zeros((4, 2, 2))}, "batches of"),
    "pickles": ({"goal": np.array([{}] * 5, object), "joints": np.zeros((5, 2, 2))}, "not an array of numbers"),
    "no numbers": ({"goal": np.array([["a"] * 3] * 5), "joints": np.zeros((5, 2, 2))}, "goal|number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_one_line(name: str, tmp_path: Path) -> None:
    arrays, reason = WRONG[name]
    np.savez(tmp_path / "r.npz", **arrays)
    with pytest.raises(ValueError, match=reason) as caught:
        read_recording(tmp_path / "r.npz", SHAPE)
    assert "r.npz" in str(caught.value)
    assert "\n" not in str(caught.value)
