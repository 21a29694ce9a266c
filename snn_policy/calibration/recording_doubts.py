"""What a recording says nothing about: named in one warning, with what to record instead."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.calibration.action_units import single_choice
from snn_policy.calibration.open_loop import Recording
from snn_policy.calibration.recordings import HANDFUL, chunks, distinct_rows
from snn_policy.errors import warn

REMEDY = (
    "record ordinary episodes in which everything moves, some thousand decisions of them: "
    "actor.collect(env, steps=10_000), or a longer, more varied segment of the robot's log"
)
HALF_A_BYTE = 0.5


def warn_of_another_scale(observations: npt.NDArray[Any], actor: Actor) -> None:
    """Warn where an actor divides pictures of bytes, 0 to 255, and the recorded ones (N, *shape) are of another range.

    Dark pictures are none of those: what is at most 1 counts only if it holds fractions.
    """
    if observations.dtype == np.uint8 or not divides_bytes(actor):
        return
    low, high, fractions = np.inf, -np.inf, False
    for chunk in chunks(observations):
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
        fractions = fractions or bool((chunk != np.round(chunk)).any())
    if (high <= 1 and fractions) or low < -HALF_A_BYTE or high > 255 + HALF_A_BYTE:
        warn(
            f"the recording ranges from {low:.4g} to {high:.4g}, but {actor.name} divides pictures of 0 to 255 by "
            f"{float(np.mean(actor.normaliser.scale)):.4g} itself; "  # pyright: ignore[reportOptionalMemberAccess]
            "record the observations as the actor is given them, before any division"
        )


def divides_bytes(actor: Actor) -> bool:
    """Return whether an actor of pictures, (channels, height, width), normalises values as bytes have them."""
    norm = actor.normaliser
    if norm is None or len(actor.observation_shape) != 3:
        return False
    return bool(((norm.scale >= 20) & (norm.scale <= 256) & (norm.mean >= 0) & (norm.mean <= 255)).all())


def few_rows(rows: int) -> str:
    return f"only {rows} different observation{'s' * (rows != 1)}"


def warn_of_few_for_thresholds(rows: int) -> None:
    """Warn that thresholds, which no neuron can exceed, come from so few different observations."""
    warn(
        f"the recording has {few_rows(rows)}: what others make of the neurons may exceed the thresholds taken from "
        f"it, and is cut off there; {REMEDY}"
    )


def recording_doubts(recording: Recording, flat: Iterable[int] = ()) -> list[str]:
    """Return what a recording does not show, [] for ordinary ones.

    Args:
        flat: hidden layers whose activation is constant throughout, counted from 0.
    """
    actor, doubts = recording.actor, []
    rows = distinct_rows(recording.inputs, HANDFUL)
    if rows < HANDFUL:
        doubts.append(few_rows(rows))
    held = [index for index, is_held in enumerate(recording.saturated.tolist()) if is_held]
    if held:
        which = f"action {held[0]} is" if len(held) == 1 else f"actions {_listed(held)} are"
        which = "every action is" if len(held) == len(recording.saturated) else which
        doubts.append(f"{which} at a bound in more than 95 % of it, so that errors count before the bound")
    if single_choice(actor, recording.outputs):
        doubts.append("the actor chooses the same action throughout, so that errors count against what its logits move")
    return [*doubts, *(dead_layer(index) for index in flat)]


def dead_layer(index: int) -> str:
    return f"hidden layer {index + 1} is silent or saturated throughout"


def warn_of(doubts: Sequence[str], what: str) -> None:
    """Warn once of all doubts; `what` is set without the recording's help."""
    if doubts:
        warn(
            f"the recording says too little: {'; '.join(doubts)}. {what}; what is promised holds for other "
            f"observations only roughly. If the actor does act otherwise, {REMEDY}",
        )


def _listed(indices: Sequence[int]) -> str:
    shown = ", ".join(str(index) for index in indices[:6])
    return shown + (f" and {len(indices) - 6} more" if len(indices) > 6 else "")
