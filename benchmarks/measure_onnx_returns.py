"""Whole episodes with the exported graph and with the policy it came from, on the same seeds.

    python -m benchmarks.measure_onnx_returns ACTOR [ACTOR …]      # as measure_onnx.py; prints a Markdown table

The two may differ from the first flipped spike on, as two runs of one policy with other rounding would: what counts is
whether the returns differ by more than noise.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from snn_policy import Actor, OnnxPolicy, convert, load_actor
from snn_policy.evaluation.evaluate import evaluate
from snn_policy.evaluation.statistics import bootstrap_interval, mean
from snn_policy.exported import names, path

EPISODES, SEED = 20, 7_000


def line(actor: Actor) -> str:
    """Return one row of the table."""
    assert actor.env_id is not None, "the actor's environment is not known"
    policy = convert(actor, actor.collect(actor.env_id))
    with tempfile.TemporaryDirectory() as directory:
        policy.export_onnx(directory)
        found = [
            evaluate(case, actor.env_id, episodes=EPISODES, seed=SEED, progress=True)
            for case in (policy, OnnxPolicy(directory))
        ]
    returns = [np.array(evaluated.returns) for evaluated in found]
    low, high = bootstrap_interval(mean, returns[1] - returns[0])
    same = int(np.sum(returns[0] == returns[1]))
    shown = " | ".join(f"{element.mean:,.1f} ± {element.std:,.1f}" for element in found)
    return f"| {actor.name} | {shown} | {np.mean(returns[1] - returns[0]):+,.1f} [{low:+,.1f}, {high:+,.1f}] | {same} |"


if __name__ == "__main__":
    print("| actor | SpikingPolicy | OnnxPolicy | difference of means [95 %] | equal episodes, of 20 |")
    print("|---|---|---|---|---|")
    for source in sys.argv[1:]:
        print(line(load_actor(path(source) if source in names() else Path(source))), flush=True)
