"""Conversions whose predictors are chosen otherwise than the package does: by another saving, or by events."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from snn_policy.calibration import open_loop
from snn_policy.calibration.recordings import pieces


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

    def costs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return each neuron's events on the recording, (neurons,): where values are sent afresh, and where changes.

        A neuron that sends changes says something where its memory moves; one that sends values, where its value is
        not zero.
        """
        afresh, changes = (self.neurons(self.everywhere(gamma)) for gamma in (0, 1))
        told = np.zeros((2, len(afresh.gamma)), np.int64)
        for rows in pieces(self.h, most=open_loop.BLOCK_VALUES):
            values, known = self._values(rows), changes.memory[None].copy()
            told[0] += np.count_nonzero(self._encoded(values, afresh), axis=0)
            told[1] += np.count_nonzero(np.diff(self._encoded(values, changes), axis=0, prepend=known), axis=0)
            self.passes.advance(len(values))
        return told[0], told[1]


@contextmanager
def gamma_by_events() -> Iterator[None]:
    """Convert chains of layers inside with predictors chosen by events."""
    before, open_loop.StageEncoder = open_loop.StageEncoder, EventsEncoder
    try:
        yield
    finally:
        open_loop.StageEncoder = before
