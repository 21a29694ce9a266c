"""CartPole that takes its time, or kills the process that it runs in, once."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv


class OddEnv(CartPoleEnv):
    """CartPole with surprises.

    Args:
        pause: seconds that a reset takes.
        fatal: seed whose episode kills its process, if `marker`, a file that is then made, is not there yet.
        always: or even if it is.
    """

    def __init__(self, pause: float = 0.0, fatal: int | None = None, marker: str = "", always: bool = False) -> None:
        super().__init__()
        self.pause, self.fatal, self.marker, self.always = pause, fatal, Path(marker), always

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        time.sleep(self.pause)
        if seed is not None and seed == self.fatal and (self.always or not self.marker.exists()):
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(seed=seed, options=options)


gym.register("Odd-v0", entry_point=f"{__name__}:OddEnv")
