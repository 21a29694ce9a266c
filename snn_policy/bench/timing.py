"""Time calls that take turns in one process, on one thread, as ratios to one of them in the same round.

Times on a shared machine drift; the ratio of two measurements taken moments apart drifts far less. Each round times
a burst of decisions of every call on consecutive recorded observations. A call that was slow when warming
up gets shorter bursts, and sits out rounds, so that it cannot stretch the whole.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.protocol import FloatArray

ROUNDS, LEAST_ROUNDS = 60, 5
BURST, LEAST_BURST = 50, 2
WARM_UP, LEAST_WARM_UP, MOST_WARM_UP_SECONDS = 20, 3, 0.5
TURN_SECONDS, TOTAL_SECONDS = 0.005, 2.0
"""How long one burst, and all bursts of one call, may take where it is slow."""
Decide = Callable[[FloatArray], Any]
Stream = Callable[[int], FloatArray]


@dataclass(frozen=True)
class Timing:
    """Hold the times of one call's decisions.

    Attributes:
        median, p99: microseconds per decision of one row, over all decisions.
        ratio: the median over rounds of its time by the baseline's in the same round.
        spread: the quartiles of that ratio.
        p99_ratio: its p99 by the baseline's.
        decisions: how many calls were timed.
    """

    name: str
    median: float
    p99: float
    ratio: float
    spread: tuple[float, float]
    p99_ratio: float
    decisions: int


def single_thread() -> list[str]:
    """Keep torch to one thread; return a note where NumPy may still use more."""
    try:
        import torch
    except ModuleNotFoundError:
        pass
    else:
        torch.set_num_threads(1)
    limits = (os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"))
    if "1" in limits or os.cpu_count() == 1:
        return []
    return ["NumPy may use several threads for large products: set OMP_NUM_THREADS=1 before the command"]


def recorded_stream(observations: FloatArray, rows: int | None = None) -> Stream:
    """Return what there is to decide on at step k: (*shape), or (rows, *shape) of environments spread over it.

    Args:
        observations: (N, *shape) consecutive; after the last one comes the first.
    """
    count = len(observations)
    if rows is None:
        return lambda k: observations[k % count]
    starts = np.arange(rows) * count // rows
    return lambda k: observations[(starts + k) % count]


def take_turns(
    calls: Mapping[str, Decide], stream: Stream, baseline: str, rows: int = 1, rounds: int = ROUNDS
) -> list[Timing]:
    """Time every call against the one named `baseline`.

    Args:
        rows: how many rows each call decides.
    """
    turns = {name: _Turns(decide, stream, rounds) for name, decide in calls.items()}
    for number in range(rounds):
        for turn in turns.values():
            if number % turn.every == 0 or turn is turns[baseline]:
                turn.medians[number] = turn.burst()
    return [_timing(name, turn, turns[baseline], rows) for name, turn in turns.items()]


class _Turns:
    """Keep one call's record: where it is in the stream, how much it does per round, and what that took (seconds)."""

    def __init__(self, decide: Decide, stream: Stream, rounds: int) -> None:
        self._decide, self._stream, self._place = decide, stream, 0
        self.medians, self.seconds = np.full(rounds, np.nan), []
        cost = self._warm_up()
        self._length = min(max(int(TURN_SECONDS / cost), LEAST_BURST), BURST)
        sparse = math.ceil(rounds * self._length * cost / TOTAL_SECONDS)
        self.every = min(max(sparse, 1), max(rounds // LEAST_ROUNDS, 1))

    def _warm_up(self) -> float:
        """Return the seconds of one decision; the first, which may have to compile, is left out."""
        self._timed(1)
        spent: list[float] = []
        while len(spent) < LEAST_WARM_UP or (len(spent) < WARM_UP and sum(spent) < MOST_WARM_UP_SECONDS):
            spent += self._timed(1)
        return float(np.median(spent))

    def burst(self) -> float:
        """Return the median of one burst, seconds."""
        spent = self._timed(self._length)
        self.seconds += spent
        return float(np.median(spent))

    def _timed(self, count: int) -> list[float]:
        inputs = [self._stream(self._place + k) for k in range(count)]
        self._place += count
        return timed(self._decide, inputs)


def timed(decide: Callable[[Any], Any], inputs: Sequence[Any]) -> list[float]:
    """Return the seconds of each call."""
    seconds = []
    for given in inputs:
        begin = time.perf_counter()
        decide(given)
        seconds.append(time.perf_counter() - begin)
    return seconds


def quartiles(values: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the 25th, 50th and 75th percentile, NaN left out."""
    low, middle, high = (float(value) for value in np.nanpercentile(np.asarray(values), (25, 50, 75)))
    return low, middle, high


def _timing(name: str, turns: _Turns, baseline: _Turns, rows: int) -> Timing:
    low, ratio, high = quartiles(turns.medians / baseline.medians)
    median, p99 = (float(value) for value in 1e6 / rows * np.percentile(turns.seconds, (50, 99)))
    p99_ratio = p99 / (1e6 / rows * float(np.percentile(baseline.seconds, 99)))
    return Timing(name, median, p99, ratio, (low, high), p99_ratio, len(turns.seconds))
