"""Sticking: decisions in which the spiking policy's action stays although the ANN's moves; rest on a wrong action.

With |x| the largest component, in half-ranges of the action, and a_ANN asked at the same observations:

    sticks at k:  |a_SNN(s_k) − a_SNN(s_{k−1})| ≤ still  and  |a_ANN(s_k) − a_ANN(s_{k−1})| > moves
    rests at k:   k lies in a run of at least `run` decisions in which neither a_SNN nor the observation changes: every
                  entry of the observation stays within `still_observation` of its spread over all episodes
    wrong rest:   it rests, and |a_SNN(s_k) − a_ANN(s_k)| > moves: the ANN would not hold the plant there

A discrete action is one-hot, its half-range 1: it stays where the choice is the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.analysis.estimates import Estimate, estimate
from snn_policy.analysis.traces import Trace
from snn_policy.checks import number, require, whole
from snn_policy.protocol import Mask

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tolerances:
    """Set what counts as still and as moving.

    Attributes:
        still: largest change of an action that stays, in half-ranges.
        moves: a larger change of the ANN's action is a move; a larger difference from it is an error; in half-ranges.
        still_observation: largest range of a resting observation's entries, in their standard deviations.
        run: fewest decisions of a rest.
    """

    still: float = 1e-4
    moves: float = 1e-3
    still_observation: float = 1e-3
    run: int = 20

    def __post_init__(self) -> None:
        for name in ("still", "moves", "still_observation"):
            require(number(name, getattr(self, name)) >= 0, f"{name} {getattr(self, name)!r}: expected 0 or more")
        require(whole(self.run, 2, 2**31), f"run {self.run!r}: expected a whole number of at least 2")


DEFAULT = Tolerances()


@dataclass(frozen=True, eq=False)
class Sticking:
    """Hold, per episode, which decisions stick, which rest, and where the ANN's action moves, (decisions,) bool each;
    the first never sticks nor moves."""

    sticks: list[Mask]
    rests: list[Mask]
    wrong: list[Mask]
    moves: list[Mask]

    @property
    def summary(self) -> dict[str, Estimate]:
        """Return means over decisions (shares) and over episodes (longest runs, episodes with a wrong rest).

        share: of decisions that stick · longest: decisions of an episode's longest run that sticks · moves: share of
        decisions in which the ANN's action moves, so that the other might stick · rests: share of decisions at rest ·
        wrong_rests: share at rest on another action than the ANN's · resting_episodes: share of episodes with such a
        rest.
        """
        return {
            "share": estimate([sticks[1:] for sticks in self.sticks]),
            "longest": estimate([[longest_run(sticks)] for sticks in self.sticks]),
            "moves": estimate([moves[1:] for moves in self.moves]),
            "rests": estimate(self.rests),
            "wrong_rests": estimate(self.wrong),
            "resting_episodes": estimate([[wrong.any()] for wrong in self.wrong]),
        }

    @property
    def longest(self) -> int:
        """Return the decisions of the longest run that sticks, of all episodes."""
        return max((longest_run(sticks) for sticks in self.sticks), default=0)


def sticking(traces: Sequence[Trace], tolerances: Tolerances = DEFAULT) -> Sticking:
    """Return where the acting policy of these episodes sticks and rests."""
    if not traces:
        return Sticking([], [], [], [])
    seen = np.concatenate([trace.observations.reshape(len(trace.observations), -1) for trace in traces])
    spread = seen.astype(np.float64).std(axis=0) * tolerances.still_observation
    sticks, rests, wrong, moves = [], [], [], []
    for trace in traces:
        stays = changes(trace.actions) <= tolerances.still
        moves.append(np.concatenate([[False], changes(trace.ann) > tolerances.moves]))
        sticks.append(np.concatenate([[False], stays]) & moves[-1])
        resting = _rests(trace.observations, stays, spread, tolerances.run)
        rests.append(resting)
        wrong.append(resting & (abs(trace.errors).max(axis=1) > tolerances.moves))
    return Sticking(sticks, rests, wrong, moves)


def changes(actions: Values) -> Values:
    """Return the largest component's change from decision to decision, (K − 1,) of (K, actions)."""
    return abs(np.diff(actions, axis=0)).max(axis=1)


def longest_run(mask: Mask) -> int:
    """Return the length of the longest run of true values."""
    return max((end - start for start, end in _runs(mask)), default=0)


def _runs(mask: Mask) -> list[tuple[int, int]]:
    """Return the runs of true values: where they start, and where they are over."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _rests(observations: npt.NDArray[Any], stays: Mask, bound: Values, run: int) -> Mask:
    """Return which decisions, (K,), lie in a run of constant actions within which the observation stays as well."""
    flat = observations.reshape(len(observations), -1).astype(np.float64)
    resting = np.zeros(len(flat), np.bool_)
    for start, end in _runs(stays):
        resting[start : end + 1] = _still_windows(flat[start : end + 1], bound, run)
    return resting


def _still_windows(flat: Values, bound: Values, run: int) -> Mask:
    """Return which rows lie in some `run` consecutive rows whose range is within the bound in every column."""
    found = np.zeros(len(flat), np.bool_)
    if len(flat) < run:
        return found
    windows = np.lib.stride_tricks.sliding_window_view(flat, run, axis=0)
    still = (np.ptp(windows, axis=2) <= bound).all(axis=1)
    for start in np.flatnonzero(still):
        found[start : start + run] = True
    return found
