"""Observation statistics from whatever holds some.

They are read from a live `VecNormalize` or `NormalizeObservation` (or whatever is wrapped around one), from their
`RunningMeanStd`, from (mean, variance), and from a pickle, without running it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from snn_policy.ann.layers import Normaliser
from snn_policy.errors import SourceError, warn
from snn_policy.sources.environment_statistics import holds_statistics, read_environment
from snn_policy.sources.operations import entries
from snn_policy.sources.unpickling import Stub, load_numbers, mappings
from snn_policy.sources.vecnormalize import (
    EPSILON,
    ObservationStatistics,
    moments,
    numbers_of,
    of_one_array,
    of_vecnormalize,
)
from snn_policy.untrusted_files import MEGABYTE, checked, reading

_LARGEST = 64 * MEGABYTE


def read_statistics(source: Any, shape: Sequence[int] | None = None) -> tuple[ObservationStatistics, ...]:
    """Read statistics from whatever holds some, in the order of application; none if it leaves observations alone.

    Args:
        source: the path of a pickled `VecNormalize`; an environment wrapped in `VecNormalize` or
            `NormalizeObservation`; a `RunningMeanStd`; (mean, variance); a `Normaliser`.
        shape: of observations; with keys, statistics of dictionaries are joined in their order.

    Raises:
        SourceError: an unreadable file, or an object whose statistics are not numbers.
        UnsupportedLayerError: statistics of a dictionary of observations.
        TypeError: another kind of object.
    """
    found = _read(source, shape)
    if any(statistics.blank for statistics in found):
        told = f"{source}: " if isinstance(source, str | Path) else ""
        warn(
            f"{told}these statistics have seen no observation (mean 0, variance 1), so that observations stay as they "
            "are; pass those of the training, as they were saved with the policy"
        )
    return found


def _read(source: Any, shape: Sequence[int] | None) -> tuple[ObservationStatistics, ...]:
    if isinstance(source, str | Path):
        return _pickled(Path(source), shape)
    if isinstance(source, Normaliser):
        scale = source.scale.astype(np.float64)
        return (ObservationStatistics(source.mean.astype(np.float64), scale**2, 0.0, source.clip, "normaliser"),)
    if isinstance(source, tuple | list) and len(source) == 2:
        return (_pair(*source),)
    if hasattr(source, "var") and not callable(getattr(source, "mean", callable)):
        return (moments(source, EPSILON, float("inf"), "normaliser"),)
    if holds_statistics(source):
        return read_environment(source, shape)
    raise TypeError(
        f"normaliser: cannot read observation statistics from {type(source).__name__}: expected a VecNormalize (or the "
        "path of its pickle), a NormalizeObservation or its obs_rms, or (mean, variance)"
    )


def _pair(mean: Any, variance: Any) -> ObservationStatistics:
    statistics = ObservationStatistics(numbers_of(mean, "mean"), numbers_of(variance, "variance"), name="normaliser")
    if statistics.mean.shape != statistics.variance.shape:
        shapes = f"mean {statistics.mean.shape}, variance {statistics.variance.shape}"
        raise SourceError(f"normaliser: mean and variance must have one shape, got {shapes}")
    if not statistics.mean.ndim:
        raise SourceError(
            "normaliser: mean and variance are single numbers; give one for every entry of an observation"
        )
    if (statistics.variance <= 0).any():
        remedy = "give a constant sensor the variance 1"
        which = entries(statistics.variance <= 0)
        raise SourceError(f"normaliser: the standard deviation is zero (or no number) at {which}; {remedy}")
    return statistics


def _pickled(path: Path, shape: Sequence[int] | None) -> tuple[ObservationStatistics, ...]:
    with reading(checked(path, _LARGEST), "VecNormalize pickle"):
        root = load_numbers(path.read_bytes(), mappings)
    kind = root.stands_for.rpartition(".")[2] if isinstance(root, Stub) else ""
    if kind == "RunningMeanStd":
        with reading(path, "RunningMeanStd"):
            return (moments(root, EPSILON, float("inf"), str(path)),)
    if kind != "VecNormalize":
        raise SourceError(f"{path}: holds no VecNormalize")
    return of_one_array(of_vecnormalize(root.fields, str(path)), shape)
