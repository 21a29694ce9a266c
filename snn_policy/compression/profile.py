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
from snn_policy.compression.maps import LinearMap, group_means
from snn_policy.compression.student import Student

MOST_DERIVATIVES, DERIVATIVES_AT_ONCE = 2**25, 2**22
"""Of pictures: ∂action/∂observation is taken on so many rows that it has at most so many numbers; and in pieces."""


class Profile(NamedTuple):
    """Hold one value per neuron of every stage, observation first.

    Attributes:
        sensitivity: g, RMS of ‖∂action/∂h‖.
        precision: g/ε, one over the quantum; the positions of a channel share it, and γ, as in a conversion.
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
        groups = student.groups[stage]
        shared = g if groups[1] == 1 else group_means(g.square(), groups).sqrt()
        floored = torch.maximum(shared, SENSITIVITY_FLOOR * shared.max()).clamp_min(1e-12)
        precision = floored / (share * tolerance / 0.02)
        afresh, changes = (count(sent.abs() * precision).mean(0) for sent in (h, h - h_before))
        found.sensitivity.append(g)
        found.precision.append(precision)
        sends_changes = group_means(changes, groups) < (1 - LEAST_SAVING) * group_means(afresh, groups)
        found.gamma.append(sends_changes.float())
        found.rate.append(torch.where(sends_changes, changes, afresh))
        found.size.append(h.square().mean(0).sqrt())
        found.active.append((h != 0).float().mean(0))
    return found


def _sensitivities(student: Student, error: ActionError, hidden: list[Tensor], y: Tensor) -> list[Tensor]:
    """Return g per stage: the RMS over the states of ‖∂action/∂h_j‖, of pictures over as many as fit into memory."""
    if all(isinstance(through, LinearMap) for through in student.maps):
        return [square.sqrt() for square in _derivative_squares(student, error, hidden, y)]
    size = student.teacher.graph.inputs * y.shape[1]
    apart = -(-len(y) * size // MOST_DERIVATIVES)
    rows = range(0, len(y), apart)
    step = max(1, DERIVATIVES_AT_ONCE // size) * apart
    total = [torch.zeros(width) for width in student.teacher.widths]
    for start in range(0, len(y), step):
        piece = slice(start, start + step, apart)
        squares = _derivative_squares(student, error, [h[piece] for h in hidden], y[piece])
        for summed, square in zip(total, squares, strict=True):
            summed.add_(square * (len(y[piece]) / len(rows)))
    return [square.sqrt() for square in total]


def _derivative_squares(student: Student, error: ActionError, hidden: list[Tensor], y: Tensor) -> list[Tensor]:
    """Return per stage the mean over the states of ‖∂action/∂h_j‖²."""
    last = student.maps[-1].transposed
    jacobian, found = last(error.derivative(y), student.weights[-1]), []
    layers = zip(reversed(student.maps[:-1]), reversed(student.weights[:-1]), reversed(hidden), strict=True)
    for through, weight, h in layers:
        found.append(jacobian.square().sum(1).mean(0))
        jacobian = through.transposed(jacobian * (h > 0).float()[:, None], weight)
    found.append(jacobian.square().sum(1).mean(0))
    return found[::-1]
