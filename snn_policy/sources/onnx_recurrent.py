"""ONNX's LSTM, GRU and RNN on symbolic values: its gates in torch's order, its options checked.

Gates there are i, o, f, c and z, r, h; here i, f, g, o and r, u, n. ONNX's GRU is torch's with linear_before_reset = 1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from snn_policy.errors import SourceError, UnsupportedLayerError
from snn_policy.sources.affine_values import Value, joined
from snn_policy.sources.onnx_constants import baked_state
from snn_policy.sources.value_arithmetic import as_value
from snn_policy.sources.value_functions import is_constant
from snn_policy.sources.value_recurrence import sequence

Array = npt.NDArray[Any]
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_ACTIVATIONS = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


def recurrent_layer(kind: str, inputs: list[Any], options: dict[str, Any], path: str) -> list[Value]:
    """Return Y (steps, 1, 1, width), Y_h and, of an LSTM, Y_c (1, 1, width).

    Raises:
        UnsupportedLayerError: two directions, peepholes, clips, other activations; a state that is a constant.
    """
    x, weight, recurrence, bias, _, start, cell, peepholes = [*inputs, *[None] * 8][:8]
    name = _checked(kind, options, peepholes, path)
    if (
        isinstance(weight, Value)
        or isinstance(recurrence, Value)
        or isinstance(bias, Value)
        or np.shape(weight)[0] != 1
    ):
        raise UnsupportedLayerError(path, kind, "its weights are not those of one direction", "Use one direction")
    width, gates = int(np.shape(recurrence)[-1]), len(_ORDER[kind])
    order = np.concatenate([np.arange(gate * width, (gate + 1) * width) for gate in _ORDER[kind]])
    biases = np.zeros(2 * gates * width) if bias is None else np.ravel(bias)
    if np.shape(weight)[1] != gates * width or biases.size != 2 * gates * width:
        raise SourceError(f"{path} ({kind}): its weights do not fit each other")
    w_ih, w_hh = np.asarray(weight)[0][order], np.asarray(recurrence)[0][order]
    b_ih, b_hh = biases[: gates * width][order], biases[gates * width :][order]
    before = kind == "GRU" and not options.get("linear_before_reset", 0)
    if before and (np.any(w_hh[2 * width :]) or np.any(b_hh[2 * width :])):
        reason = "its reset gate acts before the recurrent product (linear_before_reset = 0)"
        raise UnsupportedLayerError(path, kind, reason, "Export torch's GRU, which resets after it")
    value = as_value(x)
    if options.get("layout", 0):
        value = value.moved(np.swapaxes(value.places, 0, 1))
    zeros = Value.constant(np.zeros((1, 1, width)))
    states = [zeros if given is None else as_value(given).reshaped((1, 1, width)) for given in (start, cell)]
    states = states[: 2 if kind == "LSTM" else 1]
    if is_constant(states[0]) and value.shape[0] == 1:
        raise baked_state(path, kind, "it is no input of the graph")
    whole, ends = sequence(name, value, states, [w_ih, w_hh, b_ih, b_hh], path)
    steps = whole.reshaped((value.shape[0], 1, 1, width))
    if options.get("layout", 0):
        steps = steps.moved(np.transpose(steps.places, (2, 0, 1, 3)))
    return [steps, *(joined([end], 0).reshaped((1, 1, width)) for end in ends)]


def _checked(kind: str, options: dict[str, Any], peepholes: Any, path: str) -> str:
    if options.get("direction", b"forward") != b"forward":
        raise UnsupportedLayerError(path, kind, "it is bidirectional, or runs backwards", "Use the forward direction")
    if peepholes is not None and np.any(peepholes):
        raise UnsupportedLayerError(path, kind, "its gates look at the cell state (peepholes)", "Use a plain LSTM")
    if options.get("clip") or options.get("input_forget", 0):
        raise UnsupportedLayerError(path, kind, "it clips its gates, or couples two of them", f"Use a plain {kind}")
    found = [text.decode().lower() for text in options.get("activations", [])] or _ACTIVATIONS[kind]
    if kind == "RNN" and found[0] in ("tanh", "relu"):
        return f"rnn_{found[0]}"
    if found != _ACTIVATIONS[kind]:
        raise UnsupportedLayerError(path, kind, f"its activations are {', '.join(found)}", f"Use a plain {kind}")
    return kind.lower()
