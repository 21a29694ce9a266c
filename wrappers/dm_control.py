"""The DeepMind Control Suite by id: flat float32 states, or pixels as DrQ-v2 sees them (docs/pixels.md).

    dm_control/cartpole-swingup-v0                          shimmy's environment, its observations flattened
    dm_control/cartpole-swingup-repeat2-v0                  the same, each action held for 2 control steps
    dm_control/cartpole-swingup-pixels-v0                   3 stacked frames of 84×84, action repeat 2
    dm_control/cartpole-swingup-pixels-repeat4-stack2-size64-v0

`snn_policy.environments.make_environment` accepts all of them, and so does everything that takes an id. For
`gym.make` itself, `register` the id first. DrQ-v2: Yarats et al., "Mastering Visual Continuous Control", 2021.
"""

import importlib
import os
import re
import time
import warnings
from collections import deque
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from snn_policy.checks import whole
from snn_policy.observations import finite_observation
from snn_policy.protocol import Policy

from .rendering import NoRendererError, Renderer, choose_backend

DRQ_CAMERAS = {"quadruped": 2}
"""The camera that DrQ-v2 looks through, by domain; 0 in all others."""
SHADOW_MAP = 1024
"""Half the models' own resolution: at 84×84 a few pixels at the shadows' edges differ; a third of the time is saved."""
UNBOUNDED = 1e10
"""How MuJoCo writes a limit that is not there (`mjMAXVAL`)."""
_ID = re.compile(r"dm_control/(?P<domain>\w+)-(?P<task>\w+)-(?P<options>[\w-]+)-v0")
_REMEDY = "install them with: pip install 'snn-policy[dmc]'"
_OPTIONS = {"repeat": "action_repeat", "stack": "frame_stack", "size": "size"}
_FORMS = "dm_control/DOMAIN-TASK-repeatN-v0 or dm_control/DOMAIN-TASK-pixels[-repeatN][-stackN][-sizeN]-v0"


def register(env_id: str) -> None:
    """Make an id of the forms above known to `gym.make`; those without options are shimmy's own, and not flattened.

    Raises:
        ValueError: no such task or option; dm_control or shimmy missing.
    """
    _import_suite()
    form = _ID.fullmatch(env_id)
    if form is None or env_id in gym.registry:
        return
    domain, task, words = form["domain"], form["task"], form["options"].split("-")
    known = {f"{domain_name}-{name}" for domain_name, name in importlib.import_module("dm_control.suite").ALL_TASKS}
    if f"{domain}-{task}" not in known:
        tasks = sorted(entry for entry in known if entry.startswith(f"{domain}-")) or sorted(known)
        raise ValueError(f"environment {env_id!r}: no task {domain}-{task}; dm_control has {', '.join(tasks)}")
    maker = "make_pixels" if words[0] == "pixels" else "make_states"
    options: dict[str, int] = {}
    for word in words[words[0] == "pixels" :]:
        option = re.fullmatch(r"([a-z]+)([0-9]{1,6})", word)
        name = _OPTIONS.get(option[1]) if option else None
        if option is None or name is None or name in options or (maker == "make_states" and name != "action_repeat"):
            raise ValueError(f"environment {env_id!r}: {word!r} is not understood here; the forms are {_FORMS}")
        options[name] = int(option[2])
    gym.register(env_id, f"{__name__}:{maker}", kwargs={"domain": domain, "task": task, **options})


def make_states(domain: str, task: str, *, action_repeat: int = 1) -> gym.Env:
    """Make flat states (n,) float32; actions in [-1, 1] float32, each held for `action_repeat` control steps."""
    return flat_states(HeldAction(_suite(domain, task), action_repeat))


def make_pixels(
    domain: str,
    task: str,
    *,
    size: int = 84,
    frame_stack: int = 3,
    action_repeat: int = 2,
    camera: int | None = None,
    shadow_map: int = SHADOW_MAP,
) -> gym.Env:
    """Make pictures (3·frame_stack, size, size) uint8, the newest last; actions as in `make_states`.

    Args:
        camera: of the model's own; DrQ-v2's by default.
        shadow_map: the shadows' resolution in texels; 2048 is the models' own, 0 leaves shadows out.
    """
    held = HeldAction(_suite(domain, task), action_repeat)
    return Pixels(held, size, frame_stack, DRQ_CAMERAS.get(domain, 0) if camera is None else camera, shadow_map)


def flat_states(env: gym.Env) -> gym.Env:
    """Join dictionaries of arrays to one float32 vector, in the order of their sorted names; others stay."""
    space = env.observation_space
    return FlatStates(env) if isinstance(space, spaces.Dict) and space.is_np_flattenable else env


class FlatStates(gym.ObservationWrapper):
    """Give a dictionary of arrays as one float32 vector (n,)."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(-np.inf, np.inf, (spaces.flatdim(env.observation_space),), np.float32)

    def observation(self, observation: dict[str, Any]) -> npt.NDArray[np.float32]:
        return flattened(observation)


def flattened(observation: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Return the arrays one after the other, in the order of their names, as Gymnasium flattens dictionaries."""
    return np.concatenate([np.ravel(observation[name]) for name in sorted(observation)], dtype=np.float32)


class HeldAction(gym.Wrapper):
    """Hold an action in [-1, 1], rescaled to the environment's bounds, for several control steps.

    The rewards are summed, and the last decision of an episode may be held for less.

    Raises:
        ValueError: actions without bounds, or a repeat that is not a whole number from 1 to 1000.
    """

    def __init__(self, env: gym.Env, action_repeat: int) -> None:
        super().__init__(env)
        _check("action repeat", action_repeat, 1, 1000)
        bounds = env.action_space
        if not (
            isinstance(bounds, spaces.Box) and max(np.abs(bounds.low).max(), np.abs(bounds.high).max()) < UNBOUNDED
        ):
            raise ValueError(f"actions cannot be rescaled to [-1, 1]: their space is {bounds}")
        self._low, self._high = bounds.low.astype(np.float64), bounds.high.astype(np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, bounds.shape, np.float32)
        self.action_repeat = action_repeat

    def step(self, action: npt.ArrayLike) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        share = (np.asarray(action, np.float64) + 1) / 2
        held = np.clip(self._low + share * (self._high - self._low), self._low, self._high)
        obs, reward, terminated, truncated, info = self.env.step(held)
        total = float(reward)
        for _ in range(self.action_repeat - 1):
            if terminated or truncated:
                break
            obs, reward, terminated, truncated, info = self.env.step(held)
            total += float(reward)
        return obs, total, terminated, truncated, info


class Pixels(gym.Wrapper):
    """Show a camera's last frames instead of the state, channel first; the first fills the stack at reset.

    `info["state"]` holds the flat state (n,) float32, for teachers and diagnostics.

    Attributes:
        render_seconds: spent on drawing so far.
    """

    def __init__(self, env: gym.Env, size: int, frame_stack: int, camera: int, shadow_map: int) -> None:
        super().__init__(env)
        _check("picture size", size, 8, 1024)
        _check("frame stack", frame_stack, 1, 100)
        _check("shadow map", shadow_map, 0, 16384)
        self.observation_space = spaces.Box(0, 255, (3 * frame_stack, size, size), np.uint8)
        self.render_seconds = 0.0
        self._frames: deque[npt.NDArray[np.uint8]] = deque(maxlen=frame_stack)
        self._renderer = Renderer(env.get_wrapper_attr("physics"), size, camera, shadow_map)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        state, info = self.env.reset(seed=seed, options=options)
        self._frames.clear()
        frame = self._frame()
        self._frames.extend([frame] * (self._frames.maxlen or 1))
        return np.concatenate(self._frames), {**info, "state": flattened(state)}

    def step(self, action: npt.ArrayLike) -> tuple[npt.NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        state, reward, terminated, truncated, info = self.env.step(action)
        self._frames.append(self._frame())
        info = {**info, "state": flattened(state)}
        return np.concatenate(self._frames), float(reward), terminated, truncated, info

    def _frame(self) -> npt.NDArray[np.uint8]:
        begin = time.perf_counter()
        frame = self._renderer.frame().transpose(2, 0, 1)
        self.render_seconds += time.perf_counter() - begin
        return frame


class DmEnvPolicy:
    """Run a policy in a loop of dm_env's: a `TimeStep` in, an action out; membranes are cleared at every FIRST.

        agent = DmEnvPolicy(policy)
        timestep = env.reset()
        while True:
            timestep = env.step(agent.act(timestep))

    Observations are arrays of the policy's shape, or dictionaries, flattened as `flat_states` does. Actions are
    the policy's own: in [-1, 1] after training on the forms above, as all bounded suite tasks take them. A policy
    trained with an action repeat needs a loop that holds its actions as long.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._steps = 0

    def act(self, timestep: Any) -> npt.NDArray[Any]:
        """Return the action (act_dim,) for `timestep.observation`.

        Raises:
            ValueError: an observation of another shape, NaN or infinity; it names the episode's step.
        """
        if timestep.first():
            self.policy.reset()
            self._steps = -1
        self._steps += 1
        observation = timestep.observation
        flat = flattened(observation) if isinstance(observation, Mapping) else observation
        try:
            return self.policy.act(finite_observation(flat, self.policy.observation_shape))
        except ValueError as problem:
            raise ValueError(f"time step {self._steps} of the episode: {problem}") from None


def _import_suite() -> None:
    choose_backend()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*DISPLAY environment variable is missing")
            importlib.import_module("dm_control.suite")
        gym.register_envs(importlib.import_module("shimmy"))
    except ModuleNotFoundError as error:
        raise ValueError(f"dm_control and shimmy are not installed ({error}); {_REMEDY}") from error
    except Exception as error:  # dm_control fails in many ways where MUJOCO_GL asks for what does not work
        if not os.environ.get("MUJOCO_GL"):
            raise
        raise NoRendererError(error) from error


def _suite(domain: str, task: str) -> gym.Env:
    """Return a task of the suite in Gymnasium's API, through shimmy: dictionaries of states, raw actions."""
    _import_suite()
    shimmy = importlib.import_module("shimmy.dm_control_compatibility")
    return shimmy.DmControlCompatibilityV0(importlib.import_module("dm_control.suite").load(domain, task))


def _check(name: str, value: Any, least: int, most: int) -> None:
    if not whole(value, least, most):
        raise ValueError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")
