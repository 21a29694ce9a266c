"""CartPole and Pendulum without their velocities: tasks that need memory, as `CartPole-NoVelocity-v1` and so on.

Importing this module registers them, also from the command line: `--env hidden_velocities:CartPole-NoVelocity-v1`
where `examples/` is on the Python path.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

CARTPOLE, PENDULUM = "CartPole-NoVelocity-v1", "Pendulum-NoVelocity-v1"


class MaskVelocity(gym.ObservationWrapper, RecordConstructorArgs):
    """Keep only some entries of an observation, such as positions and angles.

    Args:
        env: its observations are vectors.
        kept: the indices of the entries that stay, in their new order.

    >>> MaskVelocity(gym.make("CartPole-v1"), (0, 2)).observation_space.shape
    (2,)
    """

    def __init__(self, env: gym.Env, kept: Sequence[int]) -> None:
        RecordConstructorArgs.__init__(self, kept=kept)
        super().__init__(env)
        self._kept, whole = np.array(kept), env.observation_space
        assert isinstance(whole, spaces.Box)
        self.observation_space = spaces.Box(whole.low[self._kept], whole.high[self._kept], dtype=np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        return np.asarray(observation, np.float32)[self._kept]


def cartpole(**options: Any) -> gym.Env:
    """Return CartPole whose observations are (position, angle)."""
    return MaskVelocity(gym.make("CartPole-v1", **options), (0, 2))


def pendulum(**options: Any) -> gym.Env:
    """Return Pendulum whose observations are (cos, sin) of its angle."""
    return MaskVelocity(gym.make("Pendulum-v1", **options), (0, 1))


MAKERS = {CARTPOLE: cartpole, PENDULUM: pendulum}
for env_id, entry_point in MAKERS.items():
    if env_id not in gym.registry:
        gym.register(env_id, entry_point)
