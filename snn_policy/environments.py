"""Making environments and checking that they fit a policy, with one clear line for everything that does not.

`make_environment` also keeps two warnings out of the terminal that no user can act on: MuJoCo's about the
`settotalmass` attribute in Gymnasium's own models (also written to MUJOCO_LOG.TXT), and Gymnasium's about older
versions of an environment, which an older actor needs. All others are passed on.
"""

import importlib
import importlib.util
import re
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from snn_policy.observations import environment_name
from snn_policy.protocol import KeyedShape, Policy

EnvironmentSource = str | Callable[[], gym.Env]
_EXTRAS = {"mujoco": "mujoco", "box2d": "box2d"}
"""The extra that brings a simulator, by what Gymnasium calls it, in lower case."""


def make_environment(env: EnvironmentSource, policy: Policy | None = None) -> gym.Env:
    """Return a new environment whose spaces fit the policy.

    Args:
        env: a Gymnasium id, or a function without arguments that makes an environment. Ids `dm_control/…` give
            flat float32 states, or pixels: `snn_policy.wrappers.dm_control` has their forms.
        policy: what will act in it; None to skip the check.

    Raises:
        ValueError: unknown id, missing simulator or renderer, or spaces that do not fit.
    """
    if isinstance(env, str) and env.startswith("dm_control/"):
        made = _dm_control(env)
    else:
        with quiet_simulators():
            made = _registered(env) if isinstance(env, str) else _called(env)
    try:
        if policy is not None:
            check_spaces(made, policy)
    except ValueError:
        made.close()
        raise
    return made


def make_environments(
    env: EnvironmentSource, policy: Policy | None, count: int, given: "Distinct | None" = None
) -> list[gym.Env]:
    """Make that many new environments; arguments as for `make_environment`.

    Args:
        given: what the same source has given before, and must not give again.

    Raises:
        ValueError: as `make_environment`, or an environment that the source has given before. Those made so far are
            closed, but for one that was given twice: it is somebody else's.
    """
    distinct = Distinct() if given is None else given
    envs: list[gym.Env] = []
    try:
        for _ in range(count):
            made = make_environment(env, policy)
            distinct.add(made)
            envs.append(made)
    except BaseException as error:
        shared = error.env if isinstance(error, SharedEnvironmentError) else None
        for made in envs:
            if shared is None or not _share(made, shared):
                made.close()
        raise
    return envs


class SharedEnvironmentError(ValueError):
    """Report one environment for two rows; `env` is the one that was met again."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(
            f"environment {environment_name(env)}: the same environment twice (or one base in two wrappers), where "
            "every row and every run needs one of its own; make a new one in each call, e.g. "
            'lambda: gym.make("ID") instead of lambda: env'
        )
        self.env = env

    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, (str(self),)  # environments cannot be sent from a worker


class Distinct:
    """Remember the environments met so far, wrappers and what they wrap, to notice one that comes again.

    Only alive ones are kept in mind: another one may have the address of one that is gone.
    """

    def __init__(self, envs: Iterable[gym.Env] = ()) -> None:
        self._met: dict[int, Callable[[], Any]] = {}
        for env in envs:
            self.add(env)

    def add(self, env: gym.Env) -> None:
        """Meet an environment.

        Raises:
            SharedEnvironmentError: it, or an environment inside it, was met before.
        """
        parts = _parts(env)
        for part in parts:
            known = self._met.get(id(part))
            if known is not None and known() is part:
                raise SharedEnvironmentError(env)
        self._met |= {id(part): _reference(part) for part in parts}


def _reference(part: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(part)
    except TypeError:  # a class with slots
        return lambda: part


def _share(one: gym.Env, other: gym.Env) -> bool:
    return any(part is another for part in _parts(one) for another in _parts(other))


def _parts(env: Any) -> list[Any]:
    """Return an environment and all that it wraps, the base last."""
    parts = [env]
    while isinstance(getattr(parts[-1], "env", None), gym.Env):
        parts.append(parts[-1].env)
    base = getattr(env, "unwrapped", env)
    return parts if any(part is base for part in parts) else [*parts, base]


def check_spaces(env: gym.Env | VectorEnv, policy: Policy) -> None:
    """Check that a policy can act in an environment, or in each row of a vector environment.

    Observations need the policy's shape; actions its shape, and bounds that contain the policy's own (where the
    policy is bounded at all); discrete actions its number of choices, counted from 0.

    Raises:
        ValueError: naming both sides.
    """
    if not isinstance(policy, Policy):
        raise TypeError(f"policy: expected an Actor or a SpikingPolicy, got {type(policy).__name__}")
    if isinstance(env, VectorEnv):
        observation_space, action_space = env.single_observation_space, env.single_action_space
    else:
        observation_space, action_space = env.observation_space, env.action_space
    observed = _shape(observation_space, policy.observation_shape)
    name, hint = f"environment {environment_name(env)}", ""
    if observed is None:
        hint = ". Flatten it first, e.g. with gymnasium.wrappers.FlattenObservation"
    elif len(observed) == 3 and policy.observation_shape == (observed[2], *observed[:2]):
        hint = _channel_first(observation_space, isinstance(env, VectorEnv))
    elif len(observed) == len(policy.observation_shape) == 3:
        hint = ". Pictures are (3·stack, size, size): ids dm_control/…-pixels-stackN-sizeN-v0 choose both numbers"
    elif observed != policy.observation_shape and observed[-1:] == policy.observation_shape[-1:]:
        hint = ". Wrappers that change observations (FrameStackObservation, …) belong inside, next to the environment"
    if observed != policy.observation_shape:
        raise ValueError(
            f"{name} does not fit the policy: it gives observations {_describe(observation_space)}, "
            f"the policy takes shape {policy.observation_shape}{hint}"
        )
    if not _actions_fit(action_space, policy):
        raise ValueError(
            f"{name} does not fit the policy: it takes actions {_describe(action_space)}, "
            f"the policy gives {_describe_actions(policy)}"
        )


@contextmanager
def quiet_simulators() -> Iterator[None]:
    """Silence the two warnings named above while environments are made in this block."""
    with warnings.catch_warnings(), _without_old_model_warnings():
        warnings.filterwarnings("ignore", message=r".*is out of date", category=DeprecationWarning)
        yield


@contextmanager
def _without_old_model_warnings() -> Iterator[None]:
    if importlib.util.find_spec("mujoco") is None:
        yield
        return
    mujoco: Any = importlib.import_module("mujoco")
    previous = mujoco.get_mju_user_warning()

    def pass_on(message: str) -> None:
        if "settotalmass" in message:
            return
        if previous is not None:
            previous(message)
        else:
            print(f"WARNING: {message}", file=sys.stderr)

    mujoco.set_mju_user_warning(pass_on)
    try:
        yield
    finally:
        if mujoco.get_mju_user_warning() is pass_on:  # else dm_control has just set its own
            mujoco.set_mju_user_warning(previous)


def _dm_control(env_id: str) -> gym.Env:
    from snn_policy.wrappers import dm_control

    dm_control.register(env_id)  # imports dm_control, which sets its own warning handler
    with quiet_simulators():
        return dm_control.flat_states(_registered(env_id))


def _registered(env_id: str) -> gym.Env:
    try:
        return gym.make(env_id)
    except (gym.error.Error, ImportError) as error:
        reason = re.split(r", (?:you can install it by )?run `pip", str(error).strip().split("\n")[0])[0].rstrip(".")
        raise ValueError(f"environment {env_id!r} cannot be made: {reason}{_remedy(env_id, error)}") from error


def _remedy(env_id: str, error: Exception) -> str:
    if isinstance(error, gym.error.DependencyNotInstalled):
        for simulator, extra in _EXTRAS.items():
            if simulator in str(error).lower():
                return f"; install it with: pip install 'snn-policy[{extra}]'"
    older = re.fullmatch(r"(.+)-v[23]", env_id)
    if older and f"{older[1]}-v5" in gym.registry:
        return f"; use {older[1]}-v5"
    return ""


def _called(make: Any) -> gym.Env:
    if not callable(make):
        remedy = "; give lambda: gym.make(…) instead" if isinstance(make, gym.Env) else ""
        raise ValueError(f"environment: expected an id or a function that makes one, got {type(make).__name__}{remedy}")
    made = make()
    if not isinstance(made, gym.Env):
        raise ValueError(f"environment: the function must return a gymnasium.Env, got {type(made).__name__}")
    return made


def _shape(space: spaces.Space, own: tuple[int, ...] = ()) -> tuple[int, ...] | None:
    """Return an array observation's shape; None for observations that are not arrays (Dict, Tuple, Text, …)."""
    if isinstance(space, spaces.Dict) and isinstance(own, KeyedShape):
        inner = {key: _shape(part) for key, part in space.spaces.items()}
        return own if inner == own.parts else None
    plain = isinstance(space, (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete, spaces.Discrete))
    return space.shape if plain else None


def _actions_fit(space: spaces.Space, policy: Policy) -> bool:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        if not policy.discrete or space.shape != policy.action_shape:
            return False
        choices = space.n if isinstance(space, spaces.Discrete) else space.nvec
        return bool(np.all(space.start == policy.low) and np.all(choices == policy.high + 1))
    if not isinstance(space, spaces.Box) or policy.discrete or space.shape != policy.action_shape:
        return False
    low, high = np.asarray(policy.low, np.float64), np.asarray(policy.high, np.float64)
    slack = 1e-5 * np.maximum(1.0, np.abs(np.where(np.isfinite(high - low), high - low, 1.0)))
    below = np.isfinite(low) & (low < space.low - slack)
    above = np.isfinite(high) & (high > space.high + slack)
    return not (below | above).any()


def _channel_first(space: Any, vector: bool) -> str:
    """Return how pictures get the axes that Stable-Baselines3 gives them before its CnnPolicy."""
    module, axes = ("gymnasium.wrappers.vector", "(0, 3, 1, 2)") if vector else ("gymnasium.wrappers", "(2, 0, 1)")
    name = "single_observation_space" if vector else "observation_space"
    shape = (space.shape[2], *space.shape[:2])
    bounds = (space.low.min(), space.high.max()) if isinstance(space, spaces.Box) else (0, 255)
    made = f"spaces.Box({bounds[0]:g}, {bounds[1]:g}, {shape}, np.{space.dtype})"
    return (
        ". The policy sees pictures with their channels first, as Stable-Baselines3 transposes them; do so inside: "
        f"{module}.TransformObservation(env, lambda obs: obs.transpose{axes}, {name}={made})"
    )


def _describe(space: spaces.Space) -> str:
    match space:
        case spaces.Box():
            return f"of shape {space.shape} within {_range(space.low, space.high)}"
        case spaces.Discrete():
            return f"{int(space.n)} choices from {int(space.start)}"
        case spaces.MultiDiscrete():
            return f"{', '.join(map(str, space.nvec.ravel()))} choices from {', '.join(map(str, space.start.ravel()))}"
        case _:
            return f"{type(space).__name__}, not one array"


def _describe_actions(policy: Policy) -> str:
    if policy.discrete:
        return f"{', '.join(str(int(high) + 1) for high in np.ravel(policy.high))} choices from 0"
    return f"shape {policy.action_shape} within {_range(policy.low, policy.high)}"


def _range(low: Any, high: Any) -> str:
    return f"[{np.min(low):.6g}, {np.max(high):.6g}]"
