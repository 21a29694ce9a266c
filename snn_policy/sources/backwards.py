"""The skeleton of the readers of graphs, torch's and ONNX's alike: from the action back to the observation.

What differs, and stays apart, is how one node of either kind is read (`torch_nodes`, `onnx_nodes`).
"""

from collections.abc import Callable
from typing import TypeVar

from snn_policy.errors import SourceError
from snn_policy.sources.operations import Operation

Value = TypeVar("Value")


def read_backwards(
    read: Callable[[Value], tuple[list[Operation], Value]],
    action: Value,
    is_observation: Callable[[Value], bool],
    nodes: int,
) -> list[Operation]:
    """Return the operations between observation and action, in order of execution.

    Args:
        read: a value → the operations of the node that makes it, in order, and the value that they take.
        nodes: how many the graph has.

    Raises:
        SourceError: more steps than nodes.
    """
    value, backwards = action, []
    while not is_observation(value):
        if len(backwards) == nodes:
            raise SourceError("its graph runs in a circle")
        operations, value = read(value)
        backwards.append(operations)
    return [operation for operations in reversed(backwards) for operation in operations]
