"""Small recordings for the tests of offline training."""

from dataclasses import replace
from typing import Any

import numpy as np

from snn_policy.offline.transitions import FLAG_ARRAYS, FLOAT_ARRAYS, Transitions, concatenate

ARRAYS = (*FLOAT_ARRAYS, *FLAG_ARRAYS)


def counted(lengths: tuple[int, ...] = (5, 3, 4), terminated: tuple[int, ...] = (1,), **about: Any) -> Transitions:
    """Pendulum-like episodes whose observations count up, so that every row can be told from every other."""
    rng, parts = np.random.default_rng(0), []
    for index, length in enumerate(lengths):
        observations = 100 * index + np.arange(length + 1, dtype=np.float32)[:, None] + np.zeros(3, np.float32)
        last = np.arange(length) == length - 1
        flags = {"terminations": last & (index in terminated), "truncations": last & (index not in terminated)}
        arrays: dict[str, Any] = {"actions": rng.uniform(-2, 2, (length, 1)), "rewards": np.arange(length) + index}
        arrays |= {"observations": observations[:-1], "next_observations": observations[1:], **flags}
        parts.append(Transitions(**arrays, env_id="Pendulum-v1"))
    return replace(concatenate(parts, "counted"), **about)


def same(one: Transitions, other: Transitions) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ARRAYS)
