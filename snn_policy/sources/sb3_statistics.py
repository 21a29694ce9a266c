"""The observation statistics that belong to a Stable-Baselines3 zip: where they lie, and how it tells that it had some.

An algorithm that was trained in `VecNormalize` stores, beside its last observation as the policy saw it, one as the
environment gave it: off-policy algorithms the same, on-policy ones that of the training's start. Without
`VecNormalize`, on-policy algorithms store none, and off-policy ones that of the step before.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from snn_policy.errors import warn

Normalised = Literal["yes", "maybe", "no"]
"""Whether an algorithm's observations were normalised by `VecNormalize`."""
_NAMES = ("vecnormalize.pkl", "vec_normalize.pkl")
_CHECKPOINT = re.compile(r"(.*)_(\d+)_steps")
_ENVIRONMENT = re.compile(r".+-v\d+")
_EVIDENCE = 30.0
_MOST_ENTRIES = 64
REMEDY = (
    "Pass vecnormalize=PATH of the VecNormalize that was saved with it; or vecnormalize=False if there was none, or "
    "one that normalised rewards only (norm_obs=False), which silences this"
)
_MOST_NAMED = 3


def stem(path: Path) -> Path:
    """Return the path without `.zip`, and nothing else: `best_1.5M` is a whole name."""
    return path.with_suffix("") if path.suffix.lower() == ".zip" else path


def beside(path: Path) -> Path | None:
    """Return the statistics saved with a zip, where there are any."""
    return next((place for place in _places(path) if place.is_file()), None)


def one_down(path: Path) -> Path | None:
    """Return statistics in a folder beside a zip that is named like an environment; they may be another policy's."""
    below = [place for place in _below(path.parent) if _ENVIRONMENT.fullmatch(place.parent.name)]
    return below[0] if len(below) == 1 else None


def _places(path: Path) -> Iterator[Path]:
    name, folder = stem(path), path.parent
    for ending in _NAMES:
        yield from (Path(f"{name}.{ending}"), Path(f"{name}_{ending}"))
    checkpoint = _CHECKPOINT.fullmatch(name.name)
    if checkpoint:
        yield folder / f"{checkpoint[1]}_vecnormalize_{checkpoint[2]}_steps.pkl"
    for ending in _NAMES:
        yield from (folder / ending, name / ending)
    within = _below(name)
    yield from within if len(within) == 1 else ()
    for place in _below(folder):  # the RL Zoo's: ENV_ID_1/best_model.zip and ENV_ID_1/ENV_ID/vecnormalize.pkl
        if re.fullmatch(rf"{re.escape(place.parent.name)}_\d+", folder.name):
            yield place


def _below(folder: Path) -> list[Path]:
    return sorted(place for ending in _NAMES for place in folder.glob(f"*/{ending}") if place.is_file())


def warn_of_missing(name: str, normalised: Normalised | None, folder: Path | None = None) -> None:
    """Say that an algorithm was trained on normalised observations, where no statistics were found.

    What it stores does not tell whether its `VecNormalize` had norm_obs=False: then raw observations are right.

    Args:
        folder: where statistics under another name may lie; pickles in it are named.
    """
    missing = "no observation statistics were found: if it normalised observations, raw ones give wrong actions"
    others = [] if folder is None else sorted(place.name for place in folder.glob("*.pkl"))[:_MOST_NAMED]
    missing += f" (beside it lies {', '.join(others)})" if others else ""
    if normalised == "yes":
        reason = "it stores its last observation as it was before, too"
        warn(f"{name} was trained in VecNormalize ({reason}), but {missing}. {REMEDY}")
    elif normalised == "maybe":
        reason = "the two last observations that it stores tell neither that it was nor that it was not"
        warn(f"{name} may have been trained in VecNormalize ({reason}); if so, {missing}. {REMEDY}")


def was_normalised(last: Any, original: Any, low: Any, high: Any, off_policy: bool) -> Normalised | None:
    """Return whether an algorithm was trained on observations that `VecNormalize` normalised; None before any training.

    Args:
        last: the policy's last observation, (rows, *shape).
        original: the environment's, as stored beside it.
        low, high: the bounds of raw observations, or None.
    """
    if last is None:
        return None
    if original is None:
        return None if off_policy else "no"
    if not (isinstance(last, np.ndarray) and isinstance(original, np.ndarray) and last.shape == original.shape):
        return "maybe"
    if last.dtype != original.dtype:
        return "yes"  # normalised observations are float32
    if last.dtype != np.float32 or np.array_equal(last, original):
        return "no"
    if _leaves(last, original, low, high):
        return "yes"
    after, before = (values.astype(np.float64).reshape(len(last), -1) for values in (last, original))
    circles = [np.array([_circles(row) for row in rows]) for rows in (before, after)]
    if ((before == after) & (before != 0)).any() or (circles[0] & circles[1]).any():
        return "no"  # a constant, or sine and cosine of one angle, is as it was
    if not off_policy:
        return "yes"
    return "no" if not circles[0].any() and _consecutive(after[0], before[0]) else "maybe"


def _leaves(last: npt.NDArray[Any], original: npt.NDArray[Any], low: Any, high: Any) -> bool:
    """Return whether the one is out of bounds that the other keeps."""
    if low is None or high is None or np.shape(low) != last.shape[1:]:
        return False
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    slack = 1e-4 * (1 + np.minimum(np.abs(low), np.abs(high)))
    outside = [((values < low - slack) | (values > high + slack)).any() for values in (last, original)]
    return bool(outside[0] and not outside[1])


def _consecutive(after: npt.NDArray[np.float64], before: npt.NDArray[np.float64]) -> bool:
    """Return whether one looks like the other a step later, `_EVIDENCE` times more than like it normalised.

    A step later: a difference of any size between 1e-4 and 1, on a logarithmic scale. Normalised: about the size of
    one, whatever it was before, with a Cauchy distribution's tails, because statistics may be young.
    """
    varied = before != after
    seen, differences = after[varied][:_MOST_ENTRIES], np.abs(before - after)[varied][:_MOST_ENTRIES]
    later = -np.log(2 * math.log(1e4) * differences.clip(1e-4))
    normalised = -np.log(math.pi * (1 + seen**2))
    return len(seen) > 0 and float((later - normalised).sum()) > math.log(_EVIDENCE)


def _circles(row: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which pairs of entries are sine and cosine of one angle."""
    first, second = np.triu_indices(min(len(row), _MOST_ENTRIES), 1)
    on_circle = np.abs(row[first] ** 2 + row[second] ** 2 - 1) < 1e-5
    return on_circle & (np.minimum(np.abs(row[first]), np.abs(row[second])) > 1e-4)
