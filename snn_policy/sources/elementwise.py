"""Any sequence of scales and clips, as one clip of one scale: clip(x · scale + offset, low, high)."""

from dataclasses import dataclass, replace

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.operations import Float64, Operation


@dataclass(frozen=True, eq=False)
class ScaleAndClip:
    """Hold the normal form; all arrays (width,). `clipped_by` is the last clip of the source, for messages."""

    scale: Float64
    offset: Float64
    low: Float64
    high: Float64
    clipped_by: Operation | None = None

    @classmethod
    def identity(cls, width: int) -> "ScaleAndClip":
        return cls(np.ones(width), np.zeros(width), np.full(width, -np.inf), np.full(width, np.inf))

    def then_scale(self, scale: Float64, offset: Float64) -> "ScaleAndClip":
        """Move a scaling in front of the clip, whose bounds it scales (and swaps where it is negative)."""
        ends = []
        for bound in (self.low, self.high):
            finite = np.where(scale == 0, 0.0, bound)
            ends.append(finite * scale + offset)
        low, high = np.minimum(*ends), np.maximum(*ends)
        return replace(self, scale=self.scale * scale, offset=self.offset * scale + offset, low=low, high=high)

    def then_clip(self, low: Float64, high: Float64, source: Operation | None) -> "ScaleAndClip":
        if (low == -np.inf).all() and (high == np.inf).all():
            return self
        bottom, top = np.clip(self.low, low, high), np.clip(self.high, low, high)
        return replace(self, low=bottom, high=top, clipped_by=source or self.clipped_by)


def stretched(source: Operation, values: Float64, *shape: int) -> Float64:
    """Return the values broadcast to one row of the given shape, flat; leading axes of length 1 are the batch's."""
    row = values
    while row.ndim > len(shape) and row.shape[0] == 1:
        row = row[0]
    try:
        return np.broadcast_to(row, shape).reshape(-1)
    except ValueError:
        reason = f"its constant of shape {values.shape} does not fit values of shape {shape}"
        remedy = "Pass observation_shape=, or give the constant the shape of one observation"
        raise UnsupportedLayerError(source.path, source.kind, reason, remedy) from None
