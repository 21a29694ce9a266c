"""Train the neuron study's sticking task: PPO on MountainCarContinuous, whose car rests where a small error balances.

    python -m benchmarks.sticking_actor                # two minutes; writes runs/ppo-MountainCarContinuous-v0/model.zip

Hyperparameters: Stable-Baselines3 Zoo's. The actor is the last one of the run; no seed was chosen.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import Annotated

import typer

from benchmarks.places import ROOT

NAME, ENVIRONMENT = "ppo-MountainCarContinuous-v0", "MountainCarContinuous-v0"
DIRECTORY = ROOT / "runs" / NAME
MODEL, STATISTICS = DIRECTORY / "model.zip", DIRECTORY / "vecnormalize.pkl"


def main(
    steps: Annotated[int, typer.Option(help="of the environment")] = 20_000,
    seed: Annotated[int, typer.Option(help="of the training")] = 0,
) -> None:
    """Train, and write the model with its observation statistics."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecNormalize

    torch.set_num_threads(1)
    env = VecNormalize(make_vec_env(ENVIRONMENT, 1, seed=seed))
    model = PPO(
        "MlpPolicy", env, n_steps=8, batch_size=256, gamma=0.9999, learning_rate=7.77e-5, ent_coef=0.00429,
        clip_range=0.1, n_epochs=10, gae_lambda=0.9, max_grad_norm=5, vf_coef=0.19, use_sde=True, seed=seed,
        device="cpu", policy_kwargs={"log_std_init": -3.29, "ortho_init": False},
    )  # fmt: skip
    model.learn(steps)
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    model.save(MODEL)
    env.save(str(STATISTICS))
    print(MODEL)


if __name__ == "__main__":
    typer.run(main)
