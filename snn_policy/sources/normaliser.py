"""What a source does to the observation before its first linear layer, as a `Normaliser` and a remaining scale."""

from collections.abc import Sequence

import numpy as np

from snn_policy.errors import UnsupportedLayerError
from snn_policy.layers import Normaliser
from snn_policy.sources.elementwise import Run, stretched
from snn_policy.sources.operations import Clip, Flatten, Operation, Scale


def read_normaliser(leading: Sequence[Operation], shape: tuple[int, ...]) -> tuple[Normaliser | None, Run | None]:
    """The normaliser, and the scale that is left to fold into the first linear layer.

    A symmetric clip is the normaliser's own; any other box is moved to ±1, and the first layer moves it back.
    """
    run = _leading_run(leading, shape)
    if run is None:
        return None, None
    if run.clipped_by is None:
        if not (run.scale > 0).all():
            return None, run
        return _normaliser(run.scale, run.offset, np.inf, shape), None
    with np.errstate(invalid="ignore"):  # infinite bounds are refused below
        reach, centre = (run.high - run.low) / 2, (run.high + run.low) / 2
    if not (np.isfinite(reach).all() and (reach > 0).all() and (run.scale != 0).all()):
        reason = "the observation is clipped on one side only, or to a constant"
        raise UnsupportedLayerError(run.clipped_by.path, run.clipped_by.kind, reason, "Clip it on both sides, or not")
    if (centre == 0).all() and (reach == reach[0]).all() and (run.scale > 0).all():
        return _normaliser(run.scale, run.offset, float(reach[0]), shape), None
    sign = np.sign(run.scale)
    unit = sign / reach
    left = Run.identity(len(reach)).then_scale(sign * reach, centre)
    return _normaliser(run.scale * unit, (run.offset - centre) * unit, 1.0, shape), left


def _normaliser(scale: np.ndarray, offset: np.ndarray, clip: float, shape: tuple[int, ...]) -> Normaliser:
    mean, spread = (-offset / scale).reshape(shape), (1 / scale).reshape(shape)
    return Normaliser(mean, spread, clip)  # pyright: ignore[reportArgumentType]


def _leading_run(leading: Sequence[Operation], shape: tuple[int, ...]) -> Run | None:
    size, row, run = int(np.prod(shape)), shape, None
    for each in leading:
        match each:
            case Flatten(width):
                if width not in (None, size):
                    reason = f"it reshapes observations {shape} to rows of {width}"
                    raise UnsupportedLayerError(each.path, each.kind, reason, "Keep one row per observation")
                row = (size,)
            case Scale(factor, offset):
                run = run or Run.identity(size)
                run = run.then_scale(stretched(each, factor, *row), stretched(each, offset, *row))
            case Clip(low, high):
                run = run or Run.identity(size)
                run = run.then_clip(stretched(each, low, *row), stretched(each, high, *row), each)
            case _:
                reason = "it acts on the observation itself, before any linear layer"
                raise UnsupportedLayerError(each.path, each.kind, reason, "Put a linear layer before it")
    return run
