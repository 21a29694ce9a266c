"""What a source does to the observation before its first linear layer, as a `Normaliser` and a remaining scale."""

from collections.abc import Sequence

import numpy as np

from snn_policy.ann.layers import Normaliser
from snn_policy.errors import UnsupportedLayerError
from snn_policy.sources.elementwise import ScaleAndClip
from snn_policy.sources.operations import Clip, Float64, Operation, Scale


def read_normaliser(
    leading: Sequence[Operation], shape: tuple[int, ...]
) -> tuple[Normaliser | None, ScaleAndClip | None]:
    """Return the normaliser, and the scale that is left to fold into the first linear layer.

    Images that are all scaled alike, or channel by channel, get a normaliser of such a shape: (1, 1, 1), (C, 1, 1).
    A symmetric clip is the normaliser's own; any other box is moved to ±1, and the first layer moves it back. Signs are
    left to the first layer, too.
    """
    run = _leading_run(leading, int(np.prod(shape)))
    if run is None:
        return None, None
    if run.clipped_by is None:
        if (run.scale > 0).all():
            return _normaliser(run.scale, run.offset, np.inf, shape), None
        if not (run.scale != 0).all():
            return None, run
        sign = np.sign(run.scale)
        left = ScaleAndClip.identity(len(sign)).then_scale(sign, np.zeros_like(sign))
        return _normaliser(abs(run.scale), run.offset * sign, np.inf, shape), left
    with np.errstate(invalid="ignore"):  # infinite bounds are refused below
        reach, centre = (run.high - run.low) / 2, (run.high + run.low) / 2
    if not (np.isfinite(reach).all() and (reach > 0).all() and (run.scale != 0).all()):
        reason = "the observation is clipped on one side only, or to a constant"
        raise UnsupportedLayerError(run.clipped_by.path, run.clipped_by.kind, reason, "Clip it on both sides, or not")
    if (centre == 0).all() and (reach == reach[0]).all() and (run.scale > 0).all():
        return _normaliser(run.scale, run.offset, float(reach[0]), shape), None
    sign = np.sign(run.scale)
    unit = sign / reach
    left = ScaleAndClip.identity(len(reach)).then_scale(sign * reach, centre)
    return _normaliser(run.scale * unit, (run.offset - centre) * unit, 1.0, shape), left


def _normaliser(scale: Float64, offset: Float64, clip: float, shape: tuple[int, ...]) -> Normaliser:
    mean, spread = (0 - offset / scale).reshape(shape), (1 / scale).reshape(shape)
    for axis in range(len(shape)) if len(shape) == 3 else ():
        firsts = [values.take([0], axis) for values in (mean, spread)]
        if (mean == firsts[0]).all() and (spread == firsts[1]).all():
            mean, spread = firsts
    return Normaliser(mean, spread, clip)  # pyright: ignore[reportArgumentType]


def _leading_run(leading: Sequence[Operation], size: int) -> ScaleAndClip | None:
    run = None
    for operation in leading:
        run = run or ScaleAndClip.identity(size)
        match operation:
            case Scale(factor, offset):
                run = run.then_scale(factor, offset)
            case Clip(low, high):
                run = run.then_clip(low, high, operation)
            case _:
                reason = "it acts on the observation itself, before any linear layer"
                raise UnsupportedLayerError(operation.path, operation.kind, reason, "Put a linear layer before it")
    return run
