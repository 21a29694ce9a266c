"""Conversions whose predictors are chosen otherwise than the package does: by another saving, or by events."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.calibration import open_loop
from snn_policy.calibration.recordings import pieces
from snn_policy.protocol import FloatArray


@contextmanager
def gamma_where_it_saves(share: float) -> Iterator[None]:
    """Convert inside with γ = 1 where it saves more than this share of a neuron's spikes; 0: wherever it saves any."""
    before, open_loop.LEAST_SAVING = open_loop.LEAST_SAVING, share
    try:
        yield
    finally:
        open_loop.LEAST_SAVING = before


@contextmanager
def gamma_by_events() -> Iterator[None]:
    """Convert inside with γ = 1 where it saves more than `LEAST_SAVING` of a neuron's events, not of its spikes.

    A neuron that sends changes says something where its memory moves; one that sends values, where its value is not
    zero.
    """
    before = open_loop.StageEncoder.cheapest

    def fewest_events(encoder: open_loop.StageEncoder, groups: tuple[int, int]) -> FloatArray:
        afresh, changes = (encoder.neurons(encoder.everywhere(gamma)) for gamma in (0, 1))
        told = {0: np.zeros(len(afresh.gamma)), 1: np.zeros(len(afresh.gamma))}
        for rows in pieces(encoder.h, most=open_loop.BLOCK_VALUES):
            values, known = encoder._values(rows), changes.memory.copy()
            told[0] += moved(encoder._encoded(values, afresh))
            told[1] += moved(np.diff(encoder._encoded(values, changes), axis=0, prepend=known[None]))
            encoder.passes.advance(len(values))
        saved = open_loop.group_means(told[1] - (1 - open_loop.LEAST_SAVING) * told[0], groups)
        return (saved < 0).astype(np.float32)

    open_loop.StageEncoder.cheapest = fewest_events
    try:
        yield
    finally:
        open_loop.StageEncoder.cheapest = before


def moved(sent: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Count per neuron the decisions of (decisions, neurons) in which it says anything."""
    return np.count_nonzero(sent, axis=0)
