"""Stable-Baselines3's `evaluate_policy`, unchanged: it carries a spiking policy's state like any recurrent policy's.

    python examples/sb3_evaluate_policy.py                            # the shipped Pendulum policy
    python examples/sb3_evaluate_policy.py BUNDLE ENVIRONMENT_ID      # your own

Needs: pip install 'snn-policy[sb3]'
"""

import sys

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from snn_policy import SpikingPolicy
from snn_policy.exported import path

EPISODES = 8


def main(bundle: str | None = None, env_id: str = "Pendulum-v1") -> None:
    policy = SpikingPolicy.load(bundle or path("td3-Pendulum-v1"))
    for name, entry in (("ANN", policy.actor), ("SNN", policy)):
        envs = make_vec_env(env_id, n_envs=4, seed=0)
        mean, std = evaluate_policy(entry, envs, n_eval_episodes=EPISODES)  # pyright: ignore[reportArgumentType]
        print(f"{name}: {mean:.1f} ± {std:.1f} over {EPISODES} episodes")
        envs.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
