"""Recorded pictures of another range than the bytes that the actor divides are told; dark ones are not."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from snn_policy import convert
from snn_policy.ann.layers import Normaliser
from snn_policy.calibration.recording_doubts import warn_of_another_scale
from snn_policy.compression.compress import _recording
from tests.actors import random_actor
from tests.test_compression_pictures import picture_actor, recording

RNG = np.random.default_rng(0)
SHAPE = (2, 16, 16)


def byte_actor(mean: float = 0.0, scale: float = 255.0) -> Any:
    shape = (1, 1, 1)
    norm = Normaliser(np.full(shape, mean, np.float32), np.full(shape, scale, np.float32))
    return replace(picture_actor(), normaliser=norm)


OTHER = {
    "0 to 1": lambda rows: rows / np.float32(255),
    "-1 to 1": lambda rows: rows / np.float32(127.5) - 1,
    "-128 to 127": lambda rows: rows.astype(np.float32) - 128,
    "0 to 765": lambda rows: rows.astype(np.float32) * 3,
}


@pytest.mark.parametrize("actor", [(0, 255), (127.5, 127.5), (116, 58)])
@pytest.mark.parametrize("kind", OTHER)
def test_pictures_of_another_range_are_told_with_both_ranges(kind: str, actor: tuple[float, float]) -> None:
    with pytest.warns(UserWarning, match=r"the recording ranges from .* divides pictures of 0 to 255") as told:
        warn_of_another_scale(OTHER[kind](recording(300)), byte_actor(*actor))
    assert len(told) == 1


@pytest.mark.parametrize("kind", ["0 to 1", "-128 to 127", "0 to 765"])
def test_convert_and_compress_tell_it(kind: str) -> None:
    rows = OTHER[kind](recording(300))
    with pytest.warns(UserWarning, match="the recording ranges from"):
        convert(byte_actor(), rows[:100])
    with pytest.warns(UserWarning, match="the recording ranges from"):
        _recording(rows, byte_actor(), 2)


@pytest.mark.parametrize(
    "rows",
    [recording(300), recording(300).astype(np.float32), (recording(300) // 64).astype(np.float32),
     RNG.integers(0, 2, (300, *SHAPE)).astype(np.float32), recording(300).astype(np.float32) + np.float32(0.25)],
)  # fmt: skip
def test_bytes_dark_pictures_and_averaged_ones_are_ordinary(rows: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_another_scale(rows, byte_actor())


def test_actors_that_do_not_divide_bytes_and_vectors_are_not_concerned() -> None:
    rows = OTHER["0 to 1"](recording(300))
    vectors = replace(random_actor(), normaliser=Normaliser(np.zeros(11, np.float32), np.full(11, 255, np.float32)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_another_scale(rows, byte_actor(0, 1))
        warn_of_another_scale(rows, replace(picture_actor(), normaliser=None))
        warn_of_another_scale(RNG.random((300, 11)).astype(np.float32), vectors)
