"""The common back half of all sources: primitive operations, in order, to an `Actor`.

Scales fold into the neighbouring linear layers, consecutive linear layers merge, what precedes the first becomes
the observation normaliser and what follows the last the action head. All of it in float64, cast once at the end.
What cannot be represented exactly is an `UnsupportedLayerError`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from snn_policy.activations import RELU, Activation
from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.layers import Head, Linear
from snn_policy.sources.elementwise import Run, stretched
from snn_policy.sources.normaliser import read_normaliser
from snn_policy.sources.operations import (
    Activate,
    Affine,
    ArgMax,
    Clip,
    Flatten,
    Float64,
    Operation,
    Scale,
    Select,
    Softmax,
)
from snn_policy.sources.refusals import ACTIVATIONS, refusal


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
    chain = _resolve_selections(operations, observation_shape)
    first = next((i for i, each in enumerate(chain) if isinstance(each, Affine)), None)
    if first is None:
        raise UnsupportedLayerError(name, "policy", "it has no linear layer", "Nothing is left to convert")
    shape = _observation_shape(observation_shape, chain[first].weight.shape[1], name)  # pyright: ignore
    normaliser, into_first = read_normaliser(chain[:first], shape)
    try:
        layers, head = _layers_and_head(_blocks(chain[first:]), into_first, low, high)
        return Actor(layers, head, shape, normaliser, env_id, name)
    except UnsupportedLayerError:
        raise
    except ValueError as problem:
        raise SourceError(f"{name}: {problem}") from problem


@dataclass(frozen=True, eq=False)
class _Block:
    """A linear layer, and everything between it and the next: before · activation · after."""

    affine: Affine
    before: Run
    activation: Activate | None
    after: Run
    argmax: bool


def _check_finite(operations: Sequence[Operation], name: str) -> None:
    for each in operations:
        arrays = (each.weight, each.bias) if isinstance(each, Affine) else ()
        arrays = (each.scale, each.offset) if isinstance(each, Scale) else arrays
        if not all(np.isfinite(array).all() for array in arrays):
            raise SourceError(f"{name}: {each.path} ({each.kind}) holds NaN or infinity; this file is of no use")
        if isinstance(each, Clip) and not (each.low <= each.high).all():
            raise SourceError(f"{name}: {each.path} ({each.kind}): its lower bound is not below its upper bound")
        if isinstance(each, Affine) and (each.weight.ndim != 2 or each.bias.shape != each.weight.shape[:1]):
            shapes = f"weight {each.weight.shape}, bias {each.bias.shape}"
            raise SourceError(f"{name}: {each.path} ({each.kind}): its shapes do not fit: {shapes}")


def _observation_shape(shape: Sequence[int] | None, inputs: int, name: str) -> tuple[int, ...]:
    given = (inputs,) if shape is None else tuple(int(n) for n in shape)
    if int(np.prod(given)) != inputs:
        raise SourceError(f"{name}: its first layer takes {inputs} inputs, which do not fit observations {given}")
    return given


def _resolve_selections(operations: Sequence[Operation], shape: Sequence[int] | None) -> list[Operation]:
    """Move every selection of outputs into the linear layer before it (or make it one, on the observation)."""
    chain: list[Operation] = []
    for each in operations:
        if not isinstance(each, Select):
            chain.append(each)
            continue
        start = next((i for i in reversed(range(len(chain))) if isinstance(chain[i], Affine)), None)
        if start is not None:
            chosen = each.indices(chain[start].weight.shape[0])  # pyright: ignore[reportAttributeAccessIssue]
            chain[start:] = [_select(operation, chosen) for operation in chain[start:]]
        elif shape is not None and len(shape) == 1:
            identity = np.eye(int(shape[0]))[each.indices(int(shape[0]))]
            chain.append(Affine(identity, np.zeros(len(identity)), path=each.path, kind=each.kind))
        else:
            remedy = "Pass observation_shape=(n,), or select from the observation outside the policy"
            raise UnsupportedLayerError(each.path, each.kind, "the observation's size is not known here", remedy)
    return chain


def _select(operation: Operation, chosen: npt.NDArray[np.int64]) -> Operation:
    def rows(values: Float64) -> Float64:
        return values[..., chosen] if values.ndim and values.shape[-1] > 1 else values

    where = {"path": operation.path, "kind": operation.kind}
    match operation:
        case Affine(weight, bias):
            return Affine(weight[chosen], bias[chosen], **where)
        case Scale(factor, offset):
            return Scale(rows(factor), rows(offset), **where)
        case Clip(low, high):
            return Clip(rows(low), rows(high), **where)
        case Flatten():
            return Flatten(path=operation.path, kind=operation.kind)
        case Activate():
            return operation
    raise refusal(operation.path, operation.kind)


def _blocks(chain: list[Operation]) -> list[_Block]:
    starts = [i for i, each in enumerate(chain) if isinstance(each, Affine)]
    ends = [*starts[1:], len(chain)]
    blocks = []
    for start, end in zip(starts, ends, strict=True):
        affine = chain[start]
        assert isinstance(affine, Affine)
        blocks.append(_block(affine, chain[start + 1 : end], last=end == len(chain)))
    return blocks


def _block(affine: Affine, following: list[Operation], last: bool) -> _Block:
    width = affine.weight.shape[0]
    runs, activation, argmax = [Run.identity(width)], None, False
    for each in _tidied(following, width, last):
        match each:
            case _ if argmax:
                raise UnsupportedLayerError(each.path, each.kind, "it follows an argmax", "End with the argmax")
            case Scale(factor, offset):
                runs[-1] = runs[-1].then_scale(stretched(each, factor, width), stretched(each, offset, width))
            case Clip(low, high):
                runs[-1] = runs[-1].then_clip(stretched(each, low, width), stretched(each, high, width), each)
            case Activate() if activation is None:
                activation = each
                runs.append(Run.identity(width))
            case Activate():
                reason = f"it follows another activation ({activation and activation.path})"
                raise UnsupportedLayerError(each.path, each.kind, reason, "Put a linear layer between the two")
            case ArgMax() if last:
                argmax = True
            case _:
                raise refusal(each.path, each.kind)
    return _Block(affine, runs[0], activation, runs[1] if len(runs) > 1 else Run.identity(width), argmax)


def _tidied(following: list[Operation], width: int, last: bool) -> Iterator[Operation]:
    """Without reshapes that change nothing and softmaxes before an argmax; max(x, 0) is a ReLU, at the end a clip."""
    for index, each in enumerate(following):
        discrete = any(isinstance(other, ArgMax) for other in following[:index])
        match each:
            case Flatten(size):
                if size not in (None, width) and not discrete:
                    reason = f"it reshapes {width} values to rows of {size}"
                    raise UnsupportedLayerError(each.path, each.kind, reason, "Keep one row per observation")
            case Softmax() if any(isinstance(later, ArgMax) for later in following[index:]):
                pass
            case Activate(function) if last and function == RELU:
                yield Clip(np.zeros(()), np.full((), np.inf), path=each.path, kind=each.kind)
            case Clip(low, high) if not last and (low == 0).all() and (high == np.inf).all():
                yield Activate(RELU, path=each.path, kind=each.kind)
            case _:
                yield each


def _layers_and_head(
    blocks: list[_Block], into: Run | None, low: npt.ArrayLike | None, high: npt.ArrayLike | None
) -> tuple[tuple[Linear, ...], Head]:
    layers: list[Linear] = []
    weight, bias = np.eye(blocks[0].affine.weight.shape[1]), np.zeros(blocks[0].affine.weight.shape[1])
    if into is not None:
        weight, bias = weight * into.scale[:, None], into.offset
    for block in blocks:
        weight, bias = _compose(block.affine, weight, bias)
        weight, bias = weight * block.before.scale[:, None], bias * block.before.scale + block.before.offset
        if block is blocks[-1]:
            break
        activation = _hidden_activation(block)
        if activation is not None:
            layers.append(Linear(weight, bias, activation))  # pyright: ignore[reportArgumentType]
            weight, bias = np.diag(block.after.scale), block.after.offset
    layers.append(Linear(weight, bias))  # pyright: ignore[reportArgumentType]
    return tuple(layers), _head(blocks[-1], low, high)


def _compose(affine: Affine, weight: Float64, bias: Float64) -> tuple[Float64, Float64]:
    """affine ∘ (weight · x + bias)."""
    if affine.weight.shape[1] != weight.shape[0]:
        raise ValueError(f"{affine.path} takes {affine.weight.shape[1]} inputs, but gets {weight.shape[0]}")
    return affine.weight @ weight, affine.weight @ bias + affine.bias


def _hidden_activation(block: _Block) -> Activation | None:
    for run in (block.before, block.after):
        if run.clipped_by is not None:
            reason = "values are clipped between two linear layers"
            remedy = f"Retrain with {ACTIVATIONS}; clipping is only read at the observation and at the action"
            raise UnsupportedLayerError(run.clipped_by.path, run.clipped_by.kind, reason, remedy)
    return None if block.activation is None else block.activation.activation


def _head(block: _Block, low: npt.ArrayLike | None, high: npt.ArrayLike | None) -> Head:
    if block.argmax:
        return _argmax_head(block, low, high)
    width = block.affine.weight.shape[0]
    bottom, top = _bound(-np.inf if low is None else low, width), _bound(np.inf if high is None else high, width)
    if not (bottom <= top).all():
        raise ValueError("low, high: low must not exceed high")
    if block.activation is None:
        run = block.before.then_clip(bottom, top, None)
        return Head.clip(run.low, run.high)
    if block.activation.activation.name != "tanh":
        remedy = "End with the linear layer, a tanh, a sigmoid or a clip"
        reason = "it follows the last linear layer, where actions are formed"
        raise UnsupportedLayerError(block.activation.path, block.activation.kind, reason, remedy)
    run, reach = block.after.then_clip(bottom, top, None), abs(block.after.scale)
    limits = np.clip((run.offset - reach, run.offset + reach), run.low, run.high).astype(np.float32)
    factor, offset = run.scale.astype(np.float32), run.offset.astype(np.float32)
    return Head("tanh", limits[0], limits[1], factor, offset, _pre_clip(block.before))


def _argmax_head(block: _Block, low: npt.ArrayLike | None, high: npt.ArrayLike | None) -> Head:
    blocking = block.activation or block.before.clipped_by
    if blocking is not None:
        reason = "it stands between the last linear layer and the argmax"
        raise UnsupportedLayerError(blocking.path, blocking.kind, reason, "Take the argmax of the linear layer")
    if low is not None or high is not None:
        raise ValueError("low, high: a discrete policy (argmax) takes no bounds")
    return Head.argmax(block.affine.weight.shape[0])


def _bound(values: npt.ArrayLike, width: int) -> Float64:
    bound = np.asarray(values, np.float64)
    if bound.shape not in ((), (width,)) or np.isnan(bound).any():
        raise ValueError(f"low, high: expected a number or {width} of them, got shape {bound.shape}")
    return np.broadcast_to(bound, width)


def _pre_clip(run: Run) -> float:
    if run.clipped_by is None:
        return float("inf")
    reach = float(run.high[0])
    if not (run.high == reach).all() or not (run.low == -reach).all() or not reach > 0:
        reason = "before the tanh, only one symmetric clip for all actions can be kept"
        raise UnsupportedLayerError(run.clipped_by.path, run.clipped_by.kind, reason, "Clip to ±c, or after the tanh")
    return reach
