"""Select: a connection without weights, which passes chosen entries on: residual connections, slices, permutations."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from snn_policy.ann.vector_map import VectorMap
from snn_policy.checks import whole
from snn_policy.protocol import Array, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Select(VectorMap):
    """Compute z_k = x_{indices[k]}; the identity where all entries are taken in order.

    Attributes:
        indices: (outputs,) which entry of x every output is; an entry may be taken often or never.
        inputs: entries of x.
        fan_out: (inputs,) how often every entry is taken: what a spike of it costs.
        uniform_fan_out: the same of all of them, where it is.
    """

    indices: IntArray
    inputs: int
    fan_out: IntArray = field(init=False, repr=False)
    uniform_fan_out: int | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        indices = np.array(self.indices)
        if indices.ndim != 1 or indices.dtype.kind not in "iu" or not indices.size:
            raise ValueError(f"select: expected a list of whole numbers, got {indices.dtype} {indices.shape}")
        if not whole(self.inputs, 1, 2**31 - 1) or indices.min() < 0 or indices.max() >= self.inputs:
            raise ValueError(f"select: expected entries of 0 to {self.inputs - 1}")
        self.set_fan_out(np.bincount(indices, minlength=self.inputs))
        indices = indices.astype(np.int64)
        indices.flags.writeable = False
        object.__setattr__(self, "indices", indices)

    @classmethod
    def identity(cls, width: int) -> "Select":
        """Return what passes on all entries."""
        return cls(np.arange(width), width)

    @property
    def is_identity(self) -> bool:
        """Return whether it passes on all entries in order."""
        return len(self.indices) == self.inputs and bool((self.indices == np.arange(self.inputs)).all())

    @property
    def outputs(self) -> int:
        return len(self.indices)

    @property
    def unit_bias(self) -> FloatArray:
        """Return (outputs,) zeros."""
        return np.zeros(self.outputs, np.float32)

    @property
    def macs(self) -> int:
        """Return 0: nothing is multiplied."""
        return 0

    @property
    def synapses(self) -> int:
        """Return 0: nothing is multiplied."""
        return 0

    def __call__(self, x: Array) -> Array:
        """Return the chosen entries of (rows, inputs), (rows, outputs)."""
        return self.product(x)

    def product(self, x: Array) -> Array:
        """Return the chosen entries along the last axis."""
        xp = array_namespace(x)
        return xp.take(x, xp.asarray(self.indices), axis=x.ndim - 1)

    def batched(self, x: FloatArray) -> FloatArray:
        return self.product(x)

    def transposed(self, y: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Return the transposed product, (…, outputs) → (…, inputs): how derivatives travel backwards."""
        x = np.zeros((*y.shape[:-1], self.inputs), y.dtype)
        if self.fan_out.max() > 1:
            np.add.at(x, (..., self.indices), y)  # pyright: ignore[reportArgumentType]
        else:
            x[..., self.indices] = y
        return x
