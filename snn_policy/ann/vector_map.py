"""What linear maps between vectors have in common: neurons that stand alone, and what a spike of each costs."""

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from snn_policy.protocol import Array, IntArray


class VectorMap:
    """Hold what maps of vectors share: `fan_out` (inputs,), `uniform_fan_out` where it is the same of all."""

    fan_out: IntArray
    uniform_fan_out: int | None

    def set_fan_out(self, counts: npt.NDArray[np.integer]) -> None:
        """Keep the synapses of every input neuron, (inputs,); a frozen dataclass calls it when it is made."""
        fan_out = counts.astype(np.int64)
        fan_out.flags.writeable = False
        alike = bool(fan_out.size) and bool((fan_out == fan_out[0]).all())
        object.__setattr__(self, "fan_out", fan_out)
        object.__setattr__(self, "uniform_fan_out", int(fan_out[0]) if alike else None)

    @property
    def outputs(self) -> int:
        raise NotImplementedError

    @property
    def input_groups(self) -> tuple[int, int]:
        """Return (inputs, 1): every neuron has a quantum of its own."""
        return self.fan_out.shape[0], 1

    @property
    def groups(self) -> tuple[int, int]:
        """Return (outputs, 1): every neuron has a threshold of its own."""
        return self.outputs, 1

    def operations(self, counts: Array) -> Array:
        """Return the synaptic operations of `counts` (rows, inputs) spikes per input neuron, (rows,) int64."""
        xp = array_namespace(counts)
        if self.uniform_fan_out is not None:
            return xp.sum(counts, axis=1) * self.uniform_fan_out
        return xp.sum(counts * self.fan_out, axis=1)
