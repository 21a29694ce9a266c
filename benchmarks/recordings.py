"""Measure what a conversion's return owes to its recording: thresholds from several, the same episodes for all.

    python -m benchmarks.recordings             # tqc-HalfCheetah, IF at T = 8, six recordings; five minutes, printed

The actor comes from SNN_POLICY_REFERENCE_DIR.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import Annotated

import typer

from benchmarks.places import REFERENCE_ACTORS
from snn_policy import SpikeCalibration, convert, load_actor
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.spiking.settings import IF

NAME, ENVIRONMENT = "tqc-HalfCheetah-v3", "HalfCheetah-v5"
SETTINGS = {"I=0": IF(timesteps=8, alpha=0.0), "I=1": IF(timesteps=8, alpha=0.0, calibration=SpikeCalibration(1))}
STEPS, FIRST_SEED = 10_000, 5000


def main(
    recordings: Annotated[int, typer.Option(help="how many, by their seeds", min=1)] = 6,
    episodes: Annotated[int, typer.Option(help="per conversion", min=2)] = 10,
) -> None:
    """Print a line per recording: mean return of every setting."""
    actor = load_actor(REFERENCE_ACTORS / NAME)
    for seed in range(recordings):
        observations = actor.collect(ENVIRONMENT, steps=STEPS, seed=seed)
        found = {
            name: evaluate(
                convert(actor, observations, neuron=settings),
                ENVIRONMENT,
                episodes=episodes,
                seed=FIRST_SEED,
                num_envs=episodes,
            ).mean
            for name, settings in SETTINGS.items()
        }
        print(f"recording {seed}: " + ", ".join(f"{name} {mean:,.0f}" for name, mean in found.items()), flush=True)


if __name__ == "__main__":
    typer.run(main)
