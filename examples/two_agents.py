"""Two agents in one task, a spiking policy and its memory for each: two pendulums that a spring couples.

python examples/two_agents.py                       # the shipped Pendulum policy for both
python examples/two_agents.py BUNDLE OTHER_BUNDLE   # one for each

The loop is that of PettingZoo's parallel API, and any such environment takes the place of `CoupledPendulums`.
"""

import sys
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from snn_policy import SpikingPolicy
from snn_policy.exported import path
from snn_policy.wrappers import SpikingPolicyParallelEval

AGENTS = ("left", "right")
GRAVITY, STEP, MOST_TORQUE, MOST_SPEED = 10.0, 0.05, 2.0, 8.0
EPISODES, STIFFNESS, LIMIT = 5, 1.0, 200


class CoupledPendulums:
    """Swing up two pendulums, each as Gymnasium's `Pendulum-v1`, whose angles a torsion spring pulls together.

    The torque on each is its own action plus stiffness · sin(other angle − own angle). An agent sees its own cosine,
    sine and angular velocity, not the other's: the spring is a disturbance to it. PettingZoo's parallel API.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "coupled_pendulums", "render_modes": []}
    render_mode = None

    def __init__(self, stiffness: float = STIFFNESS, limit: int = LIMIT) -> None:
        self.stiffness, self.limit = stiffness, limit
        self.possible_agents, self.agents = list(AGENTS), list[str]()
        high = np.array([1, 1, MOST_SPEED], np.float32)
        self._observed, self._acted = spaces.Box(-high, high), spaces.Box(-MOST_TORQUE, MOST_TORQUE, (1,), np.float32)
        self._random = np.random.default_rng()
        self.angles, self.speeds, self.steps = np.zeros(2), np.zeros(2), 0

    @property
    def unwrapped(self) -> "CoupledPendulums":
        return self

    def observation_space(self, agent: str) -> spaces.Box:
        return self._observed

    def action_space(self, agent: str) -> spaces.Box:
        return self._acted

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """Begin at any angles and small velocities; return observations and infos by agent."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self.agents, self.steps = list(AGENTS), 0
        self.angles, self.speeds = self._random.uniform(-np.pi, np.pi, 2), self._random.uniform(-1, 1, 2)
        return self._observations(), {agent: {} for agent in AGENTS}

    def step(self, actions: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
        """Advance both by one twentieth of a second."""
        own = np.array([float(np.asarray(actions[agent]).reshape(-1)[0]) for agent in AGENTS])
        own = np.clip(own, -MOST_TORQUE, MOST_TORQUE)
        upright = (self.angles + np.pi) % (2 * np.pi) - np.pi
        costs = upright**2 + 0.1 * self.speeds**2 + 0.001 * own**2
        torques = own + self.stiffness * np.sin(self.angles[::-1] - self.angles)
        faster = self.speeds + (1.5 * GRAVITY * np.sin(self.angles) + 3 * torques) * STEP
        self.speeds = np.clip(faster, -MOST_SPEED, MOST_SPEED)
        self.angles = self.angles + self.speeds * STEP
        self.steps += 1
        over = self.steps >= self.limit
        self.agents = [] if over else list(AGENTS)
        rewards = {agent: -float(cost) for agent, cost in zip(AGENTS, costs, strict=True)}
        return (self._observations(), rewards, dict.fromkeys(AGENTS, False), dict.fromkeys(AGENTS, over),
                {agent: {} for agent in AGENTS})  # fmt: skip

    def _observations(self) -> dict[str, Any]:
        rows = np.stack([np.cos(self.angles), np.sin(self.angles), self.speeds], axis=1).astype(np.float32)
        return dict(zip(AGENTS, rows, strict=True))

    def render(self) -> None:
        """Draw nothing."""

    def close(self) -> None:
        """Hold nothing open."""


def main(left: str | None = None, right: str | None = None) -> None:
    shipped = str(path("td3-Pendulum-v1"))
    policies = {"left": SpikingPolicy.load(left or shipped), "right": SpikingPolicy.load(right or left or shipped)}
    env = SpikingPolicyParallelEval(CoupledPendulums(), policies, shadow=True)
    for seed in range(EPISODES):
        observations, infos = env.reset(seed=seed)
        while env.agents:
            observations, _rewards, _terminations, _truncations, infos = env.step(env.act(observations))
        for agent in AGENTS:
            spent = infos[agent]["snn"]["episode"]
            print(
                f"seed {seed}, {agent}: return {spent['return']:9.1f} in {spent['decisions']} decisions, each "
                f"{spent['spikes'].sum() / spent['decisions']:.0f} spikes, {100 * spent['ann_error']:.1f} % from the "
                "ANN's action"
            )


if __name__ == "__main__":
    main(*sys.argv[1:3])
