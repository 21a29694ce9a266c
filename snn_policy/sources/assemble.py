"""The common back half of all sources: primitive operations, in order, to an `Actor`.

Scales fold into the neighbouring layers, linear or convolutional; layers with no activation between them merge; what
precedes the first becomes the observation normaliser and what follows the last the action head. All of it in float64,
cast once at the end. What cannot be represented exactly is an `UnsupportedLayerError`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU, Activation
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Head, Layer, Linear, inner_bounds
from snn_policy.errors import SourceError, UnsupportedLayerError, warn
from snn_policy.sources.elementwise import ScaleAndClip
from snn_policy.sources.images import Filter, composed
from snn_policy.sources.normaliser import read_normaliser
from snn_policy.sources.operations import (
    Activate,
    Affine,
    ArgMax,
    Clip,
    Convolve,
    Float64,
    Operation,
    Scale,
    Softmax,
    bounded,
    bounds_alike,
)
from snn_policy.sources.refusals import ACTIVATIONS, CROSSED, refusal
from snn_policy.sources.shapes import observation_shape as shape_of
from snn_policy.sources.shapes import on_flat_rows

MOST_LAST_WEIGHTS = 2**24


def assemble(
    operations: Sequence[Operation],
    *,
    name: str,
    observation_shape: Sequence[int] | None = None,
    low: npt.ArrayLike | None = None,
    high: npt.ArrayLike | None = None,
    env_id: str | None = None,
) -> Actor:
    """Build the actor that computes the given operations, its action clipped to [low, high] where given.

    Raises:
        UnsupportedLayerError: an operation that an `Actor` cannot represent.
        SourceError: weights that are not finite or do not fit each other.
    """
    _check_finite(operations, name)
    shape = shape_of(operations, observation_shape, name)
    try:
        chain = on_flat_rows(operations, shape)
        first = next((i for i, operation in enumerate(chain) if isinstance(operation, Affine | Filter)), None)
        if first is None:
            raise UnsupportedLayerError(name, "policy", "it has no linear layer", "Nothing is left to convert")
        normaliser, into_first = read_normaliser(chain[:first], shape)
        layers, head = _layers_and_head(_blocks(chain[first:]), into_first, low, high)
        return Actor(layers, head, shape, normaliser, env_id, name)
    except UnsupportedLayerError:
        raise
    except ValueError as problem:
        raise SourceError(f"{name}: {problem}") from problem


@dataclass(frozen=True, eq=False)
class _Block:
    """Hold a linear layer or convolution, and everything between it and the next: before · activation · after."""

    affine: Affine | Filter
    before: ScaleAndClip
    activation: Activate | None
    after: ScaleAndClip
    argmax: ArgMax | None


def _check_finite(operations: Sequence[Operation], name: str) -> None:
    for operation in operations:
        arrays = (operation.weight, operation.bias) if isinstance(operation, Affine | Convolve) else ()
        arrays = (operation.scale, operation.offset) if isinstance(operation, Scale) else arrays
        if not all(np.isfinite(array).all() for array in arrays):
            what = f"holds NaN or infinity{_where(operation)}; this file is of no use"
            raise SourceError(f"{name}: {operation.path} ({operation.kind}) {what}")
        if isinstance(operation, Clip) and not (operation.low <= operation.high).all():
            raise SourceError(f"{name}: {operation.path} ({operation.kind}): {CROSSED}")
        if isinstance(operation, Affine | Convolve):
            axes = 2 if isinstance(operation, Affine) else 4
            if operation.weight.ndim != axes or operation.bias.shape != operation.weight.shape[:1]:
                shapes = f"weight {operation.weight.shape}, bias {operation.bias.shape}"
                raise SourceError(f"{name}: {operation.path} ({operation.kind}): its shapes do not fit: {shapes}")


def _where(operation: Operation) -> str:
    """Name the entries at which a scale is not finite: in a normaliser, standard deviations of zero."""
    if not isinstance(operation, Scale):
        return ""
    sizes = np.broadcast_arrays(operation.scale, operation.offset)
    entries = np.flatnonzero(~(np.isfinite(sizes[0]) & np.isfinite(sizes[1])))
    named = ", ".join(map(str, entries[:5])) + (", …" if len(entries) > 5 else "")
    return f" at entry {named} (in a normaliser, from a standard deviation of zero)"


def _blocks(chain: list[Operation]) -> list[_Block]:
    starts = [i for i, operation in enumerate(chain) if isinstance(operation, Affine | Filter)]
    ends = [*starts[1:], len(chain)]
    blocks = []
    for start, end in zip(starts, ends, strict=True):
        affine = chain[start]
        assert isinstance(affine, Affine | Filter)
        blocks.append(_block(affine, chain[start + 1 : end], last=end == len(chain)))
    return blocks


def _block(affine: Affine | Filter, following: list[Operation], last: bool) -> _Block:
    width = affine.outputs
    runs, activation, argmax = [ScaleAndClip.identity(width)], None, None
    for operation in _tidied(following, last):
        match operation:
            case _ if argmax is not None:
                raise UnsupportedLayerError(
                    operation.path, operation.kind, "it follows an argmax", "End with the argmax"
                )
            case Scale(factor, offset):
                runs[-1] = runs[-1].then_scale(factor, offset)
            case Clip(low, high):
                runs[-1] = runs[-1].then_clip(low, high, operation)
            case Activate() if activation is None:
                activation = operation
                runs.append(ScaleAndClip.identity(width))
            case Activate():
                reason = f"it follows another activation ({activation and activation.path})"
                raise UnsupportedLayerError(
                    operation.path, operation.kind, reason, "Put a linear layer between the two"
                )
            case ArgMax() if last:
                argmax = operation
            case _:
                raise refusal(operation.path, operation.kind)
    return _Block(affine, runs[0], activation, runs[1] if len(runs) > 1 else ScaleAndClip.identity(width), argmax)


def _tidied(following: list[Operation], last: bool) -> Iterator[Operation]:
    """Leave out softmaxes before an argmax; read clips between layers as activations, at the end ReLUs as clips."""
    for index, operation in enumerate(following if last else _merged(following)):
        match operation:
            case Softmax() if any(isinstance(later, ArgMax) for later in following[index:]):
                pass
            case Activate(function) if last and function == RELU:
                yield Clip(np.zeros(1), np.full(1, np.inf), path=operation.path, kind=operation.kind)
            case Clip(low, high) if not last and (low == 0).all() and (high == np.inf).all():
                yield Activate(RELU, path=operation.path, kind=operation.kind)
            case Clip(low, high) if not last and bounds_alike(low, high):
                yield from bounded(operation.path, operation.kind, low, high)
            case _:
                yield operation


def _merged(following: list[Operation]) -> list[Operation]:
    """Return operations with clips that follow each other, or a ReLU, as one."""
    merged: list[Operation] = []
    for operation in following:
        relu = isinstance(operation, Activate) and operation.activation == RELU
        if relu:
            operation = Clip(np.zeros(1), np.full(1, np.inf), path=operation.path, kind=operation.kind)
        if isinstance(operation, Clip) and merged and isinstance(merged[-1], Clip):
            before = merged.pop()
            assert isinstance(before, Clip)
            low, high = (np.clip(bound, operation.low, operation.high) for bound in (before.low, before.high))
            merged.append(Clip(low, high, path=operation.path, kind=operation.kind))
        else:
            merged.append(operation)
    return merged


def _layers_and_head(
    blocks: list[_Block], into: ScaleAndClip | None, low: npt.ArrayLike | None, high: npt.ArrayLike | None
) -> tuple[tuple[Layer, ...], Head]:
    layers: list[Layer] = []
    pending, scaled = None, into
    for block in blocks:
        merged = block.affine if pending is None else composed(block.affine, pending)
        merged = merged if scaled is None else merged.preceded(scaled.scale, scaled.offset)
        pending, scaled = merged.then(block.before.scale, block.before.offset), None
        if block is blocks[-1]:
            break
        activation = _hidden_activation(block)
        if activation is not None:
            layers.append(_layer(pending, activation))
            pending, scaled = None, block.after
    assert pending is not None
    layers.append(_layer(_matrix(pending), None))
    return tuple(layers), _head(blocks[-1], low, high)


def _layer(affine: Affine | Filter, activation: Activation | None) -> Layer:
    weight, bias = affine.weight, affine.bias
    if isinstance(affine, Affine):
        return Linear(weight, bias, activation)  # pyright: ignore[reportArgumentType]
    return Conv2d(weight, bias, affine.shape, affine.stride, affine.padding, activation)  # pyright: ignore


def _matrix(affine: Affine | Filter) -> Affine:
    """Return the last layer as a matrix: its few outputs are actions."""
    if isinstance(affine, Affine):
        return affine
    if affine.inputs * affine.outputs > MOST_LAST_WEIGHTS:
        reason = f"the action would be an image, {affine.output_shape}"
        raise UnsupportedLayerError(affine.path, affine.kind, reason, "End with a linear layer")
    identity = Affine(np.eye(affine.outputs), np.zeros(affine.outputs), path=affine.path, kind=affine.kind)
    return composed(identity, affine)  # pyright: ignore[reportReturnType]


def _hidden_activation(block: _Block) -> Activation | None:
    for run in (block.before, block.after):
        if run.clipped_by is not None:
            reason = "values are clipped between two linear layers"
            remedy = f"Retrain with {ACTIVATIONS}; clipping is only read at the observation and at the action"
            raise UnsupportedLayerError(run.clipped_by.path, run.clipped_by.kind, reason, remedy)
    return None if block.activation is None else block.activation.activation


def _head(block: _Block, low: npt.ArrayLike | None, high: npt.ArrayLike | None) -> Head:
    if block.argmax is not None:
        return _argmax_head(block, low, high)
    width = block.affine.outputs
    bottom, top = _bound(-np.inf if low is None else low, width), _bound(np.inf if high is None else high, width)
    if not (bottom <= top).all():
        raise ValueError("low, high: low must not exceed high")
    if block.activation is None:
        run = block.before.then_clip(bottom, top, None)
        return _warned(Head.clip(run.low, run.high), run.low, run.high)
    if block.activation.activation.name != "tanh":
        remedy = "End with the linear layer, a tanh, a sigmoid or a clip"
        reason = "it follows the last linear layer, where actions are formed"
        raise UnsupportedLayerError(block.activation.path, block.activation.kind, reason, remedy)
    run, reach = block.after.then_clip(bottom, top, None), abs(block.after.scale)
    exact = np.clip((run.offset - reach, run.offset + reach), run.low, run.high)
    if not (np.abs((run.scale, run.offset)) <= np.finfo(np.float32).max).all():
        raise ValueError("low, high: the action bounds are beyond the range of float32")
    limits, (factor, offset) = inner_bounds(*exact), np.array((run.scale, run.offset), np.float32)
    return _warned(Head("tanh", limits[0], limits[1], factor, offset, _pre_clip(block.before)), *exact)


def read_head(
    width: int, following: list[Operation], low: npt.ArrayLike | None, high: npt.ArrayLike | None
) -> tuple[Head, ScaleAndClip]:
    """Return the head of what follows the last linear values, and the scale that is left to fold into those."""
    block = _block(Affine(np.zeros((width, 1)), np.zeros(width), path="action", kind="Linear"), following, last=True)
    return _head(block, low, high), block.before


def _warned(head: Head, low: Float64, high: Float64) -> Head:
    """Return the head; warn of actions between whose bounds no float32 number lies, so that they leave them."""
    outside = np.flatnonzero((head.low < low) | (head.high > high))
    outside = outside[np.isfinite(head.low[outside]) & np.isfinite(head.high[outside])]
    if outside.size:
        which, lows, highs = outside.tolist(), low[outside].tolist(), high[outside].tolist()
        reason = f"no float32 number lies between their bounds {lows} and {highs}"
        warn(
            f"actions {which}: {reason}; the nearest is taken, which a space of float64 does not contain. Set bounds "
            "that float32 can hold, or leave constant actions to the environment",
        )
    return head


def _argmax_head(block: _Block, low: npt.ArrayLike | None, high: npt.ArrayLike | None) -> Head:
    blocking = block.activation or block.before.clipped_by
    if blocking is not None:
        reason = "it stands between the last linear layer and the argmax"
        raise UnsupportedLayerError(blocking.path, blocking.kind, reason, "Take the argmax of the linear layer")
    if low is not None or high is not None:
        raise ValueError("low, high: a discrete policy (argmax) takes no bounds")
    assert block.argmax is not None
    return Head.argmax(block.argmax.choices or block.affine.outputs)


def _bound(values: npt.ArrayLike, width: int) -> Float64:
    try:
        bound = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"low, high: expected a number or {width} of them, got {values!r}") from None
    if np.isnan(bound).any():
        raise ValueError(f"low, high: NaN is no bound, got {bound.tolist()}; an action without one has ±inf")
    if bound.shape not in ((), (width,)):
        raise ValueError(f"low, high: expected a number or {width} of them, got shape {bound.shape}")
    return np.broadcast_to(bound, width)


def _pre_clip(run: ScaleAndClip) -> float:
    if run.clipped_by is None:
        return float("inf")
    reach = float(run.high[0])
    if not (run.high == reach).all() or not (run.low == -reach).all() or not reach > 0:
        reason = "before the tanh, only one symmetric clip for all actions can be kept"
        raise UnsupportedLayerError(run.clipped_by.path, run.clipped_by.kind, reason, "Clip to ±c, or after the tanh")
    return reach
