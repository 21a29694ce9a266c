"""A dm_env loop: `DmEnvPolicy` resets the policy where an episode begins; nothing else is asked of the loop.

    python examples/dm_env_loop.py                            # the shipped Pendulum policy
    python examples/dm_env_loop.py BUNDLE ENVIRONMENT_ID      # your own

The loop is the one of dm_env, Acme and dm_control. `GymnasiumAsDmEnv` only makes a Gymnasium environment look
like dm_env's, because that is what the shipped policies were trained on. Needs: pip install 'snn-policy[dmc]'
"""

import sys
from typing import Any

import dm_env
import gymnasium as gym
import numpy as np
from dm_env import specs

from snn_policy import Policy, SpikingPolicy
from snn_policy.exported import path
from snn_policy.wrappers.dm_control import DmEnvPolicy

EPISODES = 5


class GymnasiumAsDmEnv(dm_env.Environment):
    """A Gymnasium environment with box spaces behind dm_env's interface."""

    def __init__(self, env: gym.Env, seed: int) -> None:
        self.env, self._seed, self._over = env, seed, True

    def reset(self) -> dm_env.TimeStep:
        obs, _ = self.env.reset(seed=self._seed)
        self._seed, self._over = self._seed + 1, False
        return dm_env.restart(obs)

    def step(self, action: Any) -> dm_env.TimeStep:
        if self._over:  # dm_env's rule: a step after the last one begins the next episode
            return self.reset()
        obs, reward, terminated, truncated, _ = self.env.step(action)
        self._over = terminated or truncated
        if terminated:
            return dm_env.termination(float(reward), obs)
        return dm_env.truncation(float(reward), obs) if truncated else dm_env.transition(float(reward), obs)

    def observation_spec(self) -> Any:
        return bounded(self.env.observation_space, "observation")

    def action_spec(self) -> Any:
        return bounded(self.env.action_space, "action")

    def close(self) -> None:
        self.env.close()


def bounded(space: gym.Space, name: str) -> specs.BoundedArray:
    if not isinstance(space, gym.spaces.Box):
        raise ValueError(f"{name} space: expected a Box, got {space}")
    return specs.BoundedArray(space.shape, space.dtype, space.low, space.high, name)


def run(env: dm_env.Environment, policy: Policy, episodes: int) -> list[float]:
    """Returns of that many episodes."""
    returns: list[float] = []
    agent, timestep = DmEnvPolicy(policy), env.reset()
    while not (timestep.last() and len(returns) == episodes):
        if timestep.first():
            returns.append(0.0)
        timestep = env.step(agent.act(timestep))
        returns[-1] += timestep.reward or 0.0
    return returns


def main(bundle: str | None = None, env_id: str = "Pendulum-v1") -> None:
    policy = SpikingPolicy.load(bundle or path("td3-Pendulum-v1"))
    env = GymnasiumAsDmEnv(gym.make(env_id), seed=0)
    returns = run(env, policy, EPISODES)
    print(f"returns {np.round(returns, 1).tolist()}, mean {np.mean(returns):.1f}")
    env.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
