"""The tolerance of a student's conversion: as fine as its own error deserves, as coarse as the wanted energy asks for.

The conversion's error adds to the student's as independent ones do: half of it makes the sum 12 % larger, as much again
41 %. Finer spikes cost energy, which buys weights that make the student's own error smaller.
"""

from typing import NamedTuple

from snn_policy.actor import Actor
from snn_policy.compression.judging import energy_share
from snn_policy.convert import convert
from snn_policy.policy import SpikingPolicy
from snn_policy.protocol import FloatArray
from snn_policy.spiking.settings import DEFAULT_TOLERANCE

COARSEST, OWN_ERROR_SHARE = 0.05, 0.5
"""See `own_tolerance`."""
COARSEST_FITTED = 0.1
HALVINGS = 6
"""Of the ratio of the coarsest tolerance to the finest: the energy comes out within two hundredths."""


def own_tolerance(error: float) -> float:
    """Return the tolerance that suits a student of that RMS action error, half of it, from 0.02 to 0.05."""
    return max(DEFAULT_TOLERANCE, min(COARSEST, OWN_ERROR_SHARE * error))


class Conversion(NamedTuple):
    """Hold a student's conversion, its tolerance and its energy, open loop, as a share of the dense teacher's."""

    policy: SpikingPolicy
    tolerance: float
    energy: float


def conversion(student: Actor, teacher: Actor, rows: FloatArray, tolerance: float) -> Conversion:
    """Return the conversion of that tolerance, calibrated and measured on the observations (N, *shape)."""
    policy = convert(student, rows, tolerance=tolerance)
    return Conversion(policy, tolerance, energy_share(policy, teacher, rows))


def fitted_conversion(student: Actor, teacher: Actor, rows: FloatArray, error: float, most: float) -> Conversion:
    """Return the finest conversion that needs at most so much energy, of `own_tolerance` at the finest.

    Its tolerance is at most the student's own RMS error: where that needs more energy, the coarsest is returned.
    """
    fine, coarse = own_tolerance(error), min(COARSEST_FITTED, error)
    found = conversion(student, teacher, rows, fine)
    if found.energy <= most or coarse <= fine:
        return found
    found = conversion(student, teacher, rows, coarse)
    if found.energy > most:
        return found
    for _ in range(HALVINGS):
        between = conversion(student, teacher, rows, (fine * coarse) ** 0.5)
        if between.energy <= most:
            found, coarse = between, between.tolerance
        else:
            fine = between.tolerance
    return found
