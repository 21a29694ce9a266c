"""Recorded rows are copies, whatever hands them over."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from snn_policy import convert
from snn_policy.calibration.recordings import as_recordings, distinct_rows
from snn_policy.offline.collect import rollout
from tests.actors import IMAGE, dyadic_image_actor, image_walk, random_actor, walk

STEPS = 120


class Recycling(gym.Env):
    """A random walk whose `reset` and `step` return the environment's own buffer, changed in place by the next step."""

    def __init__(self, shape: tuple[int, ...] = (5,), dtype: Any = np.float32, copies: bool = False) -> None:
        top = 255 if dtype == np.uint8 else 9
        self.observation_space = spaces.Box(0 if dtype == np.uint8 else -9, top, shape, dtype)
        self.action_space = spaces.Box(-2, 2, (3,), np.float32)
        self.buffer, self.copies, self.elapsed = np.zeros(shape, dtype), copies, 0

    def _fill(self) -> Any:
        if self.buffer.dtype == np.uint8:
            self.buffer[...] = self.np_random.integers(0, 256, self.buffer.shape)
        else:
            self.buffer[...] = self.np_random.normal(size=self.buffer.shape)
        return self.buffer.copy() if self.copies else self.buffer

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.elapsed = 0
        return self._fill(), {}

    def step(self, action: Any) -> Any:
        self.elapsed += 1
        return self._fill(), 1.0, False, self.elapsed >= 25, {}


gym.register("tests/Recycling-v0", "tests.test_recordings:Recycling", order_enforce=False, disable_env_checker=True)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((5,), np.float32), ((5,), np.float64), (IMAGE, np.uint8)], ids=["float32", "float64", "bytes"]
)
def test_collect_copies_what_an_environment_hands_out(shape: Any, dtype: Any) -> None:
    images = dtype == np.uint8
    actor = dyadic_image_actor(kind="argmax") if images else random_actor(kind="clip", shape=shape)

    def made(copies: bool) -> gym.Env:
        env = Recycling(shape, dtype, copies)
        if images:
            env.action_space = spaces.Discrete(2)  # pyright: ignore[reportAttributeAccessIssue]
        else:
            reach = actor.high
            env.action_space = spaces.Box(-reach, reach, dtype=np.float32)
        return env

    rows, expected = (actor.collect(lambda c=c: made(c), steps=STEPS, seed=3) for c in (False, True))
    assert len(np.unique(rows.reshape(STEPS, -1), axis=0)) == STEPS
    assert np.array_equal(rows, expected)
    assert rows.dtype == (np.uint8 if images else np.float32)


def recycled(values: Any, rows: int) -> Iterator[Any]:
    """The values, so many rows at a time (0: single ones), always in the same buffer."""
    buffer = np.zeros(values.shape[1:] if rows == 0 else (rows, *values.shape[1:]), values.dtype)
    for start in range(0, len(values), max(rows, 1)):
        buffer[...] = values[start] if rows == 0 else values[start : start + rows]
        yield buffer


@pytest.mark.parametrize("rows", [0, 1, 4])
@pytest.mark.parametrize("kind", ["float32", "float64", "bytes"])
def test_iterables_may_hand_over_one_buffer(kind: str, rows: int) -> None:
    values = image_walk(60) if kind == "bytes" else walk(60).astype(kind)
    found = as_recordings(recycled(values, rows), values.shape[1:])
    assert np.array_equal(found, values.astype(np.uint8 if kind == "bytes" else np.float32))
    assert found.dtype == (np.uint8 if kind == "bytes" else np.float32)


def test_a_vector_environment_that_does_not_copy_is_recorded_row_by_row() -> None:
    envs = gym.vector.SyncVectorEnv([lambda: Recycling(copies=True)] * 3, copy=False)

    def steps() -> Iterator[Any]:
        yield envs.reset(seed=0)[0]
        for _ in range(20):
            yield envs.step(np.zeros((3, 3), np.float32))[0]

    assert len(np.unique(as_recordings(steps(), (5,)), axis=0)) == 63


@pytest.mark.parametrize("wrapped", ["array", "iterable", "minari"])
@pytest.mark.parametrize("neuron", ["sigma-delta", "if"])
def test_a_policy_keeps_nothing_of_the_callers_arrays(neuron: str, wrapped: str) -> None:
    class Dataset:
        def iterate_episodes(self) -> Any:
            return iter([type("Episode", (), {"observations": rows})])

    rows, test = walk(300), walk(50, seed=1)
    given = {"array": rows, "iterable": [rows], "minari": Dataset()}[wrapped]
    policy, expected = (convert(random_actor(), case, neuron=neuron) for case in (given, walk(300)))
    rows[...] = 1e6
    assert all(np.array_equal(policy.act(obs), expected.act(obs)) for obs in test)


def test_datasets_hold_copies_of_what_an_environment_hands_out() -> None:
    actor = random_actor(kind="clip", shape=(5,))
    actor = type(actor)(actor.layers, type(actor.head).clip([-2] * 3, [2] * 3), (5,))
    data = rollout(actor, "tests/Recycling-v0", steps=STEPS, seed=1)
    assert len(np.unique(data.observations, axis=0)) == STEPS
    inside = ~(data.terminations | data.truncations)[:-1] & (np.arange(STEPS - 1) % 12 != 11)
    assert np.array_equal(data.next_observations[:-1][inside], data.observations[1:][inside])


def test_distinct_rows_are_counted_up_to_the_most() -> None:
    values = np.repeat(walk(30), 5, axis=0)
    assert distinct_rows(values, 100) == 30
    assert distinct_rows(values, 7) == 7
    assert distinct_rows(np.ones((500, 3), np.float32), 20) == 1
