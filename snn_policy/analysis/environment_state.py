"""Save an environment's whole state and restore it to the bit: simulator, wrappers, random generators.

    saved = save_state(env)
    env.step(action)
    restore_state(env, saved)      # as if that step had never been

Saved are all Python objects that the environment refers to (`snn_policy.analysis.object_state`), and MuJoCo's data,
through Gymnasium, dm_control or held by an environment of one's own: all of it, not only its integration state, since
observations and rewards also read what the last step has derived. An environment, or a wrapper anywhere in the chain,
that has `get_state()` and `set_state(state)` is saved by these, with all that it wraps. What lies where Python cannot
see it (Box2D's worlds, other processes) is refused, and so is what only turns out not to come back;
`snn_policy.analysis.replayed` repeats such an episode instead.
"""

import copy
import inspect
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from snn_policy.analysis.mujoco_state import mujoco_rule
from snn_policy.analysis.object_rules import plain_rule, restore_attributes, some_attributes
from snn_policy.analysis.object_state import OpaqueError, Recording, Rule, nothing
from snn_policy.observations import environment_name

_NO_STATE = ("pygame", "OpenGL", "glfw", "cv2", "PIL", "matplotlib", "moviepy")
"""Packages that draw: their objects hold nothing that a step reads."""
_DESCRIPTIONS = frozenset({
    "_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs", "metadata", "_metadata", "spec", "_cached_spec",
    "observation_structure",
})  # fmt: skip
"""Attributes in which Gymnasium keeps what an environment was made of."""
_WAY_OUT = (
    "give the environment, or a wrapper around it, the methods get_state() and set_state(state), which return and "
    "take all that its steps depend on"
)
_BOX2D = "Box2D keeps contacts and joint impulses where Python cannot reach them"
_REPLAYED = "snn_policy.analysis.Replayed around it repeats the episode instead, or "
_UNSEEN = "state in a C library or another process, or numbers drawn from a generator that others share"
_LEFT_OUT = "its get_state() and set_state(state) leave out something that steps depend on"
_RULES: dict[type, Rule] = {}


class CannotRestoreError(ValueError):
    """Report an environment whose state cannot be restored exactly; names it, the reason and the way out."""

    def __init__(self, env: Any, reason: str) -> None:
        name = environment_name(env)
        super().__init__(f"environment {name}: its state cannot be restored: {reason}; {_REPLAYED}{_WAY_OUT}")

    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, (str(self),)


class EnvironmentState:
    """Hold what `save_state` found; it may be restored any number of times, in the same environment only."""

    def __init__(self, env: gym.Env, recording: Recording) -> None:
        self.env, self.recording = env, recording


def save_state(env: gym.Env, reuse: EnvironmentState | None = None) -> EnvironmentState:
    """Return the environment's state now, its wrappers' included.

    Args:
        reuse: an earlier state of the same environment that is not needed any more; its memory is used again, which
            with MuJoCo is many times as fast.

    Raises:
        CannotRestoreError: something in it cannot be saved.
    """
    if reuse is None and is_box2d(env):
        raise CannotRestoreError(env, _BOX2D)
    try:
        return EnvironmentState(env, Recording(env, _rule_of, _RULES, reuse and reuse.recording))
    except OpaqueError as error:
        place = ".".join(error.path)
        raise CannotRestoreError(env, f"{place} is a {error}, whose contents cannot be seen") from None


def restore_state(env: gym.Env, state: EnvironmentState) -> None:
    """Bring the environment back to the state, which is not used up.

    Raises:
        ValueError: it is another environment's, or its memory was given away.
    """
    if state.recording.used_up:
        raise ValueError("state: its memory was reused by a later one; save again without reuse")
    if env is not state.env:
        raise ValueError(f"state: saved of another {environment_name(state.env)} than is to be restored")
    state.recording.restore()


def save_wrappers(env: gym.Env) -> Recording:
    """Return what the wrappers keep, as far as it can be seen: not the environment in them, nor what saves itself."""
    base = type(env.unwrapped)

    def rule_of(kind: type) -> Rule:
        left_out = kind is base or (issubclass(kind, gym.Env) and has_protocol(kind))
        return nothing if left_out else _as_far_as_seen(_rule_of(kind))

    return Recording(env, rule_of, {})


def _as_far_as_seen(rule: Rule) -> Rule:
    def seen(recording: Recording, value: Any) -> None:
        with suppress(OpaqueError):
            rule(recording, value)

    return nothing if rule is nothing else seen


def check_restorable(env: gym.Env, seed: int = 0, steps: int = 10) -> None:
    """Try it: reset, act at random, restore, act in the same way again; twice from states further on.

    Raises:
        CannotRestoreError: something cannot be saved, or an observation, a reward or an end differs by a bit.
    """
    actions = copy.deepcopy(env.action_space)
    actions.seed(seed)
    for before in (0, steps):
        env.reset(seed=seed)
        if any(_ended(env.step(actions.sample())) for _ in range(before)):
            return
        chosen = [actions.sample() for _ in range(steps)]
        saved = save_state(env)
        first = _outcomes(env, chosen)
        restore_state(env, saved)
        for step, (once, again) in enumerate(zip(first, _outcomes(env, chosen), strict=False)):
            for name, one, other in zip(("observation", "reward", "terminated", "truncated"), once, again, strict=True):
                if not identical(one, other):
                    cause = _LEFT_OUT if any(has_protocol(type(layer)) for layer in _layers(env)) else _UNSEEN
                    raise CannotRestoreError(
                        env, f"the {name} {step + 1} step(s) after a restored state differs from what it was ({cause})"
                    )


def identical(one: Any, other: Any) -> bool:
    """Return whether two observations (arrays, or dictionaries and tuples of them) agree in every bit."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(identical(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        pairs = zip(one, other, strict=False)
        return type(one) is type(other) and len(one) == len(other) and all(identical(a, b) for a, b in pairs)
    mine, theirs = np.asarray(one), np.asarray(other)
    same_kind = mine.dtype == theirs.dtype and mine.shape == theirs.shape
    return same_kind and (mine.tobytes() == theirs.tobytes() if mine.dtype != object else bool((mine == theirs).all()))


def _outcomes(env: gym.Env, actions: list[Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for action in actions:
        outcome = env.step(action)
        found.append(copy.deepcopy(outcome[:4]))
        if _ended(outcome):
            break
    return found


def _ended(outcome: tuple[Any, ...]) -> bool:
    return bool(outcome[2]) or bool(outcome[3])


def is_box2d(env: gym.Env) -> bool:
    """Return whether Box2D's world would have to be saved: the base is one of Gymnasium's environments of that kind, or
    holds an object of Box2D's, and nothing saves itself."""
    base = env.unwrapped
    if has_protocol(type(base)) or any(has_protocol(type(layer)) for layer in _layers(env)):
        return False
    held = (type(value) for value in getattr(base, "__dict__", {}).values())
    modules = [cls.__module__ for cls in (*type(base).__mro__, *held)]
    return any(name.startswith("gymnasium.envs.box2d") or name.partition(".")[0] == "Box2D" for name in modules)


def _layers(env: Any) -> list[Any]:
    layers = [env]
    while isinstance(getattr(layers[-1], "env", None), gym.Env):
        layers.append(layers[-1].env)
    return layers


def has_protocol(kind: type) -> bool:
    """Return whether a class has `get_state()` and `set_state(state)`: with these arguments, not any others."""
    return _takes(getattr(kind, "get_state", None), 1) and _takes(getattr(kind, "set_state", None), 2)


def _takes(method: Any, arguments: int) -> bool:
    if not callable(method):
        return False
    try:
        inspect.signature(method).bind(*range(arguments))
    except (TypeError, ValueError):
        return False
    return True


def _rule_of(kind: type) -> Rule:
    package = kind.__module__.partition(".")[0]
    if issubclass(kind, gym.Env):
        return _own_state if has_protocol(kind) else _environment
    if issubclass(kind, spaces.Space):
        return _space
    if issubclass(kind, EnvSpec) or package in _NO_STATE or kind.__module__.endswith("wrappers.rendering"):
        return nothing
    return mujoco_rule(kind) or plain_rule(kind)


def _environment(recording: Recording, env: Any) -> None:
    """Record an environment's or a wrapper's attributes; of those that only describe it, not what they hold."""
    kept = env.__dict__.copy()
    recording.keep(restore_attributes, env, kept)
    recording.visit_all((name, value) for name, value in kept.items() if name not in _DESCRIPTIONS)


def _own_state(recording: Recording, env: Any) -> None:
    recording.keep(_give_back, env, _copy(_asked(env, "get_state")))


def _give_back(env: Any, state: Any) -> None:
    _asked(env, "set_state", _copy(state))


def _asked(env: Any, method: str, *given: Any) -> Any:
    """Return what an environment's own method returns; what it raises is said in one line."""
    try:
        return getattr(env, method)(*given)
    except Exception as error:
        raise CannotRestoreError(
            env, f"its {method} raised {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _copy(state: Any) -> Any:
    """Return a copy, so that what an environment hands out of its own may change; as it is where it has none."""
    try:
        return copy.deepcopy(state)
    except (TypeError, NotImplementedError):
        return state


def _space(recording: Recording, space: Any) -> None:
    """Record a space's generator, and those of the spaces in it: the rest never changes."""
    some_attributes(recording, space, ("_np_random",))
    inner = getattr(space, "spaces", ())
    recording.visit_all(inner.items() if isinstance(inner, dict) else enumerate(inner))
    if isinstance(space, spaces.Sequence):
        recording.visit(space.feature_space)


__all__ = ["CannotRestoreError", "EnvironmentState", "check_restorable", "restore_state", "save_state"]
