"""Conv2d against torch, and counts of synapses against a convolution of ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_policy.ann.convolution import Conv2d
from snn_policy.engines.torch_engine import with_arrays

geometries = st.tuples(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4),
    st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2), st.integers(4, 9), st.integers(4, 9),
)  # fmt: skip


def drawn(geometry: tuple[int, ...], rng: np.random.Generator) -> Conv2d:
    channels, outputs, kernel_h, kernel_w, down, right, pad_v, pad_h, height, width = geometry
    weight = (rng.integers(-40, 41, (outputs, channels, kernel_h, kernel_w)) / 64).astype(np.float32)
    layer_bias = (rng.integers(-9, 10, outputs) / 64).astype(np.float32)
    return Conv2d(weight, layer_bias, (channels, height, width), (down, right), (pad_v, pad_h))


@given(geometries)
@settings(max_examples=60, deadline=None)
def test_product_and_its_transpose_are_torchs(geometry: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(geometry))
    layer = drawn(geometry, rng)
    x = torch.tensor(rng.integers(-40, 41, (3, layer.inputs)) / 64, dtype=torch.float32, requires_grad=True)
    images = x.reshape(3, *layer.input_shape)
    y = torch.nn.functional.conv2d(
        images, torch.tensor(layer.weight), torch.tensor(layer.bias), layer.stride, layer.padding
    ).reshape(3, -1)
    back = torch.tensor(rng.integers(-40, 41, y.shape) / 64, dtype=torch.float32)
    y.backward(back)
    assert x.grad is not None
    values = x.detach().numpy()
    assert layer.output_shape[0] * layer.groups[1] == layer.outputs == y.shape[1]
    assert np.array_equal(layer(values), y.detach().numpy())  # dyadic: exact
    assert np.array_equal(layer.product(values[:, None]), layer.product(values)[:, None])
    assert np.array_equal(with_arrays(layer, torch.tensor).product(x.detach()[None]), layer.product(values)[None])
    assert np.array_equal(layer.transposed(back.numpy()[None])[0], x.grad.numpy())


@given(geometries)
@settings(max_examples=60, deadline=None)
def test_synapses_are_counted_at_borders_and_strides_and_where_weights_are_not_zero(geometry: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(geometry))
    drawn_layer = drawn(geometry, rng)
    kept = drawn_layer.weight * (rng.random(drawn_layer.weight.shape) < 0.7)
    shape, stride, padding = drawn_layer.input_shape, drawn_layer.stride, drawn_layer.padding
    layer, every = (Conv2d(weight, drawn_layer.bias, shape, stride, padding) for weight in (kept, 0 * kept + 1))
    ones = Conv2d(kept != 0, 0 * layer.bias, shape, stride, padding)
    counts = rng.integers(0, 5, (2, layer.inputs))
    reached = ones.product(counts.astype(np.float32)).sum(axis=1)
    assert np.array_equal(layer.operations(counts), reached.astype(np.int64))
    assert layer.synapses == ones.product(np.ones((1, layer.inputs), np.float32)).sum()
    assert layer.macs == every.macs == every.synapses == every.product(np.ones((1, layer.inputs), np.float32)).sum()


def test_a_row_does_not_depend_on_its_batch() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(8, 3, 3, 3)).astype(np.float32), rng.normal(size=8).astype(np.float32)
    layer = Conv2d(weight, bias, (3, 20, 20), (2, 2))
    batch = rng.normal(size=(7, layer.inputs)).astype(np.float32)
    assert np.array_equal(layer(batch)[3], layer(batch[3:4])[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bias": np.zeros(3)}, "bias"),
        ({"input_shape": (4, 8, 8)}, "channels"),
        ({"input_shape": (3, 2, 8)}, "does not fit"),
        ({"input_shape": (3, 8)}, "input_shape"),
        ({"stride": (0, 1)}, "stride"),
        ({"stride": (1.5, 1)}, "stride"),
        ({"padding": (-1, 0)}, "padding"),
        ({"weight": np.full((2, 3, 3, 3), np.nan)}, "NaN"),
        ({"weight": np.zeros((2, 3))}, "axes"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict, message: str) -> None:
    good = {"weight": np.zeros((2, 3, 3, 3)), "bias": np.zeros(2), "input_shape": (3, 8, 8)}
    with pytest.raises(ValueError, match=message):
        Conv2d(**(good | arguments))
