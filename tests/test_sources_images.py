"""Convolutional torch policies: the actor computes what they do."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from snn_policy.ann.convolution import Conv2d
from snn_policy.ann.layers import Linear
from snn_policy.ann.qcfs import QCFS
from snn_policy.sources import load_actor
from tests.pixels import SHAPE, Pixels, difference, norm, read


def test_the_architecture_of_drq_v2_loads_as_one_actor() -> None:
    class DrQ(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            strides = (2, 1, 1, 1)
            convolutions = [nn.Conv2d(32 if i else 9, 32, 3, stride=step) for i, step in enumerate(strides)]
            self.convnet = nn.Sequential(*(layer for convolution in convolutions for layer in (convolution, nn.ReLU())))
            self.trunk = nn.Sequential(nn.Linear(39200, 50), nn.ReLU())
            self.policy = nn.Sequential(
                nn.Linear(50, 1024), nn.ReLU(inplace=True), nn.Linear(1024, 1024), nn.ReLU(inplace=True),
                nn.Linear(1024, 6),
            )  # fmt: skip

        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            h = self.convnet(obs / 255.0 - 0.5)
            return torch.tanh(self.policy(self.trunk(h.view(h.shape[0], -1))))

    torch.manual_seed(0)
    module = DrQ()
    actor = load_actor(module, observation_shape=(9, 84, 84))
    assert [type(layer) for layer in actor.layers] == [Conv2d] * 4 + [Linear] * 4
    assert actor.widths == (63504, 32 * 41 * 41, 32 * 39 * 39, 32 * 37 * 37, 39200, 50, 1024, 1024)
    assert actor.normaliser is not None
    assert actor.normaliser.mean.shape == (1, 1, 1)
    assert (actor.normaliser.mean.item(), actor.normaliser.scale.item()) == (127.5, 255)
    assert difference(actor, module, rows=3) <= 1e-5


ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.LeakyReLU, lambda: QCFS(4, 1.5))


@st.composite
def encoders(draw: st.DrawFn) -> Pixels:
    """Convolutions with any geometry; norms, pools and dropout where they fold."""
    torch.manual_seed(draw(st.integers(0, 10_000)))
    layers: list[nn.Module] = []
    channels = 3
    for _ in range(draw(st.integers(1, 3))):
        outputs, padding = draw(st.integers(1, 5)), draw(st.sampled_from([0, 1, (0, 1), (2, 1), "valid"]))
        plain = padding in (0, "valid")
        layers += [norm(nn.BatchNorm2d(channels))] if plain and layers and draw(st.booleans()) else []
        layers += [nn.AvgPool2d(draw(st.integers(1, 2)), 1)] if plain and draw(st.booleans()) else []
        kernel, stride = draw(st.sampled_from([1, 2, 3, (1, 3), (3, 2)])), draw(st.sampled_from([1, 2, (1, 2)]))
        layers.append(nn.Conv2d(channels, outputs, kernel, stride, padding, bias=draw(st.booleans())))
        layers += [norm(nn.BatchNorm2d(outputs))] if draw(st.booleans()) else []
        layers += [nn.AvgPool2d((2, 1))] if draw(st.integers(0, 3)) == 0 else []
        layers += [draw(st.sampled_from(ACTIVATIONS))(), nn.Dropout2d(0.3)]
        channels = outputs
    layers += [draw(st.sampled_from([nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]))]
    try:
        return Pixels(*layers)
    except RuntimeError:  # the image has become smaller than a kernel
        return Pixels(nn.Conv2d(3, 2, 3), nn.ReLU())


@given(encoders())
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_any_encoder_of_readable_layers_is_computed_alike(module: Pixels) -> None:
    steps = any(isinstance(layer, QCFS) for layer in module.modules())
    actor = load_actor(module, observation_shape=SHAPE)
    assert steps or difference(actor, module) <= 1e-5
    assert actor.normaliser is not None
    assert actor.normaliser.mean.shape == (1, 1, 1)


def test_qcfs_after_a_convolution_is_its_activation() -> None:
    actor, module = read(nn.Conv2d(3, 4, 3), QCFS(4, 1.5), nn.Flatten(), nn.Linear(480, 8), QCFS(8, 2.0))
    assert [layer.activation and layer.activation.levels for layer in actor.layers] == [4, 8, None]
    assert difference(actor, module) <= 1e-5


@pytest.mark.parametrize(
    "arithmetic",
    [lambda x: x / 255, lambda x: x.float().div(255.0) - 0.5, lambda x: (x - 127.5) / 127.5, lambda x: 2 * x / 255 - 1],
)
def test_the_scaling_of_bytes_costs_one_number(arithmetic: Any) -> None:
    class Scaled(Pixels):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.body(arithmetic(x)).flatten(1))

    module = Scaled(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    actor = load_actor(module, observation_shape=SHAPE)
    assert actor.normaliser is not None
    assert actor.normaliser.scale.shape == (1, 1, 1)
    assert difference(actor, module) <= 1e-5


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 1, 12), SHAPE])
def test_statistics_per_channel_and_per_pixel_are_kept_as_they_are(shape: tuple[int, ...]) -> None:
    class Standardised(Pixels):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward((x - mean) / 50)

    mean = torch.rand(shape) * 255
    module = Standardised(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    actor = load_actor(module, observation_shape=SHAPE)
    assert actor.normaliser is not None
    assert actor.normaliser.mean.shape == shape
    assert difference(actor, module) <= 1e-5


def test_functional_layers_on_images_are_read() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(4, 3, 3, 3) / 5), nn.Parameter(torch.randn(4))
            self.norm, self.last = norm(nn.BatchNorm2d(4)), nn.Linear(4 * 7 * 6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = F.conv2d(x.float() / 255, self.weight, self.bias, 1, "same")
            x = F.batch_norm(x, self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias)
            x = F.dropout2d(F.relu(x), training=self.training)
            return self.last(F.adaptive_avg_pool2d(F.avg_pool2d(x, 1), (7, 6)).reshape(-1, 4 * 7 * 6))

    torch.manual_seed(0)
    module = Functional()
    actor = load_actor(module, observation_shape=SHAPE)
    assert actor.widths == (504, 4 * 14 * 12)
    assert difference(actor, module) <= 1e-5


def test_flat_observations_may_be_reshaped_to_images() -> None:
    class Flat(Pixels):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.view(-1, *SHAPE))

    module = Flat(nn.Conv2d(3, 4, 3), nn.ReLU())
    actor = load_actor(module)
    assert actor.observation_shape == (504,)
    assert difference(actor, module) <= 1e-5
    layers = nn.Sequential(nn.Unflatten(1, SHAPE), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(480, 1))
    assert difference(load_actor(layers), layers) <= 1e-5


@pytest.mark.parametrize(
    ("body", "kernel"),
    [
        ([nn.AvgPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU()], (6, 6)),  # on the observation
        ([nn.AvgPool2d(2), nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU()], (6, 6)),
        ([nn.Conv2d(3, 4, 3), nn.AvgPool2d(2, 1), nn.ReLU()], (4, 4)),  # before the activation
        ([nn.Conv2d(3, 4, 1, padding=1), nn.ReLU(), nn.AvgPool2d((3, 2), 1), nn.Conv2d(4, 5, 2, 2), nn.ReLU()], (4, 3)),
        ([nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), norm(nn.BatchNorm2d(4)), nn.Conv2d(4, 5, 1), nn.Tanh()],
         (2, 2)),
        ([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, 2), nn.ReLU()], (5, 5)),
    ],
)  # fmt: skip
def test_average_pooling_merges_with_the_neighbouring_convolution(
    body: list[nn.Module], kernel: tuple[int, int]
) -> None:
    actor, module = read(*body)
    assert len(actor.layers) == 1 + sum(isinstance(layer, nn.ReLU | nn.Tanh) for layer in body)
    assert actor.layers[-2].weight.shape[2:] == kernel
    assert difference(actor, module) <= 1e-5


def test_average_pooling_merges_with_the_following_linear_layer() -> None:
    for pool in (nn.AvgPool2d(3, 2), nn.AdaptiveAvgPool2d((4, 5)), nn.AdaptiveAvgPool2d((1, None))):
        actor, module = read(nn.Conv2d(3, 4, 3), nn.ReLU(), pool)
        assert actor.widths == (504, 480)
        assert difference(actor, module) <= 1e-5


def test_a_fully_convolutional_policy_ends_in_a_matrix() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, (12, 10)), nn.Flatten(), nn.Tanh())
    actor = load_actor(module, observation_shape=SHAPE)
    assert actor.layers[-1].weight.shape == (2, 480)
    assert difference(actor, module) <= 1e-5
