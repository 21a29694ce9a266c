"""What computes in a program that is no chain: the nodes that `affine_values` are made of.

Some are stages as they are (activations, products, gates), some become part of others (linear maps without an
activation), and some are halves of functions (`Unfinished`): the root in a norm, the exponential in a softplus. Those
are refused by name if the other half never comes.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from snn_policy.ann.activations import Activation
from snn_policy.ann.cells import NormKind
from snn_policy.sources.affine_values import Node, Value
from snn_policy.sources.images import Filter
from snn_policy.sources.operations import Float64


@dataclass(frozen=True, eq=False)
class Observation(Node):
    """Hold the observation as it comes, flat."""

    size: int

    @property
    def width(self) -> int:
        return self.size


@dataclass(eq=False, frozen=True)
class Memory(Node):
    """Hold what a value was in the decision before; `start` (size,) before the first."""

    start: Float64

    @property
    def width(self) -> int:
        return len(self.start)


@dataclass(frozen=True, eq=False)
class OfOne(Node):
    """Compute something of a single value, as wide as that unless it says otherwise."""

    operand: Value

    @property
    def width(self) -> int:
        return self.operand.size

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.operand,)


@dataclass(frozen=True, eq=False)
class Weighted(OfOne):
    """Compute weight · x + bias, without activation: (outputs, inputs) and (outputs,)."""

    weight: Float64
    bias: Float64

    def alike(self, other: Node) -> bool:
        if self is other or not isinstance(other, Weighted):
            return self is other
        same = np.array_equal(self.weight, other.weight) and np.array_equal(self.bias, other.bias)
        return same and self.operand.same_as(other.operand)

    @property
    def width(self) -> int:
        return len(self.weight)


@dataclass(frozen=True, eq=False)
class Filtered(OfOne):
    """Hold a convolution of images, without activation."""

    filter: Filter

    @property
    def width(self) -> int:
        return self.filter.outputs


@dataclass(frozen=True, eq=False)
class Summed(OfOne):
    """Hold a value that is a sum, as it is: a residual connection, which several may read."""

    is_sum = True

    @cached_property
    def opened(self) -> Value:
        """Return what it is a sum of, sums within written out."""
        return self.operand.opened


@dataclass(frozen=True, eq=False)
class NormPart:
    """Hold a normalisation and what scales it: `Norm` in float64."""

    kind: NormKind
    epsilon: float
    weight: Float64
    bias: Float64


@dataclass(frozen=True, eq=False)
class Activated(OfOne):
    """Compute f(norm(x)), either of them optional."""

    activation: Activation | None = None
    norm: NormPart | None = None

    def alike(self, other: Node) -> bool:
        if self is other or not isinstance(other, Activated) or self.norm is not None or other.norm is not None:
            return self is other
        return self.activation == other.activation and self.operand.same_as(other.operand)


@dataclass(frozen=True, eq=False)
class Multiplied(Node):
    """Compute x · y, entry by entry."""

    first: Value
    second: Value

    @property
    def width(self) -> int:
        return self.first.size

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.first, self.second)


@dataclass(frozen=True, eq=False)
class GruStep(Node):
    """Hold one step of a GRU: `given`, `returning` are its ports, (r, u, n), `before` the state it starts from."""

    given: Value
    returning: Value
    before: Value

    @property
    def width(self) -> int:
        return self.before.size

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.given, self.returning)


@dataclass(frozen=True, eq=False)
class LstmStep(Node):
    """Hold one step of an LSTM: `gates` (i, f, g, o) is its port, `before` the cell state it starts from.

    Attributes:
        spelled: the cell state after it, where the program spells it out.
    """

    gates: Value
    before: Value
    spelled: Value | None = None

    @property
    def width(self) -> int:
        return self.before.size

    @property
    def operands(self) -> tuple[Value, ...]:
        return (self.gates,)


@dataclass(frozen=True, eq=False)
class CellState(Node):
    """Hold the cell state after a step of an LSTM, which nobody but the next step may have."""

    step: LstmStep

    @property
    def width(self) -> int:
        return self.step.width

    @property
    def operands(self) -> tuple[Value, ...]:
        return (Value.of(self.step),)


@dataclass(frozen=True, eq=False)
class Unfinished(OfOne):
    """Hold a function that no stage computes by itself: a half of one that a stage does, a clip, or an argmax.

    Attributes:
        function: `clip`, `argmax`, `softmax`, `abs`, `exp`, `log`, `erf`, `power` · `sum` of powers, `root` of a
            sum, its `reciprocal`; `sine` and others that are refused.
        numbers: its constants, e.g. a clip's bounds, a power's exponent.
    """

    function: str
    outputs: int
    numbers: tuple[Any, ...] = ()

    def alike(self, other: Node) -> bool:
        if self is other or not isinstance(other, Unfinished) or self.function == "clip":
            return self is other
        same = (self.function, self.outputs) == (other.function, other.outputs) and self.numbers == other.numbers
        return same and self.operand.same_as(other.operand)

    @property
    def width(self) -> int:
        return self.outputs


def bare(kind: NormKind, epsilon: float, width: int) -> NormPart:
    """Return a normalisation that scales nothing."""
    return NormPart(kind, epsilon, np.ones(width), np.zeros(width))
