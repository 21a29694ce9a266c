"""ONNX policies: the graph walked from the action back to the observation.

Only what lies on that way is read, so value networks and log-probabilities beside it do no harm; and only that is run,
once, to compare the actor with it. No file is opened but the given one and its weights' beside it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError, needs_extra
from snn_policy.sources.assemble import assemble
from snn_policy.sources.backwards import read_backwards
from snn_policy.sources.families import called
from snn_policy.sources.no_chain import Asked, otherwise, refuse_several
from snn_policy.sources.operations import Operation
from snn_policy.sources.vecnormalize import ObservationStatistics, normalised
from snn_policy.untrusted_files import LARGEST_WEIGHTS, checked, reading

if TYPE_CHECKING:
    from snn_policy.sources.onnx_values import Graph, Values


def read_onnx(
    path: Path,
    *,
    observation_shape: Sequence[int] | None = None,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
    output: str | None = None,
    name: str | None = None,
    normaliser: Sequence[ObservationStatistics] = (),
) -> Actor:
    """Read a graph whose action depends on one input; `output` names the action (see `onnx_outputs`).

    It is clipped to [low, high] where given, and compared with ONNX Runtime's. `normaliser` acts on observations before
    the graph does.

    Raises:
        SourceError: not an ONNX file, damaged, with weights elsewhere, or with no output that is surely the action.
        UnsupportedLayerError: an operator on the way from observation to action that no rule reads.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as problem:
        raise needs_extra("onnx") from problem
    from snn_policy.sources.onnx_files import read_model
    from snn_policy.sources.onnx_outputs import choose_output
    from snn_policy.sources.onnx_values import Graph

    with reading(checked(path, LARGEST_WEIGHTS), "ONNX file"):
        model = read_model(path)
        graph = Graph(model)
        if not model.graph.node or not graph.inputs:
            raise SourceError(f"{path}: holds no graph with an input; not an ONNX policy")
        action = choose_output(graph, output, path)
    asked = Asked(name or path.stem, observation_shape, low, high, env_id, normaliser)
    try:
        refuse_several(observation_shape)
        return _read_chain(path, graph, action, asked)
    except (UnsupportedLayerError, SourceError) as refused:
        from snn_policy.sources.onnx_policy import read_onnx_graph

        first = refused
        with reading(path, "ONNX file"):
            return called(
                lambda: otherwise(first, lambda: read_onnx_graph(graph, action, asked)), lambda: _names(graph)
            )


def _names(graph: "Graph") -> Iterator[str]:
    """Yield what the graph's inputs, outputs, weights and nodes are called."""
    yield from (one.name for one in (*graph.inputs, *graph.model.graph.output))
    yield from graph.tensors
    yield from (node.name for node in graph.model.graph.node)


def _read_chain(path: Path, graph: "Graph", action: str, asked: Asked) -> Actor:
    from snn_policy.sources.onnx_check import check_against_runtime
    from snn_policy.sources.onnx_patterns import refuse_recurrent
    from snn_policy.sources.onnx_values import Values

    with reading(path, "ONNX file"):
        refuse_recurrent(graph, action)
        observation = _observation(graph, action)
        declared = _declared_shape(observation, asked.observation_shape)
        values = Values(graph, observation, action, declared)
        operations = _onnx_operations(values)
    shape = asked.observation_shape or (None if declared is None else declared[1:] or declared)
    actor = assemble(operations, observation_shape=shape, **asked.facts)
    with reading(path, "ONNX file"):
        check_against_runtime(actor, values)
    if not asked.normaliser:
        return actor
    shape, before = normalised(asked.normaliser, actor.observation_shape)
    return assemble([*before, *operations], observation_shape=shape, **asked.facts)


def _observation(graph: "Graph", action: str) -> Any:
    """Return the one input that the action depends on."""
    from snn_policy.sources.onnx_outputs import constant_action
    from snn_policy.sources.onnx_patterns import several_inputs

    inputs = graph.inputs_before(action)
    if not inputs:
        raise constant_action(action)
    if len(inputs) > 1:
        raise several_inputs(graph, inputs)
    return inputs[0]


def _declared_shape(observation: Any, given: Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the observation's shape with its batch axis, as the graph declares it or, where that is open, as given."""
    declared = observation.type.tensor_type
    sizes = tuple(size.dim_value for size in declared.shape.dim)
    if declared.HasField("shape") and all(size > 0 for size in sizes[1:] or sizes[:1]):
        return (sizes[0] or 1, *sizes[1:]) if sizes else None
    if given is not None and (not declared.HasField("shape") or len(sizes) == len(given) + 1):
        return ((sizes[0] if sizes else 0) or 1, *(int(size) for size in given))
    return None


def _onnx_operations(values: "Values") -> list[Operation]:
    from snn_policy.sources.onnx_nodes import OnnxNodeReader

    observation = values.observation.name
    return read_backwards(
        OnnxNodeReader(values).read, values.action, lambda value: value == observation, len(values.nodes)
    )
