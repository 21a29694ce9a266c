"""Save an environment's whole state and restore it to the bit: simulator, wrappers, random generators.

    saved = save_state(env)
    env.step(action)
    restore_state(env, saved)      # as if that step had never been
"""

from typing import Any

import gymnasium as gym


class CannotRestoreError(ValueError):
    """Report an environment whose state cannot be restored exactly; names it, the reason and the way out."""


class EnvironmentState:
    """Hold what `save_state` found; it may be restored any number of times, in the same environment only."""


def save_state(env: gym.Env) -> EnvironmentState:
    """Return the environment's state now, its wrappers' included."""
    raise NotImplementedError


def restore_state(env: gym.Env, state: EnvironmentState) -> None:
    """Bring the environment back to the state, which is not used up."""
    raise NotImplementedError


def check_restorable(env: gym.Env, seed: int = 0, steps: int = 10) -> None:
    """Try it: reset, act at random, restore, act again; raise `CannotRestoreError` where anything differs."""
    raise NotImplementedError


__all__: list[Any] = ["CannotRestoreError", "EnvironmentState", "check_restorable", "restore_state", "save_state"]
