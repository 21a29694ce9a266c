"""The tolerance of a student's conversion: as fine as its own error deserves, as coarse as the wanted energy asks for.

The conversion's error adds to the student's as independent ones do: half of it makes the sum 12 % larger, as much again
41 %. Finer spikes cost energy, which buys weights that make the student's own error smaller; finer than half of that
error they bring nothing.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

from snn_policy.actor import Actor
from snn_policy.compression.judging import energy_share
from snn_policy.convert import convert
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import FloatArray
from snn_policy.spiking.settings import DEFAULT_TOLERANCE

OWN_ERROR_SHARE = 0.5
COARSEST = 0.05
"""That a student is trained for."""
FINEST_FITTED, COARSEST_FITTED = 0.005, 0.1
HALVINGS = 6
"""Of the ratio of the coarsest tolerance to the finest: the energy comes out within two or three hundredths."""


def own_tolerance(error: float) -> float:
    """Return the tolerance that suits a student of that RMS action error, half of it, from 0.02 to 0.05."""
    return max(DEFAULT_TOLERANCE, min(COARSEST, OWN_ERROR_SHARE * error))


class Conversion(NamedTuple):
    """Hold a student's conversion, its tolerance and its energy, open loop, as a share of the dense teacher's."""

    policy: SpikingPolicy
    tolerance: float
    energy: float


def conversion(student: Actor, teacher: Actor, rows: FloatArray, tolerance: float) -> Conversion:
    """Return the conversion of that tolerance, calibrated and measured on the observations (N, *shape).

    What `convert` would say of these observations it says when the student that is kept is converted.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        policy = convert(student, rows, tolerance=tolerance)
    return Conversion(policy, tolerance, energy_share(policy, teacher, rows))


def tolerances_worth_having(error: float, spending: bool) -> tuple[float, float]:
    """Return the finest and the coarsest tolerance for a student of that RMS error: half of it, and all of it.

    Finer than 0.02 is worth it only where a wanted energy may be spent (`spending`), and less energy is no merit.
    """
    finest = max(FINEST_FITTED, min(COARSEST, OWN_ERROR_SHARE * error)) if spending else own_tolerance(error)
    return finest, max(own_tolerance(error), min(COARSEST_FITTED, error))


def finest_conversion(of: Callable[[float], Conversion], tolerances: tuple[float, float], most: float) -> Conversion:
    """Return the finest conversion that needs at most so much energy, from the first tolerance to the second.

    Where all of them need more, the coarsest. `of` makes the conversion of a tolerance.
    """
    fine, coarse = tolerances
    found = of(fine)
    if found.energy <= most or coarse <= fine:
        return found
    found = of(coarse)
    for _ in range(HALVINGS if found.energy <= most else 0):
        middle = of((fine * coarse) ** 0.5)
        if middle.energy <= most:
            found, coarse = middle, middle.tolerance
        else:
            fine = middle.tolerance
    return found
