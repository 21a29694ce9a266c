"""Policies, plants and episodes whose analysis is known beforehand."""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from snn_policy.actor import Actor
from snn_policy.analysis.traces import Trace
from snn_policy.ann.activations import RELU
from snn_policy.ann.layers import Head, Linear

Values = npt.NDArray[Any]


class Line(gym.Env):
    """A point on a line: the action in [−1, 1] moves it by a fifth of itself; the reward is −|place|."""

    def __init__(self, length: int = 60) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._length, self._place, self._step = length, 0.0, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Values, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._step = float(self.np_random.uniform(-1, 1)), 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Values, float, bool, bool, dict[str, Any]]:
        self._place += 0.2 * float(np.clip(action, -1, 1)[0])
        self._step += 1
        return self._seen(), -abs(self._place), False, self._step >= self._length, {}

    def _seen(self) -> Values:
        return np.array([self._place, np.sin(self._step)], np.float32)


def line_actor() -> Actor:
    """Push towards 0: a = clip(−x + ½·sin(k)), computed exactly by ReLU neurons of x and −x."""
    hidden = Linear(np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32), np.zeros(4, np.float32), RELU)
    last = Linear(np.array([[-1, 1, 0.5, -0.5]], np.float32), np.zeros(1, np.float32))
    return Actor((hidden, last), Head.clip([-1.0], [1.0]), (2,), name="line")


def trace(spiking: Values, ann: Values | None = None, observations: Values | None = None, **given: Any) -> Trace:
    """An episode with these actions, (K,) or (K, actions); an ANN that always answers 0 unless given."""
    actions = np.asarray(spiking, np.float64).reshape(len(spiking), -1)
    asked = np.zeros_like(actions) if ann is None else np.asarray(ann, np.float64).reshape(actions.shape)
    seen = np.arange(len(actions), dtype=np.float32)[:, None] if observations is None else observations
    return Trace(seen, actions, asked, np.zeros(len(actions)), **given)
