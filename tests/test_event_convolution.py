"""The event-driven convolution against `Conv2d`, over random geometries, for few spikes and for whole images."""

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_policy import SpikingPolicy, convert
from snn_policy.actor import Actor
from snn_policy.ann.activations import RELU
from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Linear
from snn_policy.spiking.network import SpikingNetwork
from tests.actors import IMAGE, dyadic_image_actor, image_walk, make_head, sigma_delta_neurons
from tests.core_parts import convolve

SMALL = st.integers(1, 4)


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
    assert np.array_equal(convolve(layer, x), layer.product(x[None])[0])


@pytest.mark.parametrize("spikes", [0, 1, 62, 63, 64, 999])
def test_both_ways_agree_where_they_meet(spikes: int) -> None:
    """1,000 inputs: up to 62 spikes are spread, more are convolved as an image."""
    rng = np.random.default_rng(spikes)
    weight = rng.normal(size=(5, 10, 3, 3)).astype(np.float32)
    layer = Conv2d(weight, np.zeros(5, np.float32), (10, 10, 10), (2, 1), (1, 0))
    x = np.zeros(1_000, np.float32)
    x[rng.choice(1_000, spikes, replace=False)] = rng.normal(size=spikes)
    assert np.allclose(convolve(layer, x), layer.product(x[None])[0], atol=1e-4)


@pytest.fixture(scope="module")
def rounding() -> SpikingNetwork:
    """Real weights: what convolutions have heard differs in its last bits from what the memory says."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> Any:
        return (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

    encoder = Conv2d(drawn(20, 3, 3, 3), drawn(20) / 10, IMAGE, padding=(1, 1), activation=RELU)
    layers = encoder, Linear(drawn(2, encoder.outputs), drawn(2))
    actor = Actor(layers, make_head("tanh", 2), IMAGE)
    return convert(actor, image_walk(200) / 128 - 1).network


def reset_another(policy: SpikingPolicy) -> SpikingPolicy:
    policy.reset(np.array([False, True]))
    return policy


def set_its_own_state(policy: SpikingPolicy) -> SpikingPolicy:
    policy.state = policy.state
    return policy


def pickled(policy: SpikingPolicy) -> SpikingPolicy:
    return pickle.loads(pickle.dumps(policy))


@pytest.mark.parametrize("interfere", [reset_another, set_its_own_state, pickled])
def test_what_happens_to_other_rows_or_to_nobody_changes_no_bit(rounding: SpikingNetwork, interfere: Any) -> None:
    alone, other = SpikingPolicy(rounding), SpikingPolicy(rounding)
    other.reset(num_envs=2)
    for step, images in enumerate(np.stack([image_walk(40, 1), image_walk(40, 2)], axis=1) / 128 - 1):
        action = alone.act(images[0].tolist() if step % 3 else images[0])
        assert np.array_equal(action, other.act(images)[0])
        other = interfere(other) if step % 7 == 3 else other
    assert all(np.array_equal(one[0], two[0]) for one, two in zip(alone.state, other.state, strict=True))


def test_a_row_that_is_reset_is_as_new(rounding: SpikingNetwork) -> None:
    new, used = SpikingPolicy(rounding), SpikingPolicy(rounding)
    for images in image_walk(6, 3).reshape(3, 2, *IMAGE) / 128 - 1:
        used.act(images)
    used.reset(np.array([True, False]))
    for image in image_walk(40, 1) / 128 - 1:
        assert np.array_equal(new.act(image), used.act(np.stack([image, image]))[0])


def test_a_state_from_elsewhere_is_heard_anew(rounding: SpikingNetwork) -> None:
    used, other = SpikingPolicy(rounding), SpikingPolicy(rounding)
    for image in image_walk(5, 1) / 128 - 1:
        used.act(image)
    other.act(image_walk(1, 2)[0] / 128 - 1)
    other.state = used.state
    assert np.allclose(used.act(np.zeros(IMAGE)), other.act(np.zeros(IMAGE)), atol=1e-5)


def test_spikes_that_vanish_in_a_huge_value_cost_what_they_cost() -> None:
    actor = dyadic_image_actor(normalised=False)
    network = SpikingNetwork(actor, sigma_delta_neurons(actor))
    reference, event = SpikingPolicy(network, engine="numpy"), SpikingPolicy(network, engine="event")
    for policy in (reference, event):
        policy.act(image_walk(1)[0] * 1e18)
    for name in ("spikes", "synaptic_operations"):
        assert np.array_equal(getattr(reference.counters, name), getattr(event.counters, name)), name
