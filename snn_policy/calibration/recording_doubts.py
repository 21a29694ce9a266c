"""What a recording says nothing about: named in one warning, with what to record instead."""

from collections.abc import Iterable, Sequence

from snn_policy.calibration.action_units import single_choice
from snn_policy.calibration.open_loop import Recording
from snn_policy.calibration.recordings import HANDFUL, distinct_rows
from snn_policy.errors import warn

REMEDY = (
    "record ordinary episodes in which everything moves, some thousand decisions of them: "
    "actor.collect(env, steps=10_000), or a longer, more varied segment of the robot's log"
)


def few_rows(rows: int) -> str:
    return f"only {rows} different observation{'s' * (rows != 1)}"


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
