"""Time the peers' decisions beside the ANN in ONNX Runtime: one process, one thread, all in turn, in processor time.

A peer's decision takes milliseconds, in which a busy machine lets other processes run, and the ANN's microseconds, in
which it does not: a clock on the wall would charge the peers for that. So each burst is measured in the thread's own
processor time, which on a machine with nothing else to do is the same.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.peers_cells import ACTORS, ANN_IN_TORCH, ROWS, ROWS_TIMESTEPS, SIGMA_DELTA, TIMED_PEERS, Cell
from benchmarks.peers_networks import PeerPolicy
from benchmarks.peers_returns import Subject, policy, subject
from benchmarks.torch_baselines import TorchPolicy
from snn_policy.bench.baselines import REFERENCE, onnx_runtime
from snn_policy.bench.timing import Decide, Stream, quartiles, recorded_stream, single_thread

TIMED_ACTORS = (ACTORS[0],)
BURST_SECONDS, MOST_IN_BURST, WARM_UP = 0.01, 200, 3
BATCH_ROUNDS = 10
"""Rounds of decisions on many rows."""


def timing(effort: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the timings of every actor, one row and `ROWS` rows.

    Args:
        effort: `actors` (None: TIMED_ACTORS), `recorded`, `timesteps`, `rounds`.
    """
    single_thread()
    found = []
    for name in effort["actors"] or TIMED_ACTORS:
        of = subject(name, effort["recorded"])
        for rows, timesteps in ((1, effort["timesteps"]), (ROWS, (ROWS_TIMESTEPS,))):
            batch, rounds = (None, effort["rounds"]) if rows == 1 else (rows, min(effort["rounds"], BATCH_ROUNDS))
            timings = in_turn(calls(of, timesteps, batch), recorded_stream(of.observations, batch), rounds, rows)
            found.append({"actor": name, "widths": list(of.actor.widths), "rows": rows, "timings": timings})
    return found


def calls(of: Subject, timesteps: Sequence[int], rows: int | None) -> dict[str, Decide]:
    """Return what is timed by its name: the ANN, sigma-delta, and every peer at every T."""
    torch_ann = TorchPolicy(of.actor, of.modules)
    named: dict[str, Decide] = {
        REFERENCE: onnx_runtime(of.actor, rows),
        ANN_IN_TORCH: torch_ann.act if rows is None else torch_ann.act_rows,
        SIGMA_DELTA: timed(policy(of, Cell(SIGMA_DELTA)), rows is None),
    }
    for steps in timesteps:
        for peer in TIMED_PEERS:
            acting = policy(of, Cell(peer, steps), counting=False)
            named[f"{peer}, T = {steps}"] = timed(acting, rows is None)
    return named


def timed(acting: Any, single: bool) -> Decide:
    """Return the call that decides, of one observation or of many, from reset membranes."""
    acting.reset()
    if not isinstance(acting, PeerPolicy):
        return acting.act
    return acting.policy.act if single else acting.policy.act_rows


def in_turn(named: Mapping[str, Decide], stream: Stream, rounds: int, rows: int) -> list[dict[str, Any]]:
    """Return, by name, microseconds of processor time per row, and the ratio to `REFERENCE` in the same round.

    Every round has a burst of each call; `ratio` is the median over rounds, `spread` its quartiles.
    """
    lengths = {name: burst_length(decide, stream) for name, decide in named.items()}
    seconds = {name: np.empty(rounds) for name in named}
    for turn in range(rounds):
        for name, decide in named.items():
            seconds[name][turn] = burst(decide, stream, turn * MOST_IN_BURST, lengths[name])
    found = []
    for name, spent in seconds.items():
        low, ratio, high = quartiles(spent / seconds[REFERENCE])
        found.append({"name": name, "median": 1e6 * float(np.median(spent)) / rows, "ratio": ratio,
                      "spread": [low, high], "decisions": rounds * lengths[name]})  # fmt: skip
    return found


def burst(decide: Decide, stream: Stream, place: int, length: int) -> float:
    """Return the seconds of processor time of one decision, the mean over so many consecutive ones."""
    inputs = [stream(place + step) for step in range(length)]
    begin = time.thread_time()
    for obs in inputs:
        decide(obs)
    return (time.thread_time() - begin) / length


def burst_length(decide: Decide, stream: Stream) -> int:
    """Return how many decisions fit into a burst; those that find out warm up."""
    burst(decide, stream, 0, WARM_UP)
    cost = burst(decide, stream, WARM_UP, WARM_UP)
    return int(np.clip(BURST_SECONDS / max(cost, 1e-7), 1, MOST_IN_BURST))
