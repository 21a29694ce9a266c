"""Energy by counts of operations, in profiles: an estimate of what hardware would draw, not a measurement.

    E = macs · (multiplication + addition) + synaptic operations · accumulation + weights fetched · bytes · access

A multiply-accumulate (MAC) is one product of an analog value with a weight, a synaptic operation one accumulation of a
weight because of a spike. A spike whose size is a power of two times its neuron's quantum counts as one accumulation (a
shift, not a multiplication). A weight is fetched once per product of an analog value, and once per *event*: a neuron
that spikes in a decision, however often. Weights of zero are neither multiplied nor fetched by what skips zeros.

An ANN is charged for all of its MACs ("dense"), or only for those whose input and weight are not zero ("skipping
zeros"): the latter is the fair opponent of a spiking network. With 8-bit weights and activations it is fairer still.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

HOROWITZ = "M. Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014, fig. 1.1.9"


@dataclass(frozen=True)
class Profile:
    """Say what operations cost, in picojoules.

    Attributes:
        multiply_accumulate: one product and one addition of an ANN, or of a spiking network's analog first layer.
        synaptic_operation: one accumulation of a weight.
        weight_bytes, per_byte: what a weight takes in memory, and what a byte costs to fetch; 0: memory is left out.
        source: where the numbers are from.
        eight_bit: the profile in which the same network is charged with 8-bit weights and activations.
    """

    name: str
    multiply_accumulate: float
    synaptic_operation: float
    weight_bytes: int
    per_byte: float
    source: str
    eight_bit: str

    @property
    def per_weight(self) -> float:
        """Return picojoules of one weight fetched."""
        return self.weight_bytes * self.per_byte

    def nanojoules(self, multiply_accumulates: Any, synaptic_operations: Any, fetched: Any) -> npt.NDArray[np.float64]:
        """Return the energy of the given counts (scalars or arrays of one shape)."""
        return (
            np.asarray(multiply_accumulates) * self.multiply_accumulate
            + np.asarray(synaptic_operations) * self.synaptic_operation
            + np.asarray(fetched) * self.per_weight
        ) / 1000


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("fp32-45nm", 3.7 + 0.9, 0.9, 4, 0.0, f"{HOROWITZ}: float32, memory left out", "int8-45nm"),
        Profile("int8-45nm", 0.2 + 0.1, 0.1, 1, 0.0,
                f"{HOROWITZ}: 8-bit product, 32-bit addition; memory left out", "int8-45nm"),
        Profile("int8-45nm-sram", 0.2 + 0.1, 0.1, 1, 10 / 8,
                f"{HOROWITZ}: as int8-45nm, and weights from 8 KB of SRAM, 64 bits for 10 pJ", "int8-45nm-sram"),
        Profile("int8-45nm-sram-1mb", 0.2 + 0.1, 0.1, 1, 100 / 8,
                f"{HOROWITZ}: as int8-45nm, and weights from 1 MB of SRAM, 64 bits for 100 pJ", "int8-45nm-sram-1mb"),
    )
}  # fmt: skip
DEFAULT, ALL = "fp32-45nm", "all"
PICOJOULES_PER_MAC = PROFILES[DEFAULT].multiply_accumulate
PICOJOULES_PER_SYNAPTIC_OPERATION = PROFILES[DEFAULT].synaptic_operation


def profiles_of(name: str) -> tuple[Profile, ...]:
    """Return the profile of that name, or all of them for "all".

    Raises:
        ValueError: no such profile; it names those that there are.
    """
    if name == ALL:
        return tuple(PROFILES.values())
    if name not in PROFILES:
        raise ValueError(f"energy profile {name!r}: expected one of {', '.join([*PROFILES, ALL])}")
    return (PROFILES[name],)


def nanojoules(multiply_accumulates: Any, synaptic_operations: Any) -> npt.NDArray[np.float64]:
    """Return the energy in nanojoules by the profile fp32-45nm (scalars or arrays of one shape)."""
    return PROFILES[DEFAULT].nanojoules(multiply_accumulates, synaptic_operations, 0)


def weights_fetched(multiply_accumulates: Any, synaptic_operations: Any, events: Any) -> npt.NDArray[Any]:
    """Return the weights that a decision fetches: one per product, and one per event of what spikes.

    Args:
        events: of an ANN, which has no synaptic operations, its products: they are not counted twice.
    """
    products = np.asarray(multiply_accumulates)
    return products + np.where(np.asarray(synaptic_operations) > 0, events, 0)


def ann_energies(profile: Profile, dense: float, skipping: float) -> dict[str, float]:
    """Return nanojoules of an ANN by name, of its multiply-accumulates per decision, all and those without zeros."""
    eight = PROFILES[profile.eight_bit]
    return {
        f"ann_{kind}{ending}": float(rule.nanojoules(macs, 0, macs))
        for ending, rule in (("", profile), ("_8bit", eight))
        for kind, macs in (("dense", dense), ("skipping", skipping))
    }
