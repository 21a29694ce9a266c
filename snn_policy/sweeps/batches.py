"""Finished episodes: a batch as plain data, batches put together to a cell's evaluation, and what of it is a time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from snn_policy.checks import whole
from snn_policy.evaluation.episodes import Episode, Totals, summed
from snn_policy.evaluation.evaluate import MOST_ROWS, evaluation
from snn_policy.protocol import Costs
from snn_policy.sweeps.cells import Seeds

TIMES = ("microseconds", "policy_seconds", "environment_seconds")
NOT_RECORDED = (*TIMES, "render_seconds", "workers")
"""What an evaluation says that differs from run to run."""
Batch = dict[str, Any]


def rows_of(seeds: Seeds) -> int:
    """Return environments side by side in a batch."""
    return min(MOST_ROWS, seeds.count)


def batch_record(environment: str, finished: Sequence[Episode], totals: Totals) -> Batch:
    """Return a batch as plain data; episodes by number, return and length."""
    costs = {name: np.asarray(values).tolist() for name, values in totals.costs.named().items()}
    seconds = {"policy": totals.policy_seconds, "environment": totals.environment_seconds,
               "render": totals.render_seconds}  # fmt: skip
    return {
        "environment": environment,
        "episodes": [[episode.number, episode.rewards, episode.length] for episode in sorted(finished)],
        "decisions": totals.decisions,
        "timed": totals.timed,
        "costs": costs,
        "seconds": seconds,
    }


def holds(batch: Mapping[str, Any], seeds: Seeds) -> bool:
    """Return whether a batch has every episode of these seeds once, and nothing else."""
    numbers = [episode[0] for episode in batch["episodes"]]
    return numbers == list(range(seeds.count)) and all(whole(episode[2], 1, 2**62) for episode in batch["episodes"])


def put_together(seeds: Seeds, batches: Mapping[Seeds, Batch], workers: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a cell's evaluation without what is a time, and its times, from all of its batches."""
    ordered = sorted(batches.items(), key=lambda item: item[0].first)
    finished = [Episode(part.first - seeds.first + number, rewards, length)
                for part, batch in ordered for number, rewards, length in batch["episodes"]]  # fmt: skip
    totals = summed(_totals(batch) for _, batch in ordered)
    environment = ordered[0][1]["environment"]
    found = evaluation(environment, seeds.first, finished, [rows_of(ordered[0][0])], totals).as_dict()
    timing = {**{name: found[name] for name in TIMES}, "workers": workers}
    return {name: value for name, value in found.items() if name not in NOT_RECORDED}, timing


def _totals(batch: Batch) -> Totals:
    seconds = batch["seconds"]
    costs = Costs(**{name: np.asarray(values) for name, values in batch["costs"].items()})
    return Totals(
        decisions=batch["decisions"],
        timed=batch["timed"],
        costs=costs,
        policy_seconds=seconds["policy"],
        environment_seconds=seconds["environment"],
        render_seconds=seconds["render"],
    )
