"""Observation statistics: x = clip((obs − mean) / √(variance + epsilon), ±reach), as `VecNormalize` keeps them.

`observation_statistics` finds them in whatever holds some, `environment_statistics` in a live environment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError, UnsupportedLayerError, warn
from snn_policy.protocol import KeyedShape
from snn_policy.sources.operations import Float64, Operation, clip, entries, normalise
from snn_policy.sources.unpickling import Array, Stub
from snn_policy.untrusted_files import reading

EPSILON = 1e-8
"""The default of both libraries, for statistics that come without one."""
LEFT_ALONE = 2.0**24
"""Where entries are clipped that are not normalised, beside some that are: float32 resolves no whole numbers beyond."""
_ONE_ARRAY = "Train on one array (gymnasium's FlattenObservation), or pass normaliser=(mean, variance)"


@dataclass(frozen=True, eq=False)
class ObservationStatistics:
    """Compute x = clip((obs − mean) / √(variance + epsilon), ±reach); mean and variance of one observation's shape.

    `reach` is one number, or one per entry; `blank`: they are those that a library begins with.
    """

    mean: Float64
    variance: Float64
    epsilon: float = EPSILON
    reach: float | Float64 = float("inf")
    name: str = "vecnormalize"
    blank: bool = False

    def __call__(self, obs: npt.ArrayLike) -> Float64:
        """Normalise observations (N, *shape), in float64."""
        x = (np.asarray(obs, np.float64) - self.mean) / np.sqrt(self.variance + self.epsilon)
        return np.clip(x, -self.reach, self.reach)

    def operations(self) -> list[Operation]:
        """Raise `SourceError` where they are not usable numbers; name entries that never varied."""
        if not (np.isfinite(self.mean).all() and np.isfinite(self.variance).all() and np.all(self.reach > 0)):
            raise SourceError(f"{self.name}: mean, variance or clip_obs is not a usable number")
        if not np.isfinite(self.epsilon):
            raise SourceError(f"{self.name}: epsilon is not a usable number")
        if not (self.variance + self.epsilon > 0).all():
            which = entries(self.variance + self.epsilon <= 0)
            remedy = "give a constant sensor the variance 1"
            raise SourceError(f"{self.name}: the standard deviation is zero, not a usable number, at {which}; {remedy}")
        scale = normalise(self.name, "VecNormalize", self.mean, self.variance, self.epsilon)
        return [scale, clip(self.name, "clip_obs", -self.reach, self.reach)]

    def fitted(self, shape: tuple[int, ...]) -> "ObservationStatistics":
        """Return those of observations of `shape`: these, or, with a warning, repeated for stacked frames.

        Raises:
            SourceError: they are of other observations.
        """
        if self.mean.shape == self.variance.shape == shape:
            return self
        own = self.mean.shape
        if self.variance.shape == own == (1, *shape):  # a batch of one, as modules keep them
            return replace(self, mean=self.mean[0], variance=self.variance[0])
        if self.variance.shape == own and len(own) == len(shape) > 0:
            for axis in (len(shape) - 1, 0):
                frames, rest = divmod(shape[axis], own[axis] or 1)
                if frames > 1 and rest == 0 and shape == (*own[:axis], frames * own[axis], *own[axis + 1 :]):
                    warn_of_stacking(frames, f"{self.name}: statistics of shape {own}, observations {shape}: ")
                    return self.stacked(frames, axis)
        found = f"{own} and {self.variance.shape}"
        raise SourceError(f"{self.name}: statistics of shape {found} do not fit observations {shape}")

    def stacked(self, frames: int, axis: int) -> "ObservationStatistics":
        """Return those of `frames` frames joined along an axis."""
        mean, variance = (np.concatenate([values] * frames, axis) for values in (self.mean, self.variance))
        return replace(self, mean=mean, variance=variance)


def normalised(
    statistics: Sequence[ObservationStatistics], shape: Sequence[int] | None
) -> tuple[tuple[int, ...] | None, list[Operation]]:
    """Return observations' shape, that of the statistics where it is not known, and the operations that come first."""
    known = tuple(shape) if shape is not None else _one_row(statistics[0].mean.shape) if statistics else None
    fitted = [statistic.fitted(known) for statistic in statistics] if known is not None else []
    return known, [operation for statistic in fitted for operation in statistic.operations()]


def _one_row(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:] if len(shape) == 2 and shape[0] == 1 else shape


def warn_of_stacking(frames: int, found: str = "") -> None:
    """Say what raw stacks must start with where VecFrameStack stands outside of VecNormalize."""
    warn(
        f"{found}taken as VecFrameStack over normalised frames, its statistics repeated {frames} times. It starts an "
        "episode with normalised zeros: start your raw stacks with frames that hold the mean, not zeros",
    )


def moments(running: Any, epsilon: float, reach: float, name: str) -> ObservationStatistics:
    """Return the statistics of a `RunningMeanStd`, live or unpickled."""
    held = running.fields if isinstance(running, Stub) else {key: getattr(running, key) for key in ("mean", "var")}
    mean, variance = (numbers_of(held[key], key) for key in ("mean", "var"))
    count = running.fields.get("count") if isinstance(running, Stub) else getattr(running, "count", None)
    fresh = count is not None and (numbers_of(count, "count") < 1).all()  # both libraries begin with 1e-4
    blank = bool(fresh and (mean == 0).all() and (variance == 1).all())
    return ObservationStatistics(mean, variance, epsilon, reach, name, blank)


def of_vecnormalize(fields: Mapping[str, Any], path: str) -> dict[str | None, ObservationStatistics]:
    """Return the statistics of a `VecNormalize` from its fields: by key of the observation, or under None.

    Raises:
        SourceError: they are not numbers.
    """
    if not fields.get("norm_obs", True):
        return {}
    with reading(path, "VecNormalize"):
        running, epsilon, reach = fields["obs_rms"], float(fields["epsilon"]), float(fields["clip_obs"])
        parts = running if isinstance(running, dict) else {None: running}
        return {key: moments(part, epsilon, reach, "vecnormalize") for key, part in parts.items()}


def of_one_array(
    parts: dict[str | None, ObservationStatistics], shape: Sequence[int] | None = None
) -> tuple[ObservationStatistics, ...]:
    """Return statistics of one array; those of a dictionary of observations joined as its shape says.

    Raises:
        UnsupportedLayerError: a dictionary, but the observations are none; or statistics of other keys.
    """
    named = [str(key) for key in parts if key is not None]
    if named and isinstance(shape, KeyedShape):
        return _joined(parts, shape)
    if named:
        reason = f"observations are a dictionary ({', '.join(named)})"
        raise UnsupportedLayerError("vecnormalize", "dict", reason, _ONE_ARRAY)
    return tuple(parts.values())


def _joined(
    parts: dict[str | None, ObservationStatistics], shape: KeyedShape
) -> tuple[ObservationStatistics, ...]:  # fmt: skip
    """Return the statistics of all keys side by side, in the order of the shape's keys; other keys stay as they are.

    VecNormalize leaves keys alone that are not among its `norm_obs_keys`. Beside others that are clipped, these are
    clipped, too, but at `LEFT_ALONE`.
    """
    unknown = set(map(str, parts)) - set(shape.parts)
    if unknown:
        reason = f"there are statistics of {', '.join(sorted(unknown))}, but the keys are {', '.join(shape.parts)}"
        raise UnsupportedLayerError("vecnormalize", "norm_obs_keys", reason, _ONE_ARRAY)
    first = next(iter(parts.values()))
    joined = [parts[key].fitted(own) if key in parts else _left_alone(own, first) for key, own in shape.parts.items()]
    mean, variance = (
        np.concatenate([getattr(statistic, part).ravel() for statistic in joined]) for part in ("mean", "variance")
    )
    reach = np.concatenate([np.full(statistic.mean.size, statistic.reach) for statistic in joined])
    same = bool((reach == reach[0]).all())
    return (replace(joined[0], mean=mean, variance=variance, reach=float(reach[0]) if same else reach),)


def _left_alone(shape: tuple[int, ...], beside: ObservationStatistics) -> ObservationStatistics:
    reach = np.inf if np.isinf(beside.reach) else max(LEFT_ALONE, float(beside.reach))
    return replace(beside, mean=np.zeros(shape), variance=np.full(shape, 1 - beside.epsilon), reach=reach)


def numbers_of(value: Any, key: str) -> Float64:
    """Return what is held, an unpickled array or a tensor too, in float64; `key` is its name in the refusal."""
    held: Any = value.values if isinstance(value, Array) else value
    if hasattr(held, "detach"):  # a torch tensor
        held = held.detach().cpu().double().numpy()
    try:
        if held is not None:
            return np.array(held, np.float64)
    except (TypeError, ValueError):
        pass
    raise SourceError(f"obs_rms.{key} does not hold numbers")
