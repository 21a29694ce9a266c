"""Episodes seen as pixels and labelled by an expert that sees the state: the data of `train_pixels.py`.

Frames are stored once, not once per stack, and drawn once: rendering is the slow part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy import Actor

Array = npt.NDArray[Any]
Student = Callable[[Array], Array]
STACK = 3
HAND_OVER = 0.01
"""Chance per decision that the expert takes over from the student, or gives back."""


@dataclass(frozen=True)
class Rollouts:
    """Decisions of whole episodes, one after the other.

    Attributes:
        frames: (N, 3, 84, 84) uint8, the newest frame of every decision.
        first: (N,) index of the decision's episode's first decision.
        states: (N, state) float32.
        actions: (N, actions) float32, the expert's.
        returns: (episodes,).
    """

    frames: Array
    first: Array
    states: Array
    actions: Array
    returns: Array

    def __len__(self) -> int:
        return len(self.frames)

    def stacks(self, rows: Array) -> Array:
        """(n, 9, 84, 84) uint8: what the environment showed at these decisions."""
        past = np.maximum(rows[:, None] + np.arange(1 - STACK, 1), self.first[rows, None])
        return self.frames[past].reshape(len(rows), -1, *self.frames.shape[2:])

    def joined(self, other: "Rollouts") -> "Rollouts":
        moved = Rollouts(other.frames, other.first + len(self), other.states, other.actions, other.returns)
        names = ("frames", "first", "states", "actions", "returns")
        return Rollouts(*(np.concatenate([getattr(self, name), getattr(moved, name)]) for name in names))

    def save(self, path: Path) -> None:
        partial = path.with_name(f"{path.name}.partial.npz")
        np.savez(partial, **vars(self))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Rollouts":
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def roll_out(
    env: Any, expert: Actor, episodes: int, seed: int, rng: np.random.Generator, *, student: Student | None = None,
    noise: float = 0.0,
) -> Rollouts:  # fmt: skip
    """Whole episodes of the student (of the expert, if there is none), every decision labelled by the expert.

    Args:
        env: pixels, with the state in `info["state"]`.
        noise: Gaussian, of the actions of every second episode; where it is not zero, student and expert take turns in
            these episodes, so that what follows a recovery is seen too.
    """
    frames, first, states, labels, returns = [], [], [], [], []
    for episode in range(episodes):
        obs, info = env.reset(seed=seed + episode)
        start, total, over, led = len(frames), 0.0, False, student is None
        disturbance = noise * (episode % 2)
        while not over:
            label = expert.step(info["state"], ())[0]
            frames.append(obs[-3:].copy())
            first.append(start)
            states.append(info["state"])
            labels.append(label)
            if student and disturbance and rng.random() < HAND_OVER:
                led = not led
            action = label if led or student is None else student(obs)
            disturbed = action + disturbance * rng.normal(size=action.shape)
            obs, reward, terminated, truncated, info = env.step(np.clip(disturbed, -1, 1).astype(np.float32))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return Rollouts(np.stack(frames), np.array(first), np.stack(states), np.stack(labels), np.array(returns))
