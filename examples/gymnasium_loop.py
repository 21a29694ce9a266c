"""A plain Gymnasium loop with a spiking policy: the wrapper resets the membranes and reports what was spent.

python examples/gymnasium_loop.py                            # the shipped Pendulum policy
python examples/gymnasium_loop.py BUNDLE ENVIRONMENT_ID      # your own
"""

import sys

import gymnasium as gym

from snn_policy import SpikingPolicy
from snn_policy.exported import path
from snn_policy.wrappers import SpikingPolicyEval

EPISODES = 5


def main(bundle: str | None = None, env_id: str = "Pendulum-v1") -> None:
    policy = SpikingPolicy.load(bundle or path("td3-Pendulum-v1"))
    env = SpikingPolicyEval(gym.make(env_id), policy, shadow=True)
    for seed in range(EPISODES):
        obs, info = env.reset(seed=seed)
        over = False
        while not over:
            obs, _reward, terminated, truncated, info = env.step(env.act(obs))
            over = terminated or truncated
        spent = info["snn"]["episode"]
        print(
            f"seed {seed}: return {spent['return']:9.1f} in {spent['decisions']} decisions, each "
            f"{spent['spikes'].sum() / spent['decisions']:.0f} spikes, "
            f"{spent['events'] / spent['decisions']:.0f} events, {spent['energy'] / spent['decisions']:.1f} nJ, "
            f"{100 * spent['ann_error']:.1f} % from the ANN's action"
        )
    env.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
