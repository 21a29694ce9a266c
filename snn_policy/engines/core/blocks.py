"""Sparse weights in blocks: a layer's zeros left out where they come in consecutive outputs of one input.

Which layers are sparse depends on their weights alone, so that the core and every C export sum them in the same order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.ann.layers import Linear
from snn_policy.protocol import FloatArray

BLOCKS = (32, 16, 8, 4, 1)
"""Outputs per block that are tried; program.h names what the core has loops for."""
SPARSE_BELOW = 0.75
"""Share of weights that are not zero: from there on a layer is dense, and a zero in it is a weight like any other."""
CACHED_BYTES = 2**19
"""Dense weights of up to so many bytes stay in a core's second cache."""


def in_order(layer: Linear) -> bool:
    """Return whether the layer is sparse: its spikes are added one by one, with or without what is zero."""
    return layer.synapses < SPARSE_BELOW * layer.macs


@dataclass(frozen=True, eq=False)
class Packed:
    """Hold a weight matrix's blocks that hold anything.

    Attributes:
        block: consecutive outputs of one input per block.
        starts: (inputs + 1,) int32, the first block of every input, then how many there are.
        columns: (blocks,) int32, the first output of every block.
        weights: (blocks, block) float32; zeros beyond the last output.
        dense: bytes of the dense matrix.
    """

    block: int
    starts: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    weights: FloatArray
    dense: int

    @property
    def bytes(self) -> int:
        return self.starts.nbytes + self.columns.nbytes + self.weights.nbytes

    @property
    def pays(self) -> bool:
        """Return whether adding the blocks is faster than adding dense rows, on processors with vectors.

        In additions of eight floats: a dense row takes 1.1 for every eight outputs, and half as many again where the
        weights do not stay in the cache. A list of blocks takes 15 for its end, which no processor can foresee, and 2
        and a twelfth of its outputs per block; single weights, which fill no vector, 4. Fitted to whole decisions by
        `python -m benchmarks.sparse_weights` (AVX2).
        """
        inputs = len(self.starts) - 1
        row = 1.1 * self.dense / (4 * 8 * inputs) * (1 if self.dense <= CACHED_BYTES else 1.5)
        per_block = 4 if self.block == 1 else 2 + self.block / 12
        return 15 + len(self.columns) / inputs * per_block < row


def pack(weight: FloatArray) -> Packed:
    """Leave out the zeros of weights (outputs, inputs), in the blocks that take the fewest bytes."""
    return min((_packed(weight, block) for block in BLOCKS), key=lambda packed: packed.bytes)


def _packed(weight: FloatArray, block: int) -> Packed:
    outputs, inputs = weight.shape
    rows = np.zeros((inputs, -(-outputs // block) * block), np.float32)
    rows[:, :outputs] = weight.T
    blocks = rows.reshape(inputs, -1, block)
    present = (blocks != 0).any(axis=2)
    starts: npt.NDArray[Any] = np.zeros(inputs + 1, np.int32)
    starts[1:] = present.sum(axis=1).cumsum()
    columns = (np.nonzero(present)[1] * block).astype(np.int32)
    return Packed(block, starts, columns, blocks[present], weight.nbytes)


def unpacked(packed: Packed, outputs: int) -> FloatArray:
    """Return the weights (outputs, inputs) that `pack` was given."""
    inputs = len(packed.starts) - 1
    rows = np.zeros((inputs, -(-outputs // packed.block) * packed.block), np.float32)
    source = np.repeat(np.arange(inputs), np.diff(packed.starts))
    rows[source[:, None], packed.columns[:, None] + np.arange(packed.block)] = packed.weights
    return np.ascontiguousarray(rows[:, :outputs].T)
