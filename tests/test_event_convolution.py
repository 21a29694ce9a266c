"""The event-driven convolution against `Conv2d`, over random geometries, for few spikes and for whole images."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_policy.convolution import Conv2d
from snn_policy.engines import event_convolution as events
from snn_policy.engines.event_plan import INPUTS, LAYER, WEIGHTS

SMALL = st.integers(1, 4)


def plan_row(layer: Conv2d) -> Any:
    row = np.zeros(len(LAYER) + len(events.GEOMETRY), np.int64)
    row[INPUTS], row[WEIGHTS] = layer.inputs, 0
    row[len(LAYER) :] = list(events.geometry(layer, 0).values())
    return row


def convolved(layer: Conv2d, x: Any) -> Any:
    """W ∗ x by way of a list of spikes."""
    places = np.flatnonzero(x).astype(np.int32)
    listed = np.concatenate([[len(places)], places]).astype(np.int32)
    sums, z = np.zeros(events.sums_size(layer), np.float32), np.zeros(layer.outputs, np.float32)
    image = np.full(events.image_size(layer), 9, np.float32)
    events.convolve(plan_row(layer), events.tiled_kernels(layer).ravel(), listed, x[places], image, sums)
    events.add_channels(plan_row(layer), sums, z)
    return z


@settings(max_examples=60, deadline=None)
@given(st.tuples(SMALL, st.integers(1, 40)), st.tuples(SMALL, SMALL), st.tuples(SMALL, SMALL),
       st.tuples(st.integers(0, 3), st.integers(0, 3)), st.tuples(st.integers(4, 12), st.integers(4, 12)),
       st.sampled_from([0.02, 0.5, 1.0]), st.integers(0, 2**32 - 1))  # fmt: skip
def test_spikes_are_convolved_exactly(
    channels: Any, kernel: Any, stride: Any, padding: Any, size: Any, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weight: Any = rng.integers(-8, 9, (channels[1], channels[0], *kernel)).astype(np.float32) / 8
    layer = Conv2d(weight, np.zeros(channels[1], np.float32), (channels[0], *size), stride, padding)
    x = (rng.integers(-8, 9, layer.inputs) * (rng.random(layer.inputs) < share)).astype(np.float32)
    assert np.array_equal(convolved(layer, x), layer.product(x[None])[0])


@pytest.mark.parametrize("spikes", [0, 1, 62, 63, 64, 999])
def test_both_ways_agree_where_they_meet(spikes: int) -> None:
    """1,000 inputs: up to 62 spikes are spread, more are convolved as an image."""
    rng = np.random.default_rng(spikes)
    weight = rng.normal(size=(5, 10, 3, 3)).astype(np.float32)
    layer = Conv2d(weight, np.zeros(5, np.float32), (10, 10, 10), (2, 1), (1, 0))
    x = np.zeros(1_000, np.float32)
    x[rng.choice(1_000, spikes, replace=False)] = rng.normal(size=spikes)
    assert np.allclose(convolved(layer, x), layer.product(x[None])[0], atol=1e-4)
