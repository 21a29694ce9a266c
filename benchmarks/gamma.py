"""Conversions in which γ = 1 has to save another share of the spikes than the package asks for."""

from collections.abc import Iterator
from contextlib import contextmanager

from snn_policy.calibration import open_loop


@contextmanager
def gamma_where_it_saves(share: float) -> Iterator[None]:
    """Convert inside with γ = 1 where it saves more than this share of a neuron's spikes; 0: wherever it saves any."""
    before, open_loop.LEAST_SAVING = open_loop.LEAST_SAVING, share
    try:
        yield
    finally:
        open_loop.LEAST_SAVING = before
