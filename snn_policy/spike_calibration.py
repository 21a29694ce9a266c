"""Offset-spike calibration of IF neurons (Song et al.; Hao et al. 2023): its settings.

The calibration itself is not implemented yet: `convert(..., calibration=...)` raises `NotImplementedError`.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SpikeCalibration:
    """Settings of spike calibration (METHODS §5, §6).

    Attributes:
        iterations: I, how often the initial potential is corrected before the T steps are run.
        simulation_steps: ρ, steps of each simulated pass; T by default.
        adaptive: (I_min, I_max) to let each environment row choose I decision by decision.
        epsilon: ε in thresholds.
        rule: "first-pass" judges every iteration by the first pass, as published; "literal" is Algorithm 1 as printed.
    """

    iterations: int = 1
    simulation_steps: int | None = None
    adaptive: tuple[int, int] | None = None
    epsilon: float = 1e-3
    rule: Literal["first-pass", "literal"] = "first-pass"
