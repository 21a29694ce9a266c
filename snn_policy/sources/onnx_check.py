"""An actor read from an ONNX graph, compared with what ONNX Runtime computes of it on random observations.

Only the nodes between observation and action are run, all of which have been read: nothing else of an untrusted graph.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, helper

from snn_policy.actor import Actor
from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.onnx_values import Values, is_float

CHECKED_ROWS = 32
CHECKED_VALUES = 2**19
TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2
"""Of the largest action; the second where weights are of half precision, in which the runtime then computes."""

Array = npt.NDArray[Any]


def check_against_runtime(actor: Actor, values: Values) -> None:
    """Compare decisions on `CHECKED_ROWS` observations, fewer of large ones.

    Raises:
        SourceError: the graph cannot be run.
        UnsupportedLayerError: it decides otherwise than the actor.
    """
    batches = _batches(actor, values)
    model = values.model()
    results = _run(model, values.observation.name, batches)
    own = np.concatenate([np.asarray(result, np.float64).ravel() for result in results])
    rows = np.concatenate([batch.reshape(-1, *actor.observation_shape) for batch in batches]).astype(np.float32)
    _, outputs = actor.activations(rows)
    actions = actor.head(outputs)
    if own.size == actions.size and _agree(actor, outputs, actions, own.reshape(actions.shape), _tolerance(model)):
        return
    reason = "ONNX Runtime's output differs from what its nodes, as read, compute"
    remedy = "Export it in evaluation mode, with fixed shapes, as one chain of layers"
    raise UnsupportedLayerError(values.action, "graph.output", reason, remedy)


def _batches(actor: Actor, values: Values) -> list[Array]:
    """Yield observations, as many at a time as the graph takes; half near the mean, half far from it."""
    size = int(np.prod(actor.observation_shape))
    kind = values.observation.type.tensor_type.elem_type
    shape = values.shape(values.observation.name) or (1, *actor.observation_shape)
    together = max(1, int(np.prod(shape)) // size)
    count = max(1, min(CHECKED_ROWS, CHECKED_VALUES // size) // together)
    rng, dtype = np.random.default_rng(0), helper.tensor_dtype_to_np_dtype(kind)
    wanted = (count * together, *actor.observation_shape)
    if not is_float(kind):
        return list(rng.integers(0, 128, wanted).astype(dtype).reshape(count, *shape))
    drawn = rng.standard_normal(wanted)
    drawn[::2] *= 0.1
    if actor.normaliser is not None:
        drawn = drawn * actor.normaliser.scale + actor.normaliser.mean
    return list(drawn.astype(dtype).reshape(count, *shape))


def _run(model: ModelProto, name: str, batches: Sequence[Array]) -> list[Any]:
    """Return the action of every batch."""
    run = session_of(model)
    return [run({name: batch})[0] for batch in batches]


def session_of(model: ModelProto) -> Callable[[Mapping[str, Array]], list[Any]]:
    """Return what runs a graph: ONNX Runtime, or ONNX's reference where that lacks an operator for a type.

    Raises:
        SourceError: when it is called, and neither can.
    """
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    providers = ["CPUExecutionProvider"]
    held: list[Any] = []

    def run(given: Mapping[str, Array]) -> list[Any]:
        try:
            if not held:
                content = model.SerializeToString()
                held.append(onnxruntime.InferenceSession(content, options, providers, enable_fallback=0))
            return list(held[0].run(None, dict(given)))
        except Exception as problem:
            try:
                if not held or not isinstance(held[0], ReferenceEvaluator):
                    held[:] = [ReferenceEvaluator(model)]
                with np.errstate(all="ignore"):
                    return list(held[0].run(None, dict(given)))
            except Exception:
                line = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]
                raise SourceError(f"ONNX Runtime cannot run it ({line})") from problem

    return run


def half_weights(model: ModelProto) -> bool:
    """Return whether weights are of half precision."""
    half = TensorProto.FLOAT16, TensorProto.BFLOAT16
    return any(tensor.data_type in half for tensor in model.graph.initializer)


def _tolerance(model: ModelProto) -> float:
    return HALF_TOLERANCE if half_weights(model) else TOLERANCE


def _agree(actor: Actor, outputs: Array, actions: Array, own: Array, tolerance: float) -> bool:
    if not np.isfinite(own).all():
        return False
    if not actor.discrete:
        own = np.clip(own, actor.low, actor.high)
        return bool(np.abs(own - actions).max() <= tolerance * (1 + np.abs(own).max()))
    reach = tolerance * (1 + np.abs(outputs).max())
    indices = own.astype(np.int64).reshape(len(outputs), -1)
    if (indices != own.reshape(indices.shape)).any() or (indices < 0).any():
        return False
    start = 0
    for column, choices in enumerate(actor.head.choices):
        scores, chosen = outputs[:, start : start + choices], indices[:, column]
        if (chosen >= choices).any() or (scores.max(axis=1) - scores[np.arange(len(scores)), chosen] > reach).any():
            return False
        start += choices
    return True
