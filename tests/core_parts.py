"""Single parts of the compiled core as functions of arrays, compiled for the tests from the core's own headers."""

import ctypes
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snn_policy.ann.activations import Activation
from snn_policy.ann.cells import LEAST_SIZE, Norm
from snn_policy.ann.convolution import Conv2d
from snn_policy.engines.core import blocks, buffers, build, layout, records

PARTS = Path(__file__).with_name("core_parts.c")
F, I = np.float32, np.int32  # noqa: E741


@cache
def parts(*flags: str) -> Any:
    """The compiled parts; skips the test where there is no compiler."""
    target = Path(tempfile.mkdtemp(), "parts.so")
    try:
        compiler = build.compiler()
        build._run([*compiler, *build.FLAGS, *flags, f"-I{build.SOURCES}", "-shared", str(PARTS), "-o", str(target)])
    except build.NoCompilerError as missing:
        pytest.skip(str(missing))
    return ctypes.CDLL(str(target))


def at(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def activate(values: Any, activation: Activation) -> Any:
    z = np.array(values, F)
    number = layout.ACTIVATIONS.index(activation.name)
    parameter, levels = ctypes.c_float(activation.parameter), ctypes.c_float(activation.levels)
    parts().show_activate(at(z), len(z), number, parameter, levels)
    return z


def normalise(values: Any, norm: Norm, *flags: str) -> Any:
    z, least = np.array(values, F), LEAST_SIZE if norm.kind == "l2" else LEAST_SIZE**2
    weights = np.concatenate([norm.weight, norm.bias])
    epsilon = ctypes.c_float(max(norm.epsilon, least))
    parts(*flags).show_norm(at(z), len(z), records.NORMS.index(norm.kind), at(weights), epsilon)
    return z


def encode(v: Any, quantum: Any, unit: Any, digits: int, powers: Any, doubling: bool) -> tuple[Any, Any, int, bool]:
    """What is left of v, Σ s, the number of spikes, whether one was coarse."""
    v, sent, fired, coarse = v.copy(), np.empty_like(v), np.zeros(len(v), I), np.zeros(1, I)
    count = parts().show_encode(at(v), at(quantum), at(unit), len(v), digits, at(powers), len(powers), int(doubling),
                                at(sent), at(fired), at(coarse))  # fmt: skip
    assert fired.sum() == count
    return v, sent, count, bool(coarse[0])


def list_spikes(values: Any, *flags: str) -> tuple[Any, Any]:
    """The places of the values that are not zero, and those values."""
    room = len(values) + layout.LANES
    places, sizes = np.zeros(room, I), np.zeros(room, F)
    count = parts(*flags).show_list(at(values), len(values), at(places), at(sizes))
    return places[:count], sizes[:count]


def propagate(weight: Any, rows: Any, totals: Any, step: int) -> Any:
    """totals (rows, outputs) + every `step`-th row's values @ weight.T, by lists."""
    outputs, inputs = weight.shape
    stride = buffers.padded(outputs)
    size = buffers.row_size(max(inputs, stride))
    stored = np.zeros((inputs, stride), F)
    stored[:, :outputs] = weight.T
    indices = np.zeros((len(rows), size), I)
    sizes, sums = np.zeros((len(rows), size), F), np.zeros((len(rows), size), F)
    listed = np.zeros(len(rows), I)
    sums[:, :outputs] = totals
    for n, values in enumerate(rows):
        places, own = list_spikes(values)
        listed[n], indices[n, : len(places)], sizes[n, : len(own)] = len(places), places, own
    count = -(-len(rows) // step)
    parts().show_propagate(at(stored), stride, size, at(indices), at(sizes), at(listed), at(sums), count, step)
    return sums[:, :outputs]


def propagate_blocks(weight: Any, values: Any, block: int) -> tuple[Any, Any]:
    """W · values (inputs,), by packed blocks of so many outputs, and by dense rows in the same order."""
    outputs, inputs = weight.shape
    packed, places = blocks._packed(weight, block), list_spikes(values)
    room, stride = buffers.padded(outputs) + layout.LANES, buffers.padded(outputs)
    stored = np.zeros((inputs, stride), F)
    stored[:, :outputs] = weight.T
    found = np.zeros((2, room), F)
    parts().show_blocks(at(packed.weights), at(packed.starts), at(packed.columns), block, at(places[0]), at(places[1]),
                        len(places[0]), at(found[0]))  # fmt: skip
    parts().show_in_order(at(stored), stride, room, at(places[0]), at(places[1]), len(places[0]), at(found[1]))
    return found[0, :outputs], found[1, :outputs]


def convolve(layer: Conv2d, x: Any) -> Any:
    """W ∗ x by way of a list of spikes."""
    channels, (down, right) = layer.weight.shape[0], layer.padding
    kernels = np.zeros((*layer.weight.shape[1:], buffers.padded(channels)), F)
    kernels[..., :channels] = layer.weight.transpose(1, 2, 3, 0)
    geometry = (*layer.input_shape, *layer.weight.shape[2:], *layer.stride, *layer.padding, *layer.output_shape)
    record, names = np.zeros(1, layout.CONNECTION), layout.CONNECTION.names or ()
    named = zip(names[names.index("channels") : names.index("in_order")], geometry, strict=True)
    for name, value in (("kind", layout.CONV2D), ("inputs", layer.inputs), ("outputs", layer.outputs),
                        ("stride", kernels.shape[-1]), *named):  # fmt: skip
        record[name] = value
    places = np.flatnonzero(x).astype(I)
    image = np.full(layer.input_shape[0] * (layer.input_shape[1] + 2 * down) * (layer.input_shape[2] + 2 * right), 9, F)
    sums, z = np.zeros(int(np.prod(layer.output_shape[1:])) * kernels.shape[-1], F), np.zeros(layer.outputs, F)
    sent = np.ascontiguousarray(x[places], F)
    parts().show_convolve(at(record), at(kernels), at(places), at(sent), len(places), at(image), at(sums), at(z))
    return z
