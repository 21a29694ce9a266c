"""An array that records: every operation on it appends an ONNX node, or is computed where all values are known.

The networks' array-API code runs on it unchanged and so defines the graph. Shapes are known but for the first axis,
which may be the symbol `BATCH`. What would compute nothing (x·1, x + 0, an axis added and taken away) leaves no node,
and two equal nodes are one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from snn_policy.protocol import Array

BATCH = "batch"
Dimension = int | str
Shape = tuple[Dimension, ...]
_FOLDED = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Max": np.maximum, "Min": np.minimum,
    "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less, "LessOrEqual": np.less_equal,
    "Equal": np.equal, "And": np.logical_and, "Or": np.logical_or,
}  # fmt: skip
_LOGICAL = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or")


@dataclass(eq=False)
class Node:
    """Record one operation. `branches`: of an If, the values that either branch gives."""

    operator: str
    inputs: tuple[Array, ...]
    attributes: dict[str, Any]
    order: int
    outputs: "list[Traced]" = field(default_factory=list)
    branches: "tuple[list[Traced], list[Traced]] | None" = None


class Graph:
    """Hold the nodes in the order of their making, and the batch axis: `BATCH`, or a number where it is fixed."""

    def __init__(self, batch: Dimension = BATCH) -> None:
        self.batch = batch
        self.nodes: list[Node] = []
        self._made: dict[Any, list[Traced]] = {}

    def input(self, name: str, shape: tuple[int, ...]) -> "Traced":
        """Return a float32 input (batch, *shape)."""
        return Traced(self, (self.batch, *shape), np.dtype(np.float32), name=name)

    def constant(self, values: Array, shape: Shape | None = None) -> "Traced":
        """Return a known array; `shape` where it stands for a batch."""
        array = np.asarray(values)
        return Traced(self, array.shape if shape is None else shape, array.dtype, value=array)

    def add(
        self, operator: str, inputs: Sequence[Array], shapes: Sequence[Shape], dtype: Any, **attributes: Any
    ) -> "list[Traced]":
        """Append a node (or find the same one) and give its outputs; inputs are traced or NumPy arrays."""
        key = (
            operator,
            tuple(_identity(operand) for operand in inputs),
            repr(sorted(attributes.items())),
            tuple(shapes),
        )
        if key not in self._made:
            node = Node(operator, tuple(inputs), attributes, len(self.nodes))
            node.outputs = [Traced(self, tuple(shape), np.dtype(dtype), node=node) for shape in shapes]
            self.nodes.append(node)
            self._made[key] = node.outputs
        return self._made[key]

    def conditional(self, condition: "Traced", chosen: "list[Traced]", otherwise: "list[Traced]") -> "list[Traced]":
        """Return `chosen` where the scalar condition is true, else `otherwise`; only what is needed is computed."""
        node = Node("If", (condition,), {}, len(self.nodes), branches=(chosen, otherwise))
        node.outputs = [Traced(self, value.shape, value.dtype, node=node) for value in chosen]
        self.nodes.append(node)
        return node.outputs


def _identity(operand: Array) -> Any:
    if isinstance(operand, Traced) and operand.value is None:
        return id(operand)
    array = operand.value if isinstance(operand, Traced) else operand
    shape = operand.shape if isinstance(operand, Traced) else ()
    return array.dtype.str, array.shape, array.tobytes(), shape


class Traced:
    """Stand for one array: an input (`name`), a known array (`value`, broadcastable to `shape`), or an output of
    `node`.

    `namespace` is the module of its array-API functions, which that module sets as it is loaded.
    """

    __array_ufunc__ = None
    namespace: Any = None

    def __init__(
        self,
        graph: Graph,
        shape: Shape,
        dtype: Any,
        *,
        node: Node | None = None,
        value: Array = None,
        name: str | None = None,
    ) -> None:
        self.graph, self.shape, self.dtype = graph, shape, np.dtype(dtype)
        self.node, self.value, self.name = node, value, name

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.namespace

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def known(self, number: float) -> bool:
        """Return whether it is this number everywhere."""
        return self.value is not None and bool((self.value == number).all())

    def made_by(self, operator: str) -> bool:
        return self.node is not None and self.node.operator == operator

    def _binary(self, operator: str, first: Array, second: Array) -> "Traced":
        return binary(operator, first, second, self)

    def __add__(self, other: Array) -> "Traced":
        return self._binary("Add", self, other)

    def __radd__(self, other: Array) -> "Traced":
        return self._binary("Add", other, self)

    def __sub__(self, other: Array) -> "Traced":
        return self._binary("Sub", self, other)

    def __rsub__(self, other: Array) -> "Traced":
        return self._binary("Sub", other, self)

    def __mul__(self, other: Array) -> "Traced":
        return self._binary("Mul", self, other)

    def __rmul__(self, other: Array) -> "Traced":
        return self._binary("Mul", other, self)

    def __truediv__(self, other: Array) -> "Traced":
        return self._binary("Div", self, other)

    def __rtruediv__(self, other: Array) -> "Traced":
        return self._binary("Div", other, self)

    def __gt__(self, other: Array) -> "Traced":
        return self._binary("Greater", self, other)

    def __ge__(self, other: Array) -> "Traced":
        return self._binary("GreaterOrEqual", self, other)

    def __lt__(self, other: Array) -> "Traced":
        return self._binary("Less", self, other)

    def __le__(self, other: Array) -> "Traced":
        return self._binary("LessOrEqual", self, other)

    def __and__(self, other: Array) -> "Traced":
        return self._binary("And", self, other)

    def __rand__(self, other: Array) -> "Traced":
        return self._binary("And", other, self)

    def __or__(self, other: Array) -> "Traced":
        return self._binary("Or", self, other)

    def __ror__(self, other: Array) -> "Traced":
        return self._binary("Or", other, self)

    def __ne__(self, other: Array) -> "Traced":  # pyright: ignore[reportIncompatibleMethodOverride]
        equal = self._binary("Equal", self, other)
        if equal.value is not None:
            return self.graph.constant(~equal.value, equal.shape)
        return self.graph.add("Not", [equal], [equal.shape], bool)[0]

    def __neg__(self) -> "Traced":
        return unary("Neg", np.negative, self)

    def __abs__(self) -> "Traced":
        return unary("Abs", np.abs, self)

    def __getitem__(self, key: Any) -> "Traced":
        return index(self, key if isinstance(key, tuple) else (key,))


def lift(operand: Array, like: Traced) -> Traced:
    """Return a number or NumPy array as a known array, in the precision of `like`."""
    if isinstance(operand, Traced):
        return operand
    array = np.asarray(operand)
    same_kind = array.dtype.kind == like.dtype.kind or not isinstance(operand, np.ndarray)
    if array.dtype.kind != "b" and (same_kind or array.dtype.kind == "f"):
        array = array.astype(like.dtype)
    return like.graph.constant(array)


def binary(operator: str, first: Array, second: Array, like: Traced) -> Traced:
    """Add one elementwise operation of two arrays or numbers."""
    a, b = lift(first, like), lift(second, like)
    shape, dtype = broadcast(a.shape, b.shape), bool if operator in _LOGICAL else a.dtype
    if a.value is not None and b.value is not None:
        return like.graph.constant(_FOLDED[operator](a.value, b.value), shape)
    alone = _simplified(operator, a, b, shape)
    if alone is not None:
        return alone
    if operator == "Add" and a.made_by("MatMul") and b.value is not None and b.ndim == 1 and a.ndim == 2:
        assert a.node is not None
        return like.graph.add("Gemm", [*a.node.inputs, b], [shape], dtype)[0]
    return like.graph.add(operator, [a, b], [shape], dtype)[0]


def _simplified(operator: str, a: Traced, b: Traced, shape: Shape) -> Traced | None:
    """Return the result where nothing need be computed, else None."""
    if operator in ("Add", "Mul", "And") and a.value is not None:
        a, b = b, a
    neutral = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1, "And": 1}
    absorbing = {"Mul": 0, "And": 0}
    if operator in neutral and a.shape == shape and b.known(neutral[operator]):
        return a
    if operator in absorbing and b.known(absorbing[operator]):
        return a.graph.constant(np.zeros((1,) * len(shape), a.dtype), shape)
    return None


def unary(operator: str, folded: Any, x: Traced, **attributes: Any) -> Traced:
    """Add one elementwise operation of one array; `folded` computes it where the array is known."""
    if x.value is not None:
        return x.graph.constant(folded(x.value), x.shape)
    return x.graph.add(operator, [x], [x.shape], x.dtype, **attributes)[0]


def broadcast(first: Shape, second: Shape) -> Shape:
    """Return the common shape; the batch axis meets itself or 1.

    Raises:
        ValueError: shapes that do not fit.
    """
    length = max(len(first), len(second))
    a, b = (1,) * (length - len(first)) + first, (1,) * (length - len(second)) + second
    if any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
        raise ValueError(f"shapes {first} and {second} do not fit each other")
    return tuple(y if x == 1 else x for x, y in zip(a, b, strict=True))


def index(x: Traced, key: tuple[Any, ...]) -> Traced:
    """Return x[key] of whole numbers, None and slices without steps, axis by axis."""
    axis = 0
    for wanted in key:
        if wanted is None:
            x = expand_dims(x, axis)
            axis += 1
        elif isinstance(wanted, slice):
            x = _slice(x, axis, wanted)
            axis += 1
        else:
            x = _pick(x, axis, int(wanted))
    return x


def expand_dims(x: Traced, axis: int) -> Traced:
    """Return a new axis of length 1."""
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    if x.value is not None:
        return x.graph.constant(np.expand_dims(_full_rank(x), axis), shape)
    return x.graph.add("Unsqueeze", [x, np.array([axis])], [shape], x.dtype)[0]


def _full_rank(x: Traced) -> Array:
    assert x.value is not None
    return x.value.reshape((1,) * (x.ndim - x.value.ndim) + x.value.shape)


def _slice(x: Traced, axis: int, wanted: slice) -> Traced:
    length = x.shape[axis]
    if wanted == slice(None) or not isinstance(length, int):
        return x
    start, stop, _ = wanted.indices(length)
    if (start, stop) == (0, length):
        return x
    shape = (*x.shape[:axis], max(stop - start, 0), *x.shape[axis + 1 :])
    if x.value is not None:
        values = _full_rank(x)
        kept = values if values.shape[axis] == 1 else values.take(range(start, stop), axis)
        return x.graph.constant(kept, shape)
    bounds = [np.array([number]) for number in (start, stop, axis)]
    return x.graph.add("Slice", [x, *bounds], [shape], x.dtype)[0]


def _pick(x: Traced, axis: int, place: int) -> Traced:
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    if x.value is not None:
        values = _full_rank(x)
        return x.graph.constant(values.take(min(place, values.shape[axis] - 1), axis), shape)
    if x.made_by("Unsqueeze") and x.node is not None and int(x.node.inputs[1][0]) == axis:
        return x.node.inputs[0]
    return x.graph.add("Gather", [x, np.array(place)], [shape], x.dtype, axis=axis)[0]
