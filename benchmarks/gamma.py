"""Conversions whose predictors are chosen otherwise than the package does: by another saving, or by events."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

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


class EventsEncoder(open_loop.StageEncoder):
    """Choose predictors by events: decisions in which a neuron says anything at all."""

    def cheapest(self, groups: tuple[int, int]) -> FloatArray:
        """Return γ per neuron: 1 where that saves more than `LEAST_SAVING` of its events.

        A neuron that sends changes says something where its memory moves; one that sends values, where its value is
        not zero.
        """
        afresh, changes = (self.neurons(self.everywhere(gamma)) for gamma in (0, 1))
        values_told, changes_told = np.zeros((2, len(afresh.gamma)))
        for rows in pieces(self.h, most=open_loop.BLOCK_VALUES):
            values, known = self._values(rows), changes.memory[None].copy()
            values_told += np.count_nonzero(self._encoded(values, afresh), axis=0)
            moves = np.diff(self._encoded(values, changes), axis=0, prepend=known)
            changes_told += np.count_nonzero(moves, axis=0)
            self.passes.advance(len(values))
        saved = open_loop.group_means(changes_told - (1 - open_loop.LEAST_SAVING) * values_told, groups)
        return (saved < 0).astype(np.float32)


@contextmanager
def gamma_by_events() -> Iterator[None]:
    """Convert chains of layers inside with predictors chosen by events."""
    before, open_loop.StageEncoder = open_loop.StageEncoder, EventsEncoder
    try:
        yield
    finally:
        open_loop.StageEncoder = before
