"""What the student's neurons do on recorded states: how much each matters, changes and is active.

Taken anew every hundred steps; between them it is held fixed, so that no gradient goes through it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from snn_policy.calibration.open_loop import LEAST_SAVING
from snn_policy.calibration.sensitivity import FIRST_SHARE, LAST_SHARE, MIDDLE_SHARE, SENSITIVITY_FLOOR
from snn_policy.compression.loss import ActionError
from snn_policy.compression.student import Student


class Profile(NamedTuple):
    """Hold one value per neuron of every stage, observation first.

    Attributes:
        sensitivity: g, RMS of ‖∂action/∂h‖.
        precision: g/ε, one over the quantum.
        gamma: 1 where changes cost less than values by more than `LEAST_SAVING`, as a conversion chooses.
        rate: expected spikes (or events) per decision.
        size: RMS of h; of the observation, around its mean.
        active: share of the states where h is not zero.
    """

    sensitivity: list[Tensor]
    precision: list[Tensor]
    gamma: list[Tensor]
    rate: list[Tensor]
    size: list[Tensor]
    active: list[Tensor]


@torch.no_grad()
def profile(
    student: Student, error: ActionError, before: Tensor, now: Tensor, offset: Tensor, tolerance: float,
    count: Callable[[Tensor], Tensor],
) -> Profile:  # fmt: skip
    """Measure the student on pairs of consecutive normalised observations, (N, inputs) each.

    Args:
        offset: (inputs,) the mean observation, which the observation's neurons do not send.
    """
    hidden, y = student(now)
    values, previous = [now - offset, *hidden], [before - offset, *student(before)[0]]
    sensitivities = _sensitivities(student, error, hidden, y)
    last, found = len(values) - 1, Profile([], [], [], [], [], [])
    for stage, (h, h_before, g) in enumerate(zip(values, previous, sensitivities, strict=True)):
        share = FIRST_SHARE if stage == 0 else LAST_SHARE if stage == last else MIDDLE_SHARE
        floored = torch.maximum(g, SENSITIVITY_FLOOR * g.max()).clamp_min(1e-12)
        precision = floored / (share * tolerance / 0.02)
        afresh, changes = (count(sent.abs() * precision).mean(0) for sent in (h, h - h_before))
        found.sensitivity.append(g)
        found.precision.append(precision)
        sends_changes = changes < (1 - LEAST_SAVING) * afresh
        found.gamma.append(sends_changes.float())
        found.rate.append(torch.where(sends_changes, changes, afresh))
        found.size.append(h.square().mean(0).sqrt())
        found.active.append((h != 0).float().mean(0))
    return found


def _sensitivities(student: Student, error: ActionError, hidden: list[Tensor], y: Tensor) -> list[Tensor]:
    """Return g per stage: the RMS over the states of ‖∂action/∂h_j‖."""
    jacobian, found = error.derivative(y) @ student.weights[-1], []
    for weight, h in zip(reversed(student.weights[:-1]), reversed(hidden), strict=True):
        found.append(jacobian.square().sum(1).mean(0).sqrt())
        jacobian = (jacobian * (h > 0).float()[:, None]) @ weight
    found.append(jacobian.square().sum(1).mean(0).sqrt())
    return found[::-1]
