"""The unit in which an action's error is measured, by calibration and by verification alike.

Half the distance between the action's bounds; where that is infinite, the recorded action's spread; of a discrete
action half the RMS spread between its logits. And which outputs a recording says nothing about, because the head holds
them at a bound.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.protocol import FloatArray

SMALLEST_SLOPE, FEWEST_ROWS = 0.01, 0.05
"""A head passes on what it is given where its slope is above the first; a recording tells of an output where that is so
in a share of its rows above the second."""
NO_SPREAD = 1e-5
"""A spread below this share of the values' size is rounding."""
SMALLEST_CHOICE_UNIT = 0.01


def error_unit(actor: Actor, y: FloatArray) -> npt.NDArray[np.float64]:
    """Return the positive unit of each output's error, (outputs,).

    Args:
        y: (N, outputs) recorded outputs of the last layer, before the head.
    """
    if actor.discrete:
        unit = np.concatenate([np.full(scores.shape[1], _logit_spread(scores)) for scores in choice_scores(actor, y)])
    else:
        half_range = actor.head.half_range(infinite=np.inf)
        bounded = np.isfinite(half_range)
        unit = half_range if bounded.all() else np.where(bounded, half_range, _recorded_spread(actor.head(y), y))
    return np.where(unit > 0, unit, 1.0)


def unit_name(actor: Actor) -> str:
    """Return the plural of the unit, for messages."""
    if actor.discrete:
        return "half-spreads of the logits"
    bounded = np.isfinite(actor.head.half_range(infinite=np.inf))
    if bounded.all():
        return "half-ranges"
    return "half-ranges or, where unbounded, recorded spreads" if bounded.any() else "recorded spreads of the action"


def saturated_outputs(actor: Actor, y: FloatArray) -> npt.NDArray[np.bool_]:
    """Mark the outputs that the head holds at a bound in nearly every recorded row, (outputs,); none if discrete.

    An output whose bounds are equal cannot move at all, and does not count.
    """
    head = actor.head
    if actor.discrete:
        return np.zeros(head.outputs, np.bool_)
    passed = (head_slope(actor, y) > SMALLEST_SLOPE * abs(head.scale)).mean(axis=0)
    return (passed < FEWEST_ROWS) & (head.low < head.high)


def head_slope(actor: Actor, y: FloatArray) -> npt.NDArray[Any]:
    """Return ∂action/∂y of a continuous head, (N, outputs)."""
    head = actor.head
    if head.kind == "tanh":
        return head.scale * (1 - np.tanh(y) ** 2) * (abs(y) < head.pre_clip)
    return ((y > head.low) & (y < head.high)).astype(np.float32)


def choice_scores(actor: Actor, y: FloatArray) -> list[FloatArray]:
    """Return every discrete action's own logits, (N, choices) each; none of a continuous actor."""
    return np.split(y, np.cumsum(actor.head.choices)[:-1], axis=1) if actor.discrete else []


def single_choice(actor: Actor, y: FloatArray) -> bool:
    """Return whether some discrete action with a choice is the same in every recorded row."""
    return any(_always_the_same(scores) for scores in choice_scores(actor, y))


def _always_the_same(scores: FloatArray) -> bool:
    return scores.shape[1] > 1 and bool(np.ptp(scores.argmax(axis=1)) == 0)


def _logit_spread(scores: FloatArray) -> float:
    """Return half the RMS spread of the logits; where the choice never changes, of what they do around their mean.

    A margin that is never crossed says nothing about how exactly the logits must be known where it is.
    """

    def half_spread(values: npt.NDArray[Any]) -> float:
        return float(np.sqrt(np.mean(np.ptp(values, axis=1).astype(np.float64) ** 2)) / 2)

    unit = half_spread(scores)
    if not _always_the_same(scores):
        return unit
    moving = half_spread(scores - scores.mean(axis=0, keepdims=True))
    return unit if moving <= NO_SPREAD * unit else max(moving, SMALLEST_CHOICE_UNIT * unit)


def _recorded_spread(action: FloatArray, y: FloatArray) -> npt.NDArray[np.float64]:
    """Return the action's standard deviation; where it has none, its input's; where that has none, its size."""
    spread = action.std(axis=0)
    for values, instead in ((action, y.astype(np.float64).std(axis=0)), (y, _size(y))):
        spread = np.where(spread > NO_SPREAD * _size(values), spread, instead)
    return spread


def _size(values: FloatArray) -> npt.NDArray[np.float64]:
    return np.sqrt(np.mean(values.astype(np.float64) ** 2, axis=0))
