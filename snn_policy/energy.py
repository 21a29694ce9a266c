"""Energy by the usual 45 nm, float32 estimate (Horowitz 2014): counts of operations, not a measurement.

    E = 4.6 pJ · multiply-accumulates + 0.9 pJ · synaptic operations

A multiply-accumulate (MAC) is one product of an analog value with a weight, a synaptic operation one
accumulation of a weight because of a spike. A spike whose size is a power of two times its neuron's
quantum counts as one accumulation (a shift, not a multiplication). Memory traffic is not included.
An ANN is charged 4.6 pJ for all of its MACs ("dense"), or only for those whose input is not zero
("skipping zeros"): the latter is the fair baseline of a spiking network.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

PICOJOULES_PER_MAC = 4.6
PICOJOULES_PER_SYNAPTIC_OPERATION = 0.9


def nanojoules(multiply_accumulates: Any, synaptic_operations: Any) -> npt.NDArray[np.float64]:
    """Energy in nanojoules of the given counts (scalars or arrays of one shape)."""
    return (
        np.asarray(multiply_accumulates) * PICOJOULES_PER_MAC
        + np.asarray(synaptic_operations) * PICOJOULES_PER_SYNAPTIC_OPERATION
    ) / 1000
