"""Observation statistics of a live environment: what lies between its raw observations and the policy.

Wrappers are read from the innermost to the outermost: `VecNormalize` and `NormalizeObservation` hold statistics;
`VecFrameStack`, `VecTransposeImage` and `VecExtractDictObs` change the shape of those inside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from snn_policy.errors import SourceError, warn
from snn_policy.sources.vecnormalize import (
    ObservationStatistics,
    moments,
    of_one_array,
    of_vecnormalize,
    warn_of_stacking,
)

_LIBRARIES = ("stable_baselines3", "sb3_contrib", "gymnasium", "gym")
_PASSED_ON = ("VecMonitor", "VecCheckNan", "VecVideoRecorder")
_DEEPEST = 100


def is_a(thing: Any, *names: str) -> bool:
    """Return whether a class so named of SB3's or Gymnasium's is among the object's bases, without importing either."""
    return any(base.__name__ in names and base.__module__.split(".")[0] in _LIBRARIES for base in type(thing).__mro__)


def holds_statistics(environment: Any) -> bool:
    """Return whether one of its wrappers is a `VecNormalize` or a `NormalizeObservation`."""
    return any(is_a(layer, "VecNormalize") or _is_normaliser(layer) for layer in _layers(environment))


def read_environment(environment: Any, shape: Sequence[int] | None = None) -> tuple[ObservationStatistics, ...]:
    """Read the statistics of all its wrappers, in the order of application.

    Raises:
        SourceError: an object that normalises otherwise than its statistics tell.
        UnsupportedLayerError: statistics of a dictionary of observations.
    """
    layers = list(_layers(environment))
    if any(_is_normaliser(layer) for layer in layers):
        _warn_of_rows(layers)
    read: list[dict[str | None, ObservationStatistics]] = []
    for layer in reversed(layers):
        if is_a(layer, "VecNormalize"):
            found = of_vecnormalize(vars(layer), "vecnormalize")
            _check_vecnormalize(layer, found)
            read += [found] if found else []
        elif _is_normaliser(layer):
            read.append({None: moments(layer.obs_rms, float(layer.epsilon), float("inf"), "NormalizeObservation")})
        elif read:
            read = [_reshaped(layer, parts) for parts in read]
    return tuple(statistics for parts in read for statistics in of_one_array(parts, shape))


def _layers(environment: Any) -> Iterator[Any]:
    """Yield the environment and what it wraps, from the outermost to the innermost; of several rows, the first."""
    for _ in range(_DEEPEST):
        if environment is None:
            return
        yield environment
        held = vars(environment) if hasattr(environment, "__dict__") else {}
        if is_a(environment, "SubprocVecEnv"):
            yield from _in_processes(environment)
        environment = held["envs"][0] if held.get("envs") else held.get("venv", held.get("env"))


@dataclass(frozen=True)
class _Remote:
    """Stand for a `NormalizeObservation` in another process."""

    obs_rms: Any
    epsilon: float


def _is_normaliser(layer: Any) -> bool:
    return isinstance(layer, _Remote) or is_a(layer, "NormalizeObservation")


def _in_processes(environment: Any) -> Iterator[Any]:
    from gymnasium.wrappers import NormalizeObservation

    if any(environment.env_is_wrapped(NormalizeObservation)):
        yield _Remote(environment.get_attr("obs_rms")[0], environment.get_attr("epsilon")[0])


def _warn_of_rows(layers: list[Any]) -> None:
    """Say that rows whose environments are wrapped one by one have one set of statistics each."""
    position = next(i for i, layer in enumerate(layers) if _is_normaliser(layer))
    rows = max((int(vars(layer).get("num_envs", 1)) for layer in layers[:position]), default=1)
    if rows > 1:
        warn(
            f"each of the {rows} environments has a NormalizeObservation with statistics of its own; the first's are "
            "taken. Pass normaliser=(mean, variance) for others",
        )


def _reshaped(layer: Any, parts: dict[str | None, ObservationStatistics]) -> dict[str | None, ObservationStatistics]:
    """Return the statistics as seen through a wrapper around them."""
    if is_a(layer, "VecExtractDictObs"):
        return {None: parts[layer.key]} if layer.key in parts else {}
    if is_a(layer, "VecFrameStack"):
        stack = layer.stacked_obs
        if None in parts:
            warn_of_stacking(stack.n_stack)
            return {None: parts[None].stacked(stack.n_stack, stack.repeat_axis)}
    if is_a(layer, "VecTransposeImage") and None in parts and not getattr(layer, "skip", False):
        mean, variance = (np.moveaxis(values, -1, 0) for values in (parts[None].mean, parts[None].variance))
        return {None: replace(parts[None], mean=mean, variance=variance)}
    changes = is_a(layer, "ObservationWrapper", "VectorObservationWrapper", "LambdaObservation")
    changes |= is_a(layer, "VecEnvWrapper") and not is_a(layer, *_PASSED_ON, "VecFrameStack", "VecTransposeImage")
    if changes:
        warn(
            f"{type(layer).__name__} stands between the observation statistics and the policy; what it does to "
            "observations is not part of the actor",
        )
    return parts


def _check_vecnormalize(layer: Any, found: dict[str | None, ObservationStatistics]) -> None:
    """Compare the statistics with what the live object makes of observations."""
    statistics = found.get(None)
    if statistics is None or statistics.mean.shape != statistics.variance.shape:
        return
    spread = np.sqrt(np.abs(statistics.variance) + 1e-8)
    drawn = np.random.default_rng(0).standard_normal((32, *statistics.mean.shape)) * spread
    raw = statistics.mean + drawn * np.logspace(-1, 1, 32).reshape(-1, *[1] * statistics.mean.ndim)
    with np.errstate(all="ignore"):
        own, read = np.asarray(layer.normalize_obs(raw), np.float64), statistics(raw)
    if own.shape != read.shape or not np.allclose(own, read, 1e-4, 1e-4, equal_nan=True):
        reason = "normalises observations otherwise than its statistics tell (a class of its own?)"
        raise SourceError(f"vecnormalize: {type(layer).__name__} {reason}; pass normaliser=(mean, variance)")
