"""A robot's control loop: one decision per period, and a record of every deadline that it missed.

    python examples/control_loop.py                                   # 50 Hz on the shipped HalfCheetah policy
    python examples/control_loop.py --hz 500 --seconds 20
    python examples/control_loop.py BUNDLE --env HalfCheetah-v5       # closed loop, the simulation paced to real time
    python examples/control_loop.py BUNDLE --observations run.npy     # open loop on a recording, one row per period

Without --env and --observations the loop is open, on a slow random walk. BUNDLE is anything that `snn-policy serve`
takes. A period's deadline is its end: the action must be there before the next observation is due. A late loop
skips the periods that have passed and does not try to catch up.
"""

import argparse
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from snn_policy import Policy
from snn_policy.commands.serve import read_policy

Observe = Callable[[npt.NDArray[np.generic] | None], npt.NDArray[np.floating]]


@dataclass
class DeadlineMonitor:
    """Waits for the periods of a loop and records how each went; all times in seconds.

    Attributes:
        late: from a period's beginning until the loop woke up.
        decisions: what the policy took.
        responses: from a period's beginning until its action was there; beyond `period` its deadline was missed.
        skipped: periods that had passed altogether before the loop was back.
    """

    period: float
    late: list[float] = field(default_factory=list)
    decisions: list[float] = field(default_factory=list)
    responses: list[float] = field(default_factory=list)
    skipped: int = 0

    def start(self) -> None:
        self._due = time.perf_counter() + self.period

    def wait(self) -> None:
        """Sleep until the next period begins; if it has begun long ago, until the first that has not passed."""
        passed = int((time.perf_counter() - self._due) // self.period)
        if passed > 0:
            self.skipped += passed
            self._due += passed * self.period
        time.sleep(max(self._due - time.perf_counter(), 0.0))
        self._awake = time.perf_counter()
        self.late.append(self._awake - self._due)

    def decided(self) -> None:
        """The action is there."""
        now = time.perf_counter()
        self.decisions.append(now - self._awake)
        self.responses.append(now - self._due)
        self._due += self.period

    @property
    def misses(self) -> int:
        return sum(response > self.period for response in self.responses)

    @property
    def jitter(self) -> float:
        """Standard deviation of the time between two wake-ups, about the period."""
        return float(np.std(self.late))


def run(policy: Policy, observe: Observe, hz: float, seconds: float) -> DeadlineMonitor:
    """Observe, decide, act, once per period."""
    monitor = DeadlineMonitor(1 / hz)
    policy.reset()
    obs = observe(None)
    policy.act(obs)
    policy.reset()
    gc.collect()
    gc.freeze()
    monitor.start()
    for _ in range(max(round(hz * seconds), 1)):
        monitor.wait()
        action = policy.act(obs)
        monitor.decided()
        obs = observe(action)
    return monitor


def recording(observations: npt.NDArray[np.floating]) -> Observe:
    """Its rows, again and again."""
    row = -1

    def observe(_: npt.NDArray[np.generic] | None) -> npt.NDArray[np.floating]:
        nonlocal row
        row = (row + 1) % len(observations)
        return observations[row]

    return observe


def random_walk(shape: tuple[int, ...], hz: float) -> Observe:
    """About as smooth as a robot's sensors: it forgets within a tenth of a second."""
    rng, keep = np.random.default_rng(0), float(np.exp(-10 / hz))
    value = rng.normal(size=shape)

    def observe(_: npt.NDArray[np.generic] | None) -> npt.NDArray[np.floating]:
        nonlocal value
        value = keep * value + np.sqrt(1 - keep**2) * rng.normal(size=shape)
        return value

    return observe


def environment(env_id: str, policy: Policy) -> Observe:
    """A Gymnasium environment; the membranes are reset with every episode."""
    import gymnasium as gym

    env, episodes = gym.make(env_id), 0

    def observe(action: npt.NDArray[np.generic] | None) -> npt.NDArray[np.floating]:
        nonlocal episodes
        over = True
        obs = None
        if action is not None:
            obs, _, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
        if over:
            policy.reset()
            obs, _ = env.reset(seed=episodes)
            episodes += 1
        return np.asarray(obs)

    return observe


def table(monitor: DeadlineMonitor) -> Table:
    shown = Table("microseconds")
    for name in ("p50", "p99", "p99.9", "max"):
        shown.add_column(name, justify="right")
    rows = {"woke up late by": monitor.late, "decision": monitor.decisions, "response": monitor.responses}
    for name, values in rows.items():
        quantiles = np.quantile(values, [0.5, 0.99, 0.999, 1]) * 1e6
        shown.add_row(name, *(f"{quantile:,.0f}" for quantile in quantiles))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description="A control loop with a deadline monitor.")
    parser.add_argument("policy", nargs="?", default="td3-HalfCheetah-v5")
    parser.add_argument("--hz", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--env", metavar="ID", help="closed loop in this Gymnasium environment")
    parser.add_argument("--observations", metavar="FILE", help="open loop on the rows of this .npy file")
    given = parser.parse_args()
    policy, kind = read_policy(given.policy)
    assert isinstance(policy, Policy)
    if given.env:
        observe, how = environment(given.env, policy), f"closed loop in {given.env}"
    elif given.observations:
        observe, how = recording(np.load(given.observations)), "open loop on a recording"
    else:
        observe, how = random_walk(policy.observation_shape, given.hz), "open loop on a random walk"
    monitor = run(policy, observe, given.hz, given.seconds)
    periods = len(monitor.responses)
    print(f"{given.policy} ({kind}), {how}: {periods} periods of {1000 / given.hz:g} ms")
    Console().print(table(monitor))
    print(
        f"{monitor.misses} deadlines missed ({100 * monitor.misses / periods:.2f} %), {monitor.skipped} periods "
        f"skipped, jitter {monitor.jitter * 1e6:,.0f} µs"
    )


if __name__ == "__main__":
    main()
