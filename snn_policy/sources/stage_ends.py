"""The two ends of a program that is no chain: its observation normaliser, and its action head."""

from collections.abc import Iterable, Sequence

import numpy as np

from snn_policy.ann.layers import Normaliser
from snn_policy.protocol import IntArray
from snn_policy.sources.affine_values import Value, whole_of
from snn_policy.sources.elementwise import ScaleAndClip
from snn_policy.sources.graph_nodes import Activated, Node, Observation, Unfinished
from snn_policy.sources.normaliser import read_normaliser
from snn_policy.sources.operations import Activate, ArgMax, Clip, Float64, Operation, Scale


def peeled(action: Value) -> tuple[Value, list[Operation]]:
    """Return the last values that are no part of a head, (n,), and the operations that follow them."""
    value, following = action.flat, list[Operation]()
    choices = _choices(value)
    if choices is not None:
        return choices
    squashed = False
    while True:
        term = whole_of(value)
        node = None if term is None else term.node
        made: Operation
        match node:
            case Activated(norm=None, activation=function) if (
                function is not None and not squashed and (function.name in ("tanh", "relu"))
            ):
                made, squashed = Activate(function, path=node.path, kind=node.kind), True
            case Unfinished(function="clip", numbers=(low, high)):
                made = Clip(low, high, path=node.path, kind=node.kind)
            case _:
                break
        assert term is not None
        following = [made, Scale(term.scale, value.opened.bias, path=node.path, kind="scale"), *following]
        value = node.operands[0].flat
    return value, following


def _choices(value: Value) -> tuple[Value, list[Operation]] | None:
    """Return the scores of discrete actions, where the value is their indices."""
    from snn_policy.sources.affine_values import joined

    nodes: list[tuple[int, Unfinished]] = []
    for term in value.terms:
        node, places = term.node, np.flatnonzero(term.index >= 0)
        if not isinstance(node, Unfinished) or node.function != "argmax" or (term.scale[places] != 1).any():
            return None
        if not np.array_equal(term.index[places], np.arange(node.width)):
            return None
        nodes.append((int(places[0]), node))
    if not nodes or value.bias.any():
        return None
    rows, sizes, path = [], [], nodes[0][1].path
    for _, node in sorted(nodes, key=lambda pair: pair[0]):
        scores = [node.operand.moved(places) for places in node.operand.places.reshape(node.width, -1)]
        rows += [_ordered(row) for row in scores]
        sizes += [row.size for row in scores]
    choices = tuple(sizes) if value.size > 1 else None
    return joined(rows, 0), [ArgMax(choices, path=path, kind="argmax")]


def _ordered(scores: Value) -> Value:
    """Return scores without the softmax that keeps their order."""
    term = whole_of(scores)
    if term is not None and isinstance(term.node, Unfinished) and term.node.function == "softmax":
        return term.node.operand
    return scores


def normaliser_of(
    nodes: Sequence[Node], values: Iterable[Value], observation: Observation, shape: tuple[int, ...]
) -> tuple[Normaliser | None, Node, ScaleAndClip | None]:
    """Return the normaliser, the node whose values are normalised observations, and what that leaves to undo.

    Args:
        nodes: those that the action needs; `values` are the others that are read, the action's among them.
    """
    clip = _whole_clip(nodes, observation)
    operations: list[Operation] = []
    if clip is not None:
        term = whole_of(clip.operand)
        outside = [value for node in nodes if node is not clip for value in node.operands]
        if term is not None and not any(_reads(value, observation) for value in (*outside, *values)):
            low, high = clip.numbers
            operations = [Scale(term.scale, clip.operand.bias, path=clip.path, kind="normaliser")]
            operations.append(Clip(low, high, path=clip.path, kind="normaliser"))
            try:
                normaliser, left = read_normaliser(operations, shape)
            except ValueError:
                return None, observation, None
            return normaliser, clip, left
        return None, observation, None
    read = [value for node in nodes for value in node.operands]
    scale, offset = _common_scale([*read, *values], observation)
    if (scale == 1).all() and (offset == 0).all():
        return None, observation, None
    normaliser, left = read_normaliser([Scale(scale, offset, path="obs", kind="normaliser")], shape)
    rest = left or ScaleAndClip.identity(len(scale))
    return normaliser, observation, rest.then_scale(1 / scale, -offset / scale)


def _reads(value: Value, node: Node) -> bool:
    return any(term.node is node for term in value.terms)


def _whole_clip(nodes: Sequence[Node], observation: Observation) -> Unfinished | None:
    clips = [node for node in nodes if isinstance(node, Unfinished) and node.function == "clip"]
    found = []
    for clip in clips:
        term = whole_of(clip.operand)
        if term is not None and term.node is observation:
            found.append(clip)
    return found[0] if len(found) == 1 else None


def _common_scale(values: Sequence[Value], observation: Observation) -> tuple[Float64, Float64]:
    """Scale and offset that every reader of an entry applies to it first; 1 and 0 where they differ."""
    scale, offset = np.full(observation.width, np.nan), np.full(observation.width, np.nan)
    mixed = np.zeros(observation.width, bool)
    for value in values:
        for term in value.terms:
            if term.node is not observation:
                continue
            places: IntArray = np.flatnonzero(term.index >= 0)
            others = [one.index[places] >= 0 for one in value.terms if one is not term]
            shared = np.any(others, axis=0) if others else np.zeros(len(places), bool)
            entries = term.index[places]
            mixed[entries[shared]] = True
            for entry, factor, shift in zip(entries, term.scale[places], value.bias[places], strict=True):
                if np.isnan(scale[entry]):
                    scale[entry], offset[entry] = factor, shift
                elif abs(scale[entry] - factor) > 1e-12 * abs(factor) or abs(offset[entry] - shift) > 1e-12:
                    mixed[entry] = True
    odd = mixed | np.isnan(scale) | ~(scale > 0)
    return np.where(odd, 1.0, scale), np.where(odd, 0.0, offset)
