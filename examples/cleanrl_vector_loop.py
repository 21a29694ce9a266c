"""An evaluation in CleanRL's style, many environments side by side: each row's membranes follow its own episodes.

python examples/cleanrl_vector_loop.py                            # the shipped Pendulum policy
python examples/cleanrl_vector_loop.py BUNDLE ENVIRONMENT_ID      # your own
"""

import sys

import gymnasium as gym
import numpy as np

from snn_policy import SpikingPolicy
from snn_policy.exported import path
from snn_policy.wrappers import SpikingPolicyVectorEval

EPISODES, NUM_ENVS = 8, 4


def main(bundle: str | None = None, env_id: str = "Pendulum-v1") -> None:
    policy = SpikingPolicy.load(bundle or path("td3-Pendulum-v1"))
    envs = gym.vector.SyncVectorEnv([lambda: gym.make(env_id) for _ in range(NUM_ENVS)])
    envs = SpikingPolicyVectorEval(gym.wrappers.vector.RecordEpisodeStatistics(envs), policy)

    obs, _ = envs.reset(seed=0)
    episodic_returns: list[float] = []
    while len(episodic_returns) < EPISODES:
        actions = policy.act(obs)  # envs.act(obs) does the same, and leaves rows alone that wait for their reset
        obs, _rewards, _terminations, _truncations, infos = envs.step(actions)
        for row in np.flatnonzero(infos.get("_episode", ())):
            spent = infos["snn"]["episode"]
            energy = spent["energy"][row] / spent["decisions"][row]
            episodic_returns.append(infos["episode"]["r"][row])
            print(f"episode {len(episodic_returns)} (row {row}): return {episodic_returns[-1]:.1f}, "
                  f"length {infos['episode']['l'][row]}, {energy:.1f} nJ per decision")  # fmt: skip
    print(f"mean return {np.mean(episodic_returns):.1f}")
    envs.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
