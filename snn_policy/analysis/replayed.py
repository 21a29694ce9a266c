"""Restore environments that keep state where Python cannot see it by repeating the episode from its reset.

Box2D is one: with the positions, angles and velocities of all bodies put back, observations of LunarLander differ by
3e-5 after one step and those of BipedalWalker by 2e-3, since contacts and joints keep impulses for the next step. Nor
does a world forget the bodies that were destroyed in it: a repeated reset begins with a new one.

Trying an action in every state of an episode of L decisions takes L resets and L²/2 steps that way. So an action is
tried in a copy of the process (`process_copy`) where repeating would take longer, and the system has such copies.
"""

import copy
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import gymnasium as gym

from snn_policy.analysis.environment_state import is_box2d, save_wrappers
from snn_policy.analysis.object_state import Recording
from snn_policy.analysis.process_copy import can_copy_process, in_a_copy
from snn_policy.environments import EnvironmentSource, make_environment
from snn_policy.protocol import Policy

TIMED = 50
"""Steps."""
COPIED_AFTER = 100
"""Steps: repeating fewer takes less time than a copy of the process."""


def make_restorable(env: EnvironmentSource, policy: Policy | None = None) -> gym.Env:
    """Return what `make_environment` makes; where Box2D keeps its state, `Replayed` around it.

    Raises:
        ValueError: as `make_environment`.
    """
    made = make_environment(env, policy)
    return Replayed(made) if is_box2d(made) else made


def repetition_seconds(env: EnvironmentSource, policy: Policy, lengths: Iterable[int]) -> float:
    """Return about how long it takes to try an action in every state of episodes that are restored by repeating them.

    Args:
        lengths: of the episodes, in decisions.

    Returns:
        seconds, from a reset, 50 random steps and a copy of the process that are timed; 0 where states are restored
        from memory.
    """
    made = make_restorable(env, policy)
    try:
        if not isinstance(made, Replayed):
            return 0.0
        made.reset(seed=0)
        reset = _seconds(lambda: made.reset(seed=0))
        made.action_space.seed(0)
        began, over, steps = time.perf_counter(), False, 0
        while not over and steps < TIMED:
            _, _, terminated, truncated, _ = made.step(made.action_space.sample())
            over, steps = terminated or truncated, steps + 1
        step = (time.perf_counter() - began) / steps
    finally:
        made.close()
    copied = _seconds(lambda: in_a_copy(int)) + step if can_copy_process() else None

    def of_one(length: int) -> float:
        repeated = length if copied is None else min(length, COPIED_AFTER)
        later = (length - repeated) * (copied or 0.0)
        return repeated * reset + repeated * (repeated + 1) / 2 * step + later

    return sum(map(of_one, lengths))


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


class Beginning(NamedTuple):
    """Hold what an episode began with: the reset's seed and options, and what wrappers kept from episodes before."""

    seed: int
    options: Any
    wrappers: Recording


class Replayed(gym.Wrapper):
    """Add `get_state` and `set_state`, which reset the environment with the same seed and act as it was acted.

    That is exact where an episode depends on its seed, its actions and what the wrappers within have kept from episodes
    before (statistics of `NormalizeObservation`, for one), and takes as long as the episode so far.

        walk(actor, policy, lambda: Replayed(gym.make("LunarLander-v3")))
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._begun: Beginning | None = None
        self._actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        self._begun, self._actions = Beginning(seed, copy.deepcopy(options), save_wrappers(self.env)), []
        _renew_world(self.unwrapped)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self._actions.append(copy.copy(action))
        return self.env.step(action)

    @property
    def copies(self) -> bool:
        """Return whether an action is better tried in a copy of the process than by repeating the episode after it."""
        return len(self._actions) >= COPIED_AFTER and can_copy_process()

    def get_state(self) -> tuple[Beginning | None, tuple[Any, ...]]:
        """Return what the episode began with, and its actions."""
        return self._begun, tuple(self._actions)

    def set_state(self, state: tuple[Beginning | None, tuple[Any, ...]]) -> None:
        """Return to where `get_state` was asked.

        Raises:
            ValueError: it was asked before the first reset.
        """
        begun, actions = state
        if begun is None:
            raise ValueError("state: taken before the first reset, from which nothing can be repeated")
        begun.wrappers.restore()
        self.reset(seed=begun.seed, options=begun.options)
        for action in actions:
            self.step(action)


def _renew_world(base: Any) -> None:
    """Put a new world in the place of a Box2D environment's, as LunarLander does by itself at a reset."""
    world = vars(base).get("world")
    if type(world).__module__.startswith("Box2D") and hasattr(base, "_destroy"):
        base._destroy()
        base.world = type(world)(gravity=tuple(world.gravity))
