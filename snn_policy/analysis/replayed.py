"""Restore environments that keep state where Python cannot see it by repeating the episode from its reset.

Box2D is one: with the positions, angles and velocities of all bodies put back, observations of LunarLander differ by
3e-5 after one step and those of BipedalWalker by 2e-3, since contacts and joints keep impulses for the next step. Nor
does a world forget the bodies that were destroyed in it: a repeated reset begins with a new one.
"""

import copy
from typing import Any

import gymnasium as gym


class Replayed(gym.Wrapper):
    """Add `get_state` and `set_state`, which reset the environment with the same seed and act as it was acted.

    That is exact where an episode depends on its seed and its actions alone, and takes as long as the episode so far.

        walk(actor, policy, lambda: Replayed(gym.make("LunarLander-v3")))
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._begun: tuple[int, Any] | None = None
        self._actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        self._begun, self._actions = (seed, copy.deepcopy(options)), []
        _renew_world(self.unwrapped)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self._actions.append(copy.copy(action))
        return self.env.step(action)

    def get_state(self) -> tuple[tuple[int, Any] | None, tuple[Any, ...]]:
        """Return the episode's seed and options, and its actions."""
        return self._begun, tuple(self._actions)

    def set_state(self, state: tuple[tuple[int, Any] | None, tuple[Any, ...]]) -> None:
        """Return to where `get_state` was asked.

        Raises:
            ValueError: it was asked before the first reset.
        """
        begun, actions = state
        if begun is None:
            raise ValueError("state: taken before the first reset, from which nothing can be repeated")
        self.reset(seed=begun[0], options=begun[1])
        for action in actions:
            self.step(action)


def _renew_world(base: Any) -> None:
    """Put a new world in the place of a Box2D environment's, as LunarLander does by itself at a reset."""
    world = vars(base).get("world")
    if type(world).__module__.startswith("Box2D") and hasattr(base, "_destroy"):
        base._destroy()
        base.world = type(world)(gravity=tuple(world.gravity))
